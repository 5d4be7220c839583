//! One manager alone, with a replica in memory: what a whole cluster does, for tests, without a network.

use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use model::command::{Declaration, LEVEL, Manager, Program, Verb};
use model::{
    Actor, Allocation, Answer, Change, ClusterId, Command, GroupId, GroupSpec, GroupState, NodeId, ObjectKey,
    Opaque, Part, RequestId, Slot, State, Template, Timestamp, Updating,
};
use raft::{Dial, Disk, Identity, Line, MemoryDisk, Profile, Published, Replica, Sync};
use tokio::io::DuplexStream;
use tokio::task::JoinHandle;

use crate::call_gate::CallGate;
use crate::clock::Clock;
use crate::leadership::while_leading;
use crate::reconcile::{self, Assessments};
use crate::world::World;

pub(crate) const CLUSTER: &str = "0123456789abcdef0123456789abcdef";
/// What a test waits for at most.
const DEADLINE: Duration = Duration::from_secs(300);

/// Nobody can be reached, and every machine says so at once: whoever does not pause then never lets time pass.
struct Nobody;

impl Dial for Nobody {
    fn dial(&self, address: &str) -> Result<Line, String> {
        let refused = || std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let connect = move |_: http::Uri| async move { Err::<TokioIo<DuplexStream>, _>(refused()) };
        raft::line(address, tower::service_fn(connect))
    }
}

/// A manager that bootstrapped its cluster and leads it.
pub(crate) struct Alone {
    pub(crate) replica: Replica,
    pub(crate) clock: Clock,
    pub(crate) gate: CallGate,
    pub(crate) assessments: Assessments,
    work: Option<JoinHandle<()>>,
}

impl Drop for Alone {
    fn drop(&mut self) {
        self.work.iter().for_each(JoinHandle::abort);
    }
}

/// A manager of this name.
pub(crate) fn named(name: &str) -> Manager {
    Manager {
        name: name.into(),
        address: format!("{name}:1"),
        storage: format!("disk-of-{name}"),
        instance: None,
        program: Program { version: "test".into(), level: LEVEL },
    }
}

/// A group of a size, made from a template.
pub(crate) fn group(id: &str, size: u32, version: &str) -> GroupSpec {
    let part = |plugin: &str, properties: String| Part {
        plugin: plugin.into(),
        properties: Opaque::from_json(properties),
    };
    GroupSpec {
        id: id.into(),
        allocation: Allocation::Size(size),
        template: Template {
            instance: part("tabletop/compute", format!("{{\"image\":\"{version}\"}}")),
            flavor: part("vanilla", "null".into()),
        },
        updating: Updating::default(),
        healing: Default::default(),
    }
}

pub(crate) fn slot(n: u32) -> Slot {
    Slot::Ordinal(n)
}

impl Alone {
    /// It leads, and does nothing yet.
    pub(crate) async fn leads() -> Self {
        let disk = Disk::in_memory(&MemoryDisk::default(), || "disk".to_owned()).expect("it is free");
        let identity = Identity { cluster: ClusterId::new(CLUSTER), lineage: 1, node: NodeId(1) };
        let dial = Arc::new(Nobody);
        let replica = Replica::start(disk, identity.clone(), Profile::Default, Sync::Simulated, dial)
            .await
            .expect("an empty disk can be read");
        replica.initialize("one:1").await.expect("it is new");
        let clock = Clock::simulated(Timestamp(1_000_000_000));
        let (gate, assessments) = (CallGate::default(), Assessments::default());
        let alone = Self { replica, clock, gate, assessments, work: None };
        let mut role = alone.replica.watch_role();
        let elected = role.wait_for(|role| matches!(role, raft::Role::Leader { .. }));
        let elected = tokio::time::timeout(DEADLINE, elected).await.map(|it| it.map(drop));
        elected.expect("whoever is alone is elected").expect("it runs");
        let change = Change::Bootstrap {
            cluster: identity.cluster,
            lineage: identity.lineage,
            manager: named("one"),
            authority: None,
        };
        assert_eq!(alone.propose(change).await, Answer::Joined(NodeId(1)));
        alone
    }

    /// It leads, and reconciles its groups with this world.
    pub(crate) async fn with<W: World>(world: W) -> Self {
        let mut alone = Self::leads().await;
        let (replica, world, clock) = (alone.replica.clone(), Arc::new(world), alone.clock.clone());
        let (assessments, gate) = (alone.assessments.clone(), alone.gate.clone());
        let work = while_leading(alone.replica.watch_role(), move |term| {
            let (replica, world, clock) = (replica.clone(), world.clone(), clock.clone());
            reconcile::run(term, replica, world, assessments.clone(), clock, gate.clone())
        });
        alone.work = Some(tokio::spawn(work));
        alone
    }

    pub(crate) async fn propose(&self, change: Change) -> Answer {
        let by = Actor("test".into());
        let command = Command { id: RequestId(raft::unique()), by, at: self.clock.now(), change };
        self.replica.propose(&command, None).await.expect("it leads, and its disk works")
    }

    /// Accepts a spec.
    pub(crate) async fn commit(&self, spec: GroupSpec) {
        self.declare(spec, false).await;
    }

    /// Accepts a spec, whose plugins may have been asked or not.
    pub(crate) async fn declare(&self, spec: GroupSpec, unvalidated: bool) {
        let items = vec![Declaration { spec: spec.into(), if_revision: None, unvalidated }];
        let answer = self.propose(Change::Declare { items }).await;
        assert!(matches!(answer, Answer::Committed(_)), "{answer:?}");
    }

    pub(crate) async fn pause(&self, id: &str) {
        assert_eq!(
            self.propose(Change::Object { key: ObjectKey::group(&id.into()), verb: Verb::Pause }).await,
            Answer::Done
        );
    }

    pub(crate) async fn resume(&self, id: &str) {
        assert_eq!(
            self.propose(Change::Object { key: ObjectKey::group(&id.into()), verb: Verb::Resume }).await,
            Answer::Done
        );
    }

    pub(crate) fn state(&self) -> Arc<State> {
        self.replica.published().state
    }

    pub(crate) fn group(&self, id: &str) -> Arc<GroupState> {
        self.state().group(&GroupId::new(id)).cloned().expect("the group was committed")
    }

    /// Waits until the managers agree that it is so.
    pub(crate) async fn until(&self, what: &str, holds: impl Fn(&State) -> bool) {
        let mut states = self.replica.watch_state();
        let agreed = states.wait_for(|published: &Published| holds(&published.state));
        match tokio::time::timeout(DEADLINE, agreed).await {
            Ok(agreed) => drop(agreed.expect("the replica runs")),
            Err(_) => panic!("waited {DEADLINE:?} without success until {what}: {:#?}", self.state().groups),
        }
    }

    /// Waits until this is so of one group.
    pub(crate) async fn until_group(&self, id: &str, what: &str, holds: impl Fn(&GroupState) -> bool) {
        let id = GroupId::new(id);
        self.until(what, |state| state.group(&id).is_some_and(|group| holds(group))).await;
    }

    /// Waits until all that is wanted of a group is there and healthy.
    pub(crate) async fn until_ready(&self, id: &str) {
        let is_well = |group: &GroupState| {
            let ready =
                group.roster.values().filter_map(|it| it.occupied()).filter(|it| it.is_ready()).count();
            ready == group.desired() && matches!(group.phase, model::Phase::Succeeded { .. })
        };
        self.until_group(id, &format!("`{id}` is as declared"), is_well).await;
    }
}
