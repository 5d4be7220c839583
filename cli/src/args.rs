//! The command line: `infrakit <noun> <verb> [name] [flags]`.

mod manager;
mod recovery;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use manager::{ManagerStart, ManagerVerb, Profile, TokenArg};
pub(crate) use recovery::{BackupArgs, RecoverArgs, RestoreArgs};

/// Declare groups of instances; the managers keep them real.
#[derive(Parser)]
#[command(name = "infrakit", version, propagate_version = true, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Managers: HOST:PORT[,HOST:PORT...], the path of a manager's socket, or the name of a saved context
    /// [default: the context `default`, else the managers on this machine's ports 7701 to 7703]
    #[arg(short = 'H', long, global = true, env = "INFRAKIT_HOST", hide_env_values = true)]
    pub(crate) host: Option<String>,
    /// How data is printed
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
    /// Where plugins are found [default: $INFRAKIT_HOME/plugins, else ~/.infrakit/plugins]
    #[arg(long, global = true, env = "INFRAKIT_PLUGINS_DIR", hide_env_values = true)]
    pub(crate) plugins_dir: Option<PathBuf>,
    /// How much the daemons log: error, warn, info, debug or trace
    #[arg(long, global = true, env = "INFRAKIT_LOG", default_value = "info", hide_default_value = true)]
    pub(crate) log_level: String,
    /// How the daemons log
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text, hide_default_value = true)]
    pub(crate) log_format: LogFormat,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Table,
    Json,
    Yaml,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

#[derive(Subcommand)]
pub(crate) enum Verb {
    /// Run a manager
    #[command(subcommand)]
    Manager(ManagerVerb),
    /// Run and examine plugins
    #[command(subcommand)]
    Plugin(PluginVerb),
    /// Declare groups and look at them
    #[command(subcommand, visible_alias = "groups")]
    Group(GroupVerb),
    /// Speak with an instance plugin directly, past the managers
    #[command(subcommand)]
    Instance(InstanceVerb),
    /// Speak with a flavor plugin directly, past the managers
    #[command(subcommand)]
    Flavor(FlavorVerb),
    /// The managers of the cluster
    #[command(subcommand)]
    Node(NodeVerb),
    /// The cluster in one look: leader, members, groups
    Status,
    /// The managers' Raft, in the words of Consul and Nomad
    #[command(subcommand)]
    Operator(OperatorVerb),
    /// What happened, and who did it
    #[command(visible_alias = "history")]
    Events(EventsArgs),
    /// Look for what is wrong, and say what to do about it; exits with 1 when something is
    Doctor,
    /// What lets managers and persons in
    #[command(subcommand, visible_alias = "tokens")]
    Token(TokenVerb),
    /// Show a token to a cluster on other machines, and be known there from then on
    ///
    /// The certificate that is given is saved, with the addresses, as a context that --host names. It lasts
    /// for 90 days, or until the token is revoked.
    Login(Login),
    /// The clusters that this user has logged in to
    #[command(subcommand)]
    Context(ContextVerb),
    /// The certificate authority by which managers and persons are known
    #[command(subcommand)]
    Ca(CaVerb),
    /// What stands for `secret://NAME` in specs: kept sealed, given to the plugin that needs it, shown to nobody
    #[command(subcommand, visible_alias = "secrets")]
    Secret(SecretVerb),
    /// Write the whole state of the cluster into a sealed file
    Backup(BackupArgs),
    /// Make a new data directory from a backup, when every manager is lost
    ///
    /// It becomes that of the only manager of a new lineage of the cluster: start it, and let others join it.
    /// Managers of before are not heard any more.
    Restore(RestoreArgs),
    /// Go on from what is left on a manager's disk, when a majority of the managers is lost for good
    ///
    /// Stop every survivor first, and name all their data directories that are on this machine, or look at each
    /// with --dry-run: the newest is the one to go on from. Its manager becomes the only one of a new lineage of
    /// the cluster: start it with its old command, and let others join it. Managers of before are not heard any
    /// more.
    Recover(RecoverArgs),
    /// Small replicated texts
    #[command(subcommand)]
    Var(VarVerb),
    /// The version of this program
    Version,
}

#[derive(Subcommand)]
pub(crate) enum PluginVerb {
    /// Start plugins in this process and stay in the foreground
    ///
    /// KIND is simulator, file, docker, vanilla or combo; the name is the kind unless given. Another
    /// KIND starts the program infrakit-plugin-KIND.
    Start {
        #[arg(required = true, value_name = "KIND[:NAME]")]
        plugins: Vec<String>,
        /// An option for every plugin started here that knows it, as KEY=VALUE
        ///
        /// simulator: types, store (mem or file), dir, lab, describe-delay, provision-delay; file:
        /// dir; docker: host, namespace; vanilla: scripts, commands.
        #[arg(long = "set", value_name = "KEY=VALUE")]
        options: Vec<String>,
    },
    /// List the plugins that have an entry in the plugin directory, dead ones too
    Ls,
    /// Hold a plugin to its contract; makes instances and destroys them again
    Test {
        /// NAME or NAME/TYPE
        plugin: String,
        /// The properties to use, as JSON
        #[arg(long, default_value = "{}")]
        properties: String,
    },
}

#[derive(Args)]
pub(crate) struct Files {
    /// Files with groups, in JSON or YAML; `-` is the standard input
    #[arg(required_unless_present = "file", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The same, as kubectl has it
    #[arg(short, long, value_name = "FILE")]
    file: Vec<PathBuf>,
    /// Accept groups whose plugins are absent; they wait until the plugins have accepted them
    #[arg(long)]
    pub(crate) allow_missing_plugins: bool,
    /// Refuse when the stored revision is another; 0 means that the group must not exist yet
    #[arg(long, value_name = "N")]
    pub(crate) if_revision: Option<u64>,
}

impl Files {
    pub(crate) fn all(&self) -> impl Iterator<Item = &PathBuf> {
        self.files.iter().chain(&self.file)
    }
}

#[derive(Args)]
pub(crate) struct Wait {
    /// Wait until it is so, and show the progress
    #[arg(long)]
    pub(crate) wait: bool,
    /// How long to wait, such as 30s or 10m; then exit with 3
    #[arg(long, default_value = "10m", value_name = "TIME")]
    pub(crate) timeout: String,
}

#[derive(Subcommand)]
pub(crate) enum GroupVerb {
    /// Show what a commit would do; changes nothing
    Plan {
        #[command(flatten)]
        files: Files,
        /// Exit with 2 when there is something to do
        #[arg(long)]
        detailed_exitcode: bool,
    },
    /// Declare groups: all of them, or none when one is wrong
    #[command(visible_alias = "apply")]
    Commit {
        #[command(flatten)]
        files: Files,
        /// Only show what it would do
        #[arg(long)]
        pretend: bool,
        #[command(flatten)]
        wait: Wait,
    },
    /// List the groups
    Ls,
    /// Show a group: its members, and why it does not move
    #[command(visible_alias = "show")]
    Describe {
        name: String,
        /// Go on at every change
        #[arg(short, long)]
        watch: bool,
    },
    /// Print the stored spec of a group
    Inspect { name: String },
    /// Change the number of members
    Scale {
        name: String,
        size: u32,
        #[command(flatten)]
        wait: Wait,
    },
    /// Say what became of a slot whose plugin cannot show it
    ///
    /// For a slot that `group describe` shows as Unknown and that waits for an operator. Look at the
    /// provider first: what is said here is believed.
    Settle {
        name: String,
        slot: String,
        /// Nothing was made: the slot is filled anew
        #[arg(long, required_unless_present = "instance", conflicts_with = "instance")]
        absent: bool,
        /// This instance was made, and holds the slot from now on
        #[arg(long, value_name = "ID")]
        instance: Option<String>,
    },
    /// Take no action of any kind for a group until it is resumed
    ///
    /// Nothing is made, destroyed, adopted or labelled, whoever leads; calls that are under way end. A commit is
    /// stored, and takes effect when the group is resumed.
    Pause { name: String },
    /// Act for a paused group again
    Resume { name: String },
    /// Stop managing a group; its instances stay
    #[command(visible_alias = "release")]
    Free {
        name: String,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
    /// Drain and destroy all members of a group, then forget it
    Destroy {
        name: String,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
        #[command(flatten)]
        wait: Wait,
    },
}

#[derive(Subcommand)]
pub(crate) enum InstanceVerb {
    /// List instances
    Ls {
        /// NAME or NAME/TYPE; all instance plugins when left out
        plugins: Vec<String>,
        /// Only those with these tags
        #[arg(long = "tag", value_name = "KEY=VALUE")]
        tags: Vec<String>,
    },
    /// Show one instance with its properties
    #[command(visible_alias = "show")]
    Describe { plugin: String, id: String },
    /// Make an instance from a spec {Properties, Tags, Init, LogicalID, Attachments}
    Provision { plugin: String, file: PathBuf },
    /// Check an instance plugin's properties
    Validate { plugin: String, file: PathBuf },
    /// Destroy instances
    Destroy {
        plugin: String,
        #[arg(required = true)]
        ids: Vec<String>,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
}

#[derive(Args)]
pub(crate) struct FlavorArgs {
    /// NAME or NAME/TYPE
    pub(crate) plugin: String,
    /// The flavor's properties, in JSON or YAML
    pub(crate) file: PathBuf,
    /// The size of the group it is for
    #[arg(long, default_value_t = 1, conflicts_with = "logical_ids")]
    pub(crate) size: u32,
    /// The logical ids of the group it is for
    #[arg(long, value_delimiter = ',')]
    pub(crate) logical_ids: Vec<String>,
}

#[derive(Subcommand)]
pub(crate) enum FlavorVerb {
    /// Check a flavor's properties
    Validate(FlavorArgs),
    /// Show the instance spec that a flavor prepares
    Prepare(FlavorArgs),
    /// Ask a flavor how an instance is
    Healthy {
        #[command(flatten)]
        flavor: FlavorArgs,
        /// The instance plugin that has it
        instance_plugin: String,
        /// Its id
        id: String,
    },
}

#[derive(Subcommand)]
pub(crate) enum NodeVerb {
    /// List the managers
    Ls,
    /// Show one manager
    Inspect {
        /// Its name, or its id
        manager: String,
    },
    /// Let managers vote again, as soon as they have caught up
    Promote {
        /// Their names, or ids
        #[arg(required = true)]
        managers: Vec<String>,
    },
    /// Let managers receive the log and vote no more
    Demote {
        /// Their names, or ids
        #[arg(required = true)]
        managers: Vec<String>,
        /// Also when the cluster bears the loss of fewer managers then
        #[arg(long)]
        force: bool,
    },
    /// Remove managers for good: none of their disks ever joins again
    ///
    /// Name all that are dead at once: what they leave is judged together. A leader gives its lead away
    /// first.
    Rm {
        /// Their names, or ids
        #[arg(required = true)]
        managers: Vec<String>,
        /// Also when the cluster bears the loss of fewer managers then
        #[arg(long)]
        force: bool,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
    /// Give the lead to another voter
    #[command(visible_alias = "transfer-leader")]
    TransferLeadership {
        /// Its name, or its id; by default the one that is closest behind
        manager: Option<String>,
    },
}

#[derive(Args)]
pub(crate) struct EventsArgs {
    /// Only of this group
    pub(crate) group: Option<String>,
    /// Go on with what follows
    #[arg(short, long)]
    pub(crate) follow: bool,
}

#[derive(Subcommand)]
pub(crate) enum TokenVerb {
    /// Make a token and print it; it is shown this once, and stored nowhere
    Create {
        /// viewer looks, operator declares groups, admin does everything, manager joins as a manager
        #[arg(long)]
        role: model::Role,
        /// How long it lets somebody in, such as 24h, or never to end
        #[arg(long, default_value = "24h", value_name = "TIME|never")]
        expires: String,
        /// It lets one in and no second
        #[arg(long)]
        once: bool,
        /// Only the manager that is started with this --instance
        #[arg(long, value_name = "ID")]
        instance: Option<String>,
    },
    /// List the tokens
    Ls,
    /// Make a token in place of another, which lets nobody in any more; who logged in by it logs in anew
    Rotate {
        /// Its id, or the beginning of it
        id: String,
    },
    /// Let nobody in by it any more; whoever logged in by it is known no more
    Revoke {
        /// Its id, or the beginning of it
        id: String,
    },
}

#[derive(Args)]
pub(crate) struct Login {
    /// Managers: HOST:PORT[,HOST:PORT...]
    pub(crate) managers: String,
    #[command(flatten)]
    pub(crate) token: TokenArg,
    /// The name under which what you do is recorded [default: $USER]
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// The name of the context
    #[arg(long = "as", value_name = "CONTEXT", default_value = "default")]
    pub(crate) context: String,
}

#[derive(Subcommand)]
pub(crate) enum ContextVerb {
    /// List them
    Ls,
    /// Forget one, and its certificate
    Rm { name: String },
}

#[derive(Subcommand)]
pub(crate) enum CaVerb {
    /// Show which authority signs, and how far a change of it is
    Show,
    /// Change it: a new one is trusted at first, then signs, then the old one is trusted no more
    ///
    /// Managers get new certificates by themselves, and no request fails meanwhile. Tokens that were printed
    /// before, and logins, end with the old one.
    Rotate,
}

#[derive(Subcommand)]
pub(crate) enum OperatorVerb {
    #[command(subcommand, about = "Peers, the lead, snapshots")]
    Raft(RaftVerb),
}

#[derive(Subcommand)]
pub(crate) enum RaftVerb {
    /// As `node ls`
    #[command(visible_alias = "peers")]
    ListPeers,
    /// As `node rm`
    RemovePeer {
        /// Its name, or its id
        manager: String,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
    /// As `node transfer-leadership`
    TransferLeader {
        /// Its name, or its id; by default the one that is closest behind
        manager: Option<String>,
    },
    /// As `backup`
    Snapshot(BackupArgs),
}

#[derive(Subcommand)]
pub(crate) enum SecretVerb {
    /// Store a secret, or another value in place of the one before; members get it when they are made anew
    Set {
        /// Letters, digits and any of - _ .
        name: String,
        /// The file that holds it; `-` is the standard input. A newline at the end is no part of it
        #[arg(long, value_name = "FILE", default_value = "-")]
        file: PathBuf,
    },
    /// List the names of the secrets
    Ls,
    /// Remove a secret that no group refers to
    Rm {
        name: String,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
}

#[derive(Subcommand)]
pub(crate) enum VarVerb {
    /// Print a variable
    Get { key: String },
    /// Store a variable
    ///
    /// The managers obey names that begin with infrakit/: infrakit/max-instances (a number, or none) is the
    /// most instances that all groups together may have; infrakit/dead-manager-after (300s, or never) is how
    /// long a voter may be silent before it is given up; infrakit/start-managers-after (30s, or never) is how long
    /// nobody may lead before the machines of managers are started again; infrakit/certificate-life (2592000s) is how long a
    /// manager's certificate is valid; infrakit/plugin/NAME/class (C, D or none) is what a
    /// plugin is held to that does not say so itself.
    Set { key: String, value: String },
}
