//! Kinds of plugins: their names, options and how one is made; and the whole `main` of a program that serves one.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::{Directory, Plugin, serve_soon};

/// How long calls may take that are under way when a plugin is stopped.
pub const CALLS_END: Duration = Duration::from_secs(10);

/// A kind of plugin: what `infrakit plugin start KIND` knows of it.
#[derive(Clone, Copy)]
pub struct Kind {
    /// Its name, which is also the default name of a plugin of it.
    pub name: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
    /// The options that it takes, as `--set KEY=VALUE`.
    pub options: &'static [KindOption],
    /// Makes a plugin of it. What it needs from elsewhere, such as an engine, need not be there yet.
    pub make: fn(Setup) -> BoxFuture<'static, Result<Plugin, NotMade>>,
}

/// An option of a kind.
#[derive(Clone, Copy)]
pub struct KindOption {
    /// Its key.
    pub key: &'static str,
    /// What it does and its default, in one line.
    pub summary: &'static str,
    /// The environment variable that counts when it is not given.
    pub variable: Option<&'static str>,
}

/// What a plugin is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setup {
    /// The name of the plugin.
    pub name: String,
    /// The directory of the plugins of this machine.
    pub directory: PathBuf,
    /// The options, those from the environment among them. All are options of its kind.
    pub options: BTreeMap<String, String>,
}

/// Why a plugin was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotMade {
    /// An option is unknown, missing or invalid.
    #[error("{0}")]
    Options(String),
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}

impl Kind {
    /// Whether it takes this option.
    pub fn takes(&self, key: &str) -> bool {
        self.options.iter().any(|it| it.key == key)
    }

    /// Makes a plugin with these options; `var` reads the environment, where a value that is empty is none.
    pub async fn plugin(
        &self,
        name: &str,
        directory: &Path,
        given: BTreeMap<String, String>,
        var: impl Fn(&str) -> Option<String>,
    ) -> Result<Plugin, NotMade> {
        (self.make)(self.setup(name, directory, given, var)?).await
    }

    fn setup(
        &self,
        name: &str,
        directory: &Path,
        given: BTreeMap<String, String>,
        var: impl Fn(&str) -> Option<String>,
    ) -> Result<Setup, NotMade> {
        if let Some(other) = given.keys().find(|key| !self.takes(key)) {
            let known: Vec<&str> = self.options.iter().map(|it| it.key).collect();
            let known = if known.is_empty() { "it has none".to_owned() } else { known.join(", ") };
            return Err(NotMade::Options(format!(
                "unknown option `{other}` of {}; known: {known}",
                self.name
            )));
        }
        let mut options = given;
        for option in self.options {
            let said = || option.variable.and_then(&var).filter(|value| !value.is_empty());
            if !options.contains_key(option.key)
                && let Some(value) = said()
            {
                options.insert(option.key.to_owned(), value);
            }
        }
        Ok(Setup { name: name.to_owned(), directory: directory.to_owned(), options })
    }
}

/// Waits for SIGTERM or SIGINT, which are caught from this call on and not only while it is waited for.
pub fn stop_signal() -> impl Future<Output = ()> + Send + 'static {
    use tokio::signal::unix::{SignalKind, signal};
    let signals = [SignalKind::terminate(), SignalKind::interrupt()].map(signal);
    async move {
        let each = signals.into_iter().map(|signal| {
            Box::pin(async move {
                match signal {
                    Ok(mut signal) => drop(signal.recv().await),
                    Err(_) => std::future::pending().await,
                }
            })
        });
        futures_util::future::select_all(each).await;
    }
}

/// The exit code for wrong usage, as in `sysexits.h`.
const USAGE: u8 = 64;

/// The whole `main` of a program that serves a plugin of one kind until it is told to stop.
///
/// Its arguments are `[NAME] [--set KEY=VALUE]...`. The plugin directory is the one of the environment, as for the
/// command line. A program that is called `infrakit-plugin-KIND`, and is beside `infrakit` or on the `PATH`, is what
/// `infrakit plugin start KIND` starts.
///
/// `plugins/spi/examples/minimal.rs` is such a program.
#[allow(clippy::print_stderr, clippy::print_stdout)]
pub fn run(kind: &Kind) -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|it| it == "--help" || it == "-h") {
        print!("{}", help(kind));
        return ExitCode::SUCCESS;
    }
    let (code, why) = match parse(kind, &arguments) {
        Err(why) => (USAGE, why),
        Ok((name, given)) => match serve_until_stopped(kind, &name, given) {
            Ok(()) => return ExitCode::SUCCESS,
            Err(NotMade::Options(why)) => (USAGE, why),
            Err(NotMade::Failed(why)) => (1, why),
        },
    };
    eprintln!("error: {why}");
    ExitCode::from(code)
}

fn help(kind: &Kind) -> String {
    let mut text = format!(
        "{}: {}\n\nUsage: [NAME] [--set KEY=VALUE]...\n\nNAME is the name of the plugin [default: {0}]\n",
        kind.name, kind.summary
    );
    for option in kind.options {
        let variable = option.variable.map(|it| format!(" [env: {it}]")).unwrap_or_default();
        text.push_str(&format!("  {:<18} {}{variable}\n", option.key, option.summary));
    }
    text
}

/// The name and the options that were given.
fn parse(kind: &Kind, arguments: &[String]) -> Result<(String, BTreeMap<String, String>), String> {
    let (mut name, mut given) = (None, BTreeMap::new());
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let pair = match argument.as_str() {
            "--set" => rest.next().map(String::as_str),
            other => other.strip_prefix("--set="),
        };
        match pair {
            Some(pair) => {
                let (key, value) = pair.split_once('=').ok_or(format!("--set {pair}: write KEY=VALUE"))?;
                given.insert(key.to_owned(), value.to_owned());
            }
            None if argument.starts_with('-') => {
                return Err(format!("unknown argument `{argument}`; see --help"));
            }
            None if name.is_some() => return Err(format!("a second name `{argument}`; see --help")),
            None => name = Some(argument.clone()),
        }
    }
    let name = name.unwrap_or_else(|| kind.name.to_owned());
    if name.is_empty() || name.contains('/') {
        return Err(format!("`{name}`: NAME must be a file name without `/`"));
    }
    Ok((name, given))
}

fn serve_until_stopped(kind: &Kind, name: &str, given: BTreeMap<String, String>) -> Result<(), NotMade> {
    let var = |name: &str| std::env::var(name).ok();
    let directory = Directory::by_environment(var, std::env::home_dir())
        .ok_or_else(|| NotMade::Options("no plugin directory is set; set INFRAKIT_PLUGINS_DIR".into()))?;
    let failed = |error: std::io::Error| NotMade::Failed(format!("plugin `{name}` cannot start: {error}"));
    let runtime = tokio::runtime::Runtime::new().map_err(failed)?;
    runtime.block_on(async {
        // Before there is anything to clean up.
        let stopped = stop_signal();
        let mut stopped = std::pin::pin!(stopped);
        let plugin = tokio::select! {
            plugin = kind.plugin(name, &directory, given, var) => plugin?,
            () = &mut stopped => return Ok(()),
        };
        let running = serve_soon(&directory, name, plugin).await.map_err(failed)?;
        stopped.await;
        // Whoever says so twice does not wait.
        let again = stop_signal();
        running.stop(async { drop(tokio::time::timeout(CALLS_END, again).await) }).await;
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: Kind = Kind {
        name: "lamps",
        summary: "turns lamps on",
        options: &[
            KindOption { key: "dir", summary: "where they are", variable: Some("LAMPS_DIR") },
            KindOption { key: "colour", summary: "theirs", variable: None },
        ],
        make: |_| Box::pin(async { Ok(Plugin::default()) }),
    };

    fn given(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn options(pairs: &[(&str, &str)], variable: &str) -> Result<BTreeMap<String, String>, NotMade> {
        let var = |name: &str| (name == "LAMPS_DIR").then(|| variable.to_owned());
        KIND.setup("hall", Path::new("/plugins"), given(pairs), var).map(|setup| setup.options)
    }

    #[test]
    fn an_option_that_is_given_counts_before_the_environment() {
        assert_eq!(options(&[], ""), Ok(given(&[])), "an empty variable is none");
        assert_eq!(options(&[("colour", "red")], "/env"), Ok(given(&[("colour", "red"), ("dir", "/env")])));
        assert_eq!(options(&[("dir", "/given")], "/env"), Ok(given(&[("dir", "/given")])));
        let error = options(&[("shape", "round")], "").expect_err("it takes no such option");
        assert_eq!(error.to_string(), "unknown option `shape` of lamps; known: dir, colour");
    }

    #[test]
    fn a_program_of_one_kind_reads_its_arguments() {
        let read = |arguments: &[&str]| {
            parse(&KIND, &arguments.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(read(&[]), Ok(("lamps".into(), given(&[]))));
        let all = read(&["hall", "--set", "dir=/a=b", "--set=colour=red"]);
        assert_eq!(all, Ok(("hall".into(), given(&[("colour", "red"), ("dir", "/a=b")]))));
        for wrong in [&["a", "b"][..], &["--what"], &["--set", "dir"], &["--set"], &["a/b"], &[""]] {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
        assert!(help(&KIND).contains("where they are [env: LAMPS_DIR]"));
    }
}
