//! What was last seen at the providers. Never replicated: the provider alone knows, and is asked again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::ids::{ClusterId, GroupId, InstanceId, IntentId, LogicalId, PluginName, Slot};
use crate::lineage::Lineages;
use crate::plan::MANY_GONE;
use crate::spec::Opaque;
use crate::state::{GroupState, LISTINGS_LAG, Recorded};
use crate::tags::{self, Tags};
use crate::time::{Millis, Timestamp};

/// One instance as its plugin describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    pub id: InstanceId,
    pub logical_id: Option<LogicalId>,
    pub tags: Tags,
    pub properties: Option<Opaque>,
}

/// Everything one plugin listed at one time. An error is not a listing.
#[derive(Debug, Clone)]
pub struct Listing {
    pub items: Vec<Arc<Description>>,
    /// When the look began.
    pub taken_at: Timestamp,
    /// When the first of the looks began since which none has failed.
    pub unbroken_since: Timestamp,
    /// How many instances fewer than the largest of the looks shortly before it.
    pub fewer: usize,
    /// The last log entry that was applied when the look began: what it did not yet show then,
    /// it cannot tell about.
    pub after: u64,
    pub promises: Promises,
}

/// The looks at one plugin, as they come: what makes a listing of what one of them showed.
#[derive(Debug, Default)]
pub struct Looks {
    unbroken_since: Option<Timestamp>,
    /// When each of the latest began, and how many instances it showed.
    recent: Vec<(Timestamp, usize)>,
}

impl Looks {
    /// A look that began at `taken_at`, when the log was applied up to `after`, showed these.
    pub fn showed(
        &mut self,
        items: Vec<Arc<Description>>,
        promises: Promises,
        taken_at: Timestamp,
        after: u64,
    ) -> Listing {
        let total = items.len();
        // Twice the time that a doubt lasts, so that the doubt does not end before it.
        self.recent.retain(|(at, _)| taken_at.since(*at).0 <= 2 * MANY_GONE.0);
        let largest = self.recent.iter().map(|(_, total)| *total).max().unwrap_or(0);
        self.recent.push((taken_at, total));
        let unbroken_since = *self.unbroken_since.get_or_insert(taken_at);
        Listing { items, taken_at, unbroken_since, fewer: largest.saturating_sub(total), after, promises }
    }

    /// A look failed.
    pub fn failed(&mut self) {
        self.unbroken_since = None;
    }
}

/// What a plugin promises of itself, beyond InfraKit's own contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Promises {
    pub class: PluginClass,
    /// After how long an instance that was made is surely listed; none when it does not say.
    pub lists_within: Option<Millis>,
}

/// What can be done about a call whose answer was lost (ha-raft §3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PluginClass {
    /// Classes A and B: a repeated token, or a name that is unique, makes no second instance.
    Dedupes,
    /// Class C: its tags come with the instance, and a listing shows it within a time. Also whoever says
    /// nothing of itself.
    #[default]
    Lists,
    /// Class D: no listing proves that an instance was not made. Nothing is repeated but by an operator.
    Blind,
}

impl Promises {
    /// How far its listings may lag behind.
    pub fn listings_lag(&self) -> Millis {
        match self.class {
            PluginClass::Blind => Millis(u64::MAX),
            PluginClass::Dedupes | PluginClass::Lists => self.lists_within.unwrap_or(LISTINGS_LAG),
        }
    }
}

/// A flavor's word about an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    Unknown,
    Healthy,
    Unhealthy,
}

/// What is known of one instance's health, by repeated asking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulse {
    pub health: Health,
    /// Since when every answer was this one.
    pub since: Timestamp,
    /// How many answers in a row were this one.
    pub streak: u32,
    /// Why, when the flavor says.
    pub because: String,
}

/// The instances of one group among one plugin's listing.
#[derive(Debug, Clone, Default)]
pub struct View {
    pub taken_at: Timestamp,
    pub unbroken_since: Timestamp,
    pub fewer: usize,
    pub after: u64,
    pub promises: Promises,
    /// How many instances the plugin shows, of all groups and of none.
    pub total: usize,
    pub seen: BTreeMap<InstanceId, Seen>,
    /// Who carries the token of which intent of ours.
    pub by_intent: BTreeMap<IntentId, InstanceId>,
    /// Others that carry a token which stands in `by_intent`.
    pub twins: Vec<(IntentId, InstanceId)>,
    /// Instances with this cluster's id and what is no token of it, or of a lineage still to come.
    pub untold: BTreeMap<InstanceId, String>,
}

/// One instance of a group, with its tags understood.
#[derive(Debug, Clone)]
pub struct Seen {
    pub description: Arc<Description>,
    /// It carries this cluster's owner tag.
    pub ours: bool,
    /// The intent that made it, when its token is ours.
    pub intent: Option<IntentId>,
    /// It was made by hand to be adopted (semantics §2.8).
    pub bootstrap: bool,
    /// This cluster made it in an earlier lineage, by an entry that the present one does not know: it may be what
    /// holds its slot, whatever is recorded.
    pub lost: bool,
}

/// A slot, or an instance, that failed, and when it is tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backoff {
    pub until: Timestamp,
    pub because: String,
}

/// An attempt whose outcome is not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsure {
    /// When the call ended here; it may still take effect there until its limit has passed.
    pub ended_at: Timestamp,
    pub retry_at: Timestamp,
    pub because: String,
}

/// Everything the leader knows about the world, as far as one group is concerned.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// The latest view for each plugin of the group that could be asked.
    pub views: BTreeMap<PluginName, Arc<View>>,
    /// Plugins that cannot be asked: since when and why.
    pub troubles: BTreeMap<PluginName, Trouble>,
    /// Answers of the flavor.
    pub pulses: BTreeMap<InstanceId, Pulse>,
    /// Intents whose call is under way here, or whose outcome is on its way to the log.
    pub in_flight: BTreeSet<IntentId>,
    pub unsure: BTreeMap<IntentId, Unsure>,
    pub backoff: BTreeMap<Slot, Backoff>,
    /// Members that this leader has seen listed, of plugins whose listings may lag behind.
    pub sighted: BTreeSet<InstanceId>,
    /// Members that the latest look at their plugin did not show.
    pub absent: BTreeMap<InstanceId, Absence>,
    /// Instances without a slot that could not be destroyed, or do not show their label, and when that is
    /// tried again.
    pub held_off: BTreeMap<InstanceId, Backoff>,
    /// Why the plugins have not accepted the spec yet; empty when they have, or were not asked.
    pub unaccepted: String,
    /// Since when this manager leads: calls of earlier leaders began before.
    pub leading_since: Timestamp,
    pub bounds: Bounds,
}

/// What the cluster as a whole allows one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bounds {
    /// How many more instances may be made before the ceiling is reached.
    pub instances: usize,
    /// How many more intents may be opened.
    pub open: usize,
    /// There are more instances than there may be.
    pub overfull: bool,
    /// The machines that managers run on, with the managers' names: they are not destroyed.
    pub hosts: BTreeMap<InstanceId, String>,
    /// The last entry of the log that was applied: no token was given out after it.
    pub index: u64,
    /// The last entry of the lineage before this one; 0 when this is the first.
    pub since: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Bounds {
            instances: usize::MAX,
            open: usize::MAX,
            overfull: false,
            hosts: BTreeMap::new(),
            index: u64::MAX,
            since: 0,
        }
    }
}

/// How often in a row a member was not shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Absence {
    /// When the first look began that did not show it.
    pub since: Timestamp,
    pub looks: u32,
}

impl Observed {
    /// How long ago something was recorded, at least. What an earlier leader recorded is as old as this
    /// one's leadership: the clocks of two leaders are never compared, for they may differ by any time.
    pub fn age(&self, recorded: Timestamp, now: Timestamp) -> Millis {
        now.since(recorded.max(self.leading_since))
    }

    /// Takes in a new look at one of the group's plugins.
    pub fn see(&mut self, plugin: &PluginName, view: Arc<View>, group: &GroupState) {
        let lag = view.promises.listings_lag();
        let blind = view.promises.class == PluginClass::Blind;
        for Recorded { instance, template, index, since, ready } in group.recorded() {
            if group.template_of(template).template.instance.plugin != *plugin {
                continue;
            }
            if view.seen.contains_key(instance) {
                self.absent.remove(instance);
                if lag > Millis(0) {
                    self.sighted.insert(instance.clone());
                }
            } else if view.after >= index
                && (self.age(since, view.taken_at) >= lag
                    || self.sighted.contains(instance)
                    // Of such a plugin nobody is called ready who was not listed; see the planner.
                    || blind && ready)
            {
                // A look that began before the member was recorded, or when it need not be listed yet,
                // proves nothing, and is not counted later.
                let first = Absence { since: view.taken_at, looks: 0 };
                let absence = self.absent.entry(instance.clone()).or_insert(first);
                if absence.since < view.unbroken_since {
                    // A plugin that fails in between is in trouble: what it showed before that is no
                    // confirmation.
                    *absence = first;
                }
                absence.looks += 1;
            }
        }
        if !self.absent.is_empty() || !self.sighted.is_empty() {
            let recorded: BTreeSet<&InstanceId> = group.recorded().map(|it| it.instance).collect();
            self.absent.retain(|instance, _| recorded.contains(instance));
            self.sighted.retain(|instance| recorded.contains(instance));
        }
        self.views.insert(plugin.clone(), view);
    }
}

/// Why a plugin cannot be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    pub since: Timestamp,
    pub because: String,
}

impl View {
    /// The part of `listing` that concerns `group`. A missing tag never matches.
    pub fn of(listing: &Listing, group: &GroupId, cluster: &ClusterId, lineages: &Lineages) -> Self {
        let mut view = View {
            taken_at: listing.taken_at,
            unbroken_since: listing.unbroken_since,
            fewer: listing.fewer,
            after: listing.after,
            promises: listing.promises,
            total: listing.items.len(),
            ..View::default()
        };
        for description in &listing.items {
            let tag = |name: &str| description.tags.get(name).map(String::as_str);
            if tag(tags::GROUP) != Some(group.as_str()) {
                continue;
            }
            let ours = tag(tags::OWNER) == Some(cluster.as_str());
            let token = tag(tags::INTENT).filter(|_| ours);
            let intent = token.and_then(|token| intent_of(token, cluster, lineages));
            if let Some(intent) = intent
                && let Some(twin) = view.by_intent.insert(intent, description.id.clone())
            {
                view.twins.push((intent, twin));
            }
            let earlier = token.and_then(tags::lineage_of).is_some_and(|other| other < lineages.now);
            let lost = ours && intent.is_none() && earlier;
            if ours && intent.is_none() && !earlier {
                view.untold.insert(description.id.clone(), token.unwrap_or_default().to_owned());
            }
            let seen = Seen {
                description: description.clone(),
                ours,
                intent,
                bootstrap: tag(tags::CONFIG_HASH) == Some(tags::BOOTSTRAP),
                lost,
            };
            view.seen.insert(description.id.clone(), seen);
        }
        view
    }
}

impl Seen {
    pub fn tag(&self, name: &str) -> Option<&str> {
        self.description.tags.get(name).map(String::as_str)
    }

    /// Another cluster's, whatever its group is called.
    pub fn is_another_clusters(&self) -> bool {
        !self.ours && self.tag(tags::OWNER).is_some()
    }

    /// The logical id, by itself or by its tag (semantics §2.2).
    pub fn logical_id(&self) -> Option<LogicalId> {
        match &self.description.logical_id {
            Some(id) => Some(id.clone()),
            None => self.tag(tags::LOGICAL_ID).map(LogicalId::new),
        }
    }
}

fn intent_of(token: &str, cluster: &ClusterId, lineages: &Lineages) -> Option<IntentId> {
    let mut parts = token.strip_prefix(cluster.short())?.strip_prefix('-')?.splitn(3, '-');
    let lineage: u32 = parts.next()?.parse().ok()?;
    let id = IntentId { index: parts.next()?.parse().ok()?, offset: parts.next()?.parse().ok()? };
    (lineages.of(id) == lineage).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_tells_how_many_are_fewer_than_shortly_before_and_since_when_no_look_failed() {
        let one = |n: usize| {
            let description = Description {
                id: InstanceId::new(format!("i{n}")),
                logical_id: None,
                tags: Tags::new(),
                properties: None,
            };
            Arc::new(description)
        };
        let mut looks = Looks::default();
        let show = |looks: &mut Looks, n: usize, second: u64| {
            let listing =
                looks.showed((0..n).map(one).collect(), Promises::default(), Timestamp(second * 1000), 0);
            (listing.fewer, listing.unbroken_since.0 / 1000)
        };
        assert_eq!(show(&mut looks, 5, 1), (0, 1));
        assert_eq!(show(&mut looks, 2, 2), (3, 1));
        assert_eq!(show(&mut looks, 2, 7), (3, 1), "as long as the doubt lasts");
        looks.failed();
        assert_eq!(show(&mut looks, 2, 12), (0, 12), "then that is how many there are");
    }

    #[test]
    fn the_clocks_of_two_leaders_are_never_compared() {
        // An earlier leader recorded something; the clock of this one is an hour ahead.
        let (recorded, leading_since) = (Timestamp(100_000), Timestamp(3_700_000));
        let observed = Observed { leading_since, ..Observed::default() };
        assert_eq!(observed.age(recorded, leading_since + Millis::seconds(5)), Millis::seconds(5));
        let own = leading_since + Millis::seconds(2);
        assert_eq!(observed.age(own, own + Millis::seconds(3)), Millis::seconds(3));
    }

    #[test]
    fn a_missing_or_different_group_tag_is_no_match() {
        let cluster = ClusterId::new("0123456789abcdef0123456789abcdef");
        let item = |id: &str, tags: &[(&str, &str)]| {
            Arc::new(Description {
                id: id.into(),
                logical_id: None,
                tags: tags.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
                properties: None,
            })
        };
        let token = tags::token(&cluster, &Lineages::from(1), IntentId { index: 7, offset: 2 });
        let listing = Listing {
            items: vec![
                item("bare", &[]),
                item("foreign", &[("tier", "web")]),
                item("other", &[(tags::GROUP, "web2")]),
                item("seed", &[(tags::GROUP, "web"), (tags::CONFIG_HASH, "bootstrap")]),
                item(
                    "mine",
                    &[(tags::GROUP, "web"), (tags::OWNER, cluster.as_str()), (tags::INTENT, &token)],
                ),
                item("theirs", &[(tags::GROUP, "web"), (tags::OWNER, "ffff"), (tags::INTENT, &token)]),
            ],
            taken_at: Timestamp(1),
            unbroken_since: Timestamp(1),
            fewer: 0,
            after: 0,
            promises: Promises { class: PluginClass::Dedupes, lists_within: Some(Millis(0)) },
        };
        let view = View::of(&listing, &"web".into(), &cluster, &Lineages::from(1));
        let ids: Vec<_> = view.seen.keys().map(InstanceId::as_str).collect();
        assert_eq!(ids, ["mine", "seed", "theirs"]);
        assert!(view.seen[&InstanceId::new("mine")].ours);
        assert!(view.seen[&InstanceId::new("seed")].bootstrap);
        assert!(!view.seen[&InstanceId::new("theirs")].ours);
        let by_intent: Vec<_> = view.by_intent.values().map(InstanceId::as_str).collect();
        assert_eq!(by_intent, ["mine"], "only our own tokens count");
    }

    #[test]
    fn a_token_that_stands_twice_or_was_never_given_out_is_told_apart() {
        let cluster = ClusterId::new("0123456789abcdef0123456789abcdef");
        let intent = IntentId { index: 7, offset: 2 };
        let item = |id: &str, token: Option<String>| {
            let mut tags = Tags::from([
                (tags::GROUP.to_owned(), "web".to_owned()),
                (tags::OWNER.to_owned(), cluster.to_string()),
            ]);
            tags.extend(token.map(|token| (tags::INTENT.to_owned(), token)));
            Arc::new(Description { id: id.into(), logical_id: None, tags, properties: None })
        };
        let of = |lineage: u32| Some(tags::token(&cluster, &Lineages::from(lineage), intent));
        let items = vec![
            item("first", of(2)),
            item("second", of(2)),
            item("before", of(1)),
            item("later", of(3)),
            item("garbled", Some("x".into())),
            item("bare", None),
        ];
        let listing = Looks::default().showed(items, Promises::default(), Timestamp(1), 0);
        let view = View::of(&listing, &"web".into(), &cluster, &Lineages::from(2));
        assert_eq!(view.twins.len(), 1);
        let pair = [view.twins[0].1.as_str(), view.by_intent[&intent].as_str()];
        assert!(pair == ["first", "second"], "{pair:?}");
        let untold: Vec<_> = view.untold.keys().map(InstanceId::as_str).collect();
        assert_eq!(untold, ["bare", "garbled", "later"], "an earlier lineage is this cluster's own");
        assert_eq!(view.seen[&InstanceId::new("before")].intent, None);
        assert!(view.seen[&InstanceId::new("before")].lost && !view.seen[&InstanceId::new("later")].lost);
        // An intent that was open when its lineage ended is known by the name that it had.
        let lineages = Lineages::from(1).followed_by(2, 7);
        let view = View::of(&listing, &"web".into(), &cluster, &lineages);
        assert_eq!(view.by_intent[&intent].as_str(), "before");
        assert!(
            view.twins.is_empty() && view.untold.len() == 5,
            "nor was lineage 2 there before it began: {view:?}"
        );
    }
}
