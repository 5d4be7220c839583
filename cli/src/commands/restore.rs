//! `infrakit restore`: a data directory from a backup.

use std::path::{Path, PathBuf};

use clap::Args;
use manager::recovery::{self, DataDir};
use raft::Identity;
use serde_json::json;

use super::backup::{NOTHING, read};
use super::confirm;
use crate::global::Global;
use crate::output::{self, rfc3339};
use crate::report::{Failure, REFUSED};

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

pub(crate) async fn run(args: RestoreArgs, global: &Global) -> Result<u8, Failure> {
    let backup = read(&args.file, args.key_file)?;
    let dir = &args.data_dir;
    let cluster = backup.head.cluster.clone();
    let answering = recovery::answering(&backup.state, None).await;
    if !answering.is_empty() && !args.force {
        return Err(Failure::new(format!("managers of cluster {} still answer", cluster.short()))
            .cause(answering.join(", "))
            .remedy(format!(
                "stop them, or use `infrakit recover` with one of their disks, which may be newer; give --force if the \
                 addresses belong to other managers now; {NOTHING}"
            ))
            .exit(REFUSED));
    }
    check_unused(dir)?;
    let held = match DataDir::read(dir, super::unlock_key(None)?.as_ref()).await {
        // What an earlier restore has begun is finished by this one.
        Ok(DataDir::Empty | DataDir::Unfinished) => None,
        Ok(DataDir::Member(survivor)) => {
            let held = &survivor.holding;
            Some(if held.identity.cluster == cluster {
                format!(
                    "of the same cluster, up to entry {} of lineage {}; the backup was taken at entry {} of lineage {}",
                    held.last.index, held.identity.lineage, backup.head.last.index, backup.head.lineage
                )
            } else {
                let (theirs, ours) = (held.identity.cluster.short(), cluster.short());
                format!("of cluster {theirs}; the backup is of cluster {ours}")
            })
        }
        Err(error) => Some(error.cause),
    };
    if let Some(held) = held.as_ref().filter(|_| !args.replace) {
        return Err(Failure::new(format!("{} holds a manager's data", dir.display()))
            .cause(held)
            .remedy(format!("name an empty --data-dir, or give --replace to move the data aside; {NOTHING}"))
            .exit(REFUSED));
    }
    let head = &backup.head;
    let effect = format!(
        "This restores cluster {} as it was at {}, with this as its only manager; later changes are lost",
        cluster.short(),
        rfc3339(head.at.0)
    );
    confirm(args.yes, &effect, cluster.short()).await?;
    if held.is_some() {
        let aside = recovery::set_aside(dir).map_err(|error| {
            Failure::new(format!("the data in {} cannot be moved aside", dir.display()))
                .cause(error.to_string())
        })?;
        crate::report::warn(&format!("the data in {} were moved to {}", dir.display(), aside.display()));
    }
    let identity = recovery::restore(backup, dir, &args.name, &args.advertise).await?;
    print_next(&identity, dir, global)
}

/// Prints what to do next, after a recovery.
pub(super) fn print_next(identity: &Identity, dir: &Path, global: &Global) -> Result<u8, Failure> {
    let value = json!({
        "cluster": identity.cluster.as_str(),
        "lineage": identity.lineage,
        "node": identity.node.0,
        "dataDir": dir.display().to_string(),
    });
    if !output::object(global.output, "Recovered", value)? {
        output::line(&format!(
            "manager {} in {} is the only manager of lineage {} of cluster {}",
            identity.node,
            dir.display(),
            identity.lineage,
            identity.cluster.short()
        ))?;
        output::line("start it, then join others, each with --join and an empty --data-dir")?;
    }
    Ok(0)
}

/// Fails if the data directory is in use, even with --force.
pub(super) fn check_unused(dir: &Path) -> Result<(), Failure> {
    match recovery::is_taken(dir) {
        None => Ok(()),
        Some(why) => Err(Failure::new(format!("{} cannot be changed now", dir.display()))
            .cause(why)
            .remedy(format!(
                "stop the manager that uses it, and run this as the user that owns it; {NOTHING}"
            ))
            .exit(REFUSED)),
    }
}
