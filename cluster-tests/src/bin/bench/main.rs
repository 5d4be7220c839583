//! Measures what the README states, and prints it as a table. Started by `deploy/bench`.

#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use api::proto as pb;
use cluster_tests::{Cluster, Options, group, until};
use model::tags::{self, Tags};
use spi::{Call, Instances};

mod rollout;
mod table;
mod wait;
mod writes;

use table::{Row, median, quantile, row};
use wait::converged;

#[tokio::main]
async fn main() {
    let desired: Vec<String> = std::env::args().skip(1).collect();
    let all = desired.is_empty();
    let wants = |name: &str| all || desired.iter().any(|it| it == name);
    let mut rows = Vec::new();
    if wants("heal") {
        rows.extend(heal().await);
    }
    if wants("scale") {
        rows.push(scale().await);
    }
    if wants("large") {
        rows.extend(large().await);
    }
    if wants("failover") {
        rows.push(failover("default", "29 of 30 ≤ 2 s, all ≤ 3.5 s").await);
        rows.push(failover("fast", "29 of 30 ≤ 0.8 s").await);
    }
    if wants("transfer") {
        rows.push(transfer().await);
    }
    if wants("recover") {
        rows.push(recover().await);
    }
    if wants("rollout") {
        rows.extend(rollout::run().await);
    }
    if wants("writes") {
        rows.extend(writes::run().await);
    }
    println!("\n| what | must reach | measured |\n|---|---|---|");
    for (what, bar, measured) in rows {
        println!("| {what} | {bar} | {measured} |");
    }
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as u64
}

/// Waits for a look that came ten seconds after the one before it: the pauses have grown to their longest,
/// and the next look is as far away as it can be.
async fn until_looked_at_rest(cluster: &Cluster, name: &str) {
    let brief = pb::GroupRequest { group: name.to_owned(), brief: true, ..Default::default() };
    let client = cluster.client();
    let mut last: Option<u64> = None;
    until("two looks are ten seconds apart", async || {
        let group = client.call(async |c| c.groups().describe(brief.clone()).await).await.ok()?;
        let at = group.observed_at_ms?;
        let before = last.replace(at)?;
        (at - before >= 9_500).then_some(())
    })
    .await;
}

/// An instance of a group of 100 is destroyed behind the managers' backs.
async fn heal() -> Vec<Row> {
    let with_events = heal_with_events().await;
    let (at_rest, in_motion) = heal_without_events().await;
    vec![with_events, at_rest, in_motion]
}

async fn heal_with_events() -> Row {
    let cluster = Cluster::of(3).await;
    cluster.commit(&group("web", 100, "v1")).await.expect("accepted");
    converged(&cluster, "web", 100).await;
    let mut times = Vec::new();
    for n in 0..100 {
        let slot = (n * 37 % 100).to_string();
        let desired = Tags::from([(tags::SLOT.to_owned(), slot.clone())]);
        let found = cluster.simulator().describe(&desired, false).await.expect("a listing").remove(0);
        let began = now_ms();
        cluster.simulator().destroy(&found.id, "bench", &Call::default()).await.expect("it goes");
        let made = until("a replacement is provisioned", async || {
            let history = cluster.history();
            let made =
                |call: &&cluster_tests::Call| call.outcome == "made" && call.slot == slot && call.at >= began;
            history.0.iter().rev().find(made).map(|call| call.at)
        })
        .await;
        times.push((made - began) as f64 / 1000.0);
        converged(&cluster, "web", 100).await;
    }
    let worst = quantile(&mut times, 1.0);
    let (p99, p50) = (quantile(&mut times, 0.99), median(&mut times));
    row(
        "instance of 100 destroyed at the provider → replaced, with events",
        "≤ 0.5 s p99",
        format!("p50 {p50:.3} s, p99 {p99:.3} s, worst {worst:.3} s"),
    )
}

/// The file plugin has no events: it must be looked at. At rest, and while anything changes.
async fn heal_without_events() -> (Row, Row) {
    let mut cluster = Cluster::of(3).await;
    let files = cluster.start_files();
    until("the file plugin serves", async || cluster.plugins_dir().join("file").exists().then_some(())).await;
    let spec = group("web", 100, "v1").replace("simulator/compute", "file");
    cluster.commit(&spec).await.expect("accepted");
    converged(&cluster, "web", 100).await;
    let (mut resting, mut moving) = (Vec::new(), Vec::new());
    for n in 0..6 {
        // Right after a look, so that the loss is noticed as late as can be.
        until_looked_at_rest(&cluster, "web").await;
        resting.push(heal_file(&files).await);
        if n % 2 == 0 {
            converged(&cluster, "web", 100).await;
        }
        // The healing itself is motion, so the next loss is seen within a second.
        moving.push(heal_file(&files).await);
        converged(&cluster, "web", 100).await;
    }
    let worst = quantile(&mut resting, 1.0);
    let at_rest = row(
        "the same without events (file plugin), at rest",
        "≤ 11 s worst",
        format!("median {:.2} s, worst {worst:.2} s of {}", median(&mut resting), resting.len()),
    );
    let worst = quantile(&mut moving, 1.0);
    let in_motion = row(
        "the same without events, while anything changes",
        "≤ 1.2 s",
        format!("median {:.2} s, worst {worst:.2} s of {}", median(&mut moving), moving.len()),
    );
    (at_rest, in_motion)
}

async fn heal_file(dir: &Path) -> f64 {
    let count = || std::fs::read_dir(dir).expect("files").filter_map(Result::ok).filter(is_instance).count();
    let victim = std::fs::read_dir(dir).expect("files").filter_map(Result::ok).find(is_instance);
    let full = until("the group is whole", async || Some(count()).filter(|n| *n == 100)).await;
    std::fs::remove_file(victim.expect("a file").path()).expect("it goes");
    let began = Instant::now();
    until("it is replaced", async || (count() == full).then_some(())).await;
    began.elapsed().as_secs_f64()
}

fn is_instance(entry: &std::fs::DirEntry) -> bool {
    entry.path().extension().is_some_and(|extension| extension == "json")
}

async fn scale() -> Row {
    let cluster = Cluster::of(3).await;
    cluster.commit(&group("web", 5, "v1")).await.expect("accepted");
    converged(&cluster, "web", 5).await;
    let mut times = Vec::new();
    for _ in 0..20 {
        let began = Instant::now();
        scale_to(&cluster, 8).await;
        converged(&cluster, "web", 8).await;
        times.push(began.elapsed().as_secs_f64());
        scale_to(&cluster, 5).await;
        converged(&cluster, "web", 5).await;
    }
    let worst = quantile(&mut times, 1.0);
    row(
        "scale 5 → 8, converged",
        "≤ 0.5 s",
        format!("median {:.3} s, worst {worst:.3} s of 20", median(&mut times)),
    )
}

async fn scale_to(cluster: &Cluster, size: u32) {
    let request = pb::ScaleRequest { group: "web".into(), size, ..Default::default() };
    cluster.client().call(async |c| c.groups().scale(request.clone()).await).await.expect("accepted");
}

/// 0 → 10,000, and then at rest.
async fn large() -> Vec<Row> {
    let mut times = Vec::new();
    let mut rest = None;
    for _ in 0..3 {
        let cluster = Cluster::without_history(3).await;
        let began = Instant::now();
        cluster.commit(&group("big", 10_000, "v1")).await.expect("accepted");
        converged(&cluster, "big", 10_000).await;
        times.push(began.elapsed().as_secs_f64());
        eprintln!("0 → 10,000: {:.2} s", times[times.len() - 1]);
        if rest.is_none() {
            until_looked_at_rest(&cluster, "big").await;
            let pid = cluster.manager(cluster.leader().await).pid();
            let (before, began) = (cpu_seconds(pid), Instant::now());
            let window = Duration::from_secs(40);
            until("forty seconds at rest are over", async || (began.elapsed() >= window).then_some(())).await;
            let share = (cpu_seconds(pid) - before) / began.elapsed().as_secs_f64() * 100.0;
            rest = Some((share, resident_mib(pid)));
        }
    }
    let worst = quantile(&mut times, 1.0);
    let made = row(
        "0 → 10,000 instances in one group, every intent and outcome durable on a majority",
        "≤ 5 s",
        format!("median {:.2} s, worst {worst:.2} s of 3", median(&mut times)),
    );
    let (share, mib) = rest.unwrap_or_default();
    let rest = row(
        "at rest with 10,000 instances: CPU and resident memory of the leader",
        "≤ 5 % of a core, ≤ 150 MiB",
        format!("{share:.1} %, {mib:.0} MiB"),
    );
    vec![made, rest]
}

fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process is there");
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks: f64 = [11, 12].iter().map(|at| fields[*at].parse::<f64>().unwrap_or(0.0)).sum();
    ticks / 100.0
}

fn resident_mib(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process is there");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap_or(0.0) / 1024.0
}

/// The leader is killed while a slot is empty; how long until a new one asks for an instance.
async fn failover(profile: &str, bar: &str) -> Row {
    let manager = vec!["--profile".to_owned(), profile.to_owned()];
    let mut cluster = Cluster::with(3, Options { manager, ..Options::default() }).await;
    cluster.commit(&group("web", 5, "v1")).await.expect("accepted");
    converged(&cluster, "web", 5).await;
    let mut times = Vec::new();
    for n in 0..30u32 {
        cluster.fault("provision", "refuse");
        scale_to(&cluster, 6 + n).await;
        let asked = |since: u64| {
            let calls = cluster.history().0;
            calls
                .into_iter()
                .find(|call| call.call == "provision-asked" && call.at > since)
                .map(|call| call.at)
        };
        let committed = now_ms();
        until("the slot is asked for and refused", async || asked(committed - 1000)).await;
        let leader = cluster.leader().await;
        let killed = now_ms();
        cluster.kill(leader);
        let again = until("a new leader asks", async || {
            let calls = cluster.history().0;
            let later = |call: &&cluster_tests::Call| call.call == "provision-asked" && call.at > killed;
            calls.iter().find(later).map(|call| call.at)
        })
        .await;
        times.push((again - killed) as f64 / 1000.0);
        std::fs::remove_file(cluster.path().join("lab/faults/provision")).expect("the fault is taken back");
        converged(&cluster, "web", u64::from(6 + n)).await;
        cluster.start(leader);
        cluster.until_voters(3).await;
    }
    cluster.history().shows_nothing_twice();
    let (p29, worst) = (quantile(&mut times, 29.0 / 30.0), quantile(&mut times, 1.0));
    row(
        &format!(
            "leader killed while a slot is empty → first Provision by the new leader, 30 kills, {profile} profile"
        ),
        bar,
        format!("median {:.2} s, 29 of 30 ≤ {p29:.2} s, worst {worst:.2} s", median(&mut times)),
    )
}

/// From the command that recovers a survivor of three to three managers that vote, ten times.
async fn recover() -> Row {
    let mut took = Vec::new();
    for _ in 0..10 {
        let mut cluster = Cluster::of(3).await;
        cluster.commit(&group("web", 100, "v1")).await.expect("it is accepted");
        cluster.settles("web", 100).await;
        (0..3).for_each(|i| cluster.kill(i));
        let data = cluster.data(1).display().to_string();
        let began = Instant::now();
        let recovered = cluster.run(&["recover", "--data-dir", &data, "--yes"], b"");
        assert!(recovered.status.success(), "{recovered:?}");
        cluster.start(1);
        cluster.add();
        cluster.add();
        until("three vote", async || (cluster.names("Voter").await == ["m2", "m4", "m5"]).then_some(()))
            .await;
        took.push(began.elapsed().as_secs_f64());
        cluster.settles("web", 100).await;
        assert_eq!(cluster.history().made("web"), 100, "nothing is made twice");
    }
    let worst = quantile(&mut took, 1.0);
    row(
        "one survivor of three recovered, two new managers joined: three voters, 10 times",
        "≤ 60 s",
        format!("median {:.1} s, worst {worst:.1} s", median(&mut took)),
    )
}

/// Leadership is transferred while a client writes: how long nothing is answered.
async fn transfer() -> Row {
    let cluster = Cluster::of(3).await;
    let stop = AtomicBool::new(false);
    let answered: Mutex<Vec<Instant>> = Mutex::default();
    let client = cluster.client();
    let writing = async {
        while !stop.load(Ordering::Relaxed) {
            let request = pb::SetVariableRequest { key: "k".into(), value: "v".into(), ..Default::default() };
            client.call(async |c| c.variables().set(request.clone()).await).await.expect("it is stored");
            answered.lock().expect("nobody panics").push(Instant::now());
        }
    };
    let giving = async {
        let mut gaps = Vec::new();
        for _ in 0..100 {
            let began = Instant::now();
            let request = pb::TransferLeadershipRequest::default();
            let giver = cluster.client();
            giver
                .call(async |c| c.nodes().transfer_leadership(request.clone()).await)
                .await
                .expect("it is given away");
            let ended = Instant::now();
            until("writes are answered after it", async || {
                let answered = answered.lock().expect("nobody panics");
                let after = answered.iter().rev().take_while(|at| **at > ended).count();
                (after >= 20).then_some(())
            })
            .await;
            let mut answered = answered.lock().expect("nobody panics");
            let around = answered.iter().position(|at| *at > began).unwrap_or(1).max(1) - 1;
            let longest = answered[around..].windows(2).map(|pair| pair[1] - pair[0]).max();
            gaps.push(longest.expect("writes were answered").as_secs_f64() * 1e3);
            answered.clear();
        }
        stop.store(true, Ordering::Relaxed);
        gaps
    };
    let ((), mut gaps) = tokio::join!(writing, giving);
    let (p99, worst) = (quantile(&mut gaps, 0.99), quantile(&mut gaps, 1.0));
    row(
        "leadership transferred while a client writes: longest time without a reply, 100 times",
        "p50 ≤ 100 ms, p99 ≤ 300 ms",
        format!("p50 {:.0} ms, p99 {p99:.0} ms, worst {worst:.0} ms", median(&mut gaps)),
    )
}
