//! Protections that a simulation leaves out, one at a time, to see whether it would notice.
//!
//! Only with the feature `failpoints`, which nothing but the simulation asks for; otherwise every
//! protection is always there.

/// What a build may leave out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protection {
    /// The vote is on the disk before it is given.
    VoteSync,
    /// A new leader applies everything that was committed before it acts.
    Barrier,
    /// `State::apply` admits every intent by itself.
    Admission,
    /// A repeated call has the token of the first.
    Token,
    /// A call is made only within the lease.
    Lease,
    /// A listing is believed only when another confirms it.
    ListingGuard,
    /// An intent is settled before its slot is filled anew.
    Settling,
    /// A restarted leader does not lead on in its old term.
    NoRestore,
}

/// What is left out, by name. The barrier stands behind admission, which catches whatever a leader plans
/// from an old state; without both, a run must notice.
pub const PROTECTIONS: [(&str, &[Protection]); 8] = [
    ("vote-sync", &[Protection::VoteSync]),
    ("barrier+admission", &[Protection::Barrier, Protection::Admission]),
    ("admission", &[Protection::Admission]),
    ("token", &[Protection::Token]),
    ("lease", &[Protection::Lease]),
    ("listing-guard", &[Protection::ListingGuard]),
    ("settling", &[Protection::Settling]),
    ("no-restore", &[Protection::NoRestore]),
];

#[cfg(feature = "failpoints")]
std::thread_local! {
    static LEFT_OUT: std::cell::Cell<&'static [Protection]> = const { std::cell::Cell::new(&[]) };
}

/// From now on this thread goes without these.
#[cfg(feature = "failpoints")]
pub fn leave_out(protections: &'static [Protection]) {
    LEFT_OUT.set(protections);
}

/// Whether this thread goes without it.
#[cfg(feature = "failpoints")]
pub fn is_left_out(protection: Protection) -> bool {
    LEFT_OUT.get().contains(&protection)
}

/// Never.
#[cfg(not(feature = "failpoints"))]
pub const fn is_left_out(_: Protection) -> bool {
    false
}
