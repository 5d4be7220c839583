//! Arguments of `infrakit backup`, `restore` and `recover`.

use std::path::PathBuf;

use clap::Args;

#[derive(Args)]
pub(crate) struct BackupArgs {
    /// The file to write
    pub(crate) file: PathBuf,
    /// File with the encryption key; created if it does not exist [default: backup.key beside FILE]
    ///
    /// The backup and the key together give full access to the cluster: keep them in different places.
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// Check an existing backup and show its header, instead of taking one
    #[arg(long)]
    pub(crate) check: bool,
}

#[derive(Args)]
pub(crate) struct RestoreArgs {
    /// The backup
    pub(crate) file: PathBuf,
    /// File with its encryption key [default: backup.key beside FILE]
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// Data directory of the new manager
    #[arg(long)]
    pub(crate) data_dir: PathBuf,
    /// The name of the new manager
    #[arg(long)]
    pub(crate) name: String,
    /// Address at which others reach the new manager
    #[arg(long, default_value = "127.0.0.1:7701", value_name = "HOST:PORT")]
    pub(crate) advertise: String,
    /// Proceed even if the data directory holds a manager's data, which are moved aside
    #[arg(long)]
    pub(crate) replace: bool,
    /// Proceed even if managers of the cluster still answer
    #[arg(long)]
    pub(crate) force: bool,
    /// Do not ask for confirmation
    #[arg(short, long)]
    pub(crate) yes: bool,
}

#[derive(Args)]
pub(crate) struct RecoverArgs {
    /// The data directory of a survivor; several are compared
    #[arg(long = "data-dir", required = true, value_name = "DIR")]
    pub(crate) data_dirs: Vec<PathBuf>,
    /// File with the unlock key, if they are locked; `-` reads the standard input [or: $INFRAKIT_UNLOCK_KEY]
    #[arg(long, value_name = "FILE")]
    pub(crate) unlock_key_file: Option<PathBuf>,
    /// Only show what the data directories hold
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Proceed even if other managers still answer; they stop when they learn of the new lineage
    #[arg(long)]
    pub(crate) force: bool,
    /// Do not ask for confirmation
    #[arg(short, long)]
    pub(crate) yes: bool,
}
