//! The gate that every plugin call passes: it is shut during a leadership transfer, so that no call is open
//! then.

use std::sync::Arc;

use tokio::sync::watch;

/// Counts the open calls, and blocks new ones while it is shut. Clones share the gate.
#[derive(Clone, Default)]
pub(crate) struct CallGate(Arc<watch::Sender<Traffic>>);

#[derive(Default)]
struct Traffic {
    /// How many have shut it.
    shut: usize,
    calls: usize,
}

/// An open call.
pub(crate) struct Passage(CallGate);

/// A gate that is shut until this is dropped.
pub(crate) struct Shut(CallGate);

impl CallGate {
    /// Waits until the gate is open.
    pub(crate) async fn enter(&self) -> Passage {
        let mut traffic = self.0.subscribe();
        loop {
            let entered = self.0.send_if_modified(|traffic| {
                let open = traffic.shut == 0;
                traffic.calls += usize::from(open);
                open
            });
            if entered {
                return Passage(self.clone());
            }
            if traffic.changed().await.is_err() {
                // The sender is ours.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Blocks new calls.
    pub(crate) fn shut(&self) -> Shut {
        self.0.send_modify(|traffic| traffic.shut += 1);
        Shut(self.clone())
    }

    /// Waits until no call is open.
    pub(crate) async fn is_empty(&self) {
        let mut traffic = self.0.subscribe();
        // It ends with the gate, which is ours.
        let _ = traffic.wait_for(|traffic| traffic.calls == 0).await;
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        self.0.0.send_modify(|traffic| traffic.calls -= 1);
    }
}

impl Drop for Shut {
    fn drop(&mut self) {
        self.0.0.send_modify(|traffic| traffic.shut -= 1);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn nothing_begins_behind_a_shut_gate_and_what_began_is_waited_for() {
        let gate = CallGate::default();
        let first = gate.enter().await;
        let shut = gate.shut();
        assert!(gate.enter().now_or_never().is_none());
        assert!(gate.is_empty().now_or_never().is_none());
        drop(first);
        gate.is_empty().await;
        let waits = gate.enter();
        tokio::pin!(waits);
        assert!(waits.as_mut().now_or_never().is_none());
        drop(shut);
        let _second = waits.await;
        assert!(gate.is_empty().now_or_never().is_none());
    }
}
