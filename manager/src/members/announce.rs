//! Says where this manager is, and what it is: to whoever leads.

use std::time::Duration;

use model::command::{LEVEL, Manager};
use raft::{Application, Dial, Joined, Role};
use tokio::sync::watch;

use super::{EVERY, Members};
use crate::join::is_final;
use crate::outage::Outage;

/// The longest pause between two announcements.
const ANNOUNCED_AGAIN: Duration = Duration::from_secs(60);
/// The pause between two while no leader calls this manager.
const MISSED_AGAIN: Duration = Duration::from_secs(1);

impl Members {
    /// Records the instance, the address and the version of this manager in the state, if they have changed
    /// since its last start.
    pub(crate) async fn announce(&self, me: &Manager) {
        let mut states = self.replica.watch_declared();
        let mut pause = EVERY;
        loop {
            let state = states.borrow_and_update().state.clone();
            if state.removed.contains_key(&self.me()) {
                return;
            }
            let known = state.managers.get(&self.me()).cloned();
            match known {
                Some(known) => {
                    let current = as_recorded(me, &known, LEVEL);
                    if current == known {
                        return;
                    }
                    let current = as_recorded(me, &known, state.level);
                    if current == known {
                        if states.changed().await.is_err() {
                            return;
                        }
                        continue;
                    }
                    match self.announce_to_any(vouched_for(current)).await {
                        // A leader of an older version does not record what it does not know.
                        Ok(_) => {}
                        Err((error, true)) => {
                            tracing::error!(
                                error,
                                "this manager could not be announced; the others use its previous address"
                            );
                            return;
                        }
                        Err((error, false)) => tracing::debug!(error, "this manager is not announced yet"),
                    }
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(ANNOUNCED_AGAIN);
                }
                // It is not caught up yet.
                None => {
                    if states.changed().await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// Says where this manager is as long as no leader calls it: the others may have another address of it than its own
    /// state, such as that of a copy of its disk.
    pub(crate) async fn announce_while_missed(
        &self,
        me: &Manager,
        mut outages: watch::Receiver<Option<Outage>>,
    ) {
        while outages.wait_for(Option::is_some).await.is_ok() {
            let state = self.replica.published().state;
            if let Some(known) = state.managers.get(&self.me()) {
                let current = as_recorded(me, known, state.level);
                if let Err((error, _)) = self.announce_to_any(vouched_for(current)).await {
                    tracing::debug!(error, "this manager is not called, and could not say where it is");
                }
            }
            tokio::time::sleep(MISSED_AGAIN).await;
        }
    }

    /// To the leader; without a known leader, to any member: the leader may still use the previous address of
    /// this manager.
    async fn announce_to_any(&self, application: Application) -> Result<Joined, (String, bool)> {
        let mut last = self.admit(application.clone()).await;
        if !matches!(*self.role.borrow(), Role::Other { leader: None, .. }) {
            return last;
        }
        for member in self.replica.members().iter().filter(|member| member.node != self.me()) {
            let Ok(line) = self.dial.dial(&member.address) else { continue };
            match raft::join(line, &application, Duration::from_secs(2)).await {
                Ok(joined) => return Ok(joined),
                Err(status) => last = Err((status.message().to_owned(), is_final(&status))),
            }
        }
        last
    }
}

/// What a cluster of this level records of this manager; its name and its disk stay what they were.
fn as_recorded(me: &Manager, known: &Manager, level: u32) -> Manager {
    let mut current = Manager { storage: known.storage.clone(), name: known.name.clone(), ..me.clone() };
    if level < 2
        && let Some(machine) = &mut current.instance
    {
        // Not recorded until every manager knows what it is.
        machine.plugin = None;
    }
    current
}

/// Its certificate authenticates it.
fn vouched_for(manager: Manager) -> Application {
    Application { manager, token: None, csr: Default::default(), vouched: true, clock_ahead_ms: None }
}
