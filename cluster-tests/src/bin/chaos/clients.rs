//! Clients that write and read registers all the time, and remember what they saw.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use api::{Client, proto as pb};
use cluster_tests::{Cluster, Kind, Operation};
use model::RequestId;
use rand::RngExt;
use rand::rngs::SmallRng;
use tokio::time::MissedTickBehavior;

pub(crate) const REGISTERS: u64 = 6;
pub(crate) const CLIENTS: u64 = 5;
/// How long a client waits for an answer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(4);

/// What clients saw, by register.
#[derive(Default)]
pub(crate) struct Registers {
    pub(crate) histories: RefCell<BTreeMap<u64, Vec<Operation>>>,
    pub(crate) stop: Cell<bool>,
    /// Where the managers are.
    pub(crate) addresses: RefCell<String>,
}

/// Writes and reads until it is told to stop.
pub(crate) async fn use_registers(mut chance: SmallRng, who: u64, registers: &Registers, began: Instant) {
    let mut written = 0;
    let (mut client, mut addresses) = reaching(registers);
    let mut turn = tokio::time::interval(Duration::from_millis(30));
    turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !registers.stop.get() {
        if *registers.addresses.borrow() != addresses {
            (client, addresses) = reaching(registers);
        }
        let register = chance.random_range(0..REGISTERS);
        let asked = began.elapsed().as_nanos() as u64;
        let (kind, answered) = if chance.random_range(0..2) == 0 {
            written += 1;
            let value = written * CLIENTS + who + 1;
            (Kind::Write(value), write(&client, register, value).await)
        } else {
            match read(&client, register).await {
                Some(value) => (Kind::Read(value), true),
                None => (Kind::Read(0), false),
            }
        };
        let answered = answered.then(|| began.elapsed().as_nanos() as u64);
        registers.histories.borrow_mut().entry(register).or_default().push(Operation {
            kind,
            asked,
            answered,
        });
        turn.tick().await;
    }
}

/// A client of the managers where they are, and these addresses.
fn reaching(registers: &Registers) -> (Client, String) {
    let addresses = registers.addresses.borrow().clone();
    (Cluster::client_of(&addresses).with_deadline(PATIENCE), addresses)
}

async fn write(client: &Client, register: u64, value: u64) -> bool {
    let request = pb::SetVariableRequest {
        key: format!("r{register}"),
        value: value.to_string(),
        // Whoever asks again for it does not write it again.
        request_id: api::request_id_bytes(RequestId(rand::random())),
    };
    client.call(async |c| c.variables().set(request.clone()).await).await.is_ok()
}

pub(crate) async fn read(client: &Client, register: u64) -> Option<u64> {
    let request = pb::GetVariableRequest { key: format!("r{register}") };
    match client.call(async |c| c.variables().get(request.clone()).await).await {
        Ok(variable) => variable.value.parse().ok(),
        Err(error) if error.code == api::Code::NotFound => Some(0),
        Err(_) => None,
    }
}
