//! Makes of each manager what it is to be: a newcomer a learner first, with a vote once it has caught up.

use std::collections::BTreeSet;
use std::time::Duration;

use api::{BadCertificate, CertificateRequest, Credentials, JoinToken, tls};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use hyper_util::rt::TokioIo;
use model::access::Newcomer;
use model::command::{Manager, MemberRole};
use model::membership::{MembershipView, Step};
use model::quorum::Unsafe;
use model::{Actor, Answer, Change, Command, NodeId, RequestId, State, Term};
use raft::{Application, Dial, Identity, JoinHandler, Joined, MemberStatus, PeerIdentity, Replica, Role};
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::Status;
use tower::service_fn;

use crate::ca;
use crate::call_gate::CallGate;
use crate::clock::Clock;
use crate::dial::Secure;
use crate::{Error, leads};

/// A learner that is this close behind gets a vote.
const CAUGHT_UP: u64 = 100;
/// Four heartbeats of the slowest profile.
const FRESH: Duration = Duration::from_secs(2);
/// How often the leader looks after its members.
const EVERY: Duration = Duration::from_millis(100);
/// How long a new manager tries to be taken in: a leader may be elected meanwhile.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long whoever changes a member waits for it to be done.
const STANDS_IN: Duration = Duration::from_secs(10);

/// How often it says meanwhile that it is not.
const TELL_EVERY: Duration = Duration::from_secs(3);

/// How often a manager says at most what is not heard.
const ANNOUNCED_AGAIN: Duration = Duration::from_secs(60);

/// How long calls that are under way are waited for before the lead is given away; whoever takes it settles
/// what is left.
const CALLS_END: Duration = Duration::from_secs(5);

/// The membership policy of one manager.
pub(crate) struct Members {
    replica: Replica,
    role: watch::Receiver<Role>,
    clock: Clock,
    gate: CallGate,
    dial: Secure,
    wishes: tokio::sync::Mutex<()>,
}

impl Members {
    pub(crate) fn new(
        replica: Replica,
        role: watch::Receiver<Role>,
        clock: Clock,
        gate: CallGate,
        dial: Secure,
    ) -> Self {
        Self { replica, role, clock, gate, dial, wishes: tokio::sync::Mutex::default() }
    }

    fn me(&self) -> NodeId {
        self.replica.identity().node
    }

    /// The members as this leader sees them, when it has watched them since then.
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

    /// What the leader does for its members: makes of each what it is to be. One change at a time.
    pub(crate) async fn keep(&self, term: Term) {
        let mut watched_since = Instant::now();
        let mut last = watched_since;
        loop {
            // Whoever stood still itself has missed what the others said meanwhile.
            if last.elapsed() > FRESH {
                watched_since = Instant::now();
            }
            last = Instant::now();
            if let Err(error) = self.keep_once(term, watched_since).await {
                tracing::debug!(%term, %error, "the membership could not be changed now");
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
                tracing::info!(from = list(&view.voters()), to = list(&desired), "the voters change");
                self.replica.set_voters(&desired).await
            }
            Step::HandOver(desired) => self.hand_over_to(&desired).await.map(drop),
            Step::AddLearner(id) => {
                let Some(manager) = state.managers.get(&id) else { return Ok(()) };
                tracing::info!(node = %id, name = manager.name, "added as a learner");
                self.replica.add_learner(id, &manager.address).await
            }
            Step::GiveUp(dead) => {
                tracing::warn!(node = %dead, "it has been silent for long, and is given up");
                let change = Change::SetMemberRole { nodes: vec![dead], role: MemberRole::Removed };
                let by = Actor("manager:autopilot".into());
                let command = Command { id: RequestId(raft::unique()), by, at: self.clock.now(), change };
                self.replica.propose(&command, Some(term)).await.map(drop)
            }
            Step::Drop(gone) => {
                tracing::info!(nodes = list(&gone), "no members any more");
                self.replica.drop_learners(&gone).await
            }
            Step::Rest => Ok(()),
        }
    }

    /// One wish is judged and recorded at a time, or two safe ones might add up to an unsafe one.
    pub(crate) async fn wishes(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.wishes.lock().await
    }

    /// Whether these managers may become what is asked, as far as the leader sees, when what was asked before is
    /// done.
    pub(crate) fn may_stand(
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

    /// Waits until these managers are what they are to be, as far as Raft knows: no member that the state does
    /// not know, when they were removed. Not for ever.
    pub(crate) async fn until_they_stand(&self, nodes: &[NodeId], role: MemberRole) -> bool {
        let stands = || {
            let (members, state) = (self.replica.members(), self.replica.published().state);
            let votes = |node: &NodeId| members.iter().find(|it| it.node == *node).map(|it| it.voter);
            !self.replica.is_changing()
                && match role {
                    MemberRole::Voter => nodes.iter().all(|node| votes(node) == Some(true)),
                    MemberRole::Learner => nodes.iter().all(|node| votes(node) == Some(false)),
                    MemberRole::Removed => members.iter().all(|it| state.managers.contains_key(&it.node)),
                }
        };
        let deadline = Instant::now() + STANDS_IN;
        while !stands() {
            if Instant::now() > deadline || !leads(&self.role) {
                return false;
            }
            tokio::time::sleep(EVERY / 4).await;
        }
        true
    }

    /// Gives the lead to this voter, or to the one that is closest behind, when no call to a plugin is under
    /// way any more. Says who leads then.
    pub(crate) async fn hand_over(&self, to: Option<NodeId>) -> Result<NodeId, raft::Error> {
        let voters = self.replica.voter_sets().into_iter().flatten().collect();
        self.hand_over_to(&to.map_or(voters, |to| BTreeSet::from([to]))).await
    }

    async fn hand_over_to(&self, among: &BTreeSet<NodeId>) -> Result<NodeId, raft::Error> {
        if !leads(&self.role) {
            return Err(raft::Error::NotLeader { leader: None });
        }
        let members = self.replica.members();
        let best = members
            .iter()
            .filter(|member| member.voter && member.node != self.me() && among.contains(&member.node))
            .filter(|member| is_fresh(member))
            .min_by_key(|member| member.lag.unwrap_or(u64::MAX))
            .ok_or_else(|| raft::Error::Unavailable("no other voter can be reached".into()))?;
        let _shut = self.gate.shut();
        if tokio::time::timeout(CALLS_END, self.gate.is_empty()).await.is_err() {
            tracing::info!("calls to plugins are still under way; the next leader settles them");
        }
        tracing::info!(to = %best.node, "the lead is given away");
        self.replica.give_lead_to(best.node).await.map(|()| best.node)
    }

    /// Sees that the machine this manager runs on, where it is reached and which program it runs are known to
    /// all, also when it is told otherwise at a restart.
    pub(crate) async fn announce(&self, me: &Manager) {
        let mut states = self.replica.watch_declared();
        let mut pause = EVERY;
        loop {
            let state = states.borrow_and_update().state.clone();
            if state.removed.contains_key(&self.me()) {
                return;
            }
            let known = state.managers.get(&self.me()).cloned();
            match known {
                Some(known) => {
                    let told =
                        Manager { storage: known.storage.clone(), name: known.name.clone(), ..me.clone() };
                    if told == known {
                        return;
                    }
                    // It speaks for itself, with its certificate.
                    let application =
                        Application { manager: told, token: None, csr: Default::default(), vouched: true };
                    match self.announce_to_somebody(application).await {
                        // An older program that leads does not write down what it does not know.
                        Ok(_) => {}
                        Err((error, true)) => {
                            tracing::error!(error, "others look for this manager where it was before");
                            return;
                        }
                        Err((error, false)) => tracing::debug!(error, "this manager is not announced yet"),
                    }
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(ANNOUNCED_AGAIN);
                }
                // It is not caught up yet.
                None => {
                    if states.changed().await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// To the leader; to any other member when nobody is known to lead, as when the leader looks for this manager
    /// where it was before.
    async fn announce_to_somebody(&self, application: Application) -> Result<Joined, (String, bool)> {
        let mut last = self.take_in(application.clone()).await;
        if !matches!(*self.role.borrow(), Role::Other { leader: None, .. }) {
            return last;
        }
        for member in self.replica.members().iter().filter(|member| member.node != self.me()) {
            let Ok(line) = self.dial.dial(&member.address) else { continue };
            match raft::join(line, &application, Duration::from_secs(2)).await {
                Ok(joined) => return Ok(joined),
                Err(status) => last = Err((status.message().to_owned(), is_final(&status))),
            }
        }
        last
    }

    /// Makes a manager a member, here or at the leader.
    async fn take_in(&self, mut application: Application) -> Result<Joined, (String, bool)> {
        let leader = match *self.role.borrow() {
            Role::Leader { .. } => None,
            Role::Other { leader: Some(leader), .. } => Some(leader),
            Role::Other { leader: None, .. } => return Err(("no manager leads at the moment".into(), false)),
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
        if let Some(token) = &token {
            // Whoever guesses writes nothing.
            let whom = Newcomer::Manager { storage: &manager.storage, instance: manager.instance.as_ref() };
            self.replica.published().state.admits(token, &whom).map_err(|why| (why.to_string(), true))?;
        }
        let command = Command {
            // Asking again is harmless by the disk's identity, so a refusal need not be remembered.
            id: RequestId(raft::unique()),
            by: Actor(format!("manager:{}", manager.name)),
            at: self.clock.now(),
            change: Change::Join { manager, token },
        };
        match self.replica.propose(&command, None).await {
            Ok(Answer::Joined(node)) => self.welcome(node, &application.csr),
            Ok(Answer::Refused(why)) => Err((why.to_string(), true)),
            Ok(other) => Err((format!("an odd answer: {other:?}"), false)),
            Err(error) => Err((error.to_string(), false)),
        }
    }

    /// What a member is told, with a certificate when it asks for one.
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
        let known =
            state.authorities.as_ref().ok_or(("the cluster has no authority yet".to_owned(), false))?;
        let lasts = Duration::from_millis(state.certificate_life().0);
        let signed = ca::sign(&known.signing, csr, &ca::subject(identity, node), lasts);
        joined.certificate = signed.map_err(|error| (error.to_string(), true))?.into();
        joined.trusted = known.trusted().map(|it| it.to_vec().into()).collect();
        Ok(joined)
    }

    /// Whether somebody may be let in without a token.
    fn is_vouched(&self, application: &Application, from: PeerIdentity) -> bool {
        match from {
            PeerIdentity::Local => true,
            PeerIdentity::Manager(node) => {
                let state = self.replica.published().state;
                // One that was removed speaks for nobody.
                application.vouched && state.managers.contains_key(&node)
            }
            PeerIdentity::Unknown => false,
        }
    }
}

/// Why a stranger is not let in.
const NO_TOKEN: &str = "it shows no token; `infrakit token create --role manager` makes one";

/// Whether a member has answered so lately that it can be reached.
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
        self.take_in(Application { vouched, ..application }).boxed()
    }
}

/// Whether asking again is in vain.
fn is_final(status: &Status) -> bool {
    let refused = matches!(
        status.code(),
        tonic::Code::FailedPrecondition
            | tonic::Code::InvalidArgument
            | tonic::Code::AlreadyExists
            | tonic::Code::PermissionDenied
    );
    refused || api::is_stranger(status)
}

/// Asks the managers at `addresses`, one after another, to take this one in.
pub(crate) async fn join(
    addresses: &[String],
    token: Option<&JoinToken>,
    me: &Manager,
) -> Result<(Identity, Credentials), Error> {
    let no_key = |error: BadCertificate| Error::new("no certificate can be asked for", error, "");
    let tls = token.map(|token| tls::newcomer(token.authority)).transpose().map_err(no_key)?;
    let request = CertificateRequest::new().map_err(no_key)?;
    let application = Application {
        manager: me.clone(),
        token: token.map(|token| token.secret.clone()),
        csr: request.der().to_vec().into(),
        vouched: false,
    };
    let deadline = Instant::now() + PATIENCE;
    let mut told = Instant::now();
    loop {
        let mut last = String::new();
        for address in addresses {
            let (at, tls) = (address.clone(), tls.clone());
            let connector = service_fn(move |_| {
                let (at, tls) = (at.clone(), tls.clone());
                async move {
                    // Whoever has a token says which cluster is meant, and a socket does not.
                    let stream: Box<dyn api::Stream> = match tls {
                        Some(tls) => Box::new(tls::connect(&at, tls).await?),
                        None => api::reach(&at, None).await?,
                    };
                    Ok::<_, std::io::Error>(TokioIo::new(stream))
                }
            });
            let asked = match raft::line(address, connector) {
                Ok(line) => raft::join(line, &application, Duration::from_secs(10)).await,
                Err(why) => Err(Status::invalid_argument(why)),
            };
            match asked {
                Ok(joined) => {
                    let identity =
                        Identity { cluster: joined.cluster, lineage: joined.lineage, node: joined.node };
                    let trusted = joined.trusted.iter().map(|it| it.to_vec()).collect();
                    return Ok((identity, request.granted(joined.certificate.to_vec(), trusted)));
                }
                Err(status) if is_final(&status) => {
                    let remedy = if api::is_stranger(&status) || status.message().contains("token") {
                        "give --token with one that `infrakit token create --role manager` prints; nothing was changed"
                    } else {
                        "choose another --name or address, or a fresh --data-dir; nothing was changed"
                    };
                    return Err(Error::new(
                        format!("manager `{}` was not taken in", me.name),
                        format!("{address}: {}", status.message()),
                        remedy,
                    ));
                }
                Err(status) => last = format!("{address}: {}", status.message()),
            }
        }
        if Instant::now() > deadline {
            return Err(Error::new(
                format!("no manager took `{}` in within {PATIENCE:?}", me.name),
                last,
                "name managers that run with --join, and see that a majority of them is up",
            ));
        }
        if told.elapsed() > TELL_EVERY {
            told = Instant::now();
            tracing::warn!(message = last, "not taken in yet; trying for {PATIENCE:?}");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[cfg(test)]
mod tests;
