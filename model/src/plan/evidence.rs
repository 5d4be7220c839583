//! What looks prove: who is missing from how many of them, and which are to be doubted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::ids::{InstanceId, InstanceRef, PluginName};
use crate::limits::{LISTINGS_LAG, MANY, MOST_LOST, TAGS_OUT};
use crate::observed::{Absence, FirstLook, Observed, Seen, View};
use crate::plugin::PluginClass;
use crate::state::{GroupState, Recorded};
use crate::tags;
use crate::time::{Millis, Timestamp};

/// How long ago something was recorded, at least. What an earlier leader recorded is as old as this
/// one's leadership: the clocks of two leaders are never compared, for they may differ by any time.
pub(super) fn age(observed: &Observed, recorded: Timestamp, now: Timestamp) -> Millis {
    now.since(recorded.max(observed.leading_since))
}

/// Takes in a new look at one of the group's plugins.
pub fn see(observed: &mut Observed, plugin: &PluginName, view: Arc<View>, group: &GroupState) {
    let lag = view.guarantees.listings_lag();
    let blind = view.guarantees.class == PluginClass::D;
    for Recorded { instance, index, since, ready, .. } in group.recorded() {
        if instance.plugin != *plugin {
            continue;
        }
        if view.seen.contains_key(&instance.id) {
            observed.missing.remove(instance);
            if lag > Millis(0) {
                observed.listed_once.insert(instance.clone());
            }
        } else if view.after >= index
            && (age(observed, since, view.taken_at) >= lag
                || observed.listed_once.contains(instance)
                // Of such a plugin nobody is called ready who was not listed; see the planner.
                || blind && ready)
        {
            // A look that began before the member was recorded, or when it need not be listed yet,
            // proves nothing, and is not counted later.
            let first = Absence { since: view.taken_at, first: view.taken_at, listings_seen: 0 };
            let absence = observed.missing.entry(instance.clone()).or_insert(first);
            if absence.since < view.unbroken_since {
                // A plugin that fails in between is in trouble: what it showed before that is no
                // confirmation.
                *absence = Absence { first: absence.first, ..first };
            }
            absence.listings_seen += 1;
        }
    }
    if !observed.missing.is_empty() || !observed.listed_once.is_empty() {
        let recorded: BTreeSet<&InstanceRef> = group.recorded().map(|it| it.instance).collect();
        let lost = |it: &&InstanceRef| !recorded.contains(it) && group.destroyed_at(&it.id).is_none();
        observed.lost.extend(observed.missing.keys().filter(lost).cloned());
        while observed.lost.len() > MOST_LOST {
            observed.lost.pop_first();
        }
        observed.missing.retain(|instance, _| recorded.contains(instance));
        observed.listed_once.retain(|instance| recorded.contains(instance));
    }
    see_newcomers(observed, plugin, &view, group);
    see_members_of_before(observed, plugin, &view, group);
    observed.views.insert(plugin.clone(), view);
}

/// From when on a listing may show all that a group of this name had before it was declared again.
pub(super) fn shows_all_from(observed: &Observed, view: &View, group: &GroupState) -> Option<Timestamp> {
    let lag = view.guarantees.lists_within.unwrap_or(LISTINGS_LAG);
    Some(group.declared_again?.max(observed.leading_since) + lag)
}

/// Remembers the first such listing. One that is cut short, one without tags, or a failure in between begins it again.
fn see_members_of_before(observed: &mut Observed, plugin: &PluginName, view: &View, group: &GroupState) {
    let Some(from) = shows_all_from(observed, view, group) else {
        observed.first_look = None;
        return;
    };
    if *plugin != *group.plugin_of(group.target) || view.taken_at < from || view.after < group.list_from {
        return;
    }
    // Who is known is listed whatever its tags say, and nobody else is.
    let mut known = view.seen.iter().filter(|(id, _)| group.has(plugin, id)).peekable();
    let without_tags = known.peek().is_some() && known.all(|(_, seen)| seen.tag(tags::GROUP).is_none());
    // For so long, somebody has taken them away.
    let tags_are_out = without_tags && view.taken_at < from + TAGS_OUT;
    let now = FirstLook { at: view.taken_at, total: view.total, seen: view.seen.len() };
    let goes_on = |first: &FirstLook| {
        view.unbroken_since <= first.at && first.total <= now.total && first.seen <= now.seen
    };
    let first = observed.first_look.filter(goes_on).map_or(now.at, |first| first.at);
    observed.first_look = (!tags_are_out).then_some(FirstLook { at: first, ..now });
}

/// Since when instances that may have been left behind by a closed intent, or lack some of our tags, are shown without
/// a break.
fn see_newcomers(observed: &mut Observed, plugin: &PluginName, view: &View, group: &GroupState) {
    let newcomer = |instance: &InstanceId, seen: &Seen| {
        let lacks_tags = || !seen.has_all_tags(&group.spec.allocation);
        // What is being made is awaited by its intent, and judged from its end on.
        let new = seen.intent.map_or_else(lacks_tags, |intent| !group.intents.contains_key(&intent));
        new && !group.has(plugin, instance)
    };
    let before = observed.views.get(plugin);
    let gone = |it: &InstanceId| {
        before.is_some_and(|view| view.seen.contains_key(it)) && !view.seen.contains_key(it)
    };
    observed.appeared.retain(|InstanceRef { plugin: of, id }, _| {
        of != plugin || !gone(id) && view.seen.get(id).is_none_or(|seen| newcomer(id, seen))
    });
    if view.after >= group.changed {
        for (instance, _) in view.seen.iter().filter(|(instance, seen)| newcomer(instance, seen)) {
            observed.appeared.entry(InstanceRef::new(plugin, instance)).or_insert(view.taken_at);
        }
    }
}

/// The plugins whose latest look shows nothing at all, or lacks many of the members it should show:
/// instances seldom die together, and listings are cut short.
pub(super) fn suspicious<'a>(group: &'a GroupState, observed: &'a Observed) -> BTreeSet<&'a PluginName> {
    if observed.missing.is_empty() {
        return BTreeSet::new();
    }
    let mut counts: BTreeMap<&PluginName, (usize, usize)> = BTreeMap::new();
    for Recorded { instance, .. } in group.recorded() {
        let plugin = &instance.plugin;
        let missing = observed.missing.contains_key(instance);
        let seen = observed.views.get(plugin).is_some_and(|view| view.seen.contains_key(&instance.id));
        let (shown, lacking) = counts.entry(plugin).or_default();
        // Whom a listing need not show yet says nothing about it.
        *shown += usize::from(seen || missing);
        *lacking += usize::from(missing);
    }
    let view = |plugin| observed.views.get(plugin);
    let shows_nothing = |plugin| view(plugin).is_some_and(|view| view.total == 0);
    // Groups share a listing: what is cut short takes a few from each.
    let lacks_many = |plugin| view(plugin).is_some_and(|view| view.shrunk_by >= MANY);
    counts
        .into_iter()
        .filter(|(plugin, (members, missing))| {
            *missing > 0
                && (shows_nothing(*plugin)
                    || lacks_many(*plugin)
                    || *missing >= MANY
                    || *missing > 1 && missing * 2 > *members)
        })
        .map(|(plugin, _)| plugin)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clocks_of_two_leaders_are_never_compared() {
        // An earlier leader recorded something; the clock of this one is an hour ahead.
        let (recorded, leading_since) = (Timestamp(100_000), Timestamp(3_700_000));
        let observed = Observed { leading_since, ..Observed::default() };
        assert_eq!(age(&observed, recorded, leading_since + Millis::seconds(5)), Millis::seconds(5));
        let own = leading_since + Millis::seconds(2);
        assert_eq!(age(&observed, own, own + Millis::seconds(3)), Millis::seconds(3));
    }
}
