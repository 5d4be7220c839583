//! `infrakit backup`, `restore` and `recover`: disaster recovery.

use std::io;
use std::path::{Path, PathBuf};

use api::proto as pb;
use manager::backup::{KEY_FILE, key};
use manager::private_file::save;
use manager::recovery::{self, DataDir, Survivor};
use raft::{Backup, Head, Identity, Key};
use serde_json::{Value, json};
use tokio_stream::StreamExt;

use super::{client, confirm};
use crate::args::{BackupArgs, RecoverArgs, RestoreArgs};
use crate::global::{Format, Global};
use crate::output::{self, rfc3339};
use crate::report::{Failure, INVALID_FILE, REFUSED};

const NOTHING: &str = "nothing was changed";

fn key_of(file: &Path, named: Option<PathBuf>, may_draw: bool) -> Result<Key, Failure> {
    let path = named.unwrap_or_else(|| file.with_file_name(KEY_FILE));
    key(&path, may_draw).map_err(|error| {
        Failure::new("the key of the backup cannot be used")
            .cause(error.to_string())
            .remedy(format!("name it with --key-file; {NOTHING}"))
    })
}

pub(crate) async fn backup(args: BackupArgs, global: &Global) -> Result<u8, Failure> {
    let BackupArgs { file, key_file, check } = args;
    if check {
        let backup = read(&file, key_file)?;
        return show(&backup.head, global);
    }
    // Checked first: a backup that cannot be encrypted is not taken.
    let key = key_of(&file, key_file, true)?;
    let mut chunks = client(global)?.call(async |mut c| c.backup(pb::BackupRequest {}).await).await?;
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

fn read(file: &Path, key_file: Option<PathBuf>) -> Result<Backup, Failure> {
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

fn show(head: &Head, global: &Global) -> Result<u8, Failure> {
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

/// Prints what to do next, after a recovery.
fn print_next(identity: &Identity, dir: &Path, global: &Global) -> Result<u8, Failure> {
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
fn check_unused(dir: &Path) -> Result<(), Failure> {
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

pub(crate) async fn restore(args: RestoreArgs, global: &Global) -> Result<u8, Failure> {
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
    confirm(args.yes, &effect, cluster.short())?;
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

fn survivor_json(survivor: &Survivor) -> Value {
    let held = &survivor.holding;
    json!({
        "dataDir": survivor.dir.display().to_string(),
        "node": held.identity.node.0,
        "name": survivor.manager().map(|it| it.name.clone()),
        "cluster": held.identity.cluster.as_str(),
        "lineage": held.identity.lineage,
        "term": held.last.term.0,
        "index": held.last.index.0,
        "committed": held.committed,
        "voted": held.voted.0,
        "groups": held.state.groups.len(),
        "voters": held.voters.iter().map(|node| node.0).collect::<Vec<_>>(),
        "digest": held.digest,
    })
}

fn survivor_row(survivor: &Survivor) -> Vec<String> {
    let held = &survivor.holding;
    vec![
        survivor.dir.display().to_string(),
        survivor.manager().map_or_else(|| "-".to_owned(), |it| it.name.clone()),
        held.identity.cluster.short().to_owned(),
        held.identity.lineage.to_string(),
        held.last.term.to_string(),
        held.last.index.to_string(),
        held.committed.to_string(),
        held.state.groups.len().to_string(),
        held.voters.len().to_string(),
        held.digest.clone(),
    ]
}

pub(crate) async fn recover(args: RecoverArgs, global: &Global) -> Result<u8, Failure> {
    let survivors = survivors(&args).await?;
    if args.dry_run || global.output == Format::Table {
        show_survivors(&survivors, global)?;
    }
    check_same_cluster(&survivors)?;
    if args.dry_run {
        return Ok(0);
    }
    let survivor = newest(survivors);
    let Some(me) = survivor.manager() else {
        return Err(Failure::new(format!("{} does not belong to a member", survivor.dir.display()))
            .cause("its manager was removed from the cluster")
            .remedy(format!("recover from another survivor; {NOTHING}"))
            .exit(REFUSED));
    };
    if !args.force {
        check_nobody_answers(&survivor).await?;
    }
    confirm(args.yes, &recovery_effect(&survivor, &me.name), &me.name)?;
    let dir = survivor.dir.clone();
    let identity = survivor.begin_anew().await?;
    print_next(&identity, &dir, global)
}

async fn survivors(args: &RecoverArgs) -> Result<Vec<Survivor>, Failure> {
    let unlock = super::unlock_key(args.unlock_key_file.as_deref())?;
    let mut survivors = Vec::new();
    for dir in &args.data_dirs {
        check_unused(dir)?;
        survivors.push(Survivor::read(dir, unlock.as_ref()).await?);
    }
    Ok(survivors)
}

fn show_survivors(survivors: &[Survivor], global: &Global) -> Result<(), Failure> {
    let items: Vec<Value> = survivors.iter().map(survivor_json).collect();
    if !output::object(global.output, "SurvivorList", json!({ "items": items }))? {
        let header = [
            "DATA-DIR",
            "NAME",
            "CLUSTER",
            "LINEAGE",
            "TERM",
            "INDEX",
            "COMMITTED",
            "GROUPS",
            "VOTERS",
            "STATE",
        ];
        output::table(&header, survivors.iter().map(survivor_row))?;
    }
    Ok(())
}

fn check_same_cluster(survivors: &[Survivor]) -> Result<(), Failure> {
    let same = |it: &Survivor| it.holding.identity.cluster == survivors[0].holding.identity.cluster;
    if survivors.iter().all(same) {
        return Ok(());
    }
    Err(Failure::new("the data directories belong to different clusters")
        .remedy(format!("name the survivors of one cluster; {NOTHING}"))
        .exit(REFUSED))
}

/// The one that an election would choose (Raft §5.4.1).
fn newest(mut survivors: Vec<Survivor>) -> Survivor {
    survivors.sort_by_key(|it| (it.holding.identity.lineage, it.holding.last.term, it.holding.last.index));
    survivors.pop().expect("one at least is named")
}

/// Fails if other managers of the cluster still answer.
async fn check_nobody_answers(survivor: &Survivor) -> Result<(), Failure> {
    let held = &survivor.holding;
    let answering = recovery::answering(&held.state, Some(held.identity.node)).await;
    if answering.is_empty() {
        return Ok(());
    }
    let majority = held.voters.len() / 2 + 1;
    Err(Failure::new(format!("managers of cluster {} still answer", held.identity.cluster.short()))
        .cause(format!("{}; {majority} of {} are a majority", answering.join(", "), held.voters.len()))
        .remedy(format!(
            "if {majority} can run, start this manager with its old command; otherwise stop the others first, \
             because one of them may be newer; with --force they stop when they learn of the new lineage; \
             {NOTHING}"
        ))
        .exit(REFUSED))
}

/// What a recovery changes, for the user to confirm.
fn recovery_effect(survivor: &Survivor, name: &str) -> String {
    let held = &survivor.holding;
    let others: Vec<&str> = held
        .state
        .managers
        .iter()
        .filter(|(id, _)| **id != held.identity.node)
        .map(|(_, it)| it.name.as_str())
        .collect();
    format!(
        "This makes `{name}` the only manager of cluster {}, as of entry {}; permanently removed: {}; entries that only \
         they have are lost",
        held.identity.cluster.short(),
        held.last.index,
        if others.is_empty() { "none".to_owned() } else { others.join(", ") }
    )
}
