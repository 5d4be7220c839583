//! The configuration file of a manager: the options of `manager start` by their long names. The command line
//! and the environment take precedence over it.

use std::ffi::OsString;
use std::path::Path;

use clap::Command;
use serde_yaml_ng::{Mapping, Value};

use crate::report::{Failure, INVALID_FILE};

/// Options that exclude each other: one on the command line overrides the others in the file.
const EITHER: [&[&str]; 2] = [&["bootstrap", "join"], &["token", "token-file"]];

/// Global options that apply to a manager.
const GLOBAL: [&str; 3] = ["plugins-dir", "log-level", "log-format"];

/// The command with the values of the configuration file as defaults, if a manager is started with one.
pub(crate) fn configured(command: Command, arguments: &[OsString]) -> Result<Command, Failure> {
    let words: Vec<String> = arguments.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let manager = words.iter().position(|word| word == "manager");
    let start =
        manager.and_then(|from| words[from..].iter().position(|word| word == "start").map(|at| from + at));
    let Some(at) = start else { return Ok(command) };
    let given = |option: &str| {
        let flag = format!("--{option}");
        let said = words[at..].iter().any(|word| *word == flag || word.starts_with(&format!("{flag}=")));
        // As for the other options, the environment takes precedence over the file.
        said || option == "token" && std::env::var_os("INFRAKIT_TOKEN").is_some_and(|it| !it.is_empty())
    };
    let named = words.iter().enumerate().find_map(|(at, word)| match word.strip_prefix("--config") {
        Some("") => words.get(at + 1).cloned(),
        Some(rest) => rest.strip_prefix('=').map(str::to_owned),
        None => None,
    });
    let named = named.or_else(|| std::env::var("INFRAKIT_CONFIG").ok().filter(|path| !path.is_empty()));
    let Some(path) = named else { return Ok(command) };
    let text = std::fs::read_to_string(&path).map_err(|error| {
        Failure::new(format!("{path} cannot be read"))
            .cause(error.to_string())
            .remedy("name another file with --config, or omit it")
            .exit(INVALID_FILE)
    })?;
    let mut settings = read(Path::new(&path), &text, &command)?;
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
fn read(path: &Path, text: &str, command: &Command) -> Result<Vec<(String, Vec<String>)>, Failure> {
    let path = path.display();
    let invalid = |what: String| {
        Failure::new(what).remedy("fix the file; deploy/infrakit.yaml shows every option").exit(INVALID_FILE)
    };
    let map: Mapping = match serde_yaml_ng::from_str(text) {
        Ok(Value::Mapping(map)) => map,
        Ok(Value::Null) => Mapping::new(),
        Ok(_) => return Err(invalid(format!("{path}:1: write OPTION: VALUE on each line"))),
        Err(error) => {
            let line = error.location().map_or(1, |at| at.line());
            return Err(invalid(format!("{path}:{line}: not valid YAML")).cause(error.to_string()));
        }
    };
    let known = known(command);
    let line_of = |key: &str| {
        let begins = |line: &str| line.trim_start_matches(['"', '\'']).starts_with(key);
        text.lines().position(begins).map_or(1, |at| at + 1)
    };
    let (mut settings, mut problems) = (Vec::new(), Vec::new());
    for (key, value) in &map {
        let written = key.as_str().unwrap_or_default();
        let key = renamed(command, written).unwrap_or(written);
        let at = format!("{path}:{}", line_of(written));
        if !known.iter().any(|option| option == key) {
            let nearest = known.iter().map(|option| (strsim::damerau_levenshtein(option, key), option)).min();
            let meant = nearest.filter(|(distance, _)| *distance <= 3);
            let meant = meant.map_or_else(String::new, |(_, option)| format!("; did you mean `{option}`?"));
            problems.push(format!("{at}: unknown option `{written}`{meant}"));
            continue;
        }
        match values(value) {
            Some(values) => settings.push((key.to_owned(), values)),
            None => problems
                .push(format!("{at}: `{key}` takes a string, a number, true, false, or a list of strings")),
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

fn values(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::Null => Some(Vec::new()),
        Value::Bool(it) => Some(vec![it.to_string()]),
        Value::Number(it) => Some(vec![it.to_string()]),
        Value::String(it) => Some(vec![it.clone()]),
        Value::Sequence(all) => all.iter().map(|it| it.as_str().map(str::to_owned)).collect(),
        Value::Mapping(_) | Value::Tagged(_) => None,
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
        assert!(reported("- m1\n").contains(":1: write OPTION: VALUE"));
    }
}
