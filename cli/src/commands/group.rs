//! `infrakit group`: declare, inspect and change groups.

mod declare;
mod request;
mod show;
mod strays;

use std::time::{Duration, Instant};

use api::{Client, Code, proto as pb};
use clap::Subcommand;
use declare::{Files, commit, plan, print_committed, wait_for};
use show::{describe, inspect, list};

pub(super) use request::{Wait, about};
pub(super) use show::{as_spec, brief_json, header, row, wait_json};

use super::request_id;

use super::{client, confirm, duration, watching};
use crate::global::{Format, Global};
use crate::output;
use crate::report::{self, Failure};

#[derive(Subcommand)]
pub(crate) enum GroupVerb {
    /// Show what a commit would do, without changing anything
    Plan {
        #[command(flatten)]
        files: Files,
        /// Exit with 2 if the plan has changes
        #[arg(long)]
        detailed_exitcode: bool,
    },
    /// Declare groups; if one is invalid, none is committed
    #[command(visible_alias = "apply")]
    Commit {
        #[command(flatten)]
        files: Files,
        /// Only show what the commit would do
        #[arg(long)]
        pretend: bool,
        #[command(flatten)]
        wait: Wait,
    },
    /// List the groups
    #[command(alias = "list")]
    Ls,
    /// Show a group: its members, its conditions and what it waits for
    #[command(visible_alias = "show")]
    #[command(alias = "get")]
    Describe {
        /// The name of the group
        name: String,
        /// Print the group again at every change
        #[arg(short, long)]
        watch: bool,
    },
    /// Print the stored spec of a group
    Inspect {
        /// The name of the group
        name: String,
    },
    /// Change the number of members
    Scale {
        /// The name of the group
        name: String,
        /// The number of members
        size: u32,
        #[command(flatten)]
        wait: Wait,
    },
    /// Resolve an in-doubt slot
    ///
    /// For a slot that `group describe` shows as Unknown and that waits for an operator. Check the provider
    /// first: the answer is trusted.
    #[command(alias = "settle")]
    Resolve {
        /// The name of the group
        name: String,
        /// The slot: a number, or a logical id
        slot: String,
        /// No instance was created: the slot is filled again
        #[arg(long, required_unless_present = "instance", conflicts_with = "instance")]
        absent: bool,
        /// This instance was created; it holds the slot from now on
        #[arg(long, value_name = "ID")]
        instance: Option<String>,
    },
    /// Make instances that carry the group's tag and hold no slot members of it
    ///
    /// `group describe` lists them as strays. The group must have free slots: pause it, scale it, adopt, and resume it.
    /// One that was made from another template is replaced afterwards. What another cluster made is adopted, too: free it there first.
    Adopt {
        /// The name of the group
        name: String,
        /// The ids of the instances
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
    },
    /// Drain and destroy instances that carry the group's tag and hold no slot
    ///
    /// All strays that this cluster made, or these; `group describe` lists them. Never one that another cluster made.
    /// Strays are never destroyed automatically.
    DestroyStrays {
        /// The name of the group
        name: String,
        /// The ids of the instances [default: all that this cluster made]
        #[arg(value_name = "ID")]
        ids: Vec<String>,
        /// Do not ask for confirmation
        #[arg(short, long)]
        yes: bool,
    },
    /// Take no action of any kind for a group until it is resumed
    ///
    /// Nothing is made, destroyed, adopted or labelled, whoever leads; calls that are under way end. A commit is
    /// stored, and takes effect when the group is resumed.
    Pause {
        /// The name of the group
        name: String,
    },
    /// Act for a paused group again
    Resume {
        /// The name of the group
        name: String,
    },
    /// Stop managing a group; its instances stay
    #[command(visible_alias = "release")]
    Free {
        /// The name of the group
        name: String,
        /// Do not ask for confirmation
        #[arg(short, long)]
        yes: bool,
    },
    /// Drain and destroy all members of a group, then delete it
    Destroy {
        /// The name of the group
        name: String,
        /// Do not ask for confirmation
        #[arg(short, long)]
        yes: bool,
        #[command(flatten)]
        wait: Wait,
    },
}

pub(crate) async fn run(verb: GroupVerb, global: &Global) -> Result<u8, Failure> {
    match verb {
        GroupVerb::Plan { files, detailed_exitcode } => plan(&files, detailed_exitcode, global).await,
        GroupVerb::Commit { files, pretend: true, .. } => plan(&files, false, global).await,
        GroupVerb::Commit { files, wait, .. } => commit(&files, &wait, global).await,
        GroupVerb::Ls => list(global).await,
        GroupVerb::Describe { name, watch } => describe(&name, watch, global).await,
        GroupVerb::Inspect { name } => inspect(&name, global).await,
        GroupVerb::Scale { name, size, wait } => scale(&name, size, &wait, global).await,
        GroupVerb::Pause { name } => pause(&name, global).await,
        GroupVerb::Resume { name } => resume(&name, global).await,
        GroupVerb::Resolve { name, slot, absent: _, instance } => {
            resolve(&name, slot, instance, global).await
        }
        GroupVerb::Adopt { name, ids } => strays::adopt(&name, ids, global).await,
        GroupVerb::DestroyStrays { name, ids, yes } => strays::destroy(&name, ids, yes, global).await,
        GroupVerb::Free { name, yes } => free(&name, yes, global).await,
        GroupVerb::Destroy { name, yes, wait } => destroy(&name, yes, &wait, global).await,
    }
}

async fn scale(name: &str, size: u32, wait: &Wait, global: &Global) -> Result<u8, Failure> {
    let client = client(global)?;
    let request =
        pb::ScaleRequest { request_id: request_id(), group: name.to_owned(), size, if_revision: None };
    let reply = client.call(async |c| c.groups().scale(request.clone()).await).await?;
    finish_commit(&client, reply, wait, global).await
}

/// Says what was committed, and waits for it if that was asked.
pub(super) async fn finish_commit(
    client: &Client,
    reply: pb::CommitReply,
    wait: &Wait,
    global: &Global,
) -> Result<u8, Failure> {
    let deadline = duration(&wait.timeout)?;
    print_committed(&reply, global)?;
    if wait.wait {
        for committed in &reply.committed {
            wait_for(client, &committed.group, committed.revision, deadline).await?;
        }
    }
    Ok(0)
}

async fn resolve(name: &str, slot: String, instance: Option<String>, global: &Global) -> Result<u8, Failure> {
    let resolved = instance.clone().map_or_else(
        || format!("{name}: slot {slot} is empty and will be filled again"),
        |instance| format!("{name}: slot {slot} is held by {instance}"),
    );
    let request = pb::ResolveRequest { request_id: request_id(), group: name.to_owned(), slot, instance };
    client(global)?.call(async |c| c.groups().resolve(request.clone()).await).await?;
    output::done(global.output, &resolved)?;
    Ok(0)
}

async fn pause(name: &str, global: &Global) -> Result<u8, Failure> {
    let request = about(name);
    client(global)?.call(async |c| c.groups().pause(request.clone()).await).await?;
    output::done(
        global.output,
        &format!("{name}: paused; no action of any kind is taken until `infrakit group resume {name}`"),
    )?;
    Ok(0)
}

async fn resume(name: &str, global: &Global) -> Result<u8, Failure> {
    let request = about(name);
    client(global)?.call(async |c| c.groups().resume(request.clone()).await).await?;
    output::done(global.output, &format!("{name}: resumed"))?;
    Ok(0)
}

/// How long the calls of a group that is freed are waited for: longer than any of them may take.
const RELEASED_WITHIN: Duration = Duration::from_secs(90);

async fn free(name: &str, yes: bool, global: &Global) -> Result<u8, Failure> {
    let client = client(global)?;
    let group = client.call(async |c| c.groups().describe(about(name)).await).await?;
    confirm(yes, &format!("This stops managing `{name}`; its {} instances remain", group.running), name)
        .await?;
    let request = about(name);
    client.call(async |c| c.groups().free(request.clone()).await).await?;
    // Calls that are under way are settled first, so that nobody who declares it again makes their instances twice.
    let mut told = false;
    let until = Instant::now() + RELEASED_WITHIN;
    let freed = async {
        loop {
            match client.call(async |c| c.groups().describe(about(name)).await).await {
                Err(error) if error.code == Code::NotFound => return Ok(group.running),
                Err(error) => return Err(error.into()),
                Ok(group) if group.lifecycle != "Releasing" => {
                    return Err(
                        Failure::new(format!("`{name}` was declared again meanwhile")).exit(report::FAILED)
                    );
                }
                Ok(group) if !told => {
                    report::warn(&format!("{name}: {}", group.summary));
                    told = true;
                }
                Ok(group) if Instant::now() > until => {
                    return Err(Failure::new(format!("the calls of `{name}` are still under way"))
                    .cause(group.waits.first().map(|first| first.message.clone()).unwrap_or_default())
                    .remedy("the managers continue; repeat the command to forget the group at once, with its calls")
                    .exit(report::DEADLINE));
                }
                Ok(_) => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        }
    };
    let left = watching(name, freed).await?;
    output::done(global.output, &format!("{name}: no longer managed; {left} instances remain"))?;
    Ok(0)
}

async fn destroy(name: &str, yes: bool, wait: &Wait, global: &Global) -> Result<u8, Failure> {
    let deadline = duration(&wait.timeout)?;
    let client = client(global)?;
    let group = client.call(async |c| c.groups().describe(about(name)).await).await?;
    confirm(yes, &format!("This drains and destroys the {} instances of `{name}`", group.running), name)
        .await?;
    let request = about(name);
    client.call(async |c| c.groups().destroy(request.clone()).await).await?;
    let begun = format!("{name}: {} instances will be destroyed", group.running);
    if !wait.wait {
        output::done(global.output, &begun)?;
        return Ok(0);
    }
    if !matches!(global.output, Format::Json | Format::Yaml) {
        output::line(&begun)?;
    }
    let until = Instant::now() + deadline;
    let destroyed = async {
        loop {
            match client.call(async |c| c.groups().describe(about(name)).await).await {
                Err(error) if error.code == Code::NotFound => {
                    output::done(global.output, &format!("{name}: destroyed"))?;
                    return Ok(0);
                }
                Err(error) => return Err(error.into()),
                Ok(group) if Instant::now() > until => {
                    return Err(Failure::new(format!(
                        "{} instances of `{name}` are still there",
                        group.running
                    ))
                    .cause(group.waits.first().map(|first| first.message.clone()).unwrap_or_default())
                    .remedy("the managers continue to destroy them")
                    .exit(report::DEADLINE));
                }
                Ok(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    };
    watching(name, destroyed).await
}
