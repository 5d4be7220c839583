//! Gives each manager the role in the state: a new one becomes a learner, and a voter once it has caught up.

mod announce;

use std::collections::BTreeSet;
use std::time::Duration;

use api::Subject;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use model::command::{Manager, MemberRole};
use model::failpoints::{Protection, is_left_out};
use model::membership::{MembershipView, Step};
use model::quorum::Unsafe;
use model::{Actor, Answer, Change, Command, Millis, NodeId, RequestId, State, Term};
use raft::{Application, Dial, JoinHandler, Joined, MemberStatus, PeerIdentity, Replica, Role};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::ca;
use crate::call_gate::CallGate;
use crate::clock::Clock;
use crate::dial::Secure;
use crate::join::is_final;
use crate::leadership::leads;

/// A learner with at most this lag becomes a voter.
const CAUGHT_UP: u64 = 100;
/// Four heartbeats of the slowest profile.
const FRESH: Duration = Duration::from_secs(2);
/// How often the leader checks the membership.
const EVERY: Duration = Duration::from_millis(100);

/// How long a call that changes a role waits for completion.
const ROLE_WITHIN: Duration = Duration::from_secs(10);

/// How long a member may take to answer at its old address.
const STILL_THERE: Duration = Duration::from_secs(1);

/// How long a transfer of leadership waits for open plugin calls; the next leader settles the rest.
const CALLS_END: Duration = Duration::from_secs(5);

/// The membership policy of one manager.
pub(crate) struct Members {
    replica: Replica,
    role: watch::Receiver<Role>,
    clock: Clock,
    gate: CallGate,
    dial: Secure,
    changes: tokio::sync::Mutex<()>,
}

impl Members {
    pub(crate) fn new(
        replica: Replica,
        role: watch::Receiver<Role>,
        clock: Clock,
        gate: CallGate,
        dial: Secure,
    ) -> Self {
        Self { replica, role, clock, gate, dial, changes: tokio::sync::Mutex::default() }
    }

    fn me(&self) -> NodeId {
        self.replica.identity().node
    }

    /// The members as this leader sees them; `watched_since` is when it began to watch them.
    fn view(&self, state: &State, watched_since: Option<Instant>) -> MembershipView {
        let all = self.replica.members();
        let me = self.me();
        let of = |fits: &dyn Fn(&MemberStatus) -> bool| {
            all.iter().filter(|member| fits(member)).map(|member| member.node).collect::<BTreeSet<_>>()
        };
        let close = |member: &MemberStatus| member.lag.is_some_and(|lag| lag <= CAUGHT_UP);
        let patience = state.dead_manager_after().map(|it| Duration::from_millis(it.0));
        let watched = watched_since.map_or(Duration::ZERO, |since| since.elapsed());
        let silent = |member: &MemberStatus, patience: Duration| {
            member.voter && member.last_ack.unwrap_or(Duration::MAX) > patience
        };
        MembershipView {
            sets: self.replica.voter_sets(),
            members: of(&|_| true),
            reached: of(&|member| member.node == me || is_fresh(member)),
            ready: of(&|member| !member.voter && is_fresh(member) && close(member)),
            silent: match patience {
                Some(patience) if watched >= patience => of(&|member| silent(member, patience)),
                Some(_) | None => BTreeSet::new(),
            },
        }
    }

    /// The work of the leader: gives each member its role in the state, one change at a time.
    pub(crate) async fn keep(&self, term: Term) {
        let mut watched_since = Instant::now();
        let mut last = watched_since;
        loop {
            // After a pause of its own it does not know which acknowledgements it has missed.
            if last.elapsed() > FRESH {
                watched_since = Instant::now();
            }
            last = Instant::now();
            if let Err(error) = self.keep_once(term, watched_since).await {
                tracing::debug!(%term, %error, "the membership cannot be changed at the moment");
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    async fn keep_once(&self, term: Term, watched_since: Instant) -> Result<(), raft::Error> {
        let state = self.replica.published().state;
        if state.cluster.is_none() {
            return Ok(());
        }
        let view = self.view(&state, Some(watched_since));
        let step = view.next(&state, self.me()).map_err(|why| raft::Error::Unavailable(why.to_string()))?;
        match step {
            Step::SetVoters(desired) => {
                tracing::info!(from = list(&view.voters()), to = list(&desired), "changing the voters");
                self.replica.set_voters(&desired).await
            }
            Step::HandOver(desired) => self.transfer_to(&desired).await.map(drop),
            Step::AddLearner(id) => {
                let Some(manager) = state.managers.get(&id) else { return Ok(()) };
                tracing::info!(node = %id, name = manager.name, "adding a learner");
                self.replica.add_learner(id, &manager.address).await
            }
            Step::GiveUp(dead) => {
                let nodes = list(&dead);
                tracing::warn!(nodes, "autopilot removes voters: unreachable for dead-manager-after");
                let nodes = dead.into_iter().collect();
                let change = Change::SetMemberRole { nodes, role: MemberRole::Removed };
                let by = Actor("manager:autopilot".into());
                let command = Command { id: RequestId(raft::unique()), by, at: self.clock.now(), change };
                self.replica.propose(&command, Some(term)).await.map(drop)
            }
            Step::Drop(gone) => {
                tracing::info!(nodes = list(&gone), "removing members");
                self.replica.drop_learners(&gone).await
            }
            Step::Rest => Ok(()),
        }
    }

    /// Role changes are checked and recorded one at a time, since two safe ones can add up to an unsafe one.
    pub(crate) async fn lock_changes(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.changes.lock().await
    }

    /// Whether these managers may get this role safely, on top of the changes requested before.
    pub(crate) fn check_role(
        &self,
        state: &State,
        nodes: &[NodeId],
        role: MemberRole,
        shrink: bool,
    ) -> Result<(), Unsafe> {
        let view = self.view(state, None);
        let desired = view.desired(state);
        let mut after = desired.clone();
        for node in nodes {
            match role {
                MemberRole::Voter => after.insert(*node),
                MemberRole::Learner | MemberRole::Removed => after.remove(node),
            };
        }
        if after == desired { Ok(()) } else { view.votes(&desired).may_become(&after, shrink) }
    }

    /// Waits until these managers have this role in Raft; for removed ones, until Raft has no member that the
    /// state does not have. False after a timeout.
    pub(crate) async fn until_role(&self, nodes: &[NodeId], role: MemberRole) -> bool {
        let has_role = || {
            let (members, state) = (self.replica.members(), self.replica.published().state);
            let votes = |node: &NodeId| members.iter().find(|it| it.node == *node).map(|it| it.voter);
            !self.replica.is_changing()
                && match role {
                    MemberRole::Voter => nodes.iter().all(|node| votes(node) == Some(true)),
                    MemberRole::Learner => nodes.iter().all(|node| votes(node) == Some(false)),
                    MemberRole::Removed => members.iter().all(|it| state.managers.contains_key(&it.node)),
                }
        };
        let deadline = Instant::now() + ROLE_WITHIN;
        while !has_role() {
            if Instant::now() > deadline || !leads(&self.role) {
                return false;
            }
            tokio::time::sleep(EVERY / 4).await;
        }
        true
    }

    /// Transfers leadership to this voter, or to the most up-to-date one, once no plugin call is open.
    /// Returns the new leader.
    pub(crate) async fn transfer_leadership(&self, to: Option<NodeId>) -> Result<NodeId, raft::Error> {
        let voters = self.replica.voter_sets().into_iter().flatten().collect();
        self.transfer_to(&to.map_or(voters, |to| BTreeSet::from([to]))).await
    }

    async fn transfer_to(&self, among: &BTreeSet<NodeId>) -> Result<NodeId, raft::Error> {
        if !leads(&self.role) {
            return Err(raft::Error::NotLeader { leader: None });
        }
        let members = self.replica.members();
        let others: Vec<&MemberStatus> =
            members.iter().filter(|it| it.node != self.me() && among.contains(&it.node)).collect();
        let best = others
            .iter()
            .filter(|member| member.voter && is_fresh(member))
            .min_by_key(|member| member.lag.unwrap_or(u64::MAX))
            .ok_or_else(|| raft::Error::Unavailable(cannot_take_it(&others, among).into()))?;
        let _shut = self.gate.shut();
        if tokio::time::timeout(CALLS_END, self.gate.is_empty()).await.is_err() {
            tracing::info!("plugin calls are still open; the next leader settles them");
        }
        tracing::info!(to = %best.node, "transferring leadership");
        self.replica.give_lead_to(best.node).await.map(|()| best.node)
    }

    /// Admits a manager as a member, here or through the leader.
    async fn admit(&self, mut application: Application) -> Result<Joined, (String, bool)> {
        let leader = match *self.role.borrow() {
            Role::Leader { .. } => None,
            Role::Other { leader: Some(leader), .. } => Some(leader),
            Role::Other { leader: None, .. } => {
                return Err(("there is no leader at the moment".into(), false));
            }
        };
        if let Some(leader) = leader {
            let address = self
                .replica
                .address_of(leader)
                .ok_or(("the leader's address is not known".to_owned(), false))?;
            let line = self.dial.dial(&address).map_err(|why| (why, false))?;
            let forwarded = raft::join(line, &application, Duration::from_secs(5)).await;
            return forwarded.map_err(|status| (status.message().to_owned(), is_final(&status)));
        }
        let token = match application.token.take() {
            _ if application.vouched => None,
            Some(secret) => Some(api::token_id(secret.expose())),
            None => return Err((NO_TOKEN.into(), true)),
        };
        let manager = application.manager;
        if let Role::Leader { term } = *self.role.borrow()
            && !self.replica.holds_lease(term)
        {
            // What is proposed now would be written, and perhaps never agreed to.
            return Err(("the leader is not confirmed by a majority at the moment".into(), false));
        }
        let known = self.replica.published().state;
        if let Some((node, _)) =
            known.managers.iter().find(|(_, known)| application.vouched && **known == manager)
        {
            // It is where the state has it, and is called there from now on, if it was not.
            self.replica.lost_at(*node);
            return self.welcome(*node, &application.csr);
        }
        self.has_moved(&manager).await?;
        if let Some(token) = &token {
            // An invalid token causes no write.
            let whom = manager.newcomer();
            self.replica.published().state.admits(token, &whom).map_err(|why| (why.to_string(), true))?;
        }
        let command = Command {
            // The storage id makes a repeated join harmless, so each gets a new request id.
            id: RequestId(raft::unique()),
            by: Actor(format!("manager:{}", manager.name)),
            at: self.clock.now(),
            change: Change::Join { manager, token },
        };
        match self.replica.propose(&command, None).await {
            Ok(Answer::Joined(node)) => self.welcome(node, &application.csr),
            Ok(Answer::Refused(why)) => Err((why.to_string(), true)),
            Ok(other) => Err((format!("unexpected response (a bug): {other:?}"), false)),
            Err(error) => Err((error.to_string(), false)),
        }
    }

    /// Whether a member that is to have another address is gone from its old one: otherwise somebody runs a copy of its
    /// disk.
    async fn has_moved(&self, manager: &Manager) -> Result<(), (String, bool)> {
        if is_left_out(Protection::OneOfCopies) {
            return Ok(());
        }
        let state = self.replica.published().state;
        let known = state.managers.iter().find(|(_, known)| known.storage == manager.storage);
        let Some((node, known)) = known.filter(|(_, known)| known.address != manager.address) else {
            return Ok(());
        };
        let leaf = async |address| {
            let shown = tokio::time::timeout(STILL_THERE, self.dial.certificate(address)).await.ok()?.ok()?;
            matches!(Subject::of(&shown), Ok(Subject::Manager { node: there, .. }) if there == *node)
                .then_some(shown)
        };
        // Each process has a certificate of its own: the same at both addresses is one process with two names.
        let (old, new) = tokio::join!(leaf(&known.address), leaf(&manager.address));
        match (old, new) {
            (Some(old), Some(new)) if old != new => {
                tracing::warn!(
                    manager = known.name,
                    at = known.address,
                    also = manager.address,
                    "two managers run with one identity: one of them on a copy of the other's data directory"
                );
                Err((format!("manager `{}` runs at {} already", known.name, known.address), false))
            }
            _ => Ok(()),
        }
    }

    /// The reply to a new member, with a certificate if it has requested one.
    fn welcome(&self, node: NodeId, csr: &[u8]) -> Result<Joined, (String, bool)> {
        let identity = self.replica.identity();
        let mut joined = Joined {
            cluster: identity.cluster.clone(),
            lineage: identity.lineage,
            node,
            certificate: Default::default(),
            trusted: Vec::new(),
        };
        if csr.is_empty() {
            return Ok(joined);
        }
        let state = self.replica.published().state;
        let known = state
            .authorities
            .as_ref()
            .ok_or(("the cluster has no certificate authority yet".to_owned(), false))?;
        let lasts = Duration::from_millis(state.certificate_life().0);
        let signed = ca::sign(&known.signing, csr, &ca::subject(identity, node), lasts);
        joined.certificate = signed.map_err(|error| (error.to_string(), true))?.into();
        joined.trusted = known.trusted().map(|it| it.to_vec().into()).collect();
        Ok(joined)
    }

    /// Whether the peer may join without a token.
    fn is_vouched(&self, application: &Application, from: PeerIdentity) -> bool {
        match from {
            PeerIdentity::Local => true,
            PeerIdentity::Manager(node) => {
                let state = self.replica.published().state;
                // A removed manager can vouch for nobody.
                application.vouched && state.managers.contains_key(&node)
            }
            PeerIdentity::Unknown => false,
        }
    }
}

/// How far the clock of a new manager may be off. A certificate is backdated by twice as much, so that whoever joins is
/// believed by everybody; and times in the log, which never run backwards, stay near the truth.
const MOST_SKEW: Millis = Millis::seconds(12 * 3600);

/// Why an unauthenticated peer cannot join.
const NO_TOKEN: &str = "no join token was given; `infrakit token create --role manager` creates one";

/// Why none of these members can lead.
fn cannot_take_it(others: &[&MemberStatus], among: &BTreeSet<NodeId>) -> &'static str {
    match (others, among.len()) {
        ([], 1) => "it is no member of the consensus yet, or removed from it",
        ([], _) => "there is no other voter",
        ([one], 1) if !one.voter => "it is a learner, which has no vote: see `infrakit node promote`",
        ([_], 1) => "it cannot be reached",
        _ => "no other voter can be reached",
    }
}

/// Whether a member is reachable: it has answered lately.
pub(crate) fn is_fresh(member: &MemberStatus) -> bool {
    member.last_ack.is_some_and(|age| age <= FRESH)
}

fn list(nodes: &BTreeSet<NodeId>) -> String {
    nodes.iter().map(NodeId::to_string).collect::<Vec<_>>().join(", ")
}

impl JoinHandler for Members {
    fn join(
        &self,
        application: Application,
        from: PeerIdentity,
    ) -> BoxFuture<'_, Result<Joined, (String, bool)>> {
        let vouched = self.is_vouched(&application, from);
        let joins = !self
            .replica
            .published()
            .state
            .managers
            .values()
            .any(|it| it.storage == application.manager.storage);
        if let Some(ahead) = application.clock_ahead_ms.filter(|it| joins && it.unsigned_abs() > MOST_SKEW.0)
        {
            let why = format!(
                "its clock is {} {} that of this cluster's; at most {MOST_SKEW} are accepted: set the clocks right (NTP)",
                Millis(ahead.unsigned_abs()),
                if ahead > 0 { "ahead of" } else { "behind" }
            );
            // Another one's clock may agree.
            return std::future::ready(Err((why, false))).boxed();
        }
        self.admit(Application { vouched, ..application }).boxed()
    }
}

#[cfg(test)]
mod tests;
