//! Attacks real clusters with everything that goes wrong in real places, and holds what clients and the
//! provider saw against the promises. Started by `deploy/chaos`.

#![allow(clippy::print_stdout, clippy::print_stderr)]

mod attack;
mod clients;
mod outcome;

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use futures_util::FutureExt;

use attack::Schedule;
use model::failpoints::OF_PROCESSES;
use outcome::Outcome;

/// Real managers on hosts of their own, attacked as a seed says
#[derive(Parser)]
struct Args {
    /// How long to go on
    #[arg(long, default_value_t = 10)]
    minutes: u64,
    /// At most so many schedules; with --without, 20
    #[arg(long)]
    schedules: Option<usize>,
    /// The first schedule; without it, one that nobody has run before
    #[arg(long)]
    seed: Option<u64>,
    /// Faults in one schedule
    #[arg(long, default_value_t = 5)]
    faults: u32,
    /// Only faults of one kind, by its number in attack/faults.rs
    #[arg(long)]
    only: Option<u64>,
    /// Leave out one protection (in a build with the feature `failpoints`), or `each` in turn: a schedule must notice
    #[arg(long, conflicts_with = "only")]
    without: Option<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    if !rustix::process::geteuid().is_root() {
        eprintln!("error: this needs root: every manager gets a network namespace of its own");
        return ExitCode::FAILURE;
    }
    let first = args.seed.unwrap_or_else(|| rand::random::<u64>() >> 32);
    let schedule = Schedule { seed: first, faults: args.faults, only: args.only, without: None };
    if let Some(name) = &args.without {
        return attack_the_harness(name, schedule, args.schedules.unwrap_or(20)).await;
    }
    let began = Instant::now();
    let mut all = Vec::new();
    for seed in (first..).take(args.schedules.unwrap_or(usize::MAX)) {
        if began.elapsed() >= Duration::from_secs(args.minutes * 60) {
            break;
        }
        let outcome = run(Schedule { seed, ..schedule }).await;
        println!(
            "schedule {seed}: {}; {} operations, as declared after {:.1} s{}",
            outcome.faults.keys().copied().collect::<Vec<_>>().join(", "),
            outcome.operations,
            outcome.converged_in.as_secs_f64(),
            if outcome.violations.is_empty() { "" } else { "; BROKEN" }
        );
        for violation in &outcome.violations {
            println!("   {violation}\n   try it again with: deploy/chaos --schedules 1 --seed {seed}");
        }
        all.push(outcome);
    }
    report(&all, began.elapsed())
}

/// Runs a schedule; one that panics has broken something.
async fn run(schedule: Schedule) -> Outcome {
    AssertUnwindSafe(attack::run(schedule)).catch_unwind().await.unwrap_or_else(|panic| {
        let why = panic.downcast_ref::<String>().map_or("it ended in a panic", String::as_str);
        Outcome { violations: vec![why.lines().take(3).collect()], ..Outcome::default() }
    })
}

/// Leaves out each protection of that name, with the faults that it is there for, and says which schedule notices first.
async fn attack_the_harness(name: &str, schedule: Schedule, schedules: usize) -> ExitCode {
    let chosen: Vec<_> = OF_PROCESSES.iter().filter(|(known, _)| name == "each" || name == *known).collect();
    if chosen.is_empty() {
        let known: Vec<&str> = OF_PROCESSES.iter().map(|(known, _)| *known).collect();
        eprintln!("error: `{name}` is no protection; there are each, {}", known.join(", "));
        return ExitCode::FAILURE;
    }
    println!("| left out | noticed by | how |\n|---|---|---|");
    let mut all_noticed = true;
    for (name, _) in chosen {
        let only = attack::fault_against(name);
        let mut noticed = None;
        for seed in (schedule.seed..).take(schedules) {
            let outcome = run(Schedule { seed, only, without: Some(name), ..schedule }).await;
            if let Some(violation) = outcome.violations.into_iter().next() {
                noticed = Some((seed, violation));
                break;
            }
        }
        match &noticed {
            Some((seed, how)) => {
                println!("| {name} | seed {seed}, schedule {} | {how} |", seed - schedule.seed + 1);
            }
            None => println!("| {name} | nobody in {schedules} schedules | |"),
        }
        all_noticed &= noticed.is_some();
    }
    if all_noticed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn report(all: &[Outcome], took: Duration) -> ExitCode {
    let mut faults: BTreeMap<&str, usize> = BTreeMap::new();
    for outcome in all {
        for (fault, count) in &outcome.faults {
            *faults.entry(fault).or_default() += count;
        }
    }
    println!("\n| what went wrong | how often |\n|---|---|");
    for (fault, count) in &faults {
        println!("| {fault} | {count} |");
    }
    let total = |what: fn(&Outcome) -> usize| all.iter().map(what).sum::<usize>();
    let broken = all.iter().filter(|it| !it.violations.is_empty()).count();
    let mut times: Vec<Duration> = all.iter().map(|it| it.converged_in).collect();
    times.sort();
    println!("\n| what was checked | |\n|---|---|");
    println!("| schedules, and how many broke a promise | {}, {broken} |", all.len());
    println!(
        "| client operations, and how many of them were never answered | {}, {} |",
        total(|it| it.operations),
        total(|it| it.unanswered)
    );
    println!(
        "| instances made, and destroyed by the managers | {}, {} |",
        total(|it| it.made),
        total(|it| it.destroyed)
    );
    if let (Some(middle), Some(worst)) = (times.get(times.len() / 2), times.last()) {
        println!(
            "| from the last fault to as declared | median {:.1} s, worst {:.1} s |",
            middle.as_secs_f64(),
            worst.as_secs_f64()
        );
    }
    let mut writes: Vec<Duration> = all.iter().map(|it| it.writes_after).collect();
    writes.sort();
    if let (Some(middle), Some(worst)) = (writes.get(writes.len() / 2), writes.last()) {
        println!(
            "| from the last fault to a write | median {:.1} s, worst {:.1} s |",
            middle.as_secs_f64(),
            worst.as_secs_f64()
        );
    }
    println!("| took | {:.0} s |", took.as_secs_f64());
    if broken == 0 && !all.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
