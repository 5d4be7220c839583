//! The command line: `infrakit <noun> <verb> [name] [flags]`.

mod manager;
mod recovery;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::commands::group::GroupVerb;
use crate::global::Global;

pub(crate) use manager::{ManagerStart, ManagerVerb, Profile, TokenArg};
pub(crate) use recovery::{BackupArgs, RecoverArgs, RestoreArgs};

/// Declare groups of instances; the managers create, heal and update them.
#[derive(Parser)]
#[command(name = "infrakit", version, propagate_version = true, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Subcommand)]
pub(crate) enum Verb {
    /// Run a manager
    #[command(subcommand)]
    Manager(ManagerVerb),
    /// Run, list and test plugins
    #[command(subcommand)]
    Plugin(PluginVerb),
    /// Declare and inspect groups
    #[command(subcommand, visible_alias = "groups")]
    Group(GroupVerb),
    /// Call an instance plugin directly, without the managers
    #[command(subcommand)]
    Instance(InstanceVerb),
    /// Call a flavor plugin directly, without the managers
    #[command(subcommand)]
    Flavor(FlavorVerb),
    /// List and change the managers of the cluster
    #[command(subcommand)]
    Node(NodeVerb),
    /// Show the cluster: leader, members, groups
    Status,
    /// Raft commands under the names that Consul and Nomad use
    #[command(subcommand)]
    Operator(OperatorVerb),
    /// Show the events of the cluster and who caused them
    #[command(visible_alias = "history")]
    Events(EventsArgs),
    /// Diagnose problems and suggest remedies; exits with 1 if there is an error
    Doctor,
    /// Manage tokens for managers and users
    #[command(subcommand, visible_alias = "tokens")]
    Token(TokenVerb),
    /// Log in to a remote cluster with a token
    ///
    /// The issued certificate is saved with the addresses as a context that --host can name. It is valid for
    /// 90 days, or until the token is revoked.
    Login(Login),
    /// Manage saved logins
    #[command(subcommand)]
    Context(ContextVerb),
    /// Show or rotate the certificate authority of the cluster
    #[command(subcommand)]
    Ca(CaVerb),
    /// Manage the secrets that specs reference as `secret://NAME`
    ///
    /// Values are stored encrypted, passed to the plugin whose properties reference them, and never printed.
    #[command(subcommand, visible_alias = "secrets")]
    Secret(SecretVerb),
    /// Write the whole state of the cluster to an encrypted file
    Backup(BackupArgs),
    /// Create a data directory from a backup, after the loss of every manager
    ///
    /// It belongs to the only manager of a new lineage of the cluster: start that manager, then join others
    /// to it. Managers of earlier lineages are rejected.
    Restore(RestoreArgs),
    /// Recover the cluster from a survivor's disk, after the permanent loss of a majority
    ///
    /// Stop every survivor first. Name all of their data directories that are on this machine, or inspect
    /// each one with --dry-run: the newest is the one to recover from. Its manager becomes the only one of a
    /// new lineage of the cluster: start it with its old command, then join others to it. Managers of earlier
    /// lineages are rejected.
    Recover(RecoverArgs),
    /// Replicated key-value variables and cluster settings
    #[command(subcommand)]
    Var(VarVerb),
    /// Print the version of this program
    Version,
}

#[derive(Subcommand)]
pub(crate) enum PluginVerb {
    /// Start plugins in this process, in the foreground
    #[command(long_about = crate::commands::plugin::kinds())]
    Start {
        #[arg(required = true, value_name = "KIND[:NAME]")]
        plugins: Vec<String>,
        /// An option for every plugin started here that supports it, as KEY=VALUE
        #[arg(long = "set", value_name = "KEY=VALUE")]
        options: Vec<String>,
    },
    /// List the plugins in the plugin directory, including those that do not answer
    Ls,
    /// Run the conformance tests against a plugin; creates and destroys instances
    Test {
        /// NAME or NAME/TYPE
        plugin: String,
        /// Properties for the test instances, as JSON
        #[arg(long, default_value = "{}")]
        properties: String,
    },
}

#[derive(Subcommand)]
pub(crate) enum InstanceVerb {
    /// List instances
    Ls {
        /// NAME or NAME/TYPE; defaults to all instance plugins
        plugins: Vec<String>,
        /// Only instances with these tags
        #[arg(long = "tag", value_name = "KEY=VALUE")]
        tags: Vec<String>,
    },
    /// Show one instance with its properties
    #[command(visible_alias = "show")]
    Describe { plugin: String, id: String },
    /// Create an instance from a spec {Properties, Tags, Init, LogicalID, Attachments}
    Provision { plugin: String, file: PathBuf },
    /// Validate the properties for an instance plugin
    Validate { plugin: String, file: PathBuf },
    /// Destroy instances
    Destroy {
        plugin: String,
        #[arg(required = true)]
        ids: Vec<String>,
        /// Do not ask for confirmation
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
    /// The size of the group
    #[arg(long, default_value_t = 1, conflicts_with = "logical_ids")]
    pub(crate) size: u32,
    /// The logical ids of the group
    #[arg(long, value_delimiter = ',')]
    pub(crate) logical_ids: Vec<String>,
}

#[derive(Subcommand)]
pub(crate) enum FlavorVerb {
    /// Validate the properties for a flavor
    Validate(FlavorArgs),
    /// Show the instance spec that a flavor prepares
    Prepare(FlavorArgs),
    /// Ask a flavor about the health of an instance
    Healthy {
        #[command(flatten)]
        flavor: FlavorArgs,
        /// The plugin of the instance
        instance_plugin: String,
        /// The id of the instance
        id: String,
    },
}

#[derive(Subcommand)]
pub(crate) enum NodeVerb {
    /// List the managers
    Ls,
    /// Show one manager
    Inspect {
        /// Its name or id
        manager: String,
    },
    /// Promote managers to voters, as soon as they have caught up
    Promote {
        /// Their names or ids
        #[arg(required = true)]
        managers: Vec<String>,
    },
    /// Demote managers to learners, which receive the log and do not vote
    Demote {
        /// Their names or ids
        #[arg(required = true)]
        managers: Vec<String>,
        /// Proceed even if fault tolerance decreases
        #[arg(long)]
        force: bool,
    },
    /// Remove managers permanently; their data directories cannot join again
    ///
    /// Name all failed managers at once: the change is checked and made as one. A leader transfers leadership
    /// first.
    Rm {
        /// Their names or ids
        #[arg(required = true)]
        managers: Vec<String>,
        /// Proceed even if fault tolerance decreases
        #[arg(long)]
        force: bool,
        /// Do not ask for confirmation
        #[arg(short, long)]
        yes: bool,
    },
    /// Transfer leadership to another voter
    #[command(visible_alias = "transfer-leader")]
    TransferLeadership {
        /// Its name or id [default: the most up-to-date voter]
        manager: Option<String>,
    },
}

#[derive(Args)]
pub(crate) struct EventsArgs {
    /// Only events of this group
    pub(crate) group: Option<String>,
    /// Keep printing new events
    #[arg(short, long)]
    pub(crate) follow: bool,
}

#[derive(Subcommand)]
pub(crate) enum TokenVerb {
    /// Create a token and print it; it cannot be shown again
    Create {
        /// viewer: read only; operator: declare groups; admin: everything; manager: join as a manager
        #[arg(long)]
        role: model::Role,
        /// Validity of the token, such as 24h; `never` for no expiry
        #[arg(long, default_value = "24h", value_name = "TIME|never")]
        expires: String,
        /// Valid for a single use
        #[arg(long)]
        once: bool,
        /// Only for the manager that is started with this --instance
        #[arg(long, value_name = "ID")]
        instance: Option<String>,
    },
    /// List the tokens
    Ls,
    /// Replace a token: revoke it, with the sessions issued with it, and print a new one
    Rotate {
        /// Its id, or a prefix of it
        id: String,
    },
    /// Revoke a token and the sessions issued with it
    Revoke {
        /// Its id, or a prefix of it
        id: String,
    },
}

#[derive(Args)]
pub(crate) struct Login {
    /// Managers: HOST:PORT[,HOST:PORT...]
    pub(crate) managers: String,
    #[command(flatten)]
    pub(crate) token: TokenArg,
    /// The user name to record for your actions [default: $USER]
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// The name of the context to save
    #[arg(long = "as", value_name = "CONTEXT", default_value = "default")]
    pub(crate) context: String,
}

#[derive(Subcommand)]
pub(crate) enum ContextVerb {
    /// List the saved contexts
    Ls,
    /// Remove a saved context and its certificate
    Rm { name: String },
}

#[derive(Subcommand)]
pub(crate) enum CaVerb {
    /// Show the active authority and the progress of a rotation
    Show,
    /// Rotate the authority: the new one is trusted, then signs, then the old one is no longer trusted
    ///
    /// Managers renew their certificates automatically, and requests keep working. Existing tokens and logins
    /// are invalid once the old authority is no longer trusted.
    Rotate,
}

#[derive(Subcommand)]
pub(crate) enum OperatorVerb {
    #[command(subcommand, about = "Peers, leadership, snapshots")]
    Raft(RaftVerb),
}

#[derive(Subcommand)]
pub(crate) enum RaftVerb {
    /// Same as `node ls`
    #[command(visible_alias = "peers")]
    ListPeers,
    /// Same as `node rm`
    RemovePeer {
        /// Its name or id
        manager: String,
        /// Do not ask for confirmation
        #[arg(short, long)]
        yes: bool,
    },
    /// Same as `node transfer-leadership`
    TransferLeader {
        /// Its name or id [default: the most up-to-date voter]
        manager: Option<String>,
    },
    /// Same as `backup`
    Snapshot(BackupArgs),
}

#[derive(Subcommand)]
pub(crate) enum SecretVerb {
    /// Store or replace a secret; existing members keep the old value until they are replaced
    Set {
        /// Letters, digits, `-`, `_` and `.`
        name: String,
        /// The file with the value; `-` reads the standard input. A trailing newline is removed
        #[arg(long, value_name = "FILE", default_value = "-")]
        file: PathBuf,
    },
    /// List the names of the secrets
    Ls,
    /// Remove a secret that no group references
    Rm {
        name: String,
        /// Do not ask for confirmation
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
    /// Names that begin with `infrakit/` are cluster settings:
    ///
    /// infrakit/max-instances (a number or `none`): limit on the instances of all groups together.
    ///
    /// infrakit/dead-manager-after (300s, or `never`): autopilot removes a voter that has been unreachable
    /// for this long.
    ///
    /// infrakit/start-managers-after (30s, or `never`): without a leader for this long, the machines of
    /// managers are restarted.
    ///
    /// infrakit/certificate-life (2592000s): validity of the managers' certificates.
    ///
    /// infrakit/plugin/NAME/class (C, D or `none`): class of a plugin that does not report one.
    Set { key: String, value: String },
}
