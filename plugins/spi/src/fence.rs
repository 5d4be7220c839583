//! The fence headers of calls to plugins that list `Fence/0.1.0`, and how such a plugin obeys them. They are
//! HTTP headers, so that the messages stay compatible with Docker's InfraKit.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use hyper::HeaderMap;
use hyper::header::HeaderValue;

use crate::call::{Call, Epoch, since_boot};
use crate::error::{Class, Error};

const TOKEN: &str = "infrakit-token";
const EPOCH: &str = "infrakit-epoch";
/// Nanoseconds since boot.
const NOT_AFTER: &str = "infrakit-not-after";
const TRACEPARENT: &str = "traceparent";

pub(crate) fn write(call: &Call, headers: &mut HeaderMap) {
    let epoch = call.epoch.as_ref().map(|it| format!("{}-{}-{}", it.cluster, it.lineage, it.term));
    let not_after = call.not_after.map(|at| at.as_nanos().to_string());
    let values = [
        (TOKEN, call.token.clone()),
        (EPOCH, epoch),
        (NOT_AFTER, not_after),
        (TRACEPARENT, call.traceparent.clone()),
    ];
    for (name, value) in values {
        // Tokens and ids are [a-z0-9-] and the others numbers, so none can fail to be a header.
        if let Some(value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
            headers.insert(name, value);
        }
    }
}

pub(crate) fn read(headers: &HeaderMap) -> Call {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    Call {
        token: text(TOKEN).map(str::to_owned),
        epoch: text(EPOCH).and_then(read_epoch),
        not_after: text(NOT_AFTER).and_then(|nanos| nanos.parse().ok()).map(Duration::from_nanos),
        traceparent: text(TRACEPARENT).map(str::to_owned),
    }
}

fn read_epoch(text: &str) -> Option<Epoch> {
    let mut parts = text.rsplitn(3, '-');
    let (term, lineage) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    Some(Epoch { cluster: parts.next()?.to_owned(), lineage, term })
}

/// Rejects calls of deposed leaders, and calls after their deadline.
#[derive(Default)]
pub(crate) struct Fence {
    /// The newest known leadership, by cluster.
    newest: Mutex<BTreeMap<String, (u32, u64)>>,
}

impl Fence {
    /// Records the leadership of a call.
    pub(crate) fn record(&self, call: &Call) {
        let Some(Epoch { cluster, lineage, term }) = &call.epoch else { return };
        let mut newest = self.newest.lock().expect("nobody panics while holding this");
        let known = newest.entry(cluster.clone()).or_default();
        *known = (*known).max((*lineage, *term));
    }

    /// Whether a call with a side effect may begin. A rejected call has done nothing.
    pub(crate) fn admit(&self, call: &Call) -> Result<(), Error> {
        if let Some(Epoch { cluster, lineage, term }) = &call.epoch {
            let newest = self.newest.lock().expect("nobody panics while holding this");
            let known = newest.get(cluster).copied().unwrap_or_default();
            if (*lineage, *term) < known {
                let why = format!("the leader of term {term} was deposed by term {}", known.1);
                return Err(Error::new(Class::Conflict, why));
            }
        }
        match call.not_after {
            Some(limit) if since_boot() > limit => {
                Err(Error::internal("the call arrived after its deadline; nothing was done"))
            }
            Some(_) | None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(cluster: &str, lineage: u32, term: u64) -> Call {
        let epoch = Epoch { cluster: cluster.into(), lineage, term };
        Call { epoch: Some(epoch), ..Call::default() }
    }

    #[test]
    fn what_is_written_is_read() {
        for call in [
            Call::default(),
            Call {
                token: Some("01234567-1-2-3".into()),
                not_after: Some(Duration::from_nanos(123_456_789_012)),
                ..call("0123abcd", 2, 7)
            },
        ] {
            let mut headers = HeaderMap::new();
            write(&call, &mut headers);
            assert_eq!(read(&headers), call);
        }
        for odd in ["", "7", "1-7", "x-y-z", "a-1-", "a--1"] {
            assert_eq!(read_epoch(odd), None, "{odd}");
        }
    }

    #[test]
    fn whoever_was_deposed_is_refused_and_other_clusters_are_not() {
        let gate = Fence::default();
        let admits = |call: &Call| {
            gate.record(call);
            gate.admit(call).is_ok()
        };
        assert!(admits(&call("a", 1, 5)));
        assert!(admits(&call("a", 1, 5)), "the same leader calls again");
        assert!(!admits(&call("a", 1, 4)));
        assert!(admits(&call("b", 1, 1)), "another cluster has terms of its own");
        assert!(admits(&call("a", 2, 1)), "a new lineage counts from one");
        assert!(!admits(&call("a", 1, 9)));
        assert!(admits(&Call::default()), "InfraKit's own callers say nothing");
    }

    #[test]
    fn a_call_after_its_deadline_is_refused() {
        let gate = Fence::default();
        let until = |limit| Call { not_after: Some(limit), ..Call::default() };
        assert!(gate.admit(&until(since_boot() + Duration::from_secs(60))).is_ok());
        let late = gate.admit(&until(since_boot().saturating_sub(Duration::from_millis(1))));
        assert!(late.expect_err("it is late").class.is_refusal());
    }
}
