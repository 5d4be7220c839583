//! The configuration file of a manager: the options of `manager start` by their long names. The command line
//! and the environment take precedence over it.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Command;
use clap::parser::ValueSource;
use model::draft::{self, Setting};

use crate::report::{Failure, INVALID_FILE};

/// Options that exclude each other: one on the command line overrides the others in the file.
const EITHER: [&[&str]; 2] = [&["bootstrap", "join"], &["token", "token-file"]];

/// Global options that apply to a manager.
const GLOBAL: [&str; 3] = ["plugins-dir", "log-level", "log-format"];

/// The command with the values of the configuration file as defaults, if a manager is started with one.
pub(crate) fn configured(command: Command, arguments: &[OsString]) -> Result<Command, Failure> {
    // What the file provides may be missing yet. Whatever else is wrong is told by the reading that follows.
    let Ok(seen) = command.clone().ignore_errors(true).try_get_matches_from(arguments) else {
        return Ok(command);
    };
    let manager = seen.subcommand_matches("manager");
    let Some(start) = manager.and_then(|manager| manager.subcommand_matches("start")) else {
        return Ok(command);
    };
    let Some(path) = start.get_one::<PathBuf>("config").filter(|path| !path.as_os_str().is_empty()) else {
        return Ok(command);
    };
    // The environment takes precedence over the file, as the command line does.
    let given = |option: &str| {
        let id = option.replace('-', "_");
        let said =
            matches!(start.value_source(&id), Some(ValueSource::CommandLine | ValueSource::EnvVariable));
        said && start.get_raw(&id).is_some_and(|mut all| all.any(|value| !value.is_empty()))
    };
    let name = path.display().to_string();
    let bytes = std::fs::read(path).map_err(|error| {
        Failure::new(format!("{name} cannot be read"))
            .cause(error.to_string())
            .remedy("name another file with --config, or omit it")
            .exit(INVALID_FILE)
    })?;
    let mut settings = read(&name, &bytes, &command)?;
    for either in EITHER {
        if either.iter().any(|option| given(option)) {
            settings.retain(|(option, _)| !either.contains(&option.as_str()));
        }
    }
    Ok(with_defaults(command, settings))
}

/// The long names of the options that a file may set.
fn known(command: &Command) -> Vec<String> {
    let start = command
        .find_subcommand("manager")
        .and_then(|manager| manager.find_subcommand("start"))
        .expect("there is such a command");
    let own =
        start.get_arguments().filter_map(|arg| arg.get_long()).filter(|it| !["help", "config"].contains(it));
    own.map(str::to_owned).chain(GLOBAL.map(str::to_owned)).collect()
}

/// The option that had this name before.
fn renamed<'a>(command: &'a Command, name: &str) -> Option<&'a str> {
    let start = command.find_subcommand("manager")?.find_subcommand("start")?;
    let had = |arg: &&clap::Arg| arg.get_all_aliases().is_some_and(|all| all.contains(&name));
    start.get_arguments().find(had)?.get_long()
}

/// Reads a file: each option with its values. All problems are reported together, each with its line.
fn read(path: &str, bytes: &[u8], command: &Command) -> Result<Vec<(String, Vec<String>)>, Failure> {
    let invalid = |what: String| {
        Failure::new(what).remedy("fix the file; deploy/infrakit.yaml shows every option").exit(INVALID_FILE)
    };
    let found = draft::options(path, bytes)?;
    let known = known(command);
    let line_of = |option: &str| {
        let means = |it: &&Setting| renamed(command, &it.key).unwrap_or(&it.key) == option;
        found.iter().find(means).map_or(1, |it| it.place.line)
    };
    let (mut settings, mut problems) = (Vec::new(), Vec::new());
    for Setting { place, key: written, values } in &found {
        let key = renamed(command, written).unwrap_or(written);
        let at = format!("{path}:{}", place.line);
        if !known.iter().any(|option| option == key) {
            let nearest = known.iter().map(|option| (strsim::damerau_levenshtein(option, key), option)).min();
            let meant = nearest.filter(|(distance, _)| *distance <= 3);
            let meant = meant.map_or_else(String::new, |(_, option)| format!("; did you mean `{option}`?"));
            problems.push(format!("{at}: unknown option `{written}`{meant}"));
            continue;
        }
        match values {
            Some(values) => settings.push((key.to_owned(), values.clone())),
            None => problems
                .push(format!("{at}: `{key}` takes a string, a number, true, false, or a list of such")),
        }
    }
    for either in EITHER {
        let set = |option: &&&str| {
            let means = |values: &Vec<String>| !values.is_empty() && values[0] != "false";
            settings.iter().any(|(it, values): &(String, Vec<String>)| it == **option && means(values))
        };
        if either.iter().filter(set).count() > 1 {
            problems.push(format!(
                "{path}:{}: {} exclude each other",
                line_of(either[0]),
                either.join(" and ")
            ));
        }
    }
    match &problems[..] {
        [] => Ok(settings),
        [one] => Err(invalid(one.clone())),
        all => Err(invalid(format!("{} problems\n{}", all.len(), all.join("\n")))),
    }
}

fn with_defaults(command: Command, settings: Vec<(String, Vec<String>)>) -> Command {
    let set = |command: Command, option: &str, values: Vec<String>| {
        let id = option.replace('-', "_");
        // An option that the file sets is no longer required.
        command.mut_arg(id, |arg| arg.required(false).default_values(values))
    };
    settings.into_iter().filter(|(_, values)| !values.is_empty()).fold(
        command,
        |command, (option, values)| {
            if GLOBAL.contains(&option.as_str()) {
                return set(command, &option, values);
            }
            command.mut_subcommand("manager", |manager| {
                manager.mut_subcommand("start", |start| set(start, &option, values))
            })
        },
    )
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, FromArgMatches};

    use std::path::Path;

    use super::*;
    use crate::commands::manager::{ManagerStart, ManagerVerb};
    use crate::{Cli, Verb};

    const EXAMPLE: &str = include_str!("../../deploy/infrakit.yaml");

    fn start(file: &str, words: &[&str]) -> Result<Box<ManagerStart>, Failure> {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("infrakit.yaml");
        std::fs::write(&path, file).expect("a file");
        let path = path.display().to_string();
        let start = ["infrakit", "manager", "start", "--config", &path];
        let words: Vec<OsString> = start.iter().chain(words).map(OsString::from).collect();
        let command = configured(Cli::command(), &words)?;
        let matches = command.try_get_matches_from(words).map_err(|error| Failure::new(error.to_string()))?;
        let cli = Cli::from_arg_matches(&matches).map_err(|error| Failure::new(error.to_string()))?;
        let Verb::Manager(ManagerVerb::Start(start)) = cli.verb else { panic!("it was started") };
        Ok(start)
    }

    #[test]
    fn the_example_has_every_option_and_is_read() {
        let shown = |option: &String| {
            let (set, described) = (format!("\n{option}:"), format!("\n# {option}:"));
            EXAMPLE.contains(&set) || EXAMPLE.contains(&described)
        };
        let missing: Vec<String> = known(&Cli::command()).into_iter().filter(|it| !shown(it)).collect();
        assert_eq!(missing, Vec::<String>::new(), "the example lacks these");
        let as_it_is = start(EXAMPLE, &[]).expect("it is read");
        assert_eq!(as_it_is.data_dir, Path::new("/var/lib/infrakit"));
        // And with everything in it that is only described.
        let option = |line: &str| {
            let line = line.strip_prefix("# ").unwrap_or(line);
            let (key, _) = line.split_once(':')?;
            known(&Cli::command()).iter().any(|it| it == key).then(|| line.to_owned())
        };
        let either = |line: &String| !["bootstrap", "adopt", "token:"].iter().any(|it| line.starts_with(it));
        let whole: Vec<String> = EXAMPLE.lines().filter_map(option).filter(either).collect();
        start(&whole.join("\n"), &[]).expect("all of it is read");
    }

    #[test]
    fn the_command_line_precedes_the_file_and_the_file_the_defaults() {
        let file = "name: m1\ndata-dir: /d\njoin: [a:1, b:2]\nbackup-dir: /b\nbackup-keep: 3\n";
        let as_filed = start(file, &[]).expect("it is read");
        assert_eq!((as_filed.name.as_str(), as_filed.join.len(), as_filed.backup_keep), ("m1", 2, 3));
        assert_eq!(as_filed.listen, "127.0.0.1:7701");
        let said = start(file, &["--name", "m2", "--join=c:3"]).expect("it is read");
        assert_eq!((said.name.as_str(), said.join), ("m2", vec!["c:3".to_owned()]));
        let renamed = "name: m1\ndata-dir: /d\nno-rescue: true\n";
        assert!(start(renamed, &[]).expect("it is read").no_restart_managers);
        let bootstraps = start(file, &["--bootstrap"]).expect("it is read");
        assert!(bootstraps.bootstrap && bootstraps.join.is_empty());
        assert!(start("name: m1\ndata-dir: /d\nbootstrap: true\n", &[]).expect("it is read").bootstrap);
        assert!(!start("name: m1\ndata-dir: /d\nbootstrap: false\n", &[]).expect("it is read").bootstrap);
    }

    #[test]
    fn what_is_wrong_with_a_file_is_reported_with_its_line() {
        let reported = |file: &str| match start(file, &[]) {
            Err(failure) => {
                assert_eq!(failure.exit, INVALID_FILE, "{}", failure.what);
                failure.what
            }
            Ok(_) => panic!("{file} was accepted"),
        };
        let both = reported("# a comment\nnam: m1\ndata-dir: /d\njoin: {a: b}\n");
        assert!(both.starts_with("2 problems"), "{both}");
        assert!(both.contains("infrakit.yaml:2: unknown option `nam`; did you mean `name`?"), "{both}");
        assert!(both.contains("infrakit.yaml:4: `join` takes"), "{both}");
        let both = reported("name: m1\ndata-dir: /d\njoin: [a:1]\nbootstrap: true\n");
        assert!(both.contains("infrakit.yaml:4: bootstrap and join exclude each other"), "{both}");
        assert!(reported("name: [").contains("not valid YAML"));
        assert!(reported("- m1\n").contains(":1:1: expected options, found a list; write OPTION: VALUE"));
        assert!(reported("bootstrap: yes\n").contains("`yes` is true in YAML 1.1 and the text"));
    }

    #[test]
    fn a_file_is_read_when_a_manager_is_started_and_at_no_other_word() {
        for words in [
            &["instance", "describe", "manager", "start"][..],
            &["group", "describe", "manager", "--host", "start"],
            &["manager", "--help"],
        ] {
            let words = ["infrakit"].iter().chain(words).chain(&["--config", "/nonexistent"]);
            let words: Vec<OsString> = words.map(OsString::from).collect();
            assert!(configured(Cli::command(), &words).is_ok(), "{words:?}");
        }
        let started =
            ["infrakit", "-o", "json", "manager", "start", "--config=/nonexistent"].map(OsString::from);
        let failure = configured(Cli::command(), &started).expect_err("it cannot be read");
        assert!(failure.what.contains("/nonexistent cannot be read"), "{}", failure.what);
    }
}
