//! `infrakit recover`: the cluster from the disk of a survivor.

use std::path::PathBuf;

use clap::Args;
use manager::recovery::{self, Survivor};
use serde_json::{Value, json};

use super::backup::NOTHING;
use super::confirm;
use super::restore::{check_unused, print_next};
use crate::global::{Format, Global};
use crate::output;
use crate::report::{Failure, REFUSED};

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

pub(crate) async fn run(args: RecoverArgs, global: &Global) -> Result<u8, Failure> {
    let survivors = survivors(&args).await?;
    if args.dry_run || !matches!(global.output, Format::Json | Format::Yaml) {
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
    confirm(args.yes, &recovery_effect(&survivor, &me.name), &me.name).await?;
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
        output::table(global.output, &header, survivors.iter().map(survivor_row))?;
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
