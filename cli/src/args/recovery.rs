//! `infrakit backup`, `restore` and `recover`.

use std::path::PathBuf;

use clap::Args;

#[derive(Args)]
pub(crate) struct BackupArgs {
    /// The file to write
    pub(crate) file: PathBuf,
    /// The key that seals it; drawn when there is no such file yet [default: backup.key beside FILE]
    ///
    /// Whoever has both holds the cluster: keep them in different places.
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// Take none: check the one that is there, and show what it says of itself
    #[arg(long)]
    pub(crate) check: bool,
}

#[derive(Args)]
pub(crate) struct RestoreArgs {
    /// A backup
    pub(crate) file: PathBuf,
    /// The key that sealed it [default: backup.key beside FILE]
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// Where the new manager's log and state are to be kept
    #[arg(long)]
    pub(crate) data_dir: PathBuf,
    /// The name of the new manager
    #[arg(long)]
    pub(crate) name: String,
    /// Where others are to reach it
    #[arg(long, default_value = "127.0.0.1:7701", value_name = "HOST:PORT")]
    pub(crate) advertise: String,
    /// Also when the data directory holds a manager's data: they are moved aside
    #[arg(long)]
    pub(crate) replace: bool,
    /// Also when managers of the cluster still answer
    #[arg(long)]
    pub(crate) force: bool,
    /// Do not ask
    #[arg(short, long)]
    pub(crate) yes: bool,
}

#[derive(Args)]
pub(crate) struct RecoverArgs {
    /// The data directory of a survivor; several are compared
    #[arg(long = "data-dir", required = true, value_name = "DIR")]
    pub(crate) data_dirs: Vec<PathBuf>,
    /// The unlock key, when they are locked; `-` is the standard input [or: $INFRAKIT_UNLOCK_KEY]
    #[arg(long, value_name = "FILE")]
    pub(crate) unlock_key_file: Option<PathBuf>,
    /// Only show what they hold
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Also when other managers still answer: they stop when they hear of it
    #[arg(long)]
    pub(crate) force: bool,
    /// Do not ask
    #[arg(short, long)]
    pub(crate) yes: bool,
}
