//! The options that every command takes.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

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
    /// Log level of the daemons: error, warn, info, debug or trace
    #[arg(long, global = true, env = "INFRAKIT_LOG", default_value = "info", hide_default_value = true)]
    pub(crate) log_level: String,
    /// Log format of the daemons
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
