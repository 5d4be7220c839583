//! `infrakit`: the manager, the plugins and the client commands, in one binary.

mod commands;
mod complete;
mod contexts;
mod escape;
mod examples;
mod files;
mod global;
mod manual;
mod output;
mod progress;
mod report;
mod settings;
mod tips;
mod yaml;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Command, CommandFactory, FromArgMatches, Parser, Subcommand};

use commands::{
    backup, ca, context, dev, doctor, events, flavor, group, instance, interruptible, login, manager, node,
    operator, plugin, recover, restore, rollout, secret, status, token, var, version,
};
use global::{Format, Global};
use report::Failure;

#[cfg(feature = "allocator")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    manual::complete(command);
    let arguments: Vec<OsString> = std::env::args_os().collect();
    // Also when they cannot be parsed, so it is looked for as a word.
    let words: Vec<&str> = arguments.iter().filter_map(|it| it.to_str()).collect();
    let asks_for_json = words.windows(2).any(|it| matches!(it, ["-o" | "--output", "json"]))
        || words.iter().any(|it| matches!(*it, "-ojson" | "--output=json"));
    let command = match settings::configured(command(), &arguments) {
        Ok(command) => command,
        Err(failure) => {
            return report::print(&failure, if asks_for_json { Format::Json } else { Format::Table });
        }
    };
    let parsed = command.clone().try_get_matches_from(&arguments);
    let parsed = parsed.map_err(|error| tips::without_environment(error, command, &arguments));
    let parsed = parsed.and_then(|it| Cli::from_arg_matches(&it));
    let cli = match parsed {
        Ok(cli) => cli,
        // Help and version are answers; anything else is wrong usage (exit code 64).
        Err(mut error) => {
            tips::mend(&mut error);
            let code = if error.use_stderr() { report::USAGE } else { 0 };
            if code != 0 && asks_for_json {
                let text = error.to_string();
                // Without the tips and the usage that follow.
                let text = text.split("\n\n").next().unwrap_or_default();
                let text = text.strip_prefix("error: ").unwrap_or(text).trim_end();
                return report::print(&Failure::usage(text), Format::Json);
            }
            // A closed pipe is the reader's choice.
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    let format = cli.global.output;
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let failure = Failure::new("the program cannot start").cause(error.to_string());
            return report::print(&failure, format);
        }
    };
    let result = runtime.block_on(run(cli));
    // A task that hangs in a call must not hold the program.
    runtime.shutdown_background();
    match result {
        Ok(code) => ExitCode::from(code),
        Err(failure) => report::print(&failure, format),
    }
}

/// The command line, with examples, and with the names of what is there for the completion of a shell.
pub(crate) fn command() -> Command {
    examples::add(complete::add(Cli::command()))
}

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
    /// Run a throwaway cluster of one manager in this process, to try things out
    ///
    /// With the simulator and the vanilla flavor, in a temporary directory that is removed at the end.
    Dev(dev::DevArgs),
    /// Run a manager
    #[command(subcommand)]
    Manager(manager::ManagerVerb),
    /// Run, list and test plugins
    #[command(subcommand)]
    Plugin(plugin::PluginVerb),
    /// Declare and inspect groups
    #[command(subcommand, visible_alias = "groups")]
    Group(group::GroupVerb),
    /// Call an instance plugin directly, without the managers
    #[command(subcommand)]
    Instance(instance::InstanceVerb),
    /// Call a flavor plugin directly, without the managers
    #[command(subcommand)]
    Flavor(flavor::FlavorVerb),
    /// List and change the managers of the cluster
    #[command(subcommand)]
    Node(node::NodeVerb),
    /// Show the cluster: leader, members, groups
    Status,
    /// Raft commands under the names that Consul and Nomad use
    #[command(subcommand)]
    Operator(operator::OperatorVerb),
    /// Show the events of the cluster and who caused them
    #[command(visible_alias = "history")]
    Events(events::EventsArgs),
    /// Diagnose problems and suggest remedies; exits with 1 if there is an error
    Doctor,
    /// Manage tokens for managers and users
    #[command(subcommand, visible_alias = "tokens")]
    Token(token::TokenVerb),
    /// Log in to a remote cluster with a token
    ///
    /// The issued certificate is saved with the addresses as a context that --host can name. It is valid for
    /// 90 days, or until the token is revoked.
    Login(login::Login),
    /// Manage saved logins
    #[command(subcommand)]
    Context(context::ContextVerb),
    /// Show or rotate the certificate authority of the cluster
    #[command(subcommand)]
    Ca(ca::CaVerb),
    /// Manage the secrets that specs reference as `secret://NAME`
    ///
    /// Values are stored encrypted, passed to the plugin whose properties reference them, and never printed.
    #[command(subcommand, visible_alias = "secrets")]
    Secret(secret::SecretVerb),
    /// Write the whole state of the cluster to an encrypted file
    Backup(backup::BackupArgs),
    /// Create a data directory from a backup, after the loss of every manager
    ///
    /// It belongs to the only manager of a new lineage of the cluster: start that manager, then join others
    /// to it. Managers of earlier lineages are rejected.
    Restore(restore::RestoreArgs),
    /// Recover the cluster from a survivor's disk, after the permanent loss of a majority
    ///
    /// Stop every survivor first. Name all of their data directories that are on this machine, or inspect
    /// each one with --dry-run: the newest is the one to recover from. Its manager becomes the only one of a
    /// new lineage of the cluster: start it with its old command, then join others to it. Managers of earlier
    /// lineages are rejected.
    Recover(recover::RecoverArgs),
    /// Follow, steer and take back the updates of groups
    #[command(subcommand)]
    Rollout(rollout::RolloutVerb),
    /// Replicated key-value variables and cluster settings
    #[command(subcommand)]
    Var(var::VarVerb),
    /// Print the completions for a shell
    Completion {
        /// The shell
        shell: clap_complete::Shell,
        /// Complete the names of groups, managers, secrets and so on, too: the shell asks this program, and it asks
        /// the managers
        #[arg(long)]
        dynamic: bool,
    },
    /// Write a manual page for every command into a directory
    Man {
        /// The directory; it is created
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
    /// Print the version of this program
    Version,
}

async fn run(cli: Cli) -> Result<u8, Failure> {
    let global = cli.global;
    match cli.verb {
        Verb::Dev(args) => dev::run(args, &global).await,
        Verb::Manager(verb) => manager::run(verb, &global).await,
        Verb::Plugin(verb) => plugin::run(verb, &global).await,
        Verb::Group(verb) => interruptible(group::run(verb, &global)).await,
        Verb::Instance(verb) => interruptible(instance::run(verb, &global)).await,
        Verb::Flavor(verb) => interruptible(flavor::run(verb, &global)).await,
        Verb::Node(verb) => interruptible(node::run(verb, &global)).await,
        Verb::Status => interruptible(status::run(&global)).await,
        Verb::Operator(verb) => interruptible(operator::run(verb, &global)).await,
        Verb::Events(args) => interruptible(events::run(args, &global)).await,
        Verb::Doctor => interruptible(doctor::run(&global)).await,
        Verb::Token(verb) => interruptible(token::run(verb, &global)).await,
        Verb::Login(args) => interruptible(login::run(args, &global)).await,
        Verb::Context(verb) => context::run(verb, &global),
        Verb::Ca(verb) => interruptible(ca::run(verb, &global)).await,
        Verb::Secret(verb) => interruptible(secret::run(verb, &global)).await,
        Verb::Backup(args) => interruptible(backup::run(args, &global)).await,
        Verb::Restore(args) => restore::run(args, &global).await,
        Verb::Recover(args) => recover::run(args, &global).await,
        Verb::Rollout(verb) => interruptible(rollout::run(verb, &global)).await,
        Verb::Var(verb) => interruptible(var::run(verb, &global)).await,
        Verb::Completion { shell, dynamic } => manual::completion(command(), shell, dynamic),
        Verb::Man { directory } => manual::pages(command(), &directory),
        Verb::Version => version(&global),
    }
}
