//! `infrakit manager …`: how one is run.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

#[derive(Subcommand)]
pub(crate) enum ManagerVerb {
    /// Start a manager and stay in the foreground
    ///
    /// A restart uses the same command: --bootstrap and --join are ignored once the data directory
    /// belongs to a cluster.
    Start(Box<ManagerStart>),
    /// Lock the key that seals a manager's data: from its next start on it must be given the unlock key
    ///
    /// The unlock key is printed this once, and kept nowhere: without it the data are lost. A manager that runs
    /// goes on. Locking again makes another unlock key.
    Lock {
        /// Where its log and state are kept
        #[arg(long)]
        data_dir: PathBuf,
        /// The unlock key, when it is locked already; `-` is the standard input [or: $INFRAKIT_UNLOCK_KEY]
        #[arg(long, value_name = "FILE")]
        unlock_key_file: Option<PathBuf>,
    },
    /// Lock it no more
    Unlock {
        /// Where its log and state are kept
        #[arg(long)]
        data_dir: PathBuf,
        /// The unlock key; `-` is the standard input [or: $INFRAKIT_UNLOCK_KEY]
        #[arg(long, value_name = "FILE")]
        unlock_key_file: Option<PathBuf>,
    },
}

#[derive(Args)]
pub(crate) struct ManagerStart {
    /// A file with these options: `OPTION: VALUE`; what the command line says holds against it
    #[arg(long, value_name = "FILE", env = "INFRAKIT_CONFIG", hide_env_values = true)]
    #[allow(dead_code, reason = "it is read before the others are")]
    pub(crate) config: Option<PathBuf>,
    /// The name of this manager, unique in the cluster
    #[arg(long)]
    pub(crate) name: String,
    /// Where its log and state are kept
    #[arg(long)]
    pub(crate) data_dir: PathBuf,
    /// Where it listens, for peers and clients alike
    #[arg(long, default_value = "127.0.0.1:7701")]
    pub(crate) listen: String,
    /// Where others reach it, when that is not --listen
    #[arg(long)]
    pub(crate) advertise: Option<String>,
    /// The id of the instance it runs on: it is never destroyed while this manager is a member
    #[arg(long, value_name = "ID", env = "INFRAKIT_INSTANCE")]
    pub(crate) instance: Option<String>,
    /// Form a new cluster
    #[arg(long, conflicts_with = "join")]
    pub(crate) bootstrap: bool,
    /// With --bootstrap: what becomes of the instances that another cluster left at the providers
    ///
    /// ID, or its beginning, founds that cluster again, for its managers are gone for good: its
    /// instances are taken in when their groups are committed. `none` leaves them alone.
    #[arg(long, value_name = "ID|none", requires = "bootstrap")]
    pub(crate) adopt: Option<String>,
    /// Join the cluster of which one of these is a member: HOST:PORT[,HOST:PORT...]
    #[arg(long, value_delimiter = ',')]
    pub(crate) join: Vec<String>,
    #[command(flatten)]
    pub(crate) token: TokenArg,
    /// How patient members are with a silent leader
    #[arg(long, value_enum, default_value_t = Profile::Default)]
    pub(crate) profile: Profile,
    /// The unlock key, when its data directory is locked; `-` is the standard input [or: $INFRAKIT_UNLOCK_KEY]
    #[arg(long, value_name = "FILE")]
    pub(crate) unlock_key_file: Option<PathBuf>,
    /// Do not start the machines of other managers again while nobody leads
    ///
    /// Otherwise their plugin is told to after 30 s (`infrakit/start-managers-after`), if it can: say so before you
    /// stop a majority on purpose.
    #[arg(long)]
    pub(crate) no_rescue: bool,
    /// Where it tells how it is, as plain HTTP: /metrics, /healthz and /readyz
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) monitor: Option<String>,
    /// Take backups by itself, into this directory, whenever something has changed; the key that seals them is
    /// beside them in backup.key: keep a copy of it elsewhere
    #[arg(long, value_name = "DIR")]
    pub(crate) backup_dir: Option<PathBuf>,
    /// How often
    #[arg(long, value_name = "TIME", default_value = "1h", requires = "backup_dir")]
    pub(crate) backup_every: String,
    /// How many of them are kept
    #[arg(long, value_name = "N", default_value_t = 24, requires = "backup_dir",
        value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) backup_keep: u32,
    /// The total time of one call to a plugin, such as 15s
    #[arg(long, env = "INFRAKIT_CLIENT_TIMEOUT", default_value = "15s")]
    pub(crate) plugin_timeout: String,
}

#[derive(Args)]
pub(crate) struct TokenArg {
    /// The token that lets this one in; on one machine and for one user none is needed
    #[arg(long, env = "INFRAKIT_TOKEN", hide_env_values = true, conflicts_with = "token_file")]
    token: Option<String>,
    /// The same, from a file, so that it is not seen in a list of processes; `-` is the standard input
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
    /// Replaces a leader that is silent for 1.4 to 1.6 s
    Default,
    /// 0.3 to 0.4 s; for disks that sync within 20 ms
    Fast,
    /// 8.8 to 10 s; between sites
    Wan,
}
