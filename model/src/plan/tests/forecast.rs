//! The forecast against what is done.

use super::laws::{after_a_crash, every_small_group};
use super::*;
use crate::forecast::{Forecast, Step, Verb as Deed, forecast};

impl Story {
    fn foretold(&mut self) -> Forecast {
        self.look();
        forecast(&self.state, &web(), &self.observed, LogIndex(self.index), self.now)
    }

    /// No longer managed; its instances stay.
    fn is_released(&mut self) {
        let key = ObjectKey::group(&web());
        assert_eq!(self.apply(Change::Object { key, verb: Verb::Release }), Answer::Done);
        assert!(self.state.group(&web()).is_none());
    }

    fn ids(&self) -> BTreeSet<InstanceId> {
        self.provider.iter().map(|(id, ..)| id.clone()).collect()
    }
}

fn told(forecast: &Forecast) -> Vec<String> {
    let name = |it: &Option<InstanceRef>| it.as_ref().map(|it| format!(" {it}")).unwrap_or_default();
    let slot = |it: &Option<Slot>| it.as_ref().map(|it| format!(" slot {it}")).unwrap_or_default();
    forecast
        .steps
        .iter()
        .map(|it| format!("{}{}{}", it.verb.as_str(), slot(&it.slot), name(&it.instance)))
        .collect()
}

#[test]
fn from_every_small_state_what_is_foretold_is_done_and_nothing_else() {
    for (held, size) in every_small_group() {
        let mut story = after_a_crash(held, size);
        story.provider.iter_mut().for_each(|(_, _, health)| *health = Health::Healthy);
        let foretold = story.foretold();
        let (before, made) = (story.ids(), story.made);
        let story = story.settles();
        let gone: BTreeSet<InstanceId> = before.difference(&story.ids()).cloned().collect();
        let ended = |it: &&Step| matches!(it.verb, Deed::Destroy | Deed::Replace | Deed::Repeat);
        let to_go: BTreeSet<InstanceId> = foretold
            .steps
            .iter()
            .filter(ended)
            .filter_map(|it| Some(it.instance.as_ref()?.id.clone()))
            .collect();
        assert_eq!(to_go, gone, "{held:?} to {size}: {:?}", told(&foretold));
        let creates =
            foretold.steps.iter().filter(|it| matches!(it.verb, Deed::Create | Deed::Replace)).count();
        let repeated = foretold.steps.iter().filter(|it| it.verb == Deed::Repeat).count();
        let made = (story.made - made) as usize;
        assert!(
            (creates..=creates + repeated).contains(&made),
            "{held:?} to {size}: {made} were made; {:?}",
            told(&foretold)
        );
    }
}

#[test]
fn whoever_is_sick_stays_sick_in_a_forecast_and_it_ends() {
    for (held, size) in every_small_group() {
        let mut story = after_a_crash(held, size);
        let (foretold, before) = (story.foretold(), story.ids());
        let known = |it: &Step| {
            it.instance
                .as_ref()
                .is_none_or(|it| before.contains(&it.id) || story.group().occupied(it).is_some())
        };
        assert!(foretold.steps.iter().all(known), "{held:?} to {size}: {:?}", told(&foretold));
    }
}

#[test]
fn a_rollout_is_foretold_to_its_end() {
    let mut story = Story::of(3).settles().wants("v2", Allocation::Size(2));
    assert_eq!(
        told(&story.foretold()),
        ["destroy slot 2 i003", "replace slot 0 i001", "replace slot 1 i002"]
    );
}

#[test]
fn what_waits_for_evidence_is_foretold_too() {
    let mut story = Story::new(spec("v1", ids(&["a", "b"]))).settles();
    story.provider.remove(1);
    assert!(story.plan().actions.is_empty(), "it may come back");
    assert_eq!(told(&story.foretold()), ["create slot b"]);
}

#[test]
fn pets_that_their_plugin_lists_under_one_name_are_foretold_to_be_adopted() {
    let mut story = Story::new(spec("v1", ids(&["a", "b", "c"]))).settles();
    story.is_released();
    story.listed_as = Some("a".into());
    let mut story = story.wants("v1", ids(&["a", "b", "c"]));
    assert_eq!(told(&story.foretold()), ["adopt slot a i001", "adopt slot b i002", "adopt slot c i003"]);
    let story = story.settles();
    assert_eq!(story.ids().len(), 3);
}

#[test]
fn what_is_adopted_with_another_template_is_foretold_to_be_replaced() {
    let mut story = Story::of(2).settles();
    story.is_released();
    let mut story = story.wants("v2", Allocation::Size(2));
    let foretold = told(&story.foretold());
    assert_eq!(foretold[..2], ["adopt slot 0 i001", "adopt slot 1 i002"]);
    assert_eq!(foretold[2..], ["replace slot 0 i001", "replace slot 1 i002"]);
}

#[test]
fn a_large_group_is_looked_ahead_less_far_and_told_whole() {
    let mut story = Story::of(0);
    let size = 400;
    for n in 0..size {
        let hash = story.group().template().hash.clone();
        let tags = tags_of(&hash, Some(&Slot::Ordinal(n)), None);
        story.provider.push((InstanceId::new(format!("i{n:03}")), tags, Health::Healthy));
    }
    let mut story = story.wants("v1", Allocation::Size(size)).settles().wants("v2", Allocation::Size(size));
    let foretold = story.foretold();
    assert_eq!(foretold.steps.len(), size as usize);
    assert!(foretold.steps.iter().all(|it| it.verb == Deed::Replace), "{:?}", told(&foretold));
}

#[test]
fn a_paused_group_is_foretold_as_if_it_were_resumed() {
    let mut story = Story::of(3).settles();
    story.apply(Change::Object { key: ObjectKey::group(&web()), verb: Verb::Pause });
    let mut story = story.wants("v1", Allocation::Size(2));
    assert!(story.plan().actions.is_empty());
    assert_eq!(told(&story.foretold()), ["destroy slot 2 i003"]);
}

#[test]
fn a_plugin_that_does_not_answer_proves_nothing_in_a_forecast_either() {
    let mut story = Story::of(2).settles();
    story.provider.remove(1);
    story.look();
    let plugin = story.group().template().template.instance.plugin.clone();
    let trouble = crate::observed::Trouble { since: story.now, message: "it hangs".into() };
    story.observed.troubles.insert(plugin, trouble);
    let foretold = forecast(&story.state, &web(), &story.observed, LogIndex(story.index), story.now);
    assert!(foretold.steps.is_empty(), "{:?}", told(&foretold));
}

#[test]
fn what_is_too_large_to_be_foretold_to_its_end_says_so() {
    let few = crate::limits::MOST_FORETOLD as u32 / 10;
    let mut story = Story::of(few);
    let foretold = story.foretold();
    assert!(foretold.truncated && foretold.steps.len() >= crate::limits::LARGEST_BATCH);
    assert!(!Story::of(3).foretold().truncated);
}
