//! Instances that carry a group's tag and hold no slot.

use api::proto as pb;
use model::limits::LARGEST_BATCH;
use serde_json::json;

use super::request::about;
use crate::commands::request_id;
use crate::commands::{client, confirm};
use crate::global::Global;
use crate::output;
use crate::report::{self, Failure};

pub(super) async fn adopt(name: &str, ids: Vec<String>, global: &Global) -> Result<u8, Failure> {
    let reply = settle(name, ids, pb::strays_request::Fate::Adopt, global).await?;
    if !output::object(global.output, "Strays", as_json(&reply.strays))? {
        for stray in reply.strays {
            output::line(&format!("{name}: {} holds slot {}", stray.instance, stray.slot))?;
        }
    }
    Ok(0)
}

pub(super) async fn destroy(name: &str, ids: Vec<String>, yes: bool, global: &Global) -> Result<u8, Failure> {
    let ids = if ids.is_empty() { own_strays(name, global).await? } else { ids };
    let mut given_up = Vec::new();
    if !ids.is_empty() {
        // The requests name those that were shown, and no others.
        confirm(yes, &format!("This drains and destroys {} of `{name}`", ids.join(", ")), name).await?;
        for some in ids.chunks(LARGEST_BATCH) {
            let reply = settle(name, some.to_vec(), pb::strays_request::Fate::Destroy, global).await?;
            given_up.extend(reply.strays);
        }
    }
    if !output::object(global.output, "Strays", as_json(&given_up))? {
        if given_up.is_empty() {
            output::line(&format!("{name}: it has no strays that this cluster made"))?;
        }
        for stray in given_up {
            output::line(&format!("{name}: {} will be destroyed", stray.instance))?;
        }
    }
    Ok(0)
}

/// The strays that this cluster made, as far as they are known.
async fn own_strays(name: &str, global: &Global) -> Result<Vec<String>, Failure> {
    let group = client(global)?.call(async |c| c.groups().describe(about(name)).await).await?;
    if group.own_strays.is_empty() && (group.lifecycle != "Managed" || group.observed_at_ms.is_none()) {
        return Err(Failure::new(format!("which strays `{name}` has is not known at the moment"))
            .cause(group.summary)
            .remedy("try again in a moment; nothing was changed")
            .exit(report::CONFLICT));
    }
    Ok(group.own_strays)
}

fn as_json(strays: &[pb::Stray]) -> serde_json::Value {
    let slot = |it: &pb::Stray| if it.slot.is_empty() { json!(null) } else { json!(it.slot) };
    let items: Vec<_> =
        strays.iter().map(|it| json!({ "instance": it.instance, "slot": slot(it) })).collect();
    json!({ "items": items })
}

async fn settle(
    name: &str,
    instances: Vec<String>,
    fate: pb::strays_request::Fate,
    global: &Global,
) -> Result<pb::StraysReply, Failure> {
    let (request_id, group) = (request_id(), name.to_owned());
    let request = pb::StraysRequest { request_id, group, fate: fate.into(), instances };
    Ok(client(global)?.call(async |c| c.groups().settle_strays(request.clone()).await).await?)
}
