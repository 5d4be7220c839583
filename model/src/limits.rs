//! Every limit of the model, each with its reason.

use crate::time::Millis;

/// How long after its begin a plugin call may still take effect: its timeout of 15 s, and as much again for
/// what the plugin has started.
pub const LONGEST_CALL: Millis = Millis::seconds(30);

/// If a listing lacks this many members, it needs more evidence.
pub const MANY: usize = 3;

/// How long listings must be empty, or lack [`MANY`] or most of the members, before the members are
/// considered gone.
pub const MANY_GONE: Millis = Millis::seconds(5);

/// How long listings must lack a member with a name before it is considered gone, unless its plugin says that it is:
/// a second machine of one name is worse than a late one.
pub const NAMED_GONE: Millis = Millis::seconds(30);

/// How many lost members of a group a leader remembers, in case they come back.
pub const MOST_LOST: usize = 1000;

/// How late a plugin that promises nothing may show what is no longer there, or show it for the first time.
pub const UNPROMISED_LAG: Millis = Millis::seconds(5);

/// The interval of health checks.
pub const HEALTH_EVERY: Millis = Millis::seconds(1);

/// The maximal number of claims in one report: a log entry of a few tens of kilobytes.
pub const LARGEST_BATCH: usize = 500;

/// The maximal size in bytes of each part of one report, whose texts come from plugins: all parts together stay below
/// what one log entry may have. At least one of each part fits.
pub const HEAVIEST_PART: usize = 1 << 20;

/// The maximal number of open intents of a group: enough to keep a leader busy while the next batch is
/// committed, and a limit on what a failing leader can leave in doubt.
pub const MOST_OPEN: usize = 1000;

/// How long listings in which no member has its tags do not count for what a group had before it was declared again: longer
/// than a tag service is out.
pub const TAGS_OUT: Millis = Millis::seconds(600);

/// What a group does not get on for this long, it is said to be stalled by: the longest pause between two attempts.
pub const STALLED_AFTER: Millis = Millis::seconds(30);

/// How long a group remembers destroyed instances: longer than the lag of listings.
pub const LISTINGS_LAG: Millis = Millis::seconds(120);

/// When destroyed instances are removed from the state.
pub const FORGOTTEN_AFTER: Millis = Millis::seconds(600);

/// How many of the latest are kept in any case: a leader with a fast clock would remove them too early.
pub const DESTROYED_KEPT: usize = 1000;

/// The window in which created instances of a group are counted.
pub const RATE_WINDOW: Millis = Millis::seconds(600);

/// How many instances a group may create in that window: this many, and three times the desired size. It
/// bounds the cost of instances that keep disappearing. A commit resets the count.
pub const RATE_BASE: u64 = 100;
pub const RATE_PER_MEMBER: u64 = 3;

/// The number of repeated intents that a group remembers.
pub const MOST_REPEATED: usize = 1000;

/// The maximal number of open intents in the cluster.
pub const MOST_OPEN_IN_CLUSTER: usize = 5000;

/// How many of them the groups of one plugin may open at least, however many plugins there are: as many as one group may.
/// A plugin that hangs holds no more than its share.
pub const LEAST_SHARE: usize = MOST_OPEN;

/// How many strays of a group an operator may have given up at once, and how long that is remembered of one that is not
/// listed.
pub const MOST_GIVEN_UP: usize = 5000;
pub const GIVEN_UP_FOR: Millis = Millis::seconds(24 * 3600);

/// How many first answers are kept for repeated requests. Clients repeat within seconds. Reports need no
/// answer kept: their term and the intents in them make repeating harmless.
pub const ANSWERS_KEPT: usize = 4096;

/// The maximal number of secrets.
pub const MOST_SECRETS: usize = 1000;

/// The maximal number of tokens.
pub const MOST_TOKENS: usize = 1000;

/// How many accepted specs of one object are kept: what somebody may want to compare with, or go back to.
pub const MOST_REVISIONS: usize = 10;

/// And how many bytes of opaque properties they may have together: two of the largest.
pub const HEAVIEST_HISTORY: usize = 1 << 20;

/// How long a new member may take to become ready, if its group does not say: providers boot machines in minutes.
pub const HEALTHY_WITHIN: Millis = Millis::seconds(300);

/// How long a rollout may go without a member that became ready, if its group does not say.
pub const PROGRESS_WITHIN: Millis = Millis::seconds(600);

/// How many answers in a row make a verdict of a change of health: one is perhaps a hiccup of the probe.
pub const HEALTH_AGREES: u32 = 2;

/// How soon everybody at rest is asked again how it is, when the group is small.
pub const HEALTH_AT_REST: Millis = Millis::seconds(10);

/// How many members at rest are asked in a second: a large group is gone through in turn.
pub const ASKED_AT_REST: usize = 20;

/// How many of them are asked at once.
pub const LARGEST_ROUND: usize = 64;

/// How many slots a forecast looks at, in all its turns together: a large group is looked ahead less far.
pub const MOST_FORETOLD: usize = 500_000;
