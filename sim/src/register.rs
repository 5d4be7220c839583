//! A client that counts one number up and reads it, and what it must see.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use model::{Actor, Change, Command, RequestId, Timestamp};
use raft::Replica;

/// What a client saw of one register that one writer counts up.
#[derive(Default)]
pub(crate) struct Register {
    begun: u64,
    acked: u64,
    seen: u64,
    pub(crate) operations: usize,
    pub(crate) violations: Vec<String>,
}

/// Counts up, or reads. One writer, which goes on only when it was answered, so a read must see at least
/// what was answered before it began, at most what was begun before it ended, and never less than a read
/// before it.
pub(crate) fn use_once(register: &Arc<Mutex<Register>>, replica: Replica, now: Timestamp) {
    let register = register.clone();
    if raft::between(0, 1) == 0 {
        let next = {
            let mut register = register.lock().expect("nobody panics");
            if register.begun > register.acked && raft::between(0, 1) == 0 {
                return;
            }
            register.begun = register.acked + 1;
            register.begun
        };
        let command = Command {
            id: RequestId(u128::from(next)),
            by: Actor("client".into()),
            at: now,
            change: Change::SetVariable { key: "n".into(), value: next.to_string() },
        };
        tokio::spawn(async move {
            let asked = tokio::time::timeout(Duration::from_secs(10), replica.propose(&command, None));
            if let Ok(Ok(_)) = asked.await {
                let mut register = register.lock().expect("nobody panics");
                register.acked = register.acked.max(next);
                register.operations += 1;
            }
        });
    } else {
        let (acked, seen) = {
            let register = register.lock().expect("nobody panics");
            (register.acked, register.seen)
        };
        tokio::spawn(async move {
            let asked = tokio::time::timeout(Duration::from_secs(10), replica.read());
            if let Ok(Ok(published)) = asked.await {
                let value = published.state.variables.get("n");
                let value = value.map_or(0, |it| it.value.parse::<u64>().unwrap_or(0));
                let mut register = register.lock().expect("nobody panics");
                let begun = register.begun;
                register.operations += 1;
                if value < acked || value < seen || value > begun {
                    register.violations.push(format!(
                        "a read gave {value} where {acked} was answered, {seen} was seen and {begun} was begun"
                    ));
                }
                register.seen = register.seen.max(value);
            }
        });
    }
}
