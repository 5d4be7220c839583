//! Renews the certificate of this manager, and follows rotations of the authority. The authority is in the
//! replicated state, so a manager signs its own certificate.

use std::time::{Duration, SystemTime};

use api::tls::Tls;
use model::access::{Authorities, Rotation};
use model::{Actor, Change, Command, LogIndex, RequestId, Term};
use raft::{Identity, Replica};
use rand::RngExt;
use tokio::time::Instant;

use crate::ca;
use crate::clock::Clock;
use crate::error::Error;
use crate::members::is_fresh;
use crate::metrics::Metrics;

/// A certificate is renewed after between half and four fifths of its validity, as in SwarmKit.
const RENEWED_FROM: f64 = 0.5;
const RENEWED_TO: f64 = 0.8;

/// Pause after a failed renewal.
const TRIED_AGAIN: Duration = Duration::from_secs(60);

/// By how much a clock is set back at least when the certificate is signed again.
const SET_BACK: Duration = Duration::from_secs(60);

/// How often it is checked whether a renewal is due.
const LOOKED_AT: Duration = Duration::from_secs(1);

/// How often the leader checks a rotation.
const EVERY: Duration = Duration::from_millis(200);

/// How long after every member has applied a step the next one is taken.
const STEP_RESTS: Duration = Duration::from_secs(2);

/// Issues credentials from the state, and uses them from then on.
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

/// Renews the credentials: at every change of the authority, and long before they expire. Ends with the
/// replica.
pub(crate) async fn keep(tls: Tls, replica: Replica, metrics: Metrics) {
    let mut states = replica.watch_declared();
    let mut presented = None;
    // By the wall clock, like the validity of certificates; it advances while the machine is suspended, and goes back
    // when it is set right: what was signed in its future is not valid yet.
    let (mut signed_at, mut renew_at) = (SystemTime::now(), SystemTime::now());
    loop {
        states.mark_unchanged();
        let state = replica.published().state;
        let lasts = Duration::from_millis(state.certificate_life().0);
        if let Some(known) = &state.authorities
            && (presented.as_ref() != Some(&(known.clone(), lasts))
                || SystemTime::now() >= renew_at
                || SystemTime::now() + SET_BACK < signed_at)
        {
            let renewed_in = match present(&tls, replica.identity(), known, lasts) {
                Ok(()) => {
                    tracing::debug!(?lasts, "certificate renewed");
                    metrics.certificate_ends_in(lasts);
                    lasts.mul_f64(rand::rng().random_range(RENEWED_FROM..RENEWED_TO))
                }
                Err(error) => {
                    // The current one is used until it expires.
                    tracing::error!(cause = error.cause, "{error}");
                    TRIED_AGAIN
                }
            };
            presented = Some((known.clone(), lasts));
            signed_at = SystemTime::now();
            renew_at = signed_at + renewed_in;
        }
        tokio::select! {
            changed = states.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(LOOKED_AT) => {}
        }
    }
}

/// The work of the leader for a rotation: takes each step after every member has applied the one before.
pub(crate) async fn rotate(replica: Replica, clock: Clock, term: Term) {
    let mut reached: Option<(LogIndex, Instant)> = None;
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
            let has = member.lag.is_some_and(|lag| published.index.0.saturating_sub(lag) >= after.0);
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
            tracing::debug!(%error, "the rotation step failed; retrying");
        }
    }
}
