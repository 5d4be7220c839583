//! Restarts stopped machines of managers while there is no leader. It needs no quorum: it creates and
//! destroys nothing, repeating it is harmless, and a manager that returns with its disk is the same member.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use model::command::Machine;
use model::{InstanceRef, NodeId, State};
use raft::Replica;
use rand::RngExt;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::outage::Outage;
use crate::world::Plugins;

/// How often it is checked whether there is a leader.
const EVERY: Duration = Duration::from_secs(1);
/// The pause between two starts of one machine doubles from the first to the last.
const FIRST_PAUSE: Duration = Duration::from_secs(20);
const LAST_PAUSE: Duration = Duration::from_secs(600);

/// When a machine may be started next, and the pause after that.
type Tried = BTreeMap<NodeId, (Instant, Duration)>;

/// Restarts the machines of the other managers while there is no leader. Ends with the replica.
pub(crate) async fn keep(replica: Replica, world: Arc<Plugins>, outages: watch::Receiver<Option<Outage>>) {
    let mut tried = Tried::new();
    loop {
        // Several survivors should not do it at the same moment.
        let pause = EVERY.mul_f64(rand::rng().random_range(0.5..1.5));
        tokio::time::sleep(pause).await;
        let state = replica.published().state;
        let Some(since) = outages.borrow().as_ref().map(|outage| outage.since) else {
            tried.clear();
            continue;
        };
        let Some(patience) = state.start_managers_after() else { continue };
        if since.elapsed() < Duration::from_millis(patience.0) {
            continue;
        }
        for (node, machine) in machines(&state, replica.identity().node) {
            let (at, pause) = tried.get(&node).copied().unwrap_or((Instant::now(), FIRST_PAUSE));
            if Instant::now() < at {
                continue;
            }
            tried.insert(node, (Instant::now() + pause, (pause * 2).min(LAST_PAUSE)));
            let InstanceRef { plugin, id: instance } = machine;
            match world.start_now(&plugin, &instance).await {
                Ok(()) => {
                    tracing::warn!(%node, %instance, %plugin, "no leader: restarting its machine");
                }
                Err(error) => {
                    tracing::info!(%node, %instance, %plugin, %error, "its machine cannot be restarted")
                }
            }
        }
    }
}

/// The machines of the other managers that are members of groups.
fn machines(state: &State, me: NodeId) -> Vec<(NodeId, InstanceRef)> {
    let member = |machine: &Machine| {
        let mut groups = state.groups.values();
        groups.find_map(|group| group.roster.with_id(&machine.id).find(|it| machine.may_be(it)).cloned())
    };
    let others = state.managers.iter().filter(|(id, _)| **id != me);
    others.filter_map(|(id, manager)| Some((*id, member(manager.instance.as_ref()?)?))).collect()
}
