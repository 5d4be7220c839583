//! Instances that carry a group's tag and hold no slot.

use api::proto as pb;

use super::request::{about, new_request};
use crate::commands::{client, confirm};
use crate::global::Global;
use crate::output;
use crate::report::Failure;

/// How many a request may name.
const TOGETHER: usize = 500;

pub(super) async fn adopt(name: &str, ids: Vec<String>, global: &Global) -> Result<u8, Failure> {
    let reply = settle(name, ids, pb::strays_request::Fate::Adopt, global).await?;
    for stray in reply.strays {
        output::line(&format!("{name}: {} holds slot {}", stray.instance, stray.slot))?;
    }
    Ok(0)
}

pub(super) async fn destroy(name: &str, ids: Vec<String>, yes: bool, global: &Global) -> Result<u8, Failure> {
    let ids = if ids.is_empty() {
        client(global)?.call(async |mut c| c.describe_group(about(name)).await).await?.strays
    } else {
        ids
    };
    if ids.is_empty() {
        output::line(&format!("{name}: it has no strays"))?;
        return Ok(0);
    }
    // The request names those that were shown, and no others.
    confirm(yes, &format!("This drains and destroys {} of `{name}`", ids.join(", ")), name)?;
    for some in ids.chunks(TOGETHER) {
        let reply = settle(name, some.to_vec(), pb::strays_request::Fate::Destroy, global).await?;
        for stray in reply.strays {
            output::line(&format!("{name}: {} will be destroyed", stray.instance))?;
        }
    }
    Ok(0)
}

async fn settle(
    name: &str,
    instances: Vec<String>,
    fate: pb::strays_request::Fate,
    global: &Global,
) -> Result<pb::StraysReply, Failure> {
    let (request_id, group) = (new_request(), name.to_owned());
    let request = pb::StraysRequest { request_id, group, fate: fate.into(), instances };
    Ok(client(global)?.call(async |mut c| c.settle_strays(request.clone()).await).await?)
}
