//! Who is to vote, who is to go, who leads: what operators ask of the membership.

use api::{Code, Error, proto as pb};
use model::command::MemberRole;
use model::quorum::Unsafe;
use model::{Actor, Change, NodeId, State};

use super::Service;
use super::answers::{is_done, unavailable};

impl Service {
    pub(super) async fn set_member_role_now(
        &self,
        request: pb::SetMemberRoleRequest,
        by: &Actor,
    ) -> Result<pb::SetMemberRoleReply, Error> {
        let id = api::request_id(&request.request_id)?;
        let role = match request.role() {
            pb::MemberRole::Voter => MemberRole::Voter,
            pb::MemberRole::Learner => MemberRole::Learner,
            pb::MemberRole::Removed => MemberRole::Removed,
        };
        if request.managers.is_empty() {
            return Err(Error::new(Code::Invalid, "no manager is named"));
        }
        let judging = self.members.wishes().await;
        let state = self.read().await?.state;
        let found = request.managers.iter().map(|asked| find(&state, asked));
        let nodes: Vec<NodeId> = if is_done(&state, id)? {
            // Whoever was removed by it is not found any more.
            found.filter_map(Result::ok).collect()
        } else {
            let nodes = found.collect::<Result<Vec<_>, _>>()?;
            self.members.may_stand(&state, &nodes, role, request.force).map_err(|why| guarded(&why))?;
            let change = Change::SetMemberRole { nodes: nodes.clone(), role };
            self.propose(id, by, change).await?;
            nodes
        };
        drop(judging);
        // Whoever leads cannot wait for its own end.
        let own = role != MemberRole::Voter && nodes.contains(&self.replica.identity().node);
        let done = !own && self.members.until_they_stand(&nodes, role).await;
        Ok(pb::SetMemberRoleReply { done })
    }

    pub(super) async fn transfer_now(
        &self,
        request: &pb::TransferLeadershipRequest,
    ) -> Result<pb::TransferLeadershipReply, Error> {
        let state = self.read().await?.state;
        let to = if request.to.is_empty() { None } else { Some(find(&state, &request.to)?) };
        let name = |node: NodeId| state.managers.get(&node).map(|it| it.name.clone()).unwrap_or_default();
        if let Some(to) = to.filter(|to| *to == self.replica.identity().node) {
            return Ok(pb::TransferLeadershipReply { leader: name(to) });
        }
        let led = self.members.hand_over(to).await.map_err(|error| {
            let what = match to {
                Some(to) => format!("the lead cannot be given to `{}`", name(to)),
                None => "the lead cannot be given to another".to_owned(),
            };
            match error {
                raft::Error::Unavailable(why) => Error::new(Code::Guarded, what)
                    .cause(why)
                    .remedy("`infrakit node ls` shows who votes and can be reached"),
                other => unavailable(&other),
            }
        })?;
        Ok(pb::TransferLeadershipReply { leader: name(led) })
    }
}

/// The manager of this name, or of this id.
fn find(state: &State, asked: &str) -> Result<NodeId, Error> {
    let named = state.managers.iter().find(|(_, manager)| manager.name == asked).map(|(id, _)| *id);
    let numbered = || {
        let id = NodeId(asked.parse().ok()?);
        state.managers.contains_key(&id).then_some(id)
    };
    named.or_else(numbered).ok_or_else(|| {
        Error::new(Code::NotFound, format!("there is no manager `{asked}`"))
            .remedy("`infrakit node ls` lists the managers")
    })
}

fn guarded(why: &Unsafe) -> Error {
    let remedy = match why {
        Unsafe::NoVoters => "let another join first; nothing was changed",
        Unsafe::NoMajorityNow { .. } | Unsafe::NoMajorityAfter { .. } => {
            "start more of the managers first; nothing was changed"
        }
        Unsafe::LessTolerant { .. } => {
            "let another join first, or give --force when fewer managers are what you want; nothing was changed"
        }
    };
    Error::new(Code::Guarded, "this change of the members is not safe").cause(why.to_string()).remedy(remedy)
}
