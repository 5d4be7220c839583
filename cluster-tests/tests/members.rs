//! Who votes, who leads, who goes: changed by operators and by the cluster itself, never past its quorum.

use api::{Code, proto as pb};
use cluster_tests::{Cluster, group, until};
use rustix::process::Signal;

async fn transfer(cluster: &Cluster, to: &str) -> Result<String, api::Error> {
    let request = pb::TransferLeadershipRequest { to: to.into() };
    let reply = cluster.client().call(async |c| c.nodes().transfer_leadership(request.clone()).await).await;
    reply.map(|reply| reply.leader)
}

/// Waits until these vote, and nobody else.
async fn vote(cluster: &Cluster, names: &[&str]) {
    until(&format!("{names:?} vote"), async || (cluster.names("Voter").await == names).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lead_is_given_to_whom_one_names_and_by_a_leader_that_stops() {
    let mut cluster = Cluster::of(3).await;
    cluster.commit(&group("web", 5, "v1")).await.expect("it is accepted");
    cluster.settles("web", 5).await;
    for turn in 0..6 {
        let to = (cluster.leader().await + 1) % 3;
        let name = format!("m{}", to + 1);
        assert_eq!(transfer(&cluster, &name).await.expect("it is given away"), name, "turn {turn}");
        assert_eq!(cluster.leader().await, to);
    }
    let leader = cluster.leader().await;
    let own = format!("m{}", leader + 1);
    assert_eq!(transfer(&cluster, &own).await.expect("it leads already"), own);
    let led = transfer(&cluster, "").await.expect("somebody takes it");
    assert_ne!(led, own);
    let error = transfer(&cluster, "m9").await.expect_err("nobody has this name");
    assert_eq!(error.code, Code::NotFound);

    // A leader that is told to stop gives the lead away first: nobody has to notice its death.
    let leader = cluster.leader().await;
    cluster.manager(leader).signal(Signal::TERM);
    let code = until("it has stopped", async || cluster.manager_mut(leader).ended()).await;
    assert_eq!(code, 0, "{}", cluster.manager(leader).log());
    assert!(cluster.manager(leader).log().contains("transferring leadership"));
    let next = cluster.leader().await;
    assert_ne!(next, leader);
    cluster.start(leader);
    cluster.until_voters(3).await;
    cluster.commit(&group("web", 7, "v1")).await.expect("it is accepted");
    cluster.settles("web", 7).await;
    assert_eq!(cluster.history().made("web"), 7);
    cluster.history().shows_nothing_twice();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lead_is_not_given_to_who_cannot_take_it_and_nothing_stops_by_that() {
    let mut cluster = Cluster::of(3).await;
    let leader = cluster.leader().await;
    let other = (leader + 1) % 3;
    cluster.kill(other);
    until("it is missed", async || {
        let status = cluster.status().await?;
        status.nodes.iter().any(|node| node.status == "Unreachable").then_some(())
    })
    .await;
    let error = transfer(&cluster, &format!("m{}", other + 1)).await.expect_err("it is dead");
    assert_eq!(error.code, Code::Guarded);
    assert_eq!(cluster.leader().await, leader);
    // One that dies in that very moment: whoever leads then writes on.
    let third = (leader + 2) % 3;
    cluster.start(other);
    cluster.until_voters(3).await;
    cluster.manager(third).signal(Signal::STOP);
    let error = transfer(&cluster, &format!("m{}", third + 1)).await.expect_err("it is stopped");
    assert!([Code::Guarded, Code::Unavailable].contains(&error.code), "{error}");
    cluster.commit(&group("web", 2, "v1")).await.expect("it is accepted");
    cluster.settles("web", 2).await;
    cluster.manager(third).signal(Signal::CONT);
    cluster.until_voters(3).await;
    cluster.history().shows_nothing_twice();
}

#[tokio::test(flavor = "multi_thread")]
async fn managers_are_demoted_promoted_and_removed_and_what_is_not_safe_is_refused() {
    let mut cluster = Cluster::of(3).await;
    use pb::MemberRole::{Learner, Removed, Voter};
    let code = async |cluster: &Cluster, names: &[&str], role| {
        cluster.set_member_role(names, role, false).await.expect_err("it is refused").code
    };
    assert_eq!(code(&cluster, &["m2"], Learner).await, Code::Guarded, "the cluster would bear no loss");
    assert_eq!(code(&cluster, &["m1", "m2", "m3"], Removed).await, Code::Guarded, "nobody would be left");
    assert_eq!(code(&cluster, &["m7"], Removed).await, Code::NotFound);
    assert_eq!(code(&cluster, &[], Removed).await, Code::Invalid);
    vote(&cluster, &["m1", "m2", "m3"]).await;

    assert!(cluster.set_member_role(&["m2"], Learner, true).await.expect("it is forced"));
    vote(&cluster, &["m1", "m3"]).await;
    assert_eq!(cluster.names("Learner").await, ["m2"]);
    if cluster.leader().await != 1 {
        let error = transfer(&cluster, "m2").await.expect_err("it has no vote");
        assert!(error.code == Code::Guarded && error.cause.contains("it is a learner"), "{error:?}");
    }
    assert!(cluster.set_member_role(&["m2"], Voter, false).await.expect("it may vote again"));
    vote(&cluster, &["m1", "m2", "m3"]).await;

    // The leader itself: another one leads, and then it is done.
    let leader = cluster.leader().await;
    let name = format!("m{}", leader + 1);
    cluster.set_member_role(&[&name], Learner, true).await.expect("it is forced");
    until("it is a learner", async || (cluster.names("Learner").await == [name.clone()]).then_some(())).await;
    assert_ne!(cluster.leader().await, leader);
    cluster.set_member_role(&[&name], Voter, false).await.expect("it may vote again");
    vote(&cluster, &["m1", "m2", "m3"]).await;

    // Removed for good: it stops by itself, and its disk never joins again.
    let leader = cluster.leader().await;
    let other = (1..3).find(|i| *i != leader).expect("one of two");
    let name = format!("m{}", other + 1);
    assert!(cluster.set_member_role(&[&name], Removed, true).await.expect("it is forced"));
    let left: Vec<String> = (0..3).filter(|i| *i != other).map(|i| format!("m{}", i + 1)).collect();
    vote(&cluster, &left.iter().map(String::as_str).collect::<Vec<_>>()).await;
    for start in 0..2 {
        if start > 0 {
            cluster.start(other);
        }
        let code = until("it stops", async || cluster.manager_mut(other).ended()).await;
        let log = cluster.manager(other).log();
        assert!(code == 1 && log.contains("was removed from the cluster"), "{code}: {log}");
    }
    // Without its disk it is another manager, under its old name.
    std::fs::remove_dir_all(cluster.path().join(&name)).expect("it was there");
    cluster.start(other);
    vote(&cluster, &["m1", "m2", "m3"]).await;
    cluster.commit(&group("web", 4, "v1")).await.expect("it is accepted");
    cluster.settles("web", 4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_of_five_that_die_at_once_are_replaced() {
    let mut cluster = Cluster::of(5).await;
    cluster.commit(&group("web", 4, "v1")).await.expect("it is accepted");
    cluster.settles("web", 4).await;
    let leader = cluster.leader().await;
    let dead = [(leader + 1) % 5, leader];
    dead.iter().for_each(|i| cluster.kill(*i));
    let names: Vec<String> = dead.iter().map(|i| format!("m{}", i + 1)).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let alive: Vec<String> = (0..5).filter(|i| !dead.contains(i)).map(|i| format!("m{}", i + 1)).collect();
    cluster.leader().await;
    // A healthy one may not go now.
    let error =
        cluster.set_member_role(&[&alive[0]], pb::MemberRole::Removed, true).await.expect_err("it is needed");
    assert_eq!(error.code, Code::Guarded, "{error}");
    cluster.add();
    cluster.add();
    until("the dead are removed", async || {
        cluster.set_member_role(&names, pb::MemberRole::Removed, false).await.ok().filter(|done| *done)
    })
    .await;
    let mut expected = alive.clone();
    expected.extend(["m6".into(), "m7".into()]);
    vote(&cluster, &expected.iter().map(String::as_str).collect::<Vec<_>>()).await;
    cluster.commit(&group("web", 6, "v1")).await.expect("it is accepted");
    cluster.settles("web", 6).await;
    assert_eq!(cluster.history().made("web"), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_that_stays_silent_is_given_up_when_another_is_there() {
    let mut cluster = Cluster::of(3).await;
    cluster.set("infrakit/dead-manager-after", "3s").await.expect("it is stored");
    let dead = (cluster.leader().await + 1) % 3;
    cluster.kill(dead);
    let name = format!("m{}", dead + 1);
    // Nobody is there for it yet: it stays.
    until("it is missed", async || {
        let status = cluster.status().await?;
        let lost = |node: &pb::Node| node.name == name && node.last_ack_ms.is_some_and(|ms| ms > 4000);
        status.nodes.iter().any(lost).then_some(())
    })
    .await;
    assert!(cluster.names("Voter").await.contains(&name));
    cluster.add();
    let mut expected: Vec<String> =
        (0..3).filter(|i| *i != dead).map(|i| format!("m{}", i + 1)).chain(["m4".into()]).collect();
    expected.sort();
    vote(&cluster, &expected.iter().map(String::as_str).collect::<Vec<_>>()).await;
    until("it is no member", async || {
        let status = cluster.status().await?;
        (status.nodes.len() == 3).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_of_five_that_stay_silent_are_given_up_together_and_a_third_may_die() {
    let mut cluster = Cluster::of(5).await;
    cluster.set("infrakit/dead-manager-after", "3s").await.expect("it is stored");
    let leader = cluster.leader().await;
    let mut alive: Vec<usize> = (0..5).collect();
    for n in 1..=2 {
        let dead = (leader + n) % 5;
        cluster.kill(dead);
        alive.retain(|it| *it != dead);
    }
    let names: Vec<String> = alive.iter().map(|i| format!("m{}", i + 1)).collect();
    vote(&cluster, &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    cluster.kill(leader);
    until("two of three agree", async || cluster.set("k", "v").await.ok()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_removed_keeps_its_vote_until_the_others_can_do_without_it() {
    for (size, force) in [(2, false), (5, true)] {
        let mut cluster = Cluster::of(size).await;
        let leader = cluster.leader().await;
        // Of two, the leader; of five, it and two more at once.
        let gone: Vec<usize> = (0..size / 2 + size % 2).map(|n| (leader + n) % size).collect();
        let name = |i: &usize| format!("m{}", i + 1);
        let names: Vec<String> = gone.iter().map(name).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        cluster.set_member_role(&names, pb::MemberRole::Removed, force).await.expect("it is safe");
        for i in &gone {
            let code = until("it stops", async || cluster.manager_mut(*i).ended()).await;
            let log = cluster.manager(*i).log();
            assert!(code == 1 && log.contains("was removed from the cluster"), "{code}: {log}");
        }
        let left: Vec<String> = (0..size).filter(|i| !gone.contains(i)).map(|i| name(&i)).collect();
        vote(&cluster, &left.iter().map(String::as_str).collect::<Vec<_>>()).await;
        cluster.set("k", "v").await.expect("the others agree");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_wishes_that_are_safe_alone_do_not_add_up_to_an_unsafe_one() {
    let cluster = Cluster::of(4).await;
    let leader = cluster.leader().await;
    let others: Vec<String> = (0..4).filter(|i| *i != leader).map(|i| format!("m{}", i + 1)).collect();
    let (first, second) = ([others[0].as_str()], [others[1].as_str()]);
    let (first, second) = tokio::join!(
        cluster.set_member_role(&first, pb::MemberRole::Learner, false),
        cluster.set_member_role(&second, pb::MemberRole::Learner, false),
    );
    let refused = [first, second].into_iter().filter_map(Result::err).map(|error| error.code);
    assert_eq!(refused.collect::<Vec<_>>(), [Code::Guarded]);
    until("three vote", async || (cluster.names("Voter").await.len() == 3).then_some(())).await;
}
