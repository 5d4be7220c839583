//! `infrakit`: the manager, the plugins and the client commands, in one binary.

mod args;
mod commands;
mod contexts;
mod escape;
mod global;
mod output;
mod progress;
mod report;
mod settings;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};

use args::{Cli, NodeVerb, OperatorVerb, RaftVerb, Verb};
use report::Failure;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let command = match settings::configured(Cli::command(), &arguments) {
        Ok(command) => command,
        Err(failure) => return report::print(&failure),
    };
    let parsed = command.try_get_matches_from(arguments).and_then(|it| Cli::from_arg_matches(&it));
    let cli = match parsed {
        Ok(cli) => cli,
        // Help and version are answers; anything else is wrong usage (exit code 64).
        Err(error) => {
            let code = if error.use_stderr() { report::USAGE } else { 0 };
            // A closed pipe is the reader's choice.
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            return report::print(&Failure::new("the program cannot start").cause(error.to_string()));
        }
    };
    let result = runtime.block_on(run(cli));
    // A task that hangs in a call must not hold the program.
    runtime.shutdown_background();
    match result {
        Ok(code) => ExitCode::from(code),
        Err(failure) => report::print(&failure),
    }
}

async fn run(cli: Cli) -> Result<u8, Failure> {
    let global = cli.global;
    match cli.verb {
        Verb::Manager(verb) => commands::manager::run(verb, &global).await,
        Verb::Plugin(verb) => commands::plugin::run(verb, &global).await,
        Verb::Group(verb) => commands::interruptible(commands::group::run(verb, &global)).await,
        Verb::Instance(verb) => commands::interruptible(commands::instance::run(verb, &global)).await,
        Verb::Flavor(verb) => commands::interruptible(commands::flavor::run(verb, &global)).await,
        Verb::Node(verb) => commands::interruptible(commands::cluster::nodes(verb, &global)).await,
        Verb::Status => commands::interruptible(commands::cluster::status(&global)).await,
        Verb::Operator(OperatorVerb::Raft(verb)) => {
            let verb = match verb {
                RaftVerb::ListPeers => NodeVerb::Ls,
                RaftVerb::RemovePeer { manager, yes } => {
                    NodeVerb::Rm { managers: vec![manager], force: false, yes }
                }
                RaftVerb::TransferLeader { manager } => NodeVerb::TransferLeadership { manager },
                RaftVerb::Snapshot(args) => {
                    return commands::interruptible(commands::recovery::backup(args, &global)).await;
                }
            };
            commands::interruptible(commands::cluster::nodes(verb, &global)).await
        }
        Verb::Doctor => commands::interruptible(commands::doctor::run(&global)).await,
        Verb::Events(events) => commands::interruptible(commands::cluster::events(events, &global)).await,
        Verb::Token(verb) => commands::interruptible(commands::access::tokens(verb, &global)).await,
        Verb::Login(login) => commands::interruptible(commands::access::login(login)).await,
        Verb::Context(verb) => commands::access::contexts(verb, &global),
        Verb::Ca(verb) => commands::interruptible(commands::access::authority(verb, &global)).await,
        Verb::Secret(verb) => commands::interruptible(commands::secret::run(verb, &global)).await,
        Verb::Backup(args) => commands::interruptible(commands::recovery::backup(args, &global)).await,
        Verb::Restore(args) => commands::recovery::restore(args, &global).await,
        Verb::Recover(args) => commands::recovery::recover(args, &global).await,
        Verb::Var(verb) => commands::interruptible(commands::cluster::variables(verb, &global)).await,
        Verb::Version => commands::version(&global),
    }
}
