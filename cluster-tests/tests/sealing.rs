//! What a manager keeps is sealed, and opens with its key alone.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use cluster_tests::{Cluster, group, until};
use model::Role;
use spi::Instances;

/// Every file below a directory, with what it holds.
fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir).expect("a directory").flatten() {
        let path = entry.path();
        let kind = entry.file_type().expect("it is there");
        if kind.is_dir() {
            all.extend(files(&path));
        } else if kind.is_file() {
            all.push((path.display().to_string(), std::fs::read(&path).expect("it is ours")));
        }
    }
    all
}

fn tells(bytes: &[u8], secret: &[u8]) -> bool {
    bytes.windows(secret.len()).any(|it| it == secret)
}

/// What the first manager has written that holds any of this.
fn who_tells(cluster: &Cluster, planted: &[&[u8]]) -> Vec<String> {
    let log = ("its log".to_owned(), cluster.manager(0).log().into_bytes());
    let written = files(&cluster.path().join("m1")).into_iter().chain([log]);
    written
        .filter(|(_, bytes)| planted.iter().any(|secret| tells(bytes, secret)))
        .map(|(file, _)| file)
        .collect()
}

/// What `secret://reg` stands for.
const SECRET: &str = "hunter2-planted-in-secret";

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_is_sealed_and_nobody_tells_a_secret_but_its_plugin() {
    let mut cluster = Cluster::of(1).await;
    let planted = "planted-in-plain-sight";
    cluster.set("k", planted).await.expect("it is stored");
    cluster.commit(&group("web", 2, planted)).await.expect("it is accepted");
    cluster.settles("web", 2).await;
    let token = cluster.token(Role::Admin, false, None).await.expect("an admin asks");
    let set = cluster.run(&["secret", "set", "reg"], SECRET.as_bytes());
    assert!(set.status.success(), "{set:?}");
    let with_secret = group("db", 1, "secret://reg").replace("echo hi", "login secret://reg");
    cluster.commit(&with_secret).await.expect("it is accepted");
    let db = cluster.settles("db", 1).await;
    // What is not sealed is found: the names under which values are kept.
    let found = who_tells(&cluster, &[b"identity"]);
    assert!(found.iter().any(|file| file.contains("/db/")), "the search finds what is there: {found:?}");
    // The middle of every key of an authority, as PKCS #8 has it.
    let pkcs8 = b"\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x04\x6d";
    let planted = [planted.as_bytes(), token.secret.expose(), pkcs8, SECRET.as_bytes()];
    assert_eq!(who_tells(&cluster, &planted), Vec::<String>::new(), "while it runs");
    // The plugin that needs the secret has it, and nobody else tells it.
    let described = cluster.simulator().describe(&model::tags::Tags::new(), true).await.expect("it answers");
    let made = described.iter().find(|it| it.id.as_str() == db.slots[0].instance).expect("it is there");
    let given = made.properties.as_ref().expect("they were asked for");
    assert!(given.as_json().contains(SECRET), "{given:?}");
    for verb in [
        &["secret", "ls"][..],
        &["events"],
        &["status"],
        &["group", "describe", "db", "-o", "json"],
        &["group", "inspect", "db"],
        &["group", "plan", "-"],
    ] {
        let output = cluster.run(verb, with_secret.replace("Size: 1", "Size: 3").as_bytes());
        assert!(output.status.success(), "{verb:?}: {output:?}");
        let told = [output.stdout, output.stderr].concat();
        assert!(!told.windows(SECRET.len()).any(|it| it == SECRET.as_bytes()), "{verb:?}");
    }
    cluster.manager(0).signal(rustix::process::Signal::TERM);
    until("it stops", async || cluster.manager_mut(0).ended()).await;
    assert_eq!(who_tells(&cluster, &planted), Vec::<String>::new(), "after it has stopped");
}

/// Starts the only manager, which refuses; gives what it says.
async fn refuses_to_start(cluster: &mut Cluster) -> String {
    cluster.start(0);
    let code = until("it refuses", async || cluster.manager_mut(0).ended()).await;
    let log = cluster.manager(0).log();
    assert_eq!(code, 1, "{log}");
    log
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_opens_with_its_key_alone() {
    let mut cluster = Cluster::of(1).await;
    cluster.commit(&group("web", 2, "v1")).await.expect("it is accepted");
    cluster.settles("web", 2).await;
    cluster.manager(0).signal(rustix::process::Signal::TERM);
    until("it stops", async || cluster.manager_mut(0).ended()).await;
    let file = cluster.path().join("m1/key");
    let right = std::fs::read(&file).expect("it is ours");
    let wrong = format!("{}\n", "0".repeat(64));
    std::fs::write(&file, wrong).expect("it is ours");
    let log = refuses_to_start(&mut cluster).await;
    assert!(log.contains("encrypted with another key"), "{log}");
    std::fs::remove_file(&file).expect("it is ours");
    let log = refuses_to_start(&mut cluster).await;
    assert!(log.contains("No such file"), "{log}");
    std::fs::write(&file, &right).expect("it is ours");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("it is ours");
    cluster.start(0);
    cluster.until_voters(1).await;
    cluster.settles("web", 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_that_was_locked_wants_the_unlock_key_from_its_next_start_on() {
    let mut cluster = Cluster::of(1).await;
    cluster.commit(&group("web", 2, "v1")).await.expect("it is accepted");
    cluster.settles("web", 2).await;
    let file = cluster.path().join("m1/key");
    let before = std::fs::read(&file).expect("it is ours");
    let data = cluster.data(0).display().to_string();
    let locked = cluster.run(&["manager", "lock", "--data-dir", &data], b"");
    assert!(locked.status.success(), "{locked:?}");
    let unlocking = cluster.path().join("unlock");
    std::fs::write(&unlocking, &locked.stdout).expect("a file");
    let after = std::fs::read(&file).expect("it is ours");
    assert!(!after.starts_with(&before[..32]), "the key is not in its file");
    cluster.set("k", "after it was locked").await.expect("it goes on");
    cluster.kill(0);
    let log = refuses_to_start(&mut cluster).await;
    assert!(log.contains("no unlock key was given") && log.contains("--unlock-key-file"), "{log}");
    cluster.set_manager_arguments(&["--unlock-key-file", &unlocking.display().to_string()]);
    cluster.start(0);
    cluster.until_voters(1).await;
    cluster.settles("web", 2).await;
}
