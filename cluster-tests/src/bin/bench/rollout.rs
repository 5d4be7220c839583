//! How long a group takes to change its template, one at a time and many at once, in the same run.

use std::time::{Duration, Instant};

use api::proto as pb;
use cluster_tests::{Cluster, Options, group};

use crate::table::{Row, median, row};
use crate::wait::converged;

/// How often each is measured, in turns.
const TURNS: usize = 5;

pub(crate) async fn run() -> Vec<Row> {
    let mut rows = beside("20 members", 20, 5, None, "≤ 1 s, ≤ 0.25 × one at a time").await;
    rows.extend(beside("20 members, each made in 1 s", 20, 5, Some("1s"), "≤ 0.25 × one at a time").await);
    rows.push(thousand().await);
    rows.push(plan(1000, "≤ 0.3 s").await);
    rows.push(plan(10_000, "≤ 1.5 s").await);
    rows
}

fn updated(size: u32, image: &str, surge: u32) -> String {
    format!("{}  Updating: {{MaxSurge: {surge}}}\n", group("web", size, image))
}

async fn with_delay(delay: Option<&str>) -> Cluster {
    let simulator = delay.map(|delay| vec!["--set".to_owned(), format!("provision-delay={delay}")]);
    let options = Options { simulator: simulator.unwrap_or_default(), ..Options::default() };
    Cluster::with(3, options).await
}

/// From the commit of another template until every member has it and is ready.
async fn rolled(cluster: &Cluster, text: &str, size: u64) -> Duration {
    let began = Instant::now();
    cluster.commit(text).await.expect("it is accepted");
    converged(cluster, "web", size).await;
    began.elapsed()
}

/// One at a time and with a surge, in turns.
async fn beside(what: &str, size: u32, surge: u32, delay: Option<&str>, bar: &'static str) -> Vec<Row> {
    let cluster = with_delay(delay).await;
    cluster.commit(&updated(size, "v0", 1)).await.expect("it is accepted");
    converged(&cluster, "web", size.into()).await;
    let (mut single, mut many) = (Vec::new(), Vec::new());
    let turns = if delay.is_some() { 3 } else { TURNS };
    for turn in 0..turns {
        let text = updated(size, &format!("a{turn}"), 1);
        single.push(rolled(&cluster, &text, size.into()).await.as_secs_f64());
        let text = updated(size, &format!("b{turn}"), surge);
        many.push(rolled(&cluster, &text, size.into()).await.as_secs_f64());
    }
    let (single, many) = (median(&mut single), median(&mut many));
    vec![row(
        &format!("rolling update of {what}, surge {surge}"),
        bar,
        format!("{many:.2} s; one at a time {single:.2} s; ratio {:.2}", many / single),
    )]
}

async fn thousand() -> Row {
    let cluster = with_delay(None).await;
    cluster.commit(&updated(1000, "v0", 50)).await.expect("it is accepted");
    converged(&cluster, "web", 1000).await;
    let mut times = Vec::new();
    for turn in 0..3 {
        let text = updated(1000, &format!("v{}", turn + 1), 50);
        times.push(rolled(&cluster, &text, 1000).await.as_secs_f64());
    }
    row("rolling update of 1,000 members, surge 50", "≤ 15 s", format!("{:.2} s", median(&mut times)))
}

/// What a commit of another template would do, to its end.
async fn plan(size: u32, bar: &'static str) -> Row {
    let cluster = with_delay(None).await;
    cluster.commit(&updated(size, "v0", 50)).await.expect("it is accepted");
    converged(&cluster, "web", size.into()).await;
    let text = updated(size, "v1", 50);
    let draft = model::draft::read("f", text.as_bytes(), model::draft::Yaml::Unsaid).expect("a valid file");
    let request = pb::CommitRequest {
        items: vec![pb::CommitItem {
            spec: Some(api::spec(&draft.specs[0], model::Revision(0))),
            if_revision: None,
        }],
        ..Default::default()
    };
    let client = cluster.client();
    let mut times = Vec::new();
    for _ in 0..TURNS {
        let began = Instant::now();
        client.call(async |c| c.groups().plan(request.clone()).await).await.expect("a plan");
        times.push(began.elapsed().as_secs_f64());
    }
    row(&format!("plan of another template for {size} members"), bar, format!("{:.2} s", median(&mut times)))
}
