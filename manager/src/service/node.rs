//! Changes of membership and leadership that operators request.

use std::time::Duration;

use api::proto::nodes_server::Nodes;
use api::{Code, Error, Services, proto as pb};
use model::command::MemberRole;
use model::quorum::Unsafe;
use model::{Actor, Change, NodeId, State};
use tonic::{Request, Response, Status};

use super::answers::{is_done, unavailable};
use super::forward::{is_forwarded, marked};
use super::{Answered, Service, principal};

/// How long another manager has to describe itself.
const INSPECTED_WITHIN: Duration = Duration::from_secs(5);

#[tonic::async_trait]
impl Nodes for Service {
    async fn set_role(&self, request: Request<pb::SetMemberRoleRequest>) -> Answered<pb::SetMemberRoleReply> {
        let by = principal(&request);
        Ok(Response::new(self.set_member_role_now(request.into_inner(), &by).await?))
    }

    async fn inspect(&self, request: Request<pb::InspectNodeRequest>) -> Answered<pb::NodeDetails> {
        // What this manager knows of its fellows is enough: also without a leader.
        let node = find(&self.replica.published().state, &request.get_ref().manager)?;
        if node == self.replica.identity().node {
            return Ok(Response::new(self.about.describe().await));
        }
        if is_forwarded(&request) {
            return Err(Status::unavailable(format!("manager {node} is not at its address any more")));
        }
        let asked = async { Services::over(self.forward.to(node)?).nodes().inspect(marked(request)).await };
        match tokio::time::timeout(INSPECTED_WITHIN, asked).await {
            Ok(answer) => answer,
            Err(_) => {
                Err(Status::unavailable(format!("manager {node} did not answer within {INSPECTED_WITHIN:?}")))
            }
        }
    }

    async fn transfer_leadership(
        &self,
        request: Request<pb::TransferLeadershipRequest>,
    ) -> Answered<pb::TransferLeadershipReply> {
        Ok(Response::new(self.transfer_now(request.get_ref()).await?))
    }
}

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
            return Err(Error::new(Code::Invalid, "no manager was named"));
        }
        let checking = self.members.lock_changes().await;
        let state = self.read().await?.state;
        let found = request.managers.iter().map(|asked| find(&state, asked));
        let nodes: Vec<NodeId> = if is_done(&state, id)? {
            // A manager that it removed is no longer found.
            found.filter_map(Result::ok).collect()
        } else {
            let nodes = found.collect::<Result<Vec<_>, _>>()?;
            self.members.check_role(&state, &nodes, role, request.force).map_err(|why| guarded(&why))?;
            let change = Change::SetMemberRole { nodes: nodes.clone(), role };
            self.propose(id, by, change).await?;
            nodes
        };
        drop(checking);
        // The leader cannot wait for its own removal.
        let own = role != MemberRole::Voter && nodes.contains(&self.replica.identity().node);
        let done = !own && self.members.until_role(&nodes, role).await;
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
        let led = self.members.transfer_leadership(to).await.map_err(|error| {
            let what = match to {
                Some(to) => format!("leadership cannot be transferred to `{}`", name(to)),
                None => "leadership cannot be transferred".to_owned(),
            };
            match error {
                raft::Error::Unavailable(why) => Error::new(Code::Guarded, what)
                    .cause(why)
                    .remedy("`infrakit node ls` shows which voters are reachable"),
                other => unavailable(&other),
            }
        })?;
        Ok(pb::TransferLeadershipReply { leader: name(led) })
    }
}

/// The manager with this name or id.
fn find(state: &State, asked: &str) -> Result<NodeId, Error> {
    let named = state.managers.iter().find(|(_, manager)| manager.name == asked).map(|(id, _)| *id);
    let numbered = || {
        let id = NodeId(asked.parse().ok()?);
        state.managers.contains_key(&id).then_some(id)
    };
    named.or_else(numbered).ok_or_else(|| {
        Error::new(Code::NotFound, format!("manager `{asked}` not found"))
            .remedy("`infrakit node ls` lists the managers")
    })
}

fn guarded(why: &Unsafe) -> Error {
    let remedy = match why {
        Unsafe::NoVoters => "join another manager first; nothing was changed",
        Unsafe::NoMajorityNow { .. } | Unsafe::NoMajorityAfter { .. } => {
            "start more managers first; nothing was changed"
        }
        Unsafe::LessTolerant { .. } => {
            "join another manager first, or accept less fault tolerance with --force; nothing was changed"
        }
    };
    Error::new(Code::Guarded, "this membership change is not safe").cause(why.to_string()).remedy(remedy)
}
