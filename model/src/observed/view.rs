//! The instances of one group among what a plugin lists, with their tags understood.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::listing::{Description, InstanceState, Listing, RunStatus};
use crate::failpoints::{Protection, is_left_out};
use crate::ids::{ClusterId, GroupId, InstanceId, IntentId, LogIndex, LogicalId};
use crate::lineage::Lineages;
use crate::plugin::Guarantees;
use crate::spec::Allocation;
use crate::tags;
use crate::time::Timestamp;

/// The instances of one group among one plugin's listing.
#[derive(Debug, Clone, Default)]
pub struct View {
    pub taken_at: Timestamp,
    pub unbroken_since: Timestamp,
    pub shrunk_by: usize,
    pub after: LogIndex,
    pub guarantees: Guarantees,
    /// How many instances the plugin lists, with or without a group.
    pub total: usize,
    pub seen: BTreeMap<InstanceId, Seen>,
    /// The instance that carries the token of an intent of this cluster.
    pub by_intent: BTreeMap<IntentId, InstanceId>,
    /// Further instances with a token that is in `by_intent`.
    pub duplicates: Vec<(IntentId, InstanceId)>,
    /// Members of the group that are listed without its tag.
    pub untagged: BTreeSet<InstanceId>,
    /// Those of them that say that they do not run.
    pub not_running: BTreeSet<InstanceId>,
    /// Instances that their plugin lists under another logical id than the one that they were made for.
    pub misnamed: BTreeMap<InstanceId, LogicalId>,
    /// Whether something is listed whose tags cannot be read: it may be anything.
    pub has_unreadable: bool,
    /// Members of which the plugin itself said that they are gone, and which it does not list.
    pub said_gone: BTreeSet<InstanceId>,
    /// Instances with this cluster's id and an unknown token: not one of this cluster, or one of a later lineage.
    pub unknown_tokens: BTreeMap<InstanceId, String>,
}

/// One instance of a group, with its tags understood.
#[derive(Debug, Clone)]
pub struct Seen {
    pub description: Arc<Description>,
    /// It carries this cluster's owner tag.
    pub ours: bool,
    /// The intent that created it, when its token is from this cluster.
    pub intent: Option<IntentId>,
    /// It was created by hand to be adopted (semantics §2.8).
    pub bootstrap: bool,
    /// This cluster created it in an earlier lineage, by a log entry that was lost in the recovery: it may be the
    /// instance in use for its slot, whatever is recorded.
    pub lost: bool,
}

impl View {
    /// The part of `listing` that concerns `group`: what has its tag, and its members, which are there when they are
    /// listed, whatever their tags say (decision 41). A missing tag never matches.
    pub fn of(
        listing: &Listing,
        group: &GroupId,
        cluster: &ClusterId,
        lineages: &Lineages,
        is_member: impl Fn(&InstanceId) -> bool,
    ) -> Self {
        let mut view = View {
            taken_at: listing.taken_at,
            unbroken_since: listing.unbroken_since,
            shrunk_by: listing.shrunk_by,
            after: listing.after,
            guarantees: listing.guarantees,
            total: listing.items.len(),
            said_gone: listing.said_gone.iter().filter(|it| is_member(it)).cloned().collect(),
            ..View::default()
        };
        for description in &listing.items {
            view.has_unreadable |= description.is_unreadable();
            let tag = |name: &str| description.tags.get(name).map(String::as_str);
            if tag(tags::GROUP) != Some(group.as_str()) {
                if !is_member(&description.id) || is_left_out(Protection::ListedIsThere) {
                    continue;
                }
                view.untagged.insert(description.id.clone());
            }
            let ours = tag(tags::OWNER) == Some(cluster.as_str());
            let token = tag(tags::INTENT).filter(|_| ours);
            let intent = token.and_then(|token| intent_of(token, cluster, lineages));
            if let Some(intent) = intent
                && let Some(duplicate) = view.by_intent.insert(intent, description.id.clone())
                && duplicate != description.id
            {
                view.duplicates.push((intent, duplicate));
            }
            let earlier = token.and_then(tags::lineage_of).is_some_and(|other| other < lineages.now);
            let lost = ours && intent.is_none() && earlier;
            if ours && intent.is_none() && !earlier && !view.untagged.contains(&description.id) {
                view.unknown_tokens.insert(description.id.clone(), token.unwrap_or_default().to_owned());
            }
            let seen = Seen {
                description: description.clone(),
                ours,
                intent,
                bootstrap: tag(tags::CONFIG_HASH) == Some(tags::BOOTSTRAP),
                lost,
            };
            if seen.not_running().is_some() {
                view.not_running.insert(description.id.clone());
            }
            if let Some(listed) = seen.is_listed_as_another() {
                view.misnamed.insert(description.id.clone(), listed.clone());
            }
            view.seen.insert(description.id.clone(), seen);
        }
        view
    }
}

impl Seen {
    pub fn tag(&self, name: &str) -> Option<&str> {
        self.description.tags.get(name).map(String::as_str)
    }

    /// Its state, when it says that it cannot be of use: stopped, paused, failed, or still starting.
    pub fn not_running(&self) -> Option<&InstanceState> {
        let state = self.description.state.as_ref()?;
        (!matches!(state.status, RunStatus::Running | RunStatus::Unknown)).then_some(state)
    }

    /// Whether it has the tags that this cluster gives to everything it makes for a group of this allocation. A tag may be shown later than what it is
    /// on.
    pub fn has_all_tags(&self, of: &Allocation) -> bool {
        let named = matches!(of, Allocation::LogicalIds(_)).then_some(tags::LOGICAL_ID);
        [tags::GROUP, tags::CONFIG_HASH, tags::OWNER, tags::INTENT, tags::SLOT]
            .into_iter()
            .chain(named)
            .all(|name| self.tag(name).is_some())
    }

    /// It belongs to another cluster, even if its group has the same name.
    pub fn is_another_clusters(&self) -> bool {
        !self.ours && self.tag(tags::OWNER).is_some()
    }

    /// The logical id, by itself or by its tag (semantics §2.2): on what this cluster made, by its tag first.
    pub fn logical_id(&self) -> Option<LogicalId> {
        let (listed, tagged) = (self.description.logical_id.clone(), self.tagged_id());
        let ours_first = self.ours && !is_left_out(Protection::OwnTagsFirst);
        if ours_first { tagged.or(listed) } else { listed.or(tagged) }
    }

    fn tagged_id(&self) -> Option<LogicalId> {
        self.tag(tags::LOGICAL_ID).map(LogicalId::new)
    }

    /// The logical id by which its plugin lists it, where this cluster made it for another one.
    fn is_listed_as_another(&self) -> Option<&LogicalId> {
        let tagged = self.tagged_id().filter(|_| self.ours)?;
        self.description.logical_id.as_ref().filter(|listed| **listed != tagged)
    }
}

fn intent_of(token: &str, cluster: &ClusterId, lineages: &Lineages) -> Option<IntentId> {
    let mut parts = token.strip_prefix(cluster.short())?.strip_prefix('-')?.splitn(3, '-');
    let lineage: u32 = parts.next()?.parse().ok()?;
    let id = IntentId { index: LogIndex(parts.next()?.parse().ok()?), offset: parts.next()?.parse().ok()? };
    (lineages.of(id) == lineage).then_some(id)
}
