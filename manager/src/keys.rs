//! Who this manager is, as its certificate says, and whom it trusts: kept true while it runs. Every manager holds
//! the authority in its state, so it signs its own certificate anew long before it expires, and asks nobody.

use std::time::{Duration, SystemTime};

use api::tls::Tls;
use model::access::{Authorities, Rotation};
use model::{Actor, Change, Command, RequestId, Term};
use raft::{Identity, Replica};
use rand::RngExt;
use tokio::time::Instant;

use crate::ca;
use crate::clock::Clock;
use crate::error::Error;
use crate::members::is_fresh;
use crate::metrics::Metrics;

/// A certificate is signed anew when between half and four fifths of its life are over (as SwarmKit's are).
const RENEWED_FROM: f64 = 0.5;
const RENEWED_TO: f64 = 0.8;

/// How soon a certificate that could not be signed is tried again.
const TRIED_AGAIN: Duration = Duration::from_secs(60);

/// How often it is asked whether a certificate is to be signed anew.
const LOOKED_AT: Duration = Duration::from_secs(1);

/// How often a rotation is looked after.
const EVERY: Duration = Duration::from_millis(200);

/// How long every member has had a step before the next one is taken: it has applied it, and acted on it.
const STEP_RESTS: Duration = Duration::from_secs(2);

/// Makes credentials of what the state says, and uses them from then on.
pub(crate) fn present(
    tls: &Tls,
    identity: &Identity,
    known: &Authorities,
    lasts: Duration,
) -> Result<(), Error> {
    ca::own(known, identity, lasts)
        .and_then(|credentials| tls.set(&credentials))
        .map_err(|error| Error::new("this manager has no certificate", error, ""))
}

/// Keeps the credentials true: at every change of the authority, and long before they expire. Ends with the
/// replica.
pub(crate) async fn keep(tls: Tls, replica: Replica, metrics: Metrics) {
    let mut states = replica.watch_declared();
    let mut presented = None;
    // By the clock on the wall, which certificates go by; it goes on while the machine sleeps.
    let mut renew_at = SystemTime::now();
    loop {
        states.mark_unchanged();
        let state = replica.published().state;
        let lasts = Duration::from_millis(state.certificate_life().0);
        if let Some(known) = &state.authorities
            && (presented.as_ref() != Some(&(known.clone(), lasts)) || SystemTime::now() >= renew_at)
        {
            let renewed_in = match present(&tls, replica.identity(), known, lasts) {
                Ok(()) => {
                    tracing::debug!(?lasts, "a new certificate");
                    metrics.certificate_ends_in(lasts);
                    lasts.mul_f64(rand::rng().random_range(RENEWED_FROM..RENEWED_TO))
                }
                Err(error) => {
                    // The one before is used on, as long as it lasts.
                    tracing::error!(cause = error.cause, "{error}");
                    TRIED_AGAIN
                }
            };
            presented = Some((known.clone(), lasts));
            renew_at = SystemTime::now() + renewed_in;
        }
        tokio::select! {
            changed = states.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(LOOKED_AT) => {}
        }
    }
}

/// What the leader does for a rotation: takes each step when every member has applied the one before.
pub(crate) async fn rotate(replica: Replica, clock: Clock, term: Term) {
    let mut reached: Option<(u64, Instant)> = None;
    loop {
        tokio::time::sleep(EVERY).await;
        let published = replica.published();
        let Some(known) = &published.state.authorities else { continue };
        if known.rotation == Rotation::None {
            continue;
        }
        let after = known.changed;
        let me = replica.identity().node;
        let everybody = replica.members().iter().all(|member| {
            let has = member.lag.is_some_and(|lag| published.index.saturating_sub(lag) >= after);
            member.node == me || (has && is_fresh(member))
        });
        if !everybody {
            reached = None;
            continue;
        }
        let (step, since) = *reached.get_or_insert_with(|| (after, Instant::now()));
        if step != after {
            reached = None;
            continue;
        }
        if since.elapsed() < STEP_RESTS {
            continue;
        }
        let by = Actor("manager:keys".into());
        let change = Change::StepRotation { after };
        let command = Command { id: RequestId(raft::unique()), by, at: clock.now(), change };
        if let Err(error) = replica.propose(&command, Some(term)).await {
            tracing::debug!(%error, "the rotation goes on later");
        }
    }
}
