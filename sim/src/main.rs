//! Runs seeds of the simulation and prints what went wrong in them, what was checked, and which failed.

#![allow(clippy::print_stdout)]

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use model::failpoints::PROTECTIONS;
use sim::{Moment, Plan, Run, run};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// A whole cluster in simulated time, attacked as a seed says
#[derive(Parser)]
struct Args {
    /// Repeat this one seed, and tell what happens
    #[arg(long)]
    seed: Option<u64>,
    /// How many seeds to run
    #[arg(long, default_value_t = 100)]
    runs: u64,
    /// The first of them; without it, one that nobody has run before
    #[arg(long)]
    first: Option<u64>,
    /// How many run beside each other
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Leave out one protection (in a build with the feature `failpoints`), or `each` in turn: the run
    /// must notice
    #[arg(long)]
    without: Option<String>,
    /// A group of five changes its template again and again while leaders die, and is never short of a member
    #[arg(long, conflicts_with_all = ["sweep", "without"])]
    rollouts: bool,
    /// Faults in one run
    #[arg(long, default_value_t = 10)]
    faults: u32,
    /// With --seed: a manager dies at this moment, beside everything else
    #[arg(long, requires = "seed", value_name = "MOMENT")]
    at: Option<Moment>,
    /// Repeat one seed once for each moment at which a manager may die: before each write and sync of
    /// each disk, before and after each call to the provider
    #[arg(long, value_name = "SEED", conflicts_with_all = ["seed", "first", "without"])]
    sweep: Option<u64>,
    /// Of these moments, take one in so many
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    every: u64,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let size = if args.rollouts { 5 } else { Plan::default().size };
    let plan = Plan { faults: args.faults, rollouts: args.rollouts, size, ..Plan::default() };
    if let Some(seed) = args.seed {
        let named = std::env::var("RUST_LOG").unwrap_or_else(|_| "error".to_owned());
        let filter: Targets = named.parse().expect("RUST_LOG names levels, or targets and levels");
        let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).without_time();
        tracing_subscriber::registry().with(lines.with_filter(filter)).init();
        let run = run(seed, &Plan { loud: true, dies_at: args.at, ..plan });
        println!("{run:#?}");
        return if run.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let first = args.first.unwrap_or_else(|| rand::random::<u64>() >> 1);
    if let Some(name) = &args.without {
        return attack_the_harness(name, &plan, first, &args);
    }
    let began = Instant::now();
    let runs = match args.sweep {
        None => run_all(args.runs, args.jobs, |at| (first + at, plan)),
        Some(seed) => {
            let moments = run(seed, &plan).moments;
            // Anywhere within the first stretch, so that many sweeps together see them all.
            let from = rand::random_range(0..args.every);
            let chosen: Vec<Moment> =
                moments.iter().skip(from as usize).step_by(args.every as usize).copied().collect();
            println!("seed {seed}: a death at {} of {} moments", chosen.len(), moments.len());
            run_all(chosen.len() as u64, args.jobs, |at| {
                (seed, Plan { dies_at: Some(chosen[at as usize]), ..plan })
            })
        }
    };
    report(&runs, began.elapsed())
}

/// Runs so many, some beside each other, and tells at once which broke a promise.
fn run_all(runs: u64, jobs: usize, what: impl Fn(u64) -> (u64, Plan) + Sync) -> Vec<Run> {
    let next = AtomicU64::new(0);
    let done: Mutex<Vec<Run>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    if at >= runs {
                        return;
                    }
                    let (seed, plan) = what(at);
                    let run = std::panic::catch_unwind(|| run(seed, &plan)).unwrap_or_else(|_| Run {
                        seed,
                        violations: vec!["the run ended in a panic".into()],
                        ..Run::default()
                    });
                    let moment = plan.dies_at.map(|it| format!(" --at {it}")).unwrap_or_default();
                    let faults = if plan.faults == Plan::default().faults {
                        String::new()
                    } else {
                        format!(" --faults {}", plan.faults)
                    };
                    let rollouts = if plan.rollouts { " --rollouts" } else { "" };
                    for violation in &run.violations {
                        println!(
                            "seed {seed}{moment}: {violation}\n   repeat it with: sim --seed {seed}{moment}{faults}{rollouts}"
                        );
                    }
                    // Only what the report needs: there may be thousands.
                    let run = Run { moments: Vec::new(), ..run };
                    done.lock().expect("no worker panics while holding the runs").push(run);
                }
            });
        }
    });
    done.into_inner().expect("no worker panics while holding the runs")
}

/// Leaves out each protection of that name and says which seed notices first.
fn attack_the_harness(name: &str, plan: &Plan, first: u64, args: &Args) -> ExitCode {
    if cfg!(not(feature = "failpoints")) {
        println!("this build cannot: build it with --features failpoints");
        return ExitCode::FAILURE;
    }
    let chosen: Vec<_> = PROTECTIONS.iter().filter(|(known, _)| name == "each" || name == *known).collect();
    if chosen.is_empty() {
        let known: Vec<&str> = PROTECTIONS.iter().map(|(known, _)| *known).collect();
        println!("`{name}` is no protection; there are each, {}", known.join(", "));
        return ExitCode::FAILURE;
    }
    println!("| left out | noticed by | how |\n|---|---|---|");
    let next = AtomicUsize::new(0);
    let unnoticed = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..args.jobs {
            scope.spawn(|| {
                while let Some((name, protection)) = chosen.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if !is_noticed(name, &Plan { without: protection, ..*plan }, first, args.runs) {
                        unnoticed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    if unnoticed.load(Ordering::Relaxed) == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn is_noticed(name: &str, plan: &Plan, first: u64, runs: u64) -> bool {
    let caught = (first..first + runs).find_map(|seed| match std::panic::catch_unwind(|| run(seed, plan)) {
        Ok(run) => run.violations.first().map(|violation| (seed, violation.clone())),
        Err(_) => Some((seed, "a panic".to_owned())),
    });
    match &caught {
        Some((seed, violation)) => {
            let short: String = violation.chars().take(110).collect();
            println!("| {name} | seed {seed}, run {} | {short} |", seed - first + 1);
        }
        None => println!("| {name} | nobody in {runs} runs | |"),
    }
    caught.is_some()
}

fn report(runs: &[Run], took: Duration) -> ExitCode {
    let mut faults: BTreeMap<&str, usize> = BTreeMap::new();
    for run in runs {
        for (fault, count) in &run.faults {
            *faults.entry(fault).or_default() += count;
        }
    }
    println!("\n| what went wrong | how often |\n|---|---|");
    for (fault, count) in &faults {
        println!("| {fault} | {count} |");
    }
    let total = |what: fn(&Run) -> usize| runs.iter().map(what).sum::<usize>();
    let red = runs.iter().filter(|run| !run.violations.is_empty()).count();
    let mut settled: Vec<Duration> = runs.iter().map(|run| run.settled_in).collect();
    settled.sort();
    let at = |share: f64| settled.get(((settled.len() as f64 * share) as usize).min(settled.len() - 1));
    println!("\n| what was checked | |\n|---|---|");
    println!("| runs, and how many broke a promise | {}, {red} |", runs.len());
    println!("| instances made and destroyed | {}, {} |", total(|run| run.made), total(|run| run.destroyed));
    println!("| client writes and reads in order | {} |", total(|run| run.operations));
    if let (Some(middle), Some(worst)) = (at(0.5), at(1.0)) {
        println!(
            "| from the last fault to as declared, simulated | median {:.1} s, worst {:.1} s |",
            middle.as_secs_f64(),
            worst.as_secs_f64()
        );
    }
    println!("| took | {:.0} s |", took.as_secs_f64());
    if red == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
