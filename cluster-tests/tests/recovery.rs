//! The worst has happened: a majority is lost, or everything is. The cluster goes on, and makes nothing
//! twice.

use std::path::Path;
use std::process::Output;

use api::proto as pb;
use cluster_tests::{Cluster, Options, Process, free_ports, group, until};
use model::Role;

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Runs a command that is to end with this code, and gives what it says.
fn run(cluster: &Cluster, code: i32, args: &[&str]) -> String {
    let output = cluster.run(args, b"");
    assert_eq!(output.status.code(), Some(code), "{args:?}: {}", said(&output));
    said(&output)
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_survivor_of_three_becomes_three_voters_and_nothing_is_made_twice() {
    let options = Options {
        simulator: ["--set", "provision-delay=300ms"].map(String::from).to_vec(),
        ..Options::default()
    };
    let mut cluster = Cluster::with(3, options).await;
    cluster.commit(&group("web", 3, "v1")).await.expect("it is accepted");
    cluster.settles("web", 3).await;
    let once = cluster.token(Role::Manager, true, None).await.expect("an admin asks");
    // All die while calls are under way: their intents are open in the log, and some have made an instance.
    cluster.commit(&group("web", 12, "v1")).await.expect("it is accepted");
    until("some are under way", async || (cluster.history().made("web") > 4).then_some(())).await;
    (0..3).for_each(|i| cluster.kill(i));

    let dirs: Vec<String> = (0..3).map(|i| text(&cluster.data(i))).collect();
    let all =
        ["recover", "--data-dir", &dirs[0], "--data-dir", &dirs[1], "--data-dir", &dirs[2], "--dry-run"];
    let shown = run(&cluster, 0, &all);
    assert!((1..=3).all(|i| shown.contains(&format!("m{i} "))), "what each holds: {shown}");
    let refused = run(&cluster, 6, &["recover", "--data-dir", &dirs[1]]);
    assert!(refused.contains("permanently removed: m1, m3"), "{refused}");
    // Another one runs: it may know more, and the two of them decide.
    cluster.start(0);
    until("it listens", async || tokio::net::TcpStream::connect(cluster.address(0)).await.ok()).await;
    let refused = run(&cluster, 6, &["recover", "--data-dir", &dirs[1], "--yes"]);
    assert!(refused.contains("still answer") && refused.contains("m1"), "{refused}");
    let refused = run(&cluster, 6, &["recover", "--data-dir", &dirs[0], "--dry-run"]);
    assert!(refused.contains("a manager uses it"), "it runs: {refused}");
    cluster.kill(0);

    run(&cluster, 0, &["recover", "--data-dir", &dirs[1], "--yes"]);
    cluster.start(1);
    cluster.add();
    cluster.add();
    until("three vote, and none of before but the survivor", async || {
        (cluster.names("Voter").await == ["m2", "m4", "m5"]).then_some(())
    })
    .await;
    cluster.settles("web", 12).await;
    assert_eq!(cluster.history().made("web"), 12);
    cluster.history().shows_nothing_twice();
    // A token that serves once may have been used by somebody whom the survivor does not know.
    let refused = cluster.log_in_by(&once, "ann").await.expect_err("it is known no more");
    assert_eq!(refused.code, api::Code::Forbidden);

    // Those of before are a majority of their own lineage: they find out that it is over, and stop.
    cluster.start(0);
    cluster.start(2);
    for i in [0, 2] {
        let code = until("it stops", async || cluster.manager_mut(i).ended()).await;
        let log = cluster.manager(i).log();
        assert!(code == 1 && log.contains("went on without it"), "{code}: {log}");
    }
    cluster.commit(&group("web", 13, "v1")).await.expect("it is accepted");
    cluster.settles("web", 13).await;
    assert_eq!(cluster.history().made("web"), 13);
    cluster.history().shows_nothing_twice();
    let lineage = cluster.status().await.expect("a status").lineage;
    assert!(lineage > 1);
}

/// A backup of which a part is missing, changed or added is not restored.
fn refuses_what_is_damaged(cluster: &Cluster, file: &str, restore: &[&str]) {
    let whole = std::fs::read(file).expect("it is there");
    let broken = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = whole.clone();
        change(&mut bytes);
        std::fs::write(file, bytes).expect("it is ours");
        let refused = run(cluster, 65, restore);
        std::fs::write(file, &whole).expect("it is ours");
        refused
    };
    assert!(broken(&|it| it.truncate(it.len() / 2)).contains("damaged"));
    assert!(broken(&|it| *it.last_mut().expect("it is not empty") ^= 1).contains("damaged"));
    assert!(broken(&|it| it.truncate(20)).contains("truncated"));
    assert!(broken(&|it| it.insert(0, b'x')).contains("not a backup"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_brings_back_what_was_and_finds_what_was_made_since() {
    let mut cluster = Cluster::of(3).await;
    cluster.commit(&group("web", 3, "v1")).await.expect("it is accepted");
    cluster.settles("web", 3).await;
    let secret = cluster.run(&["secret", "set", "db"], b"planted\n");
    assert!(secret.status.success(), "{}", said(&secret));
    let file = text(&cluster.path().join("web.backup"));
    let taken = run(&cluster, 0, &["backup", &file, "-o", "json"]);
    let id = cluster.status().await.expect("a status").cluster;
    assert!(taken.contains(&id), "{taken}");
    let checked = run(&cluster, 0, &["backup", "--check", &file]);
    assert!(checked.contains("1 groups, 3 managers"), "{checked}");
    // What comes afterwards is lost to the managers, and not to the provider.
    cluster.commit(&group("web", 5, "v1")).await.expect("it is accepted");
    cluster.settles("web", 5).await;

    let dir = text(&cluster.data(0));
    let address = cluster.address(0);
    let restore = ["restore", &file, "--data-dir", &dir, "--name", "m1", "--advertise", &address, "--yes"];
    let refused = run(&cluster, 6, &restore);
    assert!(refused.contains("still answer"), "{refused}");
    (0..3).for_each(|i| cluster.kill(i));
    let refused = run(&cluster, 6, &restore);
    assert!(refused.contains("of the same cluster, up to entry"), "{refused}");
    refuses_what_is_damaged(&cluster, &file, &restore);
    let no_key = [&restore[..], &["--key-file", "/nonexistent"]].concat();
    assert!(run(&cluster, 1, &no_key).contains("--key-file"));

    let replaced = [&restore[..], &["--replace"]].concat();
    let done = run(&cluster, 0, &replaced);
    assert!(done.contains("moved") || done.contains("is in "), "{done}");
    std::fs::remove_dir_all(cluster.data(1)).expect("it is ours");
    cluster.start(0);
    cluster.start(1);
    until("two vote", async || (cluster.names("Voter").await == ["m1", "m2"]).then_some(())).await;
    let status = cluster.status().await.expect("a status");
    assert_eq!(status.cluster, id);
    let kept = run(&cluster, 0, &["secret", "ls"]);
    assert!(kept.contains("db") && !kept.contains("planted"), "{kept}");
    // Three are wanted again, and five are there: none is destroyed, and they are taken in when they are
    // wanted.
    cluster.settles("web", 3).await;
    cluster.commit(&group("web", 5, "v1")).await.expect("it is accepted");
    cluster.settles("web", 5).await;
    assert_eq!(cluster.history().made("web"), 5);
    assert_eq!(cluster.history().0.iter().filter(|it| it.call == "destroy").count(), 0);
    // A directory of another cluster.
    let other = Cluster::of(1).await;
    let other_dir = text(&other.data(0));
    drop(other);
    (0..2).for_each(|i| cluster.kill(i));
    std::fs::create_dir_all(&other_dir).expect("a directory");
    let third = text(&cluster.data(2));
    let into_third =
        ["restore", &file, "--data-dir", &third, "--name", "m3", "--advertise", &cluster.address(2), "--yes"];
    assert!(run(&cluster, 6, &into_third).contains("holds a manager's data"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_begun_in_a_data_directory_and_killed_is_finished_by_the_next_restore() {
    let mut cluster = Cluster::of(1).await;
    let file = text(&cluster.path().join("web.backup"));
    run(&cluster, 0, &["backup", &file]);
    let id = cluster.status().await.expect("a status").cluster;
    // Killed between the first file and the last write: it belongs to no cluster yet.
    let half = text(&cluster.path().join("half"));
    let nobody = format!("127.0.0.1:{}", free_ports(1)[0]);
    let listen = format!("127.0.0.1:{}", free_ports(1)[0]);
    let start = [
        "manager",
        "start",
        "--name",
        "m2",
        "--data-dir",
        &half,
        "--listen",
        &listen,
        "--plugins-dir",
        &half,
    ];
    let begun = [&start[..], &["--join", &nobody]].concat();
    let mut killed = Process::start(&begun, &cluster.path().join("half.log"));
    let current = Path::new(&half).join("db/CURRENT");
    until("it has begun", async || current.exists().then_some(())).await;
    until("it asks to join", async || killed.log().contains("not joined yet").then_some(())).await;
    killed.kill();
    let refused = run(&cluster, 1, &start);
    assert!(refused.contains("began in") && refused.contains("infrakit restore"), "{refused}");
    cluster.kill(0);
    let restore = ["restore", &file, "--data-dir", &half, "--name", "m1", "--advertise", &cluster.address(0)];
    let done = run(&cluster, 0, &[&restore[..], &["--yes"]].concat());
    assert!(done.contains(&format!("cluster {}", &id[..8])) && !done.contains("moved"), "{done}");
    // Now it is a manager's.
    let refused = run(&cluster, 6, &[&restore[..], &["--yes"]].concat());
    assert!(refused.contains("of the same cluster"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn when_every_manager_is_gone_the_tags_say_what_there_is_and_nothing_is_destroyed() {
    let mut cluster = Cluster::of(1).await;
    let web = group("web", 5, "v1");
    cluster.commit(&web).await.expect("it is accepted");
    cluster.settles("web", 5).await;
    let id = cluster.status().await.expect("a status").cluster;
    let address = cluster.address(0);
    for turn in 0..20 {
        cluster.kill(0);
        std::fs::remove_dir_all(cluster.data(0)).expect("it is ours");
        cluster.set_manager_arguments(&["--adopt", &id]);
        cluster.start(0);
        until("it is founded again", async || cluster.status().await.filter(|it| it.cluster == id)).await;
        // The plan comes first.
        let planned = Cluster::client_of(&address);
        let draft =
            model::draft::read("web.yaml", web.as_bytes(), model::draft::Yaml::Unsaid).expect("a valid file");
        let item =
            pb::CommitItem { spec: Some(api::spec(&draft.specs[0], model::Revision(0))), if_revision: None };
        let request = pb::CommitRequest { items: vec![item], ..pb::CommitRequest::default() };
        let plan = until("the plan takes in what is there", async || {
            let reply = planned.call(async |c| c.groups().plan(request.clone()).await).await.ok()?;
            let verbs: Vec<String> = reply.planned[0].actions.iter().map(|it| it.verb.clone()).collect();
            (!verbs.is_empty()).then_some(verbs)
        })
        .await;
        assert_eq!(plan, vec!["adopt"; 5], "turn {turn}");
        cluster.commit(&web).await.expect("it is accepted");
        cluster.settles("web", 5).await;
    }
    let history = cluster.history();
    assert_eq!(history.made("web"), 5);
    assert_eq!(history.0.iter().filter(|it| it.call == "destroy").count(), 0, "0 destroyed in 20 of 20");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_takes_backups_by_itself_and_keeps_the_newest() {
    let mut cluster = Cluster::of(1).await;
    let dir = cluster.path().join("backups");
    let arguments = ["--backup-dir", &text(&dir), "--backup-every", "1s", "--backup-keep", "2"];
    cluster.set_manager_arguments(&arguments);
    cluster.kill(0);
    cluster.start(0);
    cluster.until_voters(1).await;
    let backups = || {
        let files = std::fs::read_dir(&dir).into_iter().flatten().filter_map(|it| Some(it.ok()?.path()));
        let mut files: Vec<_> = files.filter(|it| it.extension().is_some_and(|it| it == "backup")).collect();
        files.sort();
        files
    };
    let mut seen = std::collections::BTreeSet::new();
    for size in 1..=4 {
        cluster.commit(&group("web", size, "v1")).await.expect("it is accepted");
        until("another is taken", async || {
            let last = backups().pop()?;
            seen.insert(last).then_some(())
        })
        .await;
        assert!(backups().len() <= 3, "the oldest is dropped");
    }
    until("two are left", async || (backups().len() == 2).then_some(())).await;
    let newest = text(&backups().pop().expect("there are two"));
    assert!(run(&cluster, 0, &["backup", "--check", &newest]).contains("1 groups"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_is_found_where_it_has_moved_to() {
    let mut cluster = Cluster::of(3).await;
    cluster.commit(&group("web", 2, "v1")).await.expect("it is accepted");
    for i in [1, 2, 0] {
        cluster.kill(i);
        cluster.move_elsewhere(i);
        cluster.start(i);
        cluster.until_voters(3).await;
        let address = cluster.address(i);
        until("everybody knows where it is", async || {
            cluster.status().await?.nodes.iter().any(|node| node.address == address).then_some(())
        })
        .await;
    }
    // Each of them leads once: it reaches the others where they are now.
    for i in 0..3 {
        run(&cluster, 0, &["node", "transfer-leadership", &format!("m{}", i + 1)]);
        cluster.until_voters(3).await;
    }
    cluster.commit(&group("web", 4, "v1")).await.expect("it is accepted");
    cluster.settles("web", 4).await;
    let told = run(&cluster, 0, &["events"]);
    assert!(told.matches("ManagerMoved").count() >= 1, "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_quorum_the_machines_of_managers_are_started_again_and_nothing_else_is_done() {
    let mut cluster = Cluster::of(3).await;
    cluster.commit(&group("managers", 3, "v1")).await.expect("it is accepted");
    let machines = cluster.settles("managers", 3).await;
    for (i, slot) in machines.slots.iter().enumerate() {
        cluster.set_manager_arguments(&["--instance", &slot.instance]);
        cluster.kill(i);
        cluster.start(i);
        cluster.until_voters(3).await;
    }
    until("everybody knows where each of them runs", async || {
        cluster.status().await?.nodes.iter().all(|node| !node.instance.is_empty()).then_some(())
    })
    .await;
    cluster.set("infrakit/start-managers-after", "3s").await.expect("it is stored");
    let made = cluster.history().made("managers");
    let started = |cluster: &Cluster| {
        let history = cluster.history();
        let started = history.0.iter().filter(|it| it.call == "start").map(|it| it.id.clone());
        started.collect::<std::collections::BTreeSet<_>>()
    };
    assert!(started(&cluster).is_empty(), "somebody leads");
    let survivor = cluster.leader().await;
    let dead: Vec<usize> = (0..3).filter(|i| *i != survivor).collect();
    dead.iter().for_each(|i| cluster.kill(*i));
    let expected: std::collections::BTreeSet<String> =
        dead.iter().map(|i| machines.slots[*i].instance.clone()).collect();
    until("both machines were told to start, and not its own", async || {
        (started(&cluster) == expected).then_some(())
    })
    .await;
    // They come back with their disks, and are who they were.
    for i in dead {
        cluster.set_manager_arguments(&["--instance", &machines.slots[i].instance]);
        cluster.start(i);
    }
    cluster.until_voters(3).await;
    cluster.settles("managers", 3).await;
    assert_eq!(cluster.history().made("managers"), made);
    assert_eq!(cluster.history().0.iter().filter(|it| it.call == "destroy").count(), 0);
}
