//! Clusters in real networks: disks that are lost, addresses that move, managers that are missing or frozen, and
//! people who ask the wrong cluster.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use cluster_tests::{Cluster, Options, Process, group, program, until};
use model::Role;
use rustix::process::Signal;

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The program as it runs on another machine, for somebody whose saved logins are in `home`.
fn elsewhere(home: &Path, args: &[&str]) -> Output {
    Command::new(program())
        .args(args)
        .env("XDG_CONFIG_HOME", home)
        .env("INFRAKIT_RUNTIME_DIR", home.join("run"))
        .stdin(Stdio::null())
        .output()
        .expect("the program starts")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_founder_that_lost_its_disk_does_not_found_a_second_cluster() {
    let mut cluster = Cluster::of(3).await;
    let id = cluster.status().await.expect("a status").cluster;
    cluster.kill(0);
    std::fs::remove_dir_all(cluster.data(0)).expect("it is ours");
    cluster.leader().await;
    // As it was started first: with --bootstrap. The leader of the others calls it.
    cluster.start(0);
    let code = until("it does not stay", async || cluster.manager_mut(0).ended()).await;
    let log = cluster.manager(0).log();
    assert!(code == 1 && log.contains("takes this manager for a member"), "{code}: {log}");
    assert!(log.contains(&id) && log.contains("node rm") && log.contains("--join"), "{log}");
    // Nobody leads any more, so nobody calls; but somebody answers where it is told to look.
    cluster.kill(1);
    cluster.manager(2).signal(Signal::STOP);
    cluster.manager(2).signal(Signal::CONT);
    let peers = cluster.addresses();
    cluster.set_manager_arguments(&["--peers", &peers]);
    std::fs::remove_file(cluster.path().join("m1.log")).expect("it was read");
    cluster.start(0);
    let code = until("it does not stay", async || cluster.manager_mut(0).ended()).await;
    let log = cluster.manager(0).log();
    assert!(code == 1 && log.contains(&id), "{code}: {log}");
    assert!(!cluster.data(0).join("db").exists(), "nothing was founded");
    cluster.set_manager_arguments(&[]);
    cluster.start(1);
    until("two of three agree", async || cluster.set("k", "v").await.ok()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_that_is_taken_for_a_member_of_another_cluster_says_so_once() {
    let mut cluster = Cluster::of(2).await;
    let other = Cluster::of(1).await;
    let id = cluster.status().await.expect("a status").cluster;
    // The address of one of two is another cluster's now.
    cluster.kill(1);
    let mut beside = Process::start(
        &[
            "manager",
            "start",
            "--bootstrap",
            "--name",
            "new",
            "--listen",
            &cluster.address(1),
            "--data-dir",
            &other.path().join("new").display().to_string(),
            "--plugins-dir",
            &other.plugins_dir().display().to_string(),
        ],
        &other.path().join("new.log"),
    );
    let to_beside = Cluster::client_of(&cluster.address(1));
    until("it says so, or does not found one", async || {
        if beside.ended().is_some() {
            return beside.log().contains("takes this manager for a member").then_some(());
        }
        // Called by the other several times meanwhile.
        to_beside.status().await.ok()?;
        beside.log().contains("two clusters share an address").then_some(())
    })
    .await;
    let log = beside.log();
    assert!(log.contains(&id[..8]) && log.matches("two clusters share an address").count() <= 1, "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn managers_that_all_come_back_at_new_addresses_find_each_other() {
    let mut cluster = Cluster::of(3).await;
    cluster.commit(&group("web", 2, "v1")).await.expect("it is accepted");
    cluster.settles("web", 2).await;
    (0..3).for_each(|i| cluster.kill(i));
    (0..3).for_each(|i| cluster.move_elsewhere(i));
    // The first is told nothing; the others know the addresses by --join.
    (0..3).for_each(|i| cluster.start(i));
    cluster.until_voters(3).await;
    cluster.commit(&group("web", 3, "v1")).await.expect("it is accepted");
    cluster.settles("web", 3).await;
    assert_eq!(cluster.history().made("web"), 3);
    let status = cluster.status().await.expect("a status");
    for i in 0..3 {
        let node = status.nodes.iter().find(|node| node.name == format!("m{}", i + 1)).expect("a member");
        assert_eq!(node.address, cluster.address(i), "the state has the new addresses");
    }
}

/// As `cp -a` does: whole, and with its times.
fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-a").arg(from).arg(to).status().expect("cp runs");
    assert!(done.success(), "{} is copied", from.display());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_whose_disk_went_back_in_time_is_told_and_takes_no_part() {
    let mut cluster = Cluster::of(3).await;
    let leader = cluster.leader().await;
    let back = (leader + 1) % 3;
    let name = format!("m{}", back + 1);
    cluster.kill(back);
    let (data, kept) = (cluster.data(back), cluster.path().join("kept"));
    copy(&data, &kept);
    cluster.start(back);
    cluster.until_voters(3).await;
    for n in 0..20 {
        cluster.set(&format!("k{n}"), "v").await.expect("they agree");
    }
    until("it has all of it", async || {
        let status = cluster.status().await?;
        status.nodes.iter().any(|node| node.name == name && node.lag == Some(0)).then_some(())
    })
    .await;
    cluster.kill(back);
    std::fs::remove_dir_all(&data).expect("it is ours");
    std::fs::rename(&kept, &data).expect("a copy");
    cluster.start(back);
    let code = until("it stops", async || cluster.manager_mut(back).ended()).await;
    let log = cluster.manager(back).log();
    assert!(code == 1 && log.contains("went back in time") && log.contains("node rm"), "{code}: {log}");
    // The leader goes on, and everybody is told.
    cluster.set("after", "v").await.expect("two of three agree");
    let doctor = until("doctor says so", async || {
        let doctor = cluster.run(&["doctor"], b"");
        (doctor.status.code() == Some(1)).then(|| said(&doctor))
    })
    .await;
    assert!(doctor.contains(&format!("manager `{name}`")), "{doctor}");
    // As a new member it is whole again.
    use api::proto::MemberRole::Removed;
    assert!(cluster.set_member_role(&[&name], Removed, false).await.expect("it is silent"));
    std::fs::remove_dir_all(&data).expect("it is ours");
    if back == 0 {
        let peers = cluster.address(leader);
        cluster.start_joining(back, &peers);
    } else {
        cluster.start(back);
    }
    cluster.until_voters(3).await;
    cluster.kill(leader);
    until("the two others agree", async || cluster.set("at last", "v").await.ok()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_a_running_manager_is_refused_and_one_that_has_moved_is_not() {
    let mut cluster = Cluster::of(3).await;
    let other = (cluster.leader().await + 1) % 3;
    cluster.kill(other);
    let (data, twin) = (cluster.data(other), cluster.path().join("twin"));
    copy(&data, &twin);
    cluster.start(other);
    cluster.until_back(other).await;
    let listen = format!("127.0.0.1:{}", cluster_tests::free_ports(1)[0]);
    let (name, peers) = (format!("m{}", other + 1), cluster.addresses());
    let [dir, plugins] = [&twin, &cluster.plugins_dir()].map(|it| it.display().to_string());
    let args = [
        &["manager", "start", "--name", &name, "--data-dir", &dir, "--listen", &listen][..],
        &["--plugins-dir", &plugins, "--join", &peers],
    ]
    .concat();
    let mut copied = Process::start(&args, &cluster.path().join("twin.log"));
    let code = until("it does not stay", async || copied.ended()).await;
    let log = copied.log();
    // Before it starts, or, if both start at once, when nobody calls it.
    assert!(code == 1 && log.contains("already") && log.contains("a copy of its data"), "{code}: {log}");
    let status = cluster.status().await.expect("a status");
    assert!(status.nodes.iter().all(|node| node.address != listen), "nothing was changed");
    // Gone from there, it may start elsewhere.
    cluster.kill(other);
    std::fs::remove_dir_all(&twin).expect("it is ours");
    copy(&data, &twin);
    let _moved = Process::start(&args, &cluster.path().join("twin.log"));
    until("it has its new address", async || {
        let status = cluster.status().await?;
        status.nodes.iter().any(|node| node.address == listen && node.status == "Reachable").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_whose_files_are_deleted_under_it_stops() {
    let mut cluster = Cluster::of(3).await;
    let other = (cluster.leader().await + 1) % 3;
    let db = cluster.data(other).join("db");
    // It may make a file meanwhile.
    until("they are deleted", async || std::fs::remove_dir_all(&db).ok().or((!db.exists()).then_some(())))
        .await;
    let code = until("it stops", async || cluster.manager_mut(other).ended()).await;
    let log = cluster.manager(other).log();
    // Unless it needs a file first.
    let told = log.contains("while the manager was running") || log.contains("the replica has stopped");
    assert!(code == 1 && told, "{code}: {log}");
    cluster.set("k", "v").await.expect("two of three agree");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_to_be_replicated_is_refused_and_holds_up_nobody() {
    let cluster = Cluster::of(3).await;
    // Thirty groups of half a megabyte each: every one is good, and all of them are one entry.
    let script = "x".repeat(500 << 10);
    let text: Vec<String> =
        (0..30).map(|n| group(&format!("g{n}"), 1, "v1").replace("echo hi", &script)).collect();
    let refused = Cluster::commit_all_by(&cluster.client(), &text).await;
    let error = refused.expect_err("it cannot be sent");
    assert!(error.code == api::Code::Invalid && error.what.contains("too large"), "{error:?}");
    assert!(error.remedy.contains("nothing was changed"), "{error:?}");
    cluster.commit(&group("web", 2, "v1")).await.expect("it is accepted");
    let status = cluster.settles("web", 2).await;
    assert_eq!(status.ready, 2);
    assert!(cluster.describe("g0").await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_survivor_without_a_quorum_says_what_it_knows_and_what_is_missing() {
    let mut cluster = Cluster::of(3).await;
    cluster.commit(&group("web", 2, "v1")).await.expect("it is accepted");
    cluster.settles("web", 2).await;
    let survivor = cluster.leader().await;
    let dead: Vec<usize> = (0..3).filter(|i| *i != survivor).collect();
    dead.iter().for_each(|i| cluster.kill(*i));
    let [name, first, second] = [survivor, dead[0], dead[1]].map(|i| format!("m{}", i + 1));
    until("its log says so", async || cluster.manager(survivor).log().contains("no leader").then_some(()))
        .await;
    let log = cluster.manager(survivor).log();
    assert!(log.contains("1 of 3 voters answer, and 2 are needed"), "{log}");
    assert!(log.contains(&format!("{first} ({})", cluster.address(dead[0]))), "{log}");
    assert!(log.contains("infrakit recover"), "{log}");
    for command in [&["status"][..], &["node", "ls"], &["doctor"]] {
        let output = cluster.run(command, b"");
        let told = said(&output);
        assert_eq!(output.status.code(), Some(1), "{command:?}: {told}");
        assert!(told.contains("1 of 3 voters answer, and 2 are needed"), "{command:?}: {told}");
        assert!(told.contains("infrakit recover"), "{command:?}: {told}");
        for missing in [&first, &second] {
            assert!(told.contains(missing.as_str()), "{command:?} names {missing}: {told}");
        }
    }
    let output = cluster.run(&["status", "-o", "json"], b"");
    let status: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one object");
    assert_eq!(status["outage"]["needed"], 2, "{status}");
    assert_eq!(status["groups"][0]["name"], "web", "{status}");
    let reached = |node: &serde_json::Value| node["status"] == "Reachable";
    let names: Vec<&serde_json::Value> =
        status["nodes"].as_array().expect("a list").iter().filter(|it| reached(it)).collect();
    assert!(names.len() == 1 && names[0]["name"] == name.as_str(), "{status}");
    cluster.start(dead[0]);
    let healed = until("it is led again", async || {
        let output = cluster.run(&["status"], b"");
        (output.status.code() == Some(0)).then(|| said(&output))
    })
    .await;
    assert!(!healed.contains("no leader"), "{healed}");
    until("its log says so", async || {
        cluster.manager(survivor).log().contains("there is a leader again").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_accepted_is_told_at_once_and_why() {
    let (cluster, other) = (Cluster::of(1).await, Cluster::of(1).await);
    let home = cluster.path().join("ann");
    let log_in = async |to: &Cluster, context: &str| {
        let token = to.token(Role::Operator, false, None).await.expect("an admin asks");
        let (file, address) = (to.path().join("token"), to.address(0));
        std::fs::write(&file, token.expose()).expect("it is ours");
        let args = [
            "login",
            &address,
            "--token-file",
            &file.display().to_string(),
            "--as",
            context,
            "--name",
            "ann",
        ];
        let output = elsewhere(&home, &args);
        assert!(output.status.success(), "{}", said(&output));
    };
    log_in(&cluster, "ours").await;
    log_in(&other, "theirs").await;
    let ask = |context: &str| {
        let output = elsewhere(&home, &["-H", context, "group", "ls"]);
        (output.status.code(), said(&output))
    };
    assert_eq!(ask("ours").0, Some(0));
    // The saved login of one cluster, with the address of the other.
    let saved = home.join("infrakit/contexts/ours.json");
    let text = std::fs::read_to_string(&saved).expect("it was saved");
    std::fs::write(&saved, text.replace(&cluster.address(0), &other.address(0))).expect("it is ours");
    let (code, told) = ask("ours");
    assert!(
        code == Some(7) && told.contains("these credentials do not accept the manager"),
        "{code:?}: {told}"
    );
    assert!(told.contains("belongs to another cluster") && told.contains("infrakit login"), "{told}");
    // One that trusts the managers, and is not trusted by them: its certificate is signed by the other's authority.
    let theirs = std::fs::read_to_string(home.join("infrakit/contexts/theirs.json")).expect("it was saved");
    let mut mixed: serde_json::Value = serde_json::from_str(&theirs).expect("a context");
    let authorities = |context: &str| {
        let context: serde_json::Value = serde_json::from_str(context).expect("a context");
        let pem = context["credentials"].as_str().expect("PEM").to_owned();
        let at = pem.rfind("-----BEGIN CERTIFICATE-----").expect("an authority");
        (pem[..at].to_owned(), pem[at..].to_owned())
    };
    let (own, _) = authorities(&theirs);
    let (_, trusted) = authorities(&text);
    mixed["credentials"] = format!("{own}{trusted}").into();
    mixed["managers"] = cluster.address(0).into();
    std::fs::write(&saved, mixed.to_string()).expect("it is ours");
    // That somebody would have given up is another message.
    let (code, told) = ask("ours");
    assert!(
        code == Some(7) && told.contains("the manager does not accept these credentials"),
        "{code:?}: {told}"
    );
    assert!(told.contains("for another cluster") && told.contains("infrakit login"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn clocks_that_are_set_right_heal_the_certificates_of_who_runs() {
    // Years ahead when the cluster was founded.
    let options = Options { clock: Some("+1000d".into()), ..Options::default() };
    let mut cluster = Cluster::with(3, options).await;
    cluster.set("before", "v").await.expect("they agree");
    // With the authority, which comes before it in the log, each signs for itself.
    for i in 0..3 {
        let address = cluster.address(i);
        until("it has applied it", async || {
            said(&cluster.run(&["-H", &address, "events"], b"")).contains("`before`").then_some(())
        })
        .await;
    }
    // Then all are set right, and one is started again: the others have certificates of a time to come.
    (0..3).for_each(|i| cluster.set_running_clock(i, "+0"));
    let other = (cluster.leader().await + 1) % 3;
    cluster.kill(other);
    cluster.start(other);
    cluster.until_back(other).await;
    cluster.kill(cluster.leader().await);
    until("two agree, one of them the one that was started again", async || {
        cluster.set("after", "v").await.ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clocks_that_differ_are_told_and_a_newcomer_whose_clock_is_far_off_does_not_join() {
    let options = Options { clock: Some("+0".into()), ..Options::default() };
    let mut cluster = Cluster::with(3, options).await;
    let other = (cluster.leader().await + 1) % 3;
    let name = format!("m{}", other + 1);
    cluster.set_running_clock(other, "+90s");
    let told = until("doctor says so", async || {
        let told = said(&cluster.run(&["doctor"], b""));
        told.contains(&format!("manager `{name}`: its clock is")).then_some(told)
    })
    .await;
    assert!(told.contains("ahead of that of the leader") && told.contains("NTP"), "{told}");
    let inspected = said(&cluster.run(&["node", "inspect", &name], b""));
    assert!(inspected.contains("ClockSkewed: its clock is"), "{inspected}");
    cluster.set_running_clock(other, "+0");
    until("it is right again", async || {
        (!said(&cluster.run(&["doctor"], b"")).contains("its clock is")).then_some(())
    })
    .await;
    // A day is what a certificate bears; whoever joins is to be nearer.
    cluster.set_running_clock(3, "-20h");
    let late = cluster.add();
    until("it is told why", async || {
        let log = cluster.manager(late).log();
        (log.contains("its clock is") && log.contains("behind") && log.contains("12h")).then_some(())
    })
    .await;
    assert_eq!(cluster.status().await.expect("a status").nodes.len(), 3);
    cluster.set_running_clock(late, "+0");
    cluster.until_voters(4).await;
}

/// Index and message of the events that were printed as JSON lines.
fn printed(text: &str) -> Vec<(u64, String)> {
    let lines = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    lines
        .map(|it| {
            (it["index"].as_u64().expect("an index"), it["message"].as_str().expect("a text").to_owned())
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_followed_from_manager_to_manager_and_survive_a_recovery() {
    let mut cluster = Cluster::of(3).await;
    let other = (cluster.leader().await + 1) % 3;
    // The one that is asked first.
    let mut addresses = vec![cluster.address(other)];
    addresses.extend((0..3).filter(|i| *i != other).map(|i| cluster.address(i)));
    let log = cluster.path().join("events.log");
    let follower = Process::start(&["-H", &addresses.join(","), "-o", "json", "events", "--follow"], &log);
    let has = async |text: &str| {
        until(text, async || follower.log().contains(text).then_some(())).await;
    };
    cluster.commit(&group("web", 2, "v1")).await.expect("it is accepted");
    cluster.settles("web", 2).await;
    cluster.set("infrakit/max-instances", "10").await.expect("they agree");
    has("variable `infrakit/max-instances` is set to `10`").await;
    cluster.kill(other);
    cluster.set("before", "v").await.expect("two agree");
    has("variable `before` is set").await;
    // The leader too: who leads is an event.
    cluster.start(other);
    cluster.until_voters(3).await;
    let leader = cluster.leader().await;
    cluster.kill(leader);
    until("they agree", async || cluster.set("after", "v").await.ok()).await;
    has("variable `after` is set").await;
    let next = cluster.leader().await;
    has(&format!("manager `m{}` leads in term", next + 1)).await;
    let followed = printed(&follower.log());
    let all = until("the others tell as much", async || {
        let all = printed(&said(&cluster.run(&["events", "-o", "json"], b"")));
        (all.len() >= followed.len()).then_some(all)
    })
    .await;
    assert!(all.starts_with(&followed), "nothing twice, and no hole:\n{followed:#?}\n{all:#?}");
    drop(follower);
    // One is left, and begins anew.
    (0..3).for_each(|i| cluster.kill(i));
    let dir = cluster.data(next).display().to_string();
    let done = cluster.run(&["recover", "--data-dir", &dir, "--yes"], b"");
    assert!(done.status.success(), "{}", said(&done));
    cluster.start(next);
    until("it leads", async || cluster.status().await).await;
    let since = printed(&said(&cluster.run(&["events", "-o", "json"], b"")));
    assert!(since.starts_with(&all), "what was before is still told:\n{since:#?}");
    assert!(since.iter().any(|(_, told)| told.contains("begins lineage")), "{since:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_of_two_clusters_are_refused() {
    let (cluster, other) = (Cluster::of(2).await, Cluster::of(1).await);
    let mixed = format!("{},{}", cluster.addresses(), other.address(0));
    let request = api::proto::SetVariableRequest { key: "k".into(), value: "v".into(), ..Default::default() };
    let refused = Cluster::client_of(&mixed).call(async |c| c.variables().set(request.clone()).await).await;
    let error = refused.expect_err("it is not said which is meant");
    assert!(error.code == api::Code::Conflict && error.cause.contains(&other.address(0)), "{error:?}");
    let doctor = elsewhere(cluster.path(), &["-H", &mixed, "doctor"]);
    assert_eq!(doctor.status.code(), Some(1), "{}", said(&doctor));
    assert!(said(&doctor).contains("different clusters"), "{}", said(&doctor));
    // One that does not answer is no reason.
    let nobody = format!("{},127.0.0.1:{}", cluster.addresses(), cluster_tests::free_ports(1)[0]);
    Cluster::client_of(&nobody)
        .call(async |c| c.variables().set(request.clone()).await)
        .await
        .expect("it is set");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_that_is_frozen_does_not_hold_up_who_names_it_first() {
    let cluster = Cluster::of(3).await;
    let frozen = (cluster.leader().await + 1) % 3;
    cluster.manager(frozen).signal(Signal::STOP);
    let mut addresses = vec![cluster.address(frozen)];
    addresses.extend((0..3).filter(|i| *i != frozen).map(|i| cluster.address(i)));
    let client = Cluster::client_of(&addresses.join(",")).with_deadline(Duration::from_secs(5));
    // A connection to it is never refused: its kernel accepts it.
    let status = client.status().await.expect("the next one is asked beside it");
    assert_eq!(status.nodes.len(), 3);
    cluster.manager(frozen).signal(Signal::CONT);
}
