//! A call that meets a defect of this program ends, and nobody waits for it for ever.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;

/// What is known of a call that met a defect of this manager.
pub(super) const DEFECT: &str = "this manager has a defect, which its log tells";

/// What a call comes to; nothing when it meets a defect: whoever waits for it must not wait for ever.
pub(super) async fn caught<T>(call: impl Future<Output = T>) -> Option<T> {
    AssertUnwindSafe(call).catch_unwind().await.ok()
}
