//! `infrakit backup`: the whole state of the cluster in a file.

use std::io;
use std::path::{Path, PathBuf};

use api::proto as pb;
use clap::Args;
use manager::backup::{KEY_FILE, key};
use manager::private_file::save;
use raft::{Backup, Head, Key};
use serde_json::json;
use tokio_stream::StreamExt;

use super::client;
use crate::global::Global;
use crate::output::{self, rfc3339};
use crate::report::{Failure, INVALID_FILE, REFUSED};

#[derive(Args)]
pub(crate) struct BackupArgs {
    /// The file to write
    pub(crate) file: PathBuf,
    /// File with the encryption key; created if it does not exist [default: backup.key beside FILE]
    ///
    /// The backup and the key together give full access to the cluster: keep them in different places.
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// Replace the file if it exists
    #[arg(long)]
    pub(crate) force: bool,
    /// Check an existing backup and show its header, instead of taking one
    #[arg(long)]
    pub(crate) check: bool,
}

pub(super) const NOTHING: &str = "nothing was changed";

pub(super) fn key_of(file: &Path, named: Option<PathBuf>, may_draw: bool) -> Result<Key, Failure> {
    let path = named.unwrap_or_else(|| file.with_file_name(KEY_FILE));
    key(&path, may_draw).map_err(|error| {
        Failure::new("the key of the backup cannot be used")
            .cause(error.to_string())
            .remedy(format!("name it with --key-file; {NOTHING}"))
    })
}

pub(crate) async fn run(args: BackupArgs, global: &Global) -> Result<u8, Failure> {
    let BackupArgs { file, key_file, force, check } = args;
    if check {
        let backup = read(&file, key_file)?;
        return show(&backup.head, global);
    }
    if !force && file.symlink_metadata().is_ok() {
        return Err(Failure::new(format!("{} exists", file.display()))
            .remedy(format!("name another file, or replace it with --force; {NOTHING}"))
            .exit(REFUSED));
    }
    // Checked first: a backup that cannot be encrypted is not taken.
    let key = key_of(&file, key_file, true)?;
    let mut chunks = client(global)?.call(async |c| c.cluster().backup(pb::BackupRequest {}).await).await?;
    let mut bytes = Vec::new();
    while let Some(chunk) = chunks.next().await {
        bytes.extend(chunk.map_err(api::Error::from)?.data);
    }
    let backup = Backup::decode(bytes.into())
        .map_err(|error| Failure::new("the managers sent an invalid backup").cause(error.to_string()))?;
    save(&file, &backup.seal(&key)).map_err(|error| {
        Failure::new(format!("{} cannot be written", file.display())).cause(error.to_string())
    })?;
    show(&backup.head, global)
}

pub(super) fn read(file: &Path, key_file: Option<PathBuf>) -> Result<Backup, Failure> {
    let name = file.display();
    let unusable = |why: String| {
        Failure::new(format!("{name} cannot be used"))
            .cause(why)
            .remedy(format!("use another backup, or the version of infrakit that took this one; {NOTHING}"))
            .exit(INVALID_FILE)
    };
    let bytes = std::fs::read(file).map_err(|error: io::Error| unusable(error.to_string()))?;
    Head::read(&bytes).map_err(|why| unusable(why.to_string()))?;
    Backup::open(&bytes, &key_of(file, key_file, false)?).map_err(|why| unusable(why.to_string()))
}

pub(super) fn show(head: &Head, global: &Global) -> Result<u8, Failure> {
    let value = json!({
        "cluster": head.cluster.as_str(),
        "lineage": head.lineage,
        "index": head.last.index.0,
        "taken": rfc3339(head.at.0),
        "program": head.program,
        "featureLevel": head.level,
        "groups": head.groups,
        "managers": head.managers,
    });
    if !output::object(global.output, "Backup", value)? {
        output::line(&format!(
            "cluster {}, lineage {}, entry {}, {}: {} groups, {} managers",
            head.cluster.short(),
            head.lineage,
            head.last.index,
            rfc3339(head.at.0),
            head.groups,
            head.managers.len()
        ))?;
    }
    Ok(0)
}
