//! Notices that no leader leads, tells it once, and finds out who is missing: all that a manager without a quorum can
//! do for those who ask.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use api::Subject;
use api::tls;
use futures_util::future::join_all;
use model::failpoints::{Protection, is_left_out};
use model::quorum::majority;
use model::{NodeId, State};
use raft::{MemberStatus, Replica, Role};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::dial::Secure;

/// How often it is checked whether there is a leader.
const EVERY: Duration = Duration::from_millis(250);
/// How often it is checked whether members are still where they were found.
const FOUND_EVERY: Duration = Duration::from_secs(1);
/// A follower that has not heard of its leader for so long has none.
const HEARD_WITHIN: Duration = Duration::from_secs(2);
/// How long another manager may take to accept a connection: three round trips between sites.
const ANSWERS_WITHIN: Duration = Duration::from_secs(1);

/// A time without a leader.
#[derive(Debug, Clone)]
pub(crate) struct Outage {
    pub(crate) since: Instant,
    /// The other members that do not answer, and since when that is known.
    pub(crate) missing: BTreeMap<NodeId, Instant>,
}

/// Whether a leader leads whom a majority follows, as far as this manager knows.
fn is_led(replica: &Replica) -> bool {
    match *replica.watch_role().borrow() {
        Role::Leader { term } => replica.holds_lease(term),
        Role::Other { leader, .. } => {
            leader.is_some() && replica.heard_leader().is_some_and(|age| age < HEARD_WITHIN)
        }
    }
}

/// Keeps the present outage, if there is one, and looks for members that are missing at `places` too. Ends with the
/// replica.
pub(crate) async fn keep(
    replica: Replica,
    dial: Secure,
    places: Vec<String>,
    outages: watch::Sender<Option<Outage>>,
) {
    let mut present: Option<Outage> = None;
    let mut foreign = BTreeSet::new();
    let mut found_checked = Instant::now();
    loop {
        tokio::time::sleep(EVERY).await;
        if found_checked.elapsed() >= FOUND_EVERY {
            found_checked = Instant::now();
            forget_who_is_gone(&replica, &dial).await;
        }
        let members = replica.members();
        if is_led(&replica) || members.is_empty() {
            let told = outages.send_replace(None).is_some();
            if let Some(outage) = present.take().filter(|_| told) {
                let state = replica.published().state;
                let leader = leader(&replica).map(|it| name(&state, it)).unwrap_or_default();
                tracing::info!(leader, "there is a leader again, after {:.1?}", outage.since.elapsed());
            }
            continue;
        }
        let Outage { since, missing: known } =
            present.take().unwrap_or_else(|| Outage { since: Instant::now(), missing: BTreeMap::new() });
        let outage = Outage { since, missing: missing(&replica, &members, &dial, &known).await };
        if !outage.missing.is_empty() && !is_left_out(Protection::LooksElsewhere) {
            let places: Vec<String> = places.iter().cloned().chain(replica.rumours()).collect();
            look_elsewhere(&replica, &dial, &places, &outage, &mut foreign).await;
        }
        present = Some(outage.clone());
        if let Some(address) = twin(&replica, &dial).await {
            let why =
                format!("this manager runs at {address} already: here it is on a copy of its data directory");
            replica.expel(why);
        }
        // An election takes less: only what lasts longer is told. And one may have ended meanwhile.
        if since.elapsed() < replica.patience() || is_led(&replica) {
            continue;
        }
        let (voters, reached, needed) = votes(&members, &outage);
        let missing = describe(&replica.published().state, &members, &outage);
        if outages.send_replace(Some(outage)).is_none() {
            tracing::warn!(
                missing,
                "no leader: {reached} of {voters} voters answer, and {needed} are needed; start the missing ones, name \
                 their addresses with --peers if they have new ones, or see `infrakit recover` if a majority is \
                 permanently lost"
            );
        }
    }
}

/// Members that were found elsewhere and do not answer there are called where the state has them.
async fn forget_who_is_gone(replica: &Replica, dial: &Secure) {
    let found = replica.found_elsewhere();
    let asked = found.into_iter().map(async |(node, at)| (!is_there(dial, node, &at).await).then_some(node));
    join_all(asked).await.into_iter().flatten().for_each(|node| replica.lost_at(node));
}

/// Where another process runs with the identity of this one: at the address that the state has, if that is not where this
/// one is. Nobody calls this one then.
async fn twin(replica: &Replica, dial: &Secure) -> Option<String> {
    let (me, own) = (replica.identity().node, replica.own_address());
    let recorded = replica.published().state.managers.get(&me)?.address.clone();
    if own.is_empty() || recorded == own || is_left_out(Protection::OneOfCopies) {
        return None;
    }
    let shown = async |address| {
        let shown = tokio::time::timeout(ANSWERS_WITHIN, dial.certificate(address)).await.ok()?.ok()?;
        matches!(Subject::of(&shown), Ok(Subject::Manager { node, .. }) if node == me).then_some(shown)
    };
    let (there, here) = tokio::join!(shown(&recorded), shown(&own));
    // Each process has a certificate of its own.
    (there? != here?).then_some(recorded)
}

/// Asks whoever is at these places who it is: members that are missing may have moved there.
async fn look_elsewhere(
    replica: &Replica,
    dial: &Secure,
    places: &[String],
    outage: &Outage,
    foreign: &mut BTreeSet<String>,
) {
    let own = replica.identity();
    let asked = places.iter().map(async |place| {
        let who = tokio::time::timeout(ANSWERS_WITHIN, tls::who_is(place)).await;
        Some((place, who.ok()?.ok()?))
    });
    for (place, who) in join_all(asked).await.into_iter().flatten() {
        match who {
            Subject::Manager { cluster, node, .. } if cluster == own.cluster => {
                let elsewhere = replica.address_of(node).as_ref() != Some(place);
                if elsewhere && outage.missing.contains_key(&node) && is_there(dial, node, place).await {
                    tracing::info!(%node, address = place, "a missing member was found at another address");
                    replica.found_at(node, place);
                }
            }
            Subject::Manager { cluster, .. } => {
                if foreign.insert(place.clone()) {
                    tracing::warn!(address = place, "a manager of another cluster, {cluster}, answers there");
                }
            }
            Subject::Person { .. } => {}
        }
    }
}

fn leader(replica: &Replica) -> Option<NodeId> {
    match *replica.watch_role().borrow() {
        Role::Leader { .. } => Some(replica.identity().node),
        Role::Other { leader, .. } => leader,
    }
}

/// Whether this member answers there, by a certificate of the cluster.
async fn is_there(dial: &Secure, node: NodeId, address: &str) -> bool {
    let shown = tokio::time::timeout(ANSWERS_WITHIN, dial.who_is(address)).await;
    matches!(shown, Ok(Ok(Subject::Manager { node: there, .. })) if there == node)
}

/// The other members that do not accept a connection, with the time since when for those that were missing before.
async fn missing(
    replica: &Replica,
    members: &[MemberStatus],
    dial: &Secure,
    before: &BTreeMap<NodeId, Instant>,
) -> BTreeMap<NodeId, Instant> {
    let me = replica.identity().node;
    let asked = members.iter().filter(|member| member.node != me).map(async |member| {
        let began = Instant::now();
        let answers = is_there(dial, member.node, &member.address).await;
        (!answers).then(|| (member.node, before.get(&member.node).copied().unwrap_or(began)))
    });
    join_all(asked).await.into_iter().flatten().collect()
}

/// How many voters there are, how many of them answer, and how many are needed.
pub(crate) fn votes(members: &[MemberStatus], outage: &Outage) -> (usize, usize, usize) {
    let voters = members.iter().filter(|member| member.voter).count();
    let reached = members.iter().filter(|it| it.voter && !outage.missing.contains_key(&it.node)).count();
    (voters, reached, majority(voters))
}

fn name(state: &State, node: NodeId) -> String {
    state.managers.get(&node).map_or_else(|| node.to_string(), |it| it.name.clone())
}

/// Who is missing, and where it was looked for.
fn describe(state: &State, members: &[MemberStatus], outage: &Outage) -> String {
    let missing = members.iter().filter(|member| outage.missing.contains_key(&member.node));
    let all: Vec<String> = missing.map(|it| format!("{} ({})", name(state, it.node), it.address)).collect();
    if all.is_empty() { "nobody".into() } else { all.join(", ") }
}
