//! Times the state machine where it is large: one report of 500 outcomes and 500 claims at 100,000 instances, and a
//! snapshot of that state. Prints a table; run it beside another build to compare.

#![allow(clippy::print_stdout)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::command::{Declaration, Manager, Program};
use model::report::{Claim, Fact, Report};
use model::{
    Actor, Allocation, Answer, Change, ClusterId, Command, GroupId, GroupSpec, InstanceId, IntentId, LogId,
    NodeId, ObjectKey, Opaque, Outcome, Part, RequestId, Revision, Slot, State, Template, Term, Timestamp,
    Updating,
};
use raft::{Backup, Identity, Published};

const MEMBERS: u32 = 100_000;
const BATCH: u32 = 500;
const RUNS: usize = 31;

struct Machine {
    state: State,
    index: u64,
}

impl Machine {
    fn apply(&mut self, change: Change) -> Answer {
        self.index += 1;
        let command = Command {
            id: RequestId(u128::from(self.index)),
            by: Actor("bench".into()),
            at: Timestamp(1),
            change,
        };
        self.state.apply(LogId { term: Term(1), index: model::LogIndex(self.index) }, &command).answer
    }

    /// Claims for the slots from `first` on, after outcomes of the claims that entry `before` opened.
    fn report(&self, first: u32, before: Option<u64>) -> Change {
        let report = Report::new(ObjectKey::group(&GroupId::new("web")), Revision(1), Term(1));
        let outcomes = (0..BATCH).filter_map(|offset| {
            let intent = IntentId { index: model::LogIndex(before?), offset };
            let id = InstanceId::new(format!("i-{:017x}", intent.index.0 << 12 | u64::from(offset)));
            Some(Fact::Outcome(intent, Outcome::Done(id)))
        });
        let claims = (first..first + BATCH).map(|n| Claim::Provision { slot: Slot::Ordinal(n) });
        Change::Report(report.with_facts(outcomes).with_claims(claims))
    }
}

fn spec() -> GroupSpec {
    let part = |plugin: &str, json: &str| Part { plugin: plugin.into(), properties: Opaque::from_json(json) };
    GroupSpec {
        id: "web".into(),
        allocation: Allocation::Size(MEMBERS),
        template: Template {
            instance: part("simulator/compute", r#"{"image":"v1"}"#),
            flavor: part("vanilla", "null"),
        },
        updating: Updating::default(),
        healing: Default::default(),
    }
}

/// All but two batches are there, and one of them is open.
fn full() -> Machine {
    let mut machine = Machine { state: State::default(), index: 0 };
    let founder = Manager {
        name: "m1".into(),
        address: "m1:1".into(),
        storage: "d1".into(),
        instance: None,
        program: Program { version: String::new(), level: 2 },
    };
    machine.apply(Change::Bootstrap {
        cluster: ClusterId::new("0123456789abcdef0123456789abcdef"),
        lineage: 1,
        manager: founder,
        authority: None,
    });
    let item = Declaration { spec: spec().into(), if_revision: None, unvalidated: false };
    machine.apply(Change::Declare { items: vec![item] });
    let mut before = None;
    for first in (0..MEMBERS - BATCH).step_by(BATCH as usize) {
        let report = machine.report(first, before);
        machine.apply(report);
        before = Some(machine.index);
    }
    machine
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1000.0
}

fn main() {
    let machine = full();
    let report = machine.report(MEMBERS - BATCH, Some(machine.index));
    let applied = (0..RUNS).map(|_| {
        // Readers hold the state before, as they do in a manager.
        let mut next = Machine { state: machine.state.clone(), index: machine.index };
        let report = report.clone();
        let began = Instant::now();
        let answer = next.apply(report);
        let took = began.elapsed();
        black_box((answer, next.state));
        took
    });
    let applied = median(applied.collect());
    let identity = Identity { cluster: ClusterId::new("c"), lineage: 1, node: NodeId(1) };
    let published = Published { state: Arc::new(machine.state), index: model::LogIndex(machine.index) };
    let backup = Backup::of(&identity, &published, &[], Term(1), Timestamp(1));
    let written = (0..RUNS).map(|_| {
        let began = Instant::now();
        black_box(backup.encode().len());
        began.elapsed()
    });
    let written = median(written.collect());
    println!("| at {MEMBERS} instances, median of {RUNS} | ms |\n|---|---|");
    println!("| a report of {BATCH} outcomes and {BATCH} claims is applied | {applied:.2} |");
    println!("| the state is written as a snapshot, {} bytes | {written:.2} |", backup.encode().len());
}
