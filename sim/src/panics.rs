//! A task that panics is a defect, also where the runtime catches it and nothing else is noticed.

use std::cell::RefCell;
use std::sync::Once;

thread_local! {
    /// What panicked in this thread, which has one run at a time.
    static SEEN: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Notes from now on whatever panics in this thread.
pub(crate) fn watch() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            SEEN.with_borrow_mut(|seen| seen.push(panic.to_string().replace('\n', " ")));
            before(panic);
        }));
    });
    SEEN.with_borrow_mut(Vec::clear);
}

/// What has panicked since then.
pub(crate) fn seen() -> Vec<String> {
    SEEN.with_borrow_mut(std::mem::take)
}
