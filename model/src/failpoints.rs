//! Failpoints: protections that a simulation or chaos can leave out, one at a time, to show that its checks notice.
//!
//! Only with the feature `failpoints`, which only builds for them enable; otherwise every protection is active.

/// A protection that can be left out.
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
    /// A missing instance is confirmed by a second listing.
    ListingGuard,
    /// What lacks some of our tags is not judged before they have had their time.
    LateTags,
    /// A member that is listed is there, whatever its tags say.
    ListedIsThere,
    /// A listing that may be older than the end of a call proves nothing about it.
    LateEvidence,
    /// A member that its plugin lists as stopped or failed is not ready.
    RunningIsReady,
    /// What was a member is not destroyed because it came back.
    Returned,
    /// An intent is settled before its slot is filled again.
    Settling,
    /// An instance of one plugin is not that of another with the same id.
    InstanceRef,
    /// A member whose drain is refused stays.
    RefusedDrain,
    /// Our own tags come before the logical id by which a plugin lists an instance.
    OwnTagsFirst,
    /// A member that lacks what it agreed to takes no part any more.
    WentBack,
    /// A restarted leader does not continue in its old term.
    NoRestore,
    /// Who is to found a cluster looks first whether there is one that takes it for a member.
    FounderAsks,
    /// Of a manager and a copy of it only one runs.
    OneOfCopies,
    /// Members that are missing are looked for at other addresses.
    LooksElsewhere,
    /// What is too large to be sent is not written.
    TooLarge,
}

/// The failpoints by name. Admission also catches what a leader plans from an old state, so the barrier is
/// left out together with it.
pub const PROTECTIONS: [(&str, &[Protection]); 17] = [
    ("vote-sync", &[Protection::VoteSync]),
    ("barrier+admission", &[Protection::Barrier, Protection::Admission]),
    ("admission", &[Protection::Admission]),
    ("token", &[Protection::Token]),
    ("lease", &[Protection::Lease]),
    ("listing-guard", &[Protection::ListingGuard]),
    ("listed-is-there", &[Protection::ListedIsThere]),
    ("late-tags", &[Protection::LateTags]),
    ("late-evidence", &[Protection::LateEvidence]),
    ("running-is-ready", &[Protection::RunningIsReady]),
    ("returned", &[Protection::Returned]),
    ("settling", &[Protection::Settling]),
    ("instance-ref", &[Protection::InstanceRef]),
    ("refused-drain", &[Protection::RefusedDrain]),
    ("own-tags-first", &[Protection::OwnTagsFirst]),
    ("went-back", &[Protection::WentBack]),
    ("no-restore", &[Protection::NoRestore]),
];

/// Those that real processes can leave out, in the same way.
pub const OF_PROCESSES: [(&str, &[Protection]); 5] = [
    ("went-back", &[Protection::WentBack]),
    ("founder-asks", &[Protection::FounderAsks]),
    ("one-of-copies", &[Protection::OneOfCopies]),
    ("looks-elsewhere", &[Protection::LooksElsewhere]),
    ("too-large", &[Protection::TooLarge]),
];

/// The variable that names protections for a process to leave out, in a build that can.
pub const VARIABLE: &str = "INFRAKIT_WITHOUT";

#[cfg(feature = "failpoints")]
std::thread_local! {
    static LEFT_OUT: std::cell::Cell<&'static [Protection]> = const { std::cell::Cell::new(&[]) };
}

/// Leaves these out on this thread.
#[cfg(feature = "failpoints")]
pub fn leave_out(protections: &'static [Protection]) {
    LEFT_OUT.set(protections);
}

/// Whether it is left out on this thread, or by the whole process.
#[cfg(feature = "failpoints")]
pub fn is_left_out(protection: Protection) -> bool {
    static BY_PROCESS: std::sync::OnceLock<Vec<Protection>> = std::sync::OnceLock::new();
    let by_process = BY_PROCESS.get_or_init(|| {
        let name = std::env::var(VARIABLE).unwrap_or_default();
        let all = OF_PROCESSES.iter().filter(|(known, _)| *known == name);
        all.flat_map(|(_, protections)| protections.iter().copied()).collect()
    });
    LEFT_OUT.get().contains(&protection) || by_process.contains(&protection)
}

/// Never.
#[cfg(not(feature = "failpoints"))]
pub const fn is_left_out(_: Protection) -> bool {
    false
}
