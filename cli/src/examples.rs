//! An example in the help of every command.

use clap::Command;

/// Each command that runs, and how it is called.
const EXAMPLES: &[&str] = &[
    "dev",
    "dev web.yaml --listen 127.0.0.1:7711",
    "manager start --name m1 --data-dir m1 --listen 10.0.0.1:7701 --bootstrap",
    "manager lock --data-dir /var/lib/infrakit",
    "manager unlock --data-dir /var/lib/infrakit --unlock-key-file key",
    "plugin start simulator vanilla docker:docker-west",
    "plugin ls",
    "plugin test simulator",
    "group plan web.yaml",
    "group commit web.yaml --wait",
    "group ls",
    "group describe web --watch",
    "group inspect web > web.yaml",
    "group scale web 5 --wait",
    "group resolve web 3 --absent",
    "group adopt web i-0123 i-0124",
    "group destroy-strays web i-0125",
    "group pause web",
    "group resume web",
    "group free web",
    "rollout status web",
    "rollout pause web",
    "rollout resume web",
    "rollout promote web",
    "rollout abort web",
    "rollout undo web --to-revision 2 --wait",
    "rollout history web --revision 2",
    "group destroy web --wait",
    "instance ls simulator --tag infrakit.group=web",
    "instance describe simulator i-0123",
    "instance provision simulator instance.yaml",
    "instance validate simulator properties.yaml",
    "instance destroy simulator i-0123",
    "flavor validate vanilla properties.yaml --size 3",
    "flavor prepare vanilla properties.yaml --logical-ids db-1,db-2",
    "flavor healthy vanilla properties.yaml simulator i-0123",
    "node ls",
    "node inspect m2",
    "node promote m4",
    "node demote m4",
    "node rm m4",
    "node transfer-leadership m2",
    "status",
    "operator raft list-peers",
    "operator raft remove-peer m3",
    "operator raft transfer-leader",
    "operator raft snapshot cluster.backup",
    "events web --last 20",
    "doctor",
    "token create --role operator --expires 24h",
    "token ls",
    "token rotate 0123456789abcdef",
    "token revoke 0123456789abcdef",
    "login m1.example.com:7701 --token-file token",
    "context ls",
    "context rm default",
    "ca show",
    "ca rotate",
    "secret set password --file password.txt",
    "secret ls",
    "secret rm password",
    "backup cluster.backup",
    "restore cluster.backup --data-dir /var/lib/infrakit --name m1",
    "recover --data-dir /var/lib/infrakit --dry-run",
    "var ls",
    "var get infrakit/max-instances",
    "var rm infrakit/max-instances",
    "var set infrakit/max-instances 500",
    "completion bash --dynamic > ~/.local/share/bash-completion/completions/infrakit",
    "man man1",
    "version",
];

/// Adds to each command the examples that begin with it.
pub(crate) fn add(command: Command) -> Command {
    with(command, "")
}

fn with(mut command: Command, path: &str) -> Command {
    let names: Vec<String> = command.get_subcommands().map(|it| it.get_name().to_owned()).collect();
    for name in &names {
        let path = if path.is_empty() { name.clone() } else { format!("{path} {name}") };
        command = command.mut_subcommand(name, |inner| with(inner, &path));
    }
    if !names.is_empty() {
        return command;
    }
    let own = |it: &&&str| it.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '));
    let lines: Vec<String> = EXAMPLES.iter().filter(own).map(|it| format!("  infrakit {it}")).collect();
    match lines.is_empty() {
        true => command,
        false => command.after_help(format!("Example:\n{}", lines.join("\n"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command;

    fn every(command: &Command, path: &str, check: &mut impl FnMut(&str, &Command)) {
        for inner in command.get_subcommands().filter(|it| it.get_name() != "help") {
            let path = format!("{path} {}", inner.get_name());
            check(path.trim(), inner);
            every(inner, &path, check);
        }
    }

    #[test]
    fn every_command_has_an_example_and_every_argument_a_sentence() {
        let mut lacking = Vec::new();
        every(&command(), "", &mut |path, command| {
            if command.get_subcommands().next().is_none() && command.get_after_help().is_none() {
                lacking.push(format!("{path}: an example"));
            }
            for arg in command.get_arguments().filter(|arg| arg.get_help().is_none() && !arg.is_hide_set()) {
                lacking.push(format!("{path}: {}", arg.get_id()));
            }
        });
        assert!(lacking.is_empty(), "{lacking:#?}");
    }

    #[test]
    fn every_example_can_be_typed() {
        for example in EXAMPLES {
            let typed = example.split(" > ").next().unwrap_or_default();
            let words = std::iter::once("infrakit").chain(typed.split_whitespace());
            let parsed = command().try_get_matches_from(words);
            assert!(
                parsed.is_ok(),
                "{example}: {}",
                parsed.err().map(|it| it.to_string()).unwrap_or_default()
            );
        }
    }
}
