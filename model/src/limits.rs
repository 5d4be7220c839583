//! Every bound that the model keeps, each with its why.

use crate::time::Millis;

/// How long a call to a plugin may still take effect after it began: the deadline we give it
/// (15 s, InfraKit's own) and as much again for what the plugin started before it noticed.
pub const LONGEST_CALL: Millis = Millis::seconds(30);

/// How many members must be missing from one look for it to be doubted the more.
pub const MANY: usize = 3;

/// How long a plugin must go on showing nothing, or lacking [`MANY`] or most of the members it should
/// show, before that is believed.
pub const MANY_GONE: Millis = Millis::seconds(5);

/// How long to wait before health is asked again.
pub const HEALTH_EVERY: Millis = Millis::seconds(1);

/// How many claims one round makes at most: one log entry of a few tens of kilobytes.
pub const LARGEST_BATCH: usize = 500;

/// How many intents of one group may be open at once: enough to keep every call slot of a leader
/// busy while the next batch is agreed on, and a bound on what a dying leader can leave in doubt.
pub const MOST_OPEN: usize = 1000;

/// How long a group remembers what it destroyed: longer than a provider's listing lags behind.
pub const LISTINGS_LAG: Millis = Millis::seconds(120);

/// When what was destroyed is dropped from the state: later than anybody asks for it.
pub const FORGOTTEN_AFTER: Millis = Millis::seconds(600);

/// How many of the latest are kept all the same: a leader whose clock is ahead would drop them too early.
pub const DESTROYED_KEPT: usize = 1000;

/// Over which time the instances that a group makes are counted.
pub const RATE_WINDOW: Millis = Millis::seconds(600);

/// How many a group may make within that time: so many, and three times what is wanted. Whatever kills
/// them as they are made, or hides them, is noticed before it is paid for. A commit begins a new count.
pub const RATE_BASE: u64 = 100;
pub const RATE_PER_MEMBER: u64 = 3;

/// How many repeated intents a group remembers.
pub const MOST_REPEATED: usize = 1000;

/// How many intents may be open in the whole cluster (decision 37).
pub const MOST_OPEN_IN_CLUSTER: usize = 5000;

/// How many first answers are kept for repeated requests. A client repeats within seconds, and
/// even at 10,000 writes a second this reaches back that far for everything but rounds, which
/// need no answer kept: their term and the intents in them make repeating harmless.
pub const ANSWERS_KEPT: usize = 4096;

/// How many secrets a cluster keeps.
pub const MOST_SECRETS: usize = 1000;

/// How many tokens are kept.
pub const MOST_TOKENS: usize = 1000;

/// How many accepted specs of one object are kept: what somebody may want to compare with, or go back to.
pub const MOST_REVISIONS: usize = 10;

/// And how many bytes of opaque properties they may have together: two of the largest.
pub const HEAVIEST_HISTORY: usize = 1 << 20;

/// How many instances above its size a group may have while it is updated: start-first, one at a time.
pub const SURGE: usize = 1;

/// How many answers in a row make a verdict of a change of health: one is perhaps a hiccup of the probe.
pub const HEALTH_AGREES: u32 = 2;

/// How soon everybody at rest is asked again how it is, when the group is small.
pub const HEALTH_AT_REST: Millis = Millis::seconds(10);

/// How many members at rest are asked in a second: a large group is gone through in turn.
pub const ASKED_AT_REST: usize = 20;

/// How many of them are asked at once.
pub const LARGEST_ROUND: usize = 64;
