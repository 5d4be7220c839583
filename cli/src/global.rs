//! The options that every command takes.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// The version that every printed object carries.
pub(crate) const API_VERSION: &str = "infrakit/v1";

#[derive(Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Managers: HOST:PORT[,HOST:PORT...], the path of a manager's socket, or the name of a saved context
    /// [default: the context `default`, else 127.0.0.1 on ports 7701 to 7703]
    #[arg(short = 'H', long, global = true, env = "INFRAKIT_HOST", hide_env_values = true)]
    pub(crate) host: Option<String>,
    /// Output format
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
    /// Directory of the plugin sockets [default: $INFRAKIT_HOME/plugins, else ~/.infrakit/plugins]
    #[arg(long, global = true, env = "INFRAKIT_PLUGINS_DIR", hide_env_values = true)]
    pub(crate) plugins_dir: Option<PathBuf>,
    /// Log level of the daemons: off, error, warn, info, debug or trace; or TARGET=LEVEL,...
    #[arg(long, global = true, env = "INFRAKIT_LOG", hide_env_values = true, default_value = "info", hide_default_value = true, value_parser = log_level)]
    pub(crate) log_level: String,
    /// Log format of the daemons
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text, hide_default_value = true)]
    pub(crate) log_format: LogFormat,
}

/// A level by itself must be one: as a directive, any word would be the name of a target, and silence all others.
fn log_level(text: &str) -> Result<String, String> {
    let part = |part: &str| match part.trim().to_ascii_lowercase().as_str() {
        "" => Ok("info".to_owned()),
        "warning" => Ok("warn".to_owned()),
        level @ ("off" | "error" | "warn" | "info" | "debug" | "trace" | "0" | "1" | "2" | "3" | "4"
        | "5") => Ok(level.to_owned()),
        _ if part.contains('=') => Ok(part.trim().to_owned()),
        _ => Err(format!(
            "`{part}` is no level: write off, error, warn, info, debug or trace, or TARGET=LEVEL,..."
        )),
    };
    text.split(',').map(part).collect::<Result<Vec<_>, _>>().map(|parts| parts.join(","))
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Columns, for a terminal of 80
    Table,
    /// Columns, with all there are
    Wide,
    /// Only the names
    Name,
    Json,
    Yaml,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

#[cfg(test)]
mod tests {
    use super::log_level;

    #[test]
    fn a_word_that_is_no_level_silences_nothing() {
        for (written, read) in [
            ("", "info"),
            ("warning", "warn"),
            ("WARN", "warn"),
            ("3", "3"),
            ("debug,openraft=trace", "debug,openraft=trace"),
            ("manager=debug", "manager=debug"),
        ] {
            assert_eq!(log_level(written).as_deref(), Ok(read), "{written}");
        }
        for wrong in ["loud", "loud,x=debug", "debug,infrakit"] {
            assert!(log_level(wrong).is_err(), "{wrong}");
        }
    }
}
