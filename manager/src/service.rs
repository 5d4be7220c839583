//! The public API of one manager. Calls that need the leader are forwarded to it.

mod access;
mod answers;
mod cluster;
mod commit;
mod forecast;
mod forward;
mod group;
mod node;
mod rollout;
mod secret;
mod strays;
mod variable;

use std::sync::Arc;
use std::time::Duration;

use answers::{refused, unavailable};
use api::proto::access_server::AccessServer;
use api::proto::cluster_server::ClusterServer;
use api::proto::groups_server::GroupsServer;
use api::proto::nodes_server::NodesServer;
use api::proto::rollouts_server::RolloutsServer;
use api::proto::secrets_server::SecretsServer;
use api::proto::variables_server::VariablesServer;
use api::{Code, Error};
use forward::Forward;
use model::{Actor, Answer, Change, Command, RequestId};
use raft::{Published, Replica, Role};
use tokio::sync::{Semaphore, watch};
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use crate::about::About;
use crate::access::Principal;
use crate::clock::Clock;
use crate::dial::Secure;
use crate::members::Members;
use crate::outage::Outage;
use crate::reconcile::Assessments;
use crate::replica_thread::Away;
use crate::world::Plugins;

/// Limit of pending proposals; further ones get `Busy`. A working majority commits that many in a fraction of
/// a second.
const WAITING: usize = 2048;
/// How long a proposal waits for a majority before the call fails.
const PATIENCE: Duration = Duration::from_secs(10);
/// The largest request: a commit of several of the largest specs.
const LARGEST_REQUEST: usize = 16 << 20;

/// The service of one manager.
#[derive(Clone)]
pub(crate) struct Service {
    replica: Replica,
    role: watch::Receiver<Role>,
    world: Arc<Plugins>,
    assessments: Assessments,
    clock: Clock,
    members: Arc<Members>,
    forward: Forward,
    outages: watch::Receiver<Option<Outage>>,
    about: About,
    waiting: Arc<Semaphore>,
}

type Answered<T> = Result<Response<T>, Status>;

impl Service {
    pub(crate) fn new(
        about: About,
        world: Arc<Plugins>,
        assessments: Assessments,
        clock: Clock,
        members: Arc<Members>,
        dial: Secure,
        outages: watch::Receiver<Option<Outage>>,
    ) -> Self {
        let replica = about.replica().clone();
        let role = replica.watch_role();
        let forward = Forward::new(replica.clone(), role.clone(), dial);
        Self {
            replica,
            role,
            world,
            assessments,
            clock,
            members,
            forward,
            outages,
            about,
            waiting: Arc::new(Semaphore::new(WAITING)),
        }
    }

    /// The services of the public API, one for each noun. What only the leader can answer is answered by it; all but the
    /// smallest calls run on the current runtime.
    pub(crate) fn routes(&self) -> Routes {
        macro_rules! served {
            ($server:ident) => {
                Away::from_here(
                    self.forward.before(
                        $server::new(self.clone())
                            .max_decoding_message_size(LARGEST_REQUEST)
                            .max_encoding_message_size(api::LARGEST_MESSAGE),
                    ),
                )
            };
        }
        Routes::new(served!(GroupsServer))
            .add_service(served!(ClusterServer))
            .add_service(served!(NodesServer))
            .add_service(served!(AccessServer))
            .add_service(served!(SecretsServer))
            .add_service(served!(RolloutsServer))
            .add_service(served!(VariablesServer))
    }

    async fn propose(&self, id: RequestId, by: &Actor, change: Change) -> Result<Answer, Error> {
        let level = self.replica.published().state.level;
        if change.level() > level {
            return Err(Error::new(Code::Conflict, "not supported by every manager yet")
                .cause(format!("cluster feature level {level}, needs {}", change.level()))
                .remedy("upgrade all managers (`infrakit node ls` shows versions); nothing was changed"));
        }
        let Ok(_place) = self.waiting.try_acquire() else {
            return Err(Error::new(Code::Busy, format!("{WAITING} changes are already pending"))
                .remedy("try again in a moment; nothing was changed"));
        };
        let at = self.clock.now();
        let command = Command { id, by: by.clone(), at, change };
        let proposed = tokio::time::timeout(PATIENCE, self.replica.propose(&command, None)).await;
        match proposed {
            Ok(Ok(Answer::Refused(refusal))) => Err(refused(&refusal)),
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(unavailable(&error)),
            Err(_) => Err(Error::new(Code::Unavailable, "no majority of the managers answered")
                .cause(format!("waited {PATIENCE:?}"))
                .remedy("repeat the command; it is applied at most once")),
        }
    }

    /// The state after everything that was committed before the call.
    async fn read(&self) -> Result<Published, Error> {
        match tokio::time::timeout(PATIENCE, self.replica.read()).await {
            Ok(Ok(published)) => Ok(published),
            Ok(Err(error)) => Err(unavailable(&error)),
            Err(_) => Err(Error::new(Code::Unavailable, "no majority of the managers answered")),
        }
    }
}

/// The authenticated caller.
fn principal<T>(request: &Request<T>) -> Actor {
    Actor(request.extensions().get::<Principal>().map_or("anonymous", |principal| &principal.name).to_owned())
}

/// The role of the caller.
fn role<T>(request: &Request<T>) -> model::Role {
    request.extensions().get::<Principal>().map_or(model::Role::Viewer, |principal| principal.role)
}
