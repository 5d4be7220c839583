//! Instances that carry a group's tag and hold no slot: an operator says what becomes of them.

use std::collections::BTreeSet;

use api::{Code, Error, proto as pb};
use model::answer::Refusal;
use model::command::StrayFate;
use model::limits::LARGEST_BATCH;
use model::plan::{NoStray, word_on_strays};
use model::{Actor, Change, GroupId, InstanceId, InstanceRef, Slot, State};

use super::Service;
use super::answers::{is_done, no_group, refused};

impl Service {
    pub(super) async fn settle_strays_now(
        &self,
        request: pb::StraysRequest,
        by: &Actor,
    ) -> Result<pb::StraysReply, Error> {
        let id = api::request_id(&request.request_id)?;
        let fate = match request.fate() {
            pb::strays_request::Fate::Adopt => StrayFate::Adopted,
            pb::strays_request::Fate::Destroy => StrayFate::Destroyed,
        };
        let named: BTreeSet<InstanceId> = request.instances.into_iter().map(InstanceId::from).collect();
        if named.len() > LARGEST_BATCH || named.is_empty() && fate == StrayFate::Adopted {
            let what = format!("name 1 to {LARGEST_BATCH} instances");
            return Err(Error::new(Code::Invalid, what).remedy("nothing was changed"));
        }
        let state = self.read().await?.state;
        // A repeated request is not checked again.
        let group_id = GroupId::new(&request.group);
        if is_done(&state, id)? {
            let strays = named.iter().map(|it| stray(it, slot_of(&state, &group_id, it).as_ref())).collect();
            return Ok(pb::StraysReply { strays, left: 0 });
        }
        let group = state.group(&group_id).ok_or_else(|| no_group(&request.group))?;
        let not_observed = || {
            Error::new(Code::Unavailable, "the group has not been observed yet")
                .remedy("try again in a moment; nothing was changed")
        };
        let assessment = self.assessments.of(&group_id).ok_or_else(not_observed)?;
        let (observed, plan) = (&assessment.observed, &assessment.plan);
        let mut strays = word_on_strays(&group_id, group, observed, plan, &named, fate)
            .map_err(|why| contradiction(&group_id, &why))?;
        let left = strays.items.len().saturating_sub(LARGEST_BATCH) as u32;
        strays.items.truncate(LARGEST_BATCH);
        let told = strays.items.iter().map(|it| stray(&it.instance.id, it.slot.as_ref())).collect();
        if !strays.items.is_empty() {
            self.propose(id, by, Change::Strays(strays)).await?;
        }
        Ok(pb::StraysReply { strays: told, left })
    }
}

fn stray(instance: &InstanceId, slot: Option<&Slot>) -> pb::Stray {
    pb::Stray { instance: instance.to_string(), slot: slot.map(Slot::to_string).unwrap_or_default() }
}

/// The slot that an instance holds by now.
fn slot_of(state: &State, group: &GroupId, id: &InstanceId) -> Option<Slot> {
    let roster = &state.group(group)?.roster;
    let member: &InstanceRef = roster.with_id(id).next()?;
    roster.slot_of(member).cloned()
}

fn contradiction(group: &GroupId, why: &NoStray) -> Error {
    let conflict = |what: String| Error::new(Code::Conflict, what);
    match why {
        NoStray::NotActedOn => refused(&Refusal::NotActedOn { group: group.clone() }),
        NoStray::NotListedYet(plugin) => {
            Error::new(Code::Busy, format!("which strays group `{group}` has is not known at the moment"))
                .cause(format!("plugin `{plugin}` has not been listed since the group changed"))
                .remedy("try again in a moment; nothing was changed")
        }
        NoStray::AnotherClusters(id) => conflict(format!("`{id}` was made by another cluster, which may use it"))
            .remedy("destroy it there; nothing was changed"),
        NoStray::HostsManager(id) => Error::new(Code::Guarded, format!("a manager runs on `{id}`"))
            .remedy("remove the manager first: `infrakit node rm`; nothing was changed"),
        NoStray::Unknown(id) => Error::new(Code::NotFound, format!("group `{group}` has no stray `{id}`"))
            .remedy("`infrakit group describe` lists its strays; nothing was changed"),
        NoStray::Ambiguous(id) => conflict(format!("two plugins list a stray `{id}` of group `{group}`"))
            .remedy("`infrakit instance destroy PLUGIN ID` destroys one of them; nothing was changed"),
        NoStray::OtherPlugin(it) => {
            conflict(format!("`{it}` is of plugin `{}`, by which group `{group}` has no members", it.plugin))
                .remedy(format!(
                    "`infrakit instance destroy {} {it}` destroys it; nothing was changed",
                    it.plugin
                ))
        }
        NoStray::NoSlot(id) => conflict(format!("group `{group}` has no free slot for `{id}`"))
            .cause("it has as many members as are wanted, or no free slot of that name")
            .remedy(format!(
                "`infrakit group pause {group}`, scale it, adopt, and resume it; or destroy the stray; nothing \
                 was changed"
            )),
    }
}
