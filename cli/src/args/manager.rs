//! Arguments of `infrakit manager`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

#[derive(Subcommand)]
pub(crate) enum ManagerVerb {
    /// Start a manager, in the foreground
    ///
    /// A restart uses the same command: --bootstrap and --join are ignored once the data directory
    /// belongs to a cluster.
    Start(Box<ManagerStart>),
    /// Lock the encryption key of a data directory: from its next start on, the manager needs the unlock key
    ///
    /// The unlock key is printed once and stored nowhere: without it the data are lost. A running manager is
    /// not affected. Locking again creates a new unlock key.
    Lock {
        /// Directory of its log and state
        #[arg(long)]
        data_dir: PathBuf,
        /// File with the current unlock key, if it is locked; `-` reads the standard input
        /// [or: $INFRAKIT_UNLOCK_KEY]
        #[arg(long, value_name = "FILE")]
        unlock_key_file: Option<PathBuf>,
    },
    /// Remove the lock of a data directory
    Unlock {
        /// Directory of its log and state
        #[arg(long)]
        data_dir: PathBuf,
        /// File with the unlock key; `-` reads the standard input [or: $INFRAKIT_UNLOCK_KEY]
        #[arg(long, value_name = "FILE")]
        unlock_key_file: Option<PathBuf>,
    },
}

#[derive(Args)]
pub(crate) struct ManagerStart {
    /// YAML file with these options as `OPTION: VALUE`; the command line takes precedence
    #[arg(long, value_name = "FILE", env = "INFRAKIT_CONFIG", hide_env_values = true)]
    #[allow(dead_code, reason = "`settings` reads it before the arguments are parsed")]
    pub(crate) config: Option<PathBuf>,
    /// The name of this manager, unique in the cluster
    #[arg(long)]
    pub(crate) name: String,
    /// Directory of its log and state
    #[arg(long)]
    pub(crate) data_dir: PathBuf,
    /// Address to listen on, for peers and clients
    #[arg(long, default_value = "127.0.0.1:7701")]
    pub(crate) listen: String,
    /// Address at which others reach it, if it is not --listen
    #[arg(long)]
    pub(crate) advertise: Option<String>,
    /// The id of the instance it runs on, which is never destroyed while this manager is a member
    #[arg(long, value_name = "ID", env = "INFRAKIT_INSTANCE")]
    pub(crate) instance: Option<String>,
    /// The instance plugin of that instance, where several may have one with this id: NAME or NAME/TYPE
    #[arg(long, value_name = "PLUGIN", env = "INFRAKIT_INSTANCE_PLUGIN", requires = "instance")]
    pub(crate) instance_plugin: Option<String>,
    /// Bootstrap a new cluster
    #[arg(long, conflicts_with = "join")]
    pub(crate) bootstrap: bool,
    /// With --bootstrap: what to do with instances of another cluster that the plugins list
    ///
    /// ID, or a prefix of it, bootstraps that cluster again, if all its managers are permanently lost: its
    /// instances are adopted when their groups are committed. `none` ignores them.
    #[arg(long, value_name = "ID|none", requires = "bootstrap")]
    pub(crate) adopt: Option<String>,
    /// Join the cluster of these managers: HOST:PORT[,HOST:PORT...]
    #[arg(long, value_delimiter = ',')]
    pub(crate) join: Vec<String>,
    /// Addresses of other managers: HOST:PORT[,HOST:PORT...]
    ///
    /// With --bootstrap they are asked first: if a cluster answers, none is bootstrapped. A member looks there, and at
    /// --join, for members that are not found where they were.
    #[arg(long, value_delimiter = ',')]
    pub(crate) peers: Vec<String>,
    #[command(flatten)]
    pub(crate) token: TokenArg,
    /// Election timing
    #[arg(long, value_enum, default_value_t = Profile::Default)]
    pub(crate) profile: Profile,
    /// File with the unlock key, if its data directory is locked; `-` reads the standard input
    /// [or: $INFRAKIT_UNLOCK_KEY]
    #[arg(long, value_name = "FILE")]
    pub(crate) unlock_key_file: Option<PathBuf>,
    /// Do not restart the machines of other managers while there is no leader
    ///
    /// By default, their instance plugin restarts stopped ones after 30 s without a leader
    /// (`infrakit/start-managers-after`), if it can. Set this before you stop a majority on purpose.
    #[arg(long, alias = "no-rescue")]
    pub(crate) no_restart_managers: bool,
    /// Address for metrics and health endpoints (plain HTTP): /metrics, /healthz and /readyz
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) monitor: Option<String>,
    /// Directory for periodic backups, taken if something has changed; they are encrypted with backup.key in
    /// the same directory: keep a copy of the key elsewhere
    #[arg(long, value_name = "DIR")]
    pub(crate) backup_dir: Option<PathBuf>,
    /// Interval between backups
    #[arg(long, value_name = "TIME", default_value = "1h", requires = "backup_dir")]
    pub(crate) backup_every: String,
    /// Number of backups to keep
    #[arg(long, value_name = "N", default_value_t = 24, requires = "backup_dir",
        value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) backup_keep: u32,
    /// Timeout of a plugin call, such as 15s
    #[arg(long, env = "INFRAKIT_CLIENT_TIMEOUT", default_value = "15s")]
    pub(crate) plugin_timeout: String,
}

#[derive(Args)]
pub(crate) struct TokenArg {
    /// The token to authenticate with; not needed by the same user on the same machine
    #[arg(long, env = "INFRAKIT_TOKEN", hide_env_values = true, conflicts_with = "token_file")]
    token: Option<String>,
    /// Read the token from a file, which keeps it out of process listings; `-` reads the standard input
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl TokenArg {
    pub(crate) fn given(self) -> Option<api::TokenFrom> {
        let text = |text: String| api::TokenFrom::Text(model::access::Secret::new(text.into_bytes()));
        self.token_file.map(api::TokenFrom::File).or(self.token.map(text))
    }
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Profile {
    /// Election timeout of 1.4 to 1.6 s
    Default,
    /// 0.3 to 0.4 s, for disks that sync within 20 ms
    Fast,
    /// 8.8 to 10 s, for managers at different sites
    Wan,
}
