//! The names of what is there, for the completion of a shell: asked of the managers and the plugins, briefly.

use std::time::Duration;

use api::{Client, proto as pb};
use clap::{Args, Command, FromArgMatches};
use clap_complete::engine::{ArgValueCandidates, CompletionCandidate};

use crate::commands::{client, plugins_dir};
use crate::contexts;
use crate::global::Global;
use crate::report::Failure;

/// How long a shell waits for the names.
const PATIENCE: Duration = Duration::from_secs(1);

/// What an argument names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Noun {
    Group,
    Node,
    Secret,
    Token,
    Variable,
    Plugin,
    Kind,
    Context,
}

/// The arguments that name something, by the command that they are below.
const NAMED: [(&str, &str, Noun); 16] = [
    ("group", "name", Noun::Group),
    ("rollout", "name", Noun::Group),
    ("events", "group", Noun::Group),
    ("node", "manager", Noun::Node),
    ("node", "managers", Noun::Node),
    ("operator", "manager", Noun::Node),
    ("secret", "name", Noun::Secret),
    ("token", "id", Noun::Token),
    ("var", "key", Noun::Variable),
    ("plugin", "plugin", Noun::Plugin),
    ("plugin", "plugins", Noun::Kind),
    ("instance", "plugin", Noun::Plugin),
    ("instance", "plugins", Noun::Plugin),
    ("flavor", "plugin", Noun::Plugin),
    ("flavor", "instance_plugin", Noun::Plugin),
    ("context", "name", Noun::Context),
];

/// Adds to each argument how its values are found.
pub(crate) fn add(mut command: Command) -> Command {
    for (below, arg, noun) in NAMED {
        if command.find_subcommand(below).is_some() {
            command = command.mut_subcommand(below, |inner| with(inner, arg, noun));
        }
    }
    command
}

fn with(mut command: Command, name: &'static str, noun: Noun) -> Command {
    let inner: Vec<String> = command.get_subcommands().map(|it| it.get_name().to_owned()).collect();
    for it in inner {
        command = command.mut_subcommand(it, |inner| with(inner, name, noun));
    }
    // In their places: `mut_arg` would put a positional argument behind the others.
    command.mut_args(|arg| match arg.get_id() == name {
        true => arg.add(ArgValueCandidates::new(move || candidates(noun))),
        false => arg,
    })
}

fn candidates(noun: Noun) -> Vec<CompletionCandidate> {
    let Ok(runtime) = tokio::runtime::Runtime::new() else { return Vec::new() };
    let found = runtime.block_on(async { tokio::time::timeout(PATIENCE, names(noun)).await });
    runtime.shutdown_background();
    // Nobody who presses a key wants to read an error.
    let names = found.ok().and_then(Result::ok).unwrap_or_default();
    names.into_iter().map(CompletionCandidate::new).collect()
}

async fn names(noun: Noun) -> Result<Vec<String>, Failure> {
    // What is typed is incomplete, so it is not parsed: whoever it names is asked, else whoever the environment does.
    let typed: Vec<String> = std::env::args().skip_while(|word| word != "--").collect();
    let mut words = vec!["infrakit".to_owned()];
    for pair in typed.windows(2).filter(|pair| ["-H", "--host", "--plugins-dir"].contains(&pair[0].as_str()))
    {
        words.extend(pair.iter().cloned());
    }
    let named = |word: &&String| word.starts_with("--host=") || word.starts_with("--plugins-dir=");
    words.extend(typed.iter().filter(named).cloned());
    let matches = Global::augment_args(Command::new("infrakit")).try_get_matches_from(words);
    let Ok(global) = matches.and_then(|it| Global::from_arg_matches(&it)) else { return Ok(Vec::new()) };
    let asked = || -> Result<Client, Failure> { Ok(client(&global)?.with_deadline(PATIENCE)) };
    Ok(match noun {
        Noun::Group => {
            let list = asked()?.call(async |c| c.groups().list(pb::ListRequest {}).await).await?;
            list.groups.into_iter().map(|it| it.id).collect()
        }
        Noun::Node => asked()?.status().await?.nodes.into_iter().map(|it| it.name).collect(),
        Noun::Secret => {
            let list = asked()?.call(async |c| c.secrets().list(pb::ListSecretsRequest {}).await).await?;
            list.secrets.into_iter().map(|it| it.name).collect()
        }
        Noun::Token => {
            let list =
                asked()?.call(async |c| c.access().list_tokens(pb::ListTokensRequest {}).await).await?;
            list.tokens.into_iter().map(|it| it.id).collect()
        }
        Noun::Variable => {
            let list = asked()?.call(async |c| c.variables().list(pb::ListVariablesRequest {}).await).await?;
            list.variables.into_iter().filter(|it| !it.default).map(|it| it.key).collect()
        }
        Noun::Plugin => {
            let found = spi::Directory::new(plugins_dir(&global)?).list().unwrap_or_default();
            found.into_iter().map(|it| it.name.to_string()).collect()
        }
        Noun::Kind => builtin::KINDS.iter().map(|kind| kind.name.to_owned()).collect(),
        Noun::Context => contexts::names()?,
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::Cli;

    #[test]
    fn every_noun_has_an_argument() {
        let command = Cli::command();
        for (below, name, _) in NAMED {
            fn has(command: &Command, name: &str) -> bool {
                command.get_arguments().any(|arg| arg.get_id() == name)
                    || command.get_subcommands().any(|inner| has(inner, name))
            }
            let inner = command.find_subcommand(below).expect(below);
            assert!(has(inner, name), "{below} has no argument {name}");
        }
    }
}
