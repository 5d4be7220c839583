//! A foreign plugin that shows what it makes before it is made: nobody takes half a machine for a member.

use std::fs;

use cluster_tests::{Cluster, Process, Surroundings, group, until};

/// How often an instance is half made.
const ROUNDS: usize = 200;
const SIZE: u64 = 100;

#[tokio::test(flavor = "multi_thread")]
async fn what_a_foreign_plugin_half_makes_is_never_a_member() {
    let cluster = Cluster::of(1).await;
    let (home, log) = (cluster.path().to_owned(), cluster.path().join("half.log"));
    let mark = home.join("half-making");
    fs::write(&mark, "").expect("a file");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/foreign/half_maker.py");
    let python =
        Surroundings { before: ["python3", script].map(String::from).into(), ..Surroundings::default() };
    let _plugin = Process::start_in(&python, &[&home.display().to_string()], &home.join("half.out"));
    until("the plugin serves", async || cluster.plugins_dir().join("half").exists().then_some(())).await;
    let spec = group("web", SIZE as u32, "v1").replace("simulator/compute", "half");
    cluster.commit(&spec).await.expect("it is accepted");
    let told = |what: &str| {
        let text = fs::read_to_string(&log).unwrap_or_default();
        text.lines().filter(|line| line.starts_with(what)).count()
    };
    let mut looked = 0;
    while told("half-made") < ROUNDS {
        let group = until("the group is described", async || cluster.describe("web").await).await;
        let members: Vec<_> = group.slots.iter().filter(|slot| !slot.instance.is_empty()).collect();
        assert!(members.is_empty(), "after {} rounds: {members:?}", told("half-made"));
        looked += 1;
        let before = told("half-made");
        until("another is half made", async || (told("half-made") > before).then_some(())).await;
    }
    assert!(looked > 5, "looked at {looked} times only");
    // And when it makes them whole, each is made once.
    fs::remove_file(&mark).expect("it is there");
    cluster.settles("web", SIZE).await;
    assert_eq!(told("made"), SIZE as usize);
    assert_eq!(told("destroyed"), 0);
}
