//! Why a replica must end.

use std::sync::Arc;

use tokio::sync::watch;
use tonic::{Code, Status};

/// The reason, once there is one.
#[derive(Clone, Default)]
pub(crate) struct Reason(Arc<watch::Sender<Option<String>>>);

impl Reason {
    pub(crate) fn say(&self, why: String) {
        self.0.send_replace(Some(why));
    }

    /// What a peer says that rejects this manager for good: it was removed, or another process runs as it.
    pub(crate) fn note(&self, status: &Status) {
        if status.code() == Code::PermissionDenied {
            self.say(status.message().to_owned());
        }
    }

    /// Waits until there is a reason.
    pub(crate) async fn reason(&self) -> String {
        let mut reasons = self.0.subscribe();
        loop {
            if let Some(why) = reasons.borrow_and_update().clone() {
                return why;
            }
            if reasons.changed().await.is_err() {
                // The sender is ours.
                std::future::pending::<()>().await;
            }
        }
    }
}
