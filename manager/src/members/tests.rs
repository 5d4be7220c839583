//! What the first manager of a cluster makes of newcomers and of wishes, as far as nobody else is heard.

use futures_util::FutureExt;
use model::access::Secret;
use model::command::NewToken;
use model::{Millis, Refusal};

use super::*;
use crate::alone::{Alone, named};

struct Door {
    manager: Alone,
    members: std::sync::Arc<Members>,
    keeping: tokio::task::JoinHandle<()>,
}

impl Drop for Door {
    fn drop(&mut self) {
        self.keeping.abort();
    }
}

async fn opened() -> Door {
    let manager = Alone::leads().await;
    let (replica, clock, gate) = (manager.replica.clone(), manager.clock.clone(), manager.gate.clone());
    let role = replica.watch_role();
    let term = match *role.borrow() {
        Role::Leader { term } => term,
        Role::Other { .. } => panic!("it leads"),
    };
    let dial = Secure::new(api::tls::Tls::default());
    let members = std::sync::Arc::new(Members::new(replica, role, clock, gate, dial));
    let keeper = members.clone();
    let keeping = tokio::spawn(async move { keeper.keep(term).await });
    Door { manager, members, keeping }
}

fn application(name: &str, token: Option<&str>) -> Application {
    let token = token.map(|token| Secret::new(token.as_bytes()));
    Application { manager: named(name), token, csr: Default::default(), vouched: false, clock_ahead_ms: None }
}

impl Door {
    /// Waits until Raft knows these members, with their votes.
    async fn until_members(&self, wanted: &[(NodeId, bool)]) {
        let members = || -> Vec<(NodeId, bool)> {
            self.manager.replica.members().iter().map(|it| (it.node, it.voter)).collect()
        };
        let deadline = Instant::now() + Duration::from_secs(60);
        while members() != wanted {
            assert!(Instant::now() < deadline, "waited for {wanted:?}, and there are {:?}", members());
            tokio::time::sleep(EVERY).await;
        }
    }

    async fn takes_in_locally(&self, name: &str) -> NodeId {
        let joined =
            self.members.join(Application { vouched: true, ..application(name, None) }, PeerIdentity::Local);
        joined.await.expect("whoever may use the socket lets it in").node
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_voter_stays_whatever_is_wished() {
    let door = opened().await;
    let state = door.manager.state();
    for role in [MemberRole::Removed, MemberRole::Learner] {
        for shrink in [false, true] {
            let judged = door.members.check_role(&state, &[NodeId(1)], role, shrink);
            assert_eq!(judged, Err(Unsafe::NoVoters), "{role:?} {shrink}");
        }
        let change = Change::SetMemberRole { nodes: vec![NodeId(1)], role };
        assert_eq!(door.manager.propose(change).await, Answer::Refused(Refusal::LastVoter));
    }
    assert_eq!(door.members.check_role(&state, &[NodeId(1)], MemberRole::Voter, false), Ok(()));
    door.until_members(&[(NodeId(1), true)]).await;
}

#[tokio::test(start_paused = true)]
async fn a_lead_that_nobody_can_take_stays_and_calls_begin_again() {
    let door = opened().await;
    let why = door.members.transfer_leadership(None).await.expect_err("nobody else votes");
    assert!(matches!(why, raft::Error::Unavailable(_)), "{why}");
    assert!(door.manager.gate.enter().now_or_never().is_some(), "the gate is open");
    let why = door.members.transfer_leadership(Some(NodeId(7))).await.expect_err("nobody knows it");
    assert!(matches!(why, raft::Error::Unavailable(_)), "{why}");
}

#[tokio::test(start_paused = true)]
async fn a_vote_for_somebody_who_is_not_heard_is_not_safe() {
    let door = opened().await;
    let node = door.takes_in_locally("two").await;
    let state = door.manager.state();
    let judged = door.members.check_role(&state, &[node], MemberRole::Voter, false);
    assert_eq!(judged, Err(Unsafe::NoMajorityAfter { reachable: 1, needed: 2 }));
}

#[tokio::test(start_paused = true)]
async fn a_stranger_needs_a_token_and_one_that_guesses_writes_nothing() {
    let door = opened().await;
    let written = door.manager.replica.published().index;
    for (token, from) in [
        (None, PeerIdentity::Unknown),
        (Some("guessed"), PeerIdentity::Unknown),
        // One that is no manager speaks for nobody.
        (None, PeerIdentity::Manager(NodeId(99))),
    ] {
        let asked = Application { vouched: true, ..application("two", token) };
        let (why, is_final) = door.members.join(asked, from).await.expect_err("nobody knows it");
        assert!(is_final, "{why}");
    }
    assert_eq!(door.manager.replica.published().index, written);
    let secret = "a secret of a token";
    let change = Change::CreateToken(NewToken {
        id: api::token_id(secret.as_bytes()),
        role: model::Role::Manager,
        lasts: Some(Millis::seconds(60)),
        once: false,
        instance: None,
        replaces: None,
    });
    assert_eq!(door.manager.propose(change).await, Answer::Done);
    let joined = door.members.join(application("two", Some(secret)), PeerIdentity::Unknown).await;
    let joined = joined.expect("the token lets it in");
    assert_eq!(joined.cluster.as_str(), crate::alone::CLUSTER);
    assert!(door.manager.state().managers.contains_key(&joined.node));
    let other = Application {
        manager: model::command::Manager { storage: "other".into(), ..named("two") },
        ..application("two", Some(secret))
    };
    let (why, is_final) =
        door.members.join(other, PeerIdentity::Unknown).await.expect_err("the name is taken");
    assert!(is_final && why.contains("`two`"), "{why}");
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_that_is_never_heard_gets_the_log_and_no_vote_and_goes_when_it_is_removed() {
    let door = opened().await;
    let node = door.takes_in_locally("two").await;
    door.until_members(&[(NodeId(1), true), (node, false)]).await;
    let again = door.takes_in_locally("two").await;
    assert_eq!(again, node, "asking again is harmless");
    assert!(!door.members.until_role(&[node], MemberRole::Voter).await, "it is not waited for for ever");
    door.until_members(&[(NodeId(1), true), (node, false)]).await;
    // It is no voter yet, so nobody is lost.
    let state = door.manager.state();
    assert_eq!(door.members.check_role(&state, &[node], MemberRole::Removed, false), Ok(()));
    let change = Change::SetMemberRole { nodes: vec![node], role: MemberRole::Removed };
    assert_eq!(door.manager.propose(change).await, Answer::Done);
    assert!(door.members.until_role(&[node], MemberRole::Removed).await, "it is dropped");
    door.until_members(&[(NodeId(1), true)]).await;
    let (why, is_final) = door
        .members
        .join(application("two", None), PeerIdentity::Manager(node))
        .await
        .expect_err("its disk is known");
    assert!(is_final, "{why}");
}
