//! Runs the work of the leader exactly as long as the leadership: started with its term, cancelled with it.

use std::future::Future;

use model::Term;
use raft::Role;
use tokio::sync::watch;

/// Runs `work` whenever this manager leads, and cancels it when it no longer does. Ends with the
/// replica.
pub(crate) async fn while_leading<W>(mut role: watch::Receiver<Role>, work: impl Fn(Term) -> W)
where
    W: Future<Output = ()>,
{
    loop {
        let now = *role.borrow_and_update();
        match now {
            Role::Leader { term } => {
                tracing::info!(%term, "this manager is the leader");
                let changed = async {
                    // Only another term or another role ends the work.
                    while role.changed().await.is_ok() {
                        if *role.borrow_and_update() != now {
                            return true;
                        }
                    }
                    false
                };
                tokio::select! {
                    biased;
                    alive = changed => {
                        tracing::info!(%term, "this manager is no longer the leader");
                        if !alive {
                            return;
                        }
                        // The role was marked seen: look at it again.
                        role.mark_changed();
                    }
                    () = work(term) => {
                        if role.changed().await.is_err() {
                            return;
                        }
                    }
                }
            }
            Role::Other { .. } => {
                if role.changed().await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Whether this manager leads.
pub(crate) fn leads(role: &watch::Receiver<Role>) -> bool {
    matches!(*role.borrow(), Role::Leader { .. })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[tokio::test]
    async fn work_begins_with_a_term_and_ends_with_it() {
        let other = Role::Other { term: Term(1), leader: None };
        let (roles, watch) = watch::channel(other);
        // Counts the works that live, and remembers the last term.
        let (living, last) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        struct Alive(Arc<AtomicU64>);
        impl Drop for Alive {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::SeqCst);
            }
        }
        let (l, t) = (living.clone(), last.clone());
        let running = tokio::spawn(while_leading(watch, move |term| {
            let (living, last) = (l.clone(), t.clone());
            async move {
                living.fetch_add(1, Ordering::SeqCst);
                let _alive = Alive(living);
                last.store(term.0, Ordering::SeqCst);
                std::future::pending::<()>().await;
            }
        }));
        let until = async |alive: u64, term: u64| {
            let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(5);
            while (living.load(Ordering::SeqCst), last.load(Ordering::SeqCst)) != (alive, term) {
                assert!(tokio::time::Instant::now() < deadline, "waited for {alive} at work in term {term}");
                tokio::task::yield_now().await;
            }
        };
        until(0, 0).await;
        for (role, alive, term) in [
            (Role::Leader { term: Term(2) }, 1, 2),
            (Role::Leader { term: Term(4) }, 1, 4),
            (other, 0, 4),
            (Role::Leader { term: Term(5) }, 1, 5),
        ] {
            roles.send(role).expect("somebody watches");
            until(alive, term).await;
        }
        drop(roles);
        running.await.expect("it ends with the replica");
        until(0, 5).await;
    }
}
