//! A provider with everything that real ones do to their callers, and the record by which a run is judged.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use manager::Work;
use model::ids::{IntentId, LogicalId};
use model::intent::Reason;
use model::plugin::PluginClass;
use model::tags::Tags;
use model::{GroupId, InstanceId, InstanceRef, Millis, PluginName, Task};
use tokio::time::Instant;

/// How far the listings of one plugin lag behind, as it says of itself.
const LAG: Millis = Millis::seconds(20);
/// How far those of a plugin do that says nothing of itself.
const BLIND: Millis = Millis::seconds(60);

/// How long an operator's word waits for a drain that is refused, at least.
const WAITED_FOR_DRAIN: Duration = Duration::from_secs(60);
/// How long a call that has waited so may take to take effect, when drains are granted again meanwhile.
const GOES_ON: Duration = Duration::from_secs(30);

/// One instance, as the provider knows it.
#[derive(Debug, Clone)]
pub(crate) struct Instance {
    /// Each plugin numbers its own, and all number alike.
    pub(crate) at: InstanceRef,
    pub(crate) tags: Tags,
    /// Where in the log the intent stands that made it.
    pub(crate) claim: IntentId,
    pub(crate) born: Instant,
    pub(crate) gone: Option<Instant>,
    /// From when its flavor calls it healthy.
    pub(crate) healthy_from: Instant,
    /// From when it is listed, and from when with all its tags; and the tags that it is listed with until then.
    pub(crate) listed_from: Instant,
    pub(crate) tagged_from: Instant,
    pub(crate) tags_at_first: Tags,
    /// Who asked for its end: the token of a destroy, or nobody when it died by itself.
    pub(crate) ended_by: Option<String>,
}

/// One effect that was asked for.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) at: Instant,
    pub(crate) node: usize,
    /// The term of the leader that makes it.
    pub(crate) term: u64,
    pub(crate) group: GroupId,
    /// Where in the log the intent stands.
    pub(crate) claim: IntentId,
    pub(crate) token: String,
    pub(crate) task: Task,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.task {
            Task::Provision { slot, .. } => write!(f, "provision {}/{slot} {}", self.group, self.token),
            Task::Destroy { instance, .. } => write!(f, "destroy {instance} {}", self.token),
            Task::Label { instance, .. } => write!(f, "label {instance} {}", self.token),
        }
    }
}

#[derive(Default)]
pub(crate) struct Cloud {
    /// How long an instance takes to be healthy, in milliseconds, at least and at most.
    pub(crate) boots: (u64, u64),
    pub(crate) instances: Vec<Instance>,
    pub(crate) by_token: BTreeMap<(PluginName, String), usize>,
    pub(crate) calls: Vec<Call>,
    /// How many of a hundred calls go wrong.
    pub(crate) trouble: u64,
    /// How often each thing went wrong.
    pub(crate) faults: BTreeMap<&'static str, usize>,
    /// A manager that is to die right before, or right after, its next call takes effect.
    pub(crate) terminating: Option<(usize, bool)>,
    /// How often a manager could have died so, and at which of these times one is to.
    pub(crate) moments: u64,
    pub(crate) dies_at: Option<u64>,
    /// Managers that were killed by that.
    pub(crate) died: Vec<usize>,
    /// The tokens of calls that took effect after everybody had given them up, and how many are still to.
    pub(crate) given_up: BTreeSet<String>,
    pub(crate) to_come: usize,
    /// Instances that were removed again before anybody heard of them.
    pub(crate) half_made: BTreeSet<InstanceRef>,
    /// Whether listings have no tags.
    pub(crate) tags_lost: bool,
    /// When a group was freed last: until its members are known again, nothing but their tags tells whose they are.
    pub(crate) freed: Option<Instant>,
    /// The logical id by which all are listed, whatever their own.
    pub(crate) one_name: Option<LogicalId>,
    /// Whether flavors refuse to drain anybody; who has been drained, and since when whose drain is refused.
    pub(crate) drains_refused: bool,
    pub(crate) drained: BTreeSet<InstanceRef>,
    pub(crate) undrained_since: BTreeMap<InstanceRef, (Instant, Option<Instant>)>,
    /// Instances that were not listed for a while, and until when.
    pub(crate) hidden: BTreeMap<InstanceRef, Instant>,
    /// An instance that does not run, whatever its flavor says.
    pub(crate) stopped: Option<InstanceRef>,
    /// Promises that were seen broken as it happened.
    pub(crate) broken: BTreeSet<String>,
    /// Managers that are frozen: their calls go on when they wake.
    pub(crate) frozen: Vec<usize>,
}

/// What happens to one call.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Fate {
    Well,
    /// Refused, and nothing was done.
    Refused,
    /// Done, and the answer is lost.
    Lost,
    /// The caller hears of a failure at once; it is done later all the same.
    Late,
    /// The same, later than any call may take: only where nothing keeps a repeat from making another.
    TooLate,
    /// Nothing is done, and nothing is said.
    Hung,
    /// It is made and listed for a moment; then a later step fails, and it is removed again.
    HalfMade,
}

impl Cloud {
    /// Draws what happens to a call of this plugin.
    pub(crate) fn fate(&mut self, plugin: &PluginName) -> Fate {
        if raft::between(1, 100) > self.trouble {
            return Fate::Well;
        }
        let (fate, name) = [
            (Fate::Refused, "a call refused"),
            (Fate::Lost, "an answer lost"),
            (Fate::Late, "an effect that came late"),
            (Fate::Hung, "a call that hung"),
            (Fate::HalfMade, "an instance half made"),
            (Fate::TooLate, "an effect that came when it was given up"),
        ][raft::between(0, if class(plugin) == PluginClass::C { 5 } else { 4 }) as usize];
        *self.faults.entry(name).or_default() += 1;
        fate
    }

    fn provision(&mut self, work: &Work) -> InstanceRef {
        let plugin = work.known.template.instance.plugin.clone();
        let key = (plugin.clone(), work.token.clone());
        if class(&plugin).dedupes()
            && let Some(at) = self.by_token.get(&key)
        {
            let known = self.instances[*at].at.clone();
            if !self.half_made.contains(&known) {
                return known;
            }
            // A repeat waits until the failed one is removed.
            self.unmake(&known);
        }
        let lag = match lags(&plugin) {
            Some(lag) => raft::between(0, lag.0 - 1000),
            None => 0,
        };
        let listed_from = Instant::now() + Duration::from_millis(lag);
        // Tags take their time, too, where listings do, and come one by one.
        let tagged_from = match lags(&plugin) {
            Some(longest) => Instant::now() + Duration::from_millis(raft::between(lag, longest.0 - 1000)),
            None => listed_from,
        };
        let tags_at_first = work.tags.clone().into_iter().filter(|_| raft::between(0, 1) == 0).collect();
        let boots = if self.boots.1 > 0 { raft::between(self.boots.0, self.boots.1) } else { 0 };
        let number = self.instances.iter().filter(|it| it.at.plugin == plugin).count();
        let at = InstanceRef { id: InstanceId::new(format!("i-{number:05}")), plugin };
        self.by_token.insert(key, self.instances.len());
        self.instances.push(Instance {
            at: at.clone(),
            tags: work.tags.clone(),
            claim: work.intent.id,
            born: Instant::now(),
            healthy_from: Instant::now() + Duration::from_millis(boots),
            gone: None,
            listed_from,
            tagged_from,
            tags_at_first,
            ended_by: None,
        });
        at
    }

    /// Makes an instance that is to be removed again.
    pub(crate) fn half_make(&mut self, work: &Work) -> InstanceRef {
        let made = self.provision(work);
        self.half_made.insert(made.clone());
        made
    }

    /// Removes what was half made: its token is as if it had never been used.
    pub(crate) fn unmake(&mut self, made: &InstanceRef) {
        self.by_token.retain(|_, at| self.instances[*at].at != *made);
        if let Some(instance) = self.instances.iter_mut().find(|it| it.at == *made && it.gone.is_none()) {
            instance.gone = Some(Instant::now());
        }
    }

    /// Does what the intent asks for.
    pub(crate) fn take_effect(&mut self, work: &Work) -> InstanceId {
        match &work.intent.task {
            Task::Provision { .. } => self.provision(work).id,
            Task::Destroy { instance, reason, .. } => {
                let living = self.running().any(|it| it.at == *instance);
                let missed = self.missed_drain(instance, *reason).filter(|_| living);
                self.broken.extend(missed);
                self.destroy(instance, &work.token);
                instance.id.clone()
            }
            Task::Label { instance, .. } => instance.clone(),
        }
    }

    /// Whether the flavor lets it go: drained is drained, whatever is refused later.
    pub(crate) fn drain(&mut self, instance: &InstanceRef) -> bool {
        if self.drains_refused && !self.drained.contains(instance) {
            let since = self.undrained_since.entry(instance.clone()).or_insert((Instant::now(), None));
            if since.1.take().is_some() {
                // It was well in between.
                since.0 = Instant::now();
            }
            *self.faults.entry("a drain refused").or_default() += 1;
            return false;
        }
        self.drained.insert(instance.clone());
        true
    }

    /// A member goes only when it is drained, or when an operator has waited long enough for its end.
    fn missed_drain(&self, instance: &InstanceRef, reason: Reason) -> Option<String> {
        if self.drained.contains(instance) {
            return None;
        }
        let since = self.undrained_since.get(instance);
        let goes_on = |well: &Option<Instant>| well.is_none_or(|well| well.elapsed() < GOES_ON);
        let waited = since.is_some_and(|(since, well)| since.elapsed() >= WAITED_FOR_DRAIN && goes_on(well));
        let due = reason != Reason::RollingUpdate && waited;
        (!due).then(|| format!("{instance} was destroyed ({}) without its drain", reason.as_str()))
    }

    fn destroy(&mut self, named: &InstanceRef, token: &str) {
        if let Some(instance) = self.instances.iter_mut().find(|it| it.at == *named && it.gone.is_none()) {
            instance.gone = Some(Instant::now());
            instance.ended_by = Some(token.to_owned());
        }
    }

    /// An instance dies by itself.
    pub(crate) fn lose_one(&mut self) {
        // Whom a plugin that proves nothing has never shown to a leader it cannot miss.
        let now = Instant::now();
        let shown = |it: &Instance| {
            class(&it.at.plugin) != PluginClass::D || it.listed_from + Duration::from_secs(30) <= now
        };
        let running: Vec<usize> = (0..self.instances.len())
            .filter(|at| self.instances[*at].gone.is_none() && shown(&self.instances[*at]))
            .collect();
        if !running.is_empty() {
            let at = running[raft::between(0, running.len() as u64 - 1) as usize];
            self.instances[at].gone = Some(Instant::now());
            *self.faults.entry("an instance that died").or_default() += 1;
        }
    }

    /// One with a name is not listed for a while, though it lives.
    pub(crate) fn hide_a_pet(&mut self, until: Instant) {
        let named = |it: &&Instance| {
            it.tags.contains_key(model::tags::LOGICAL_ID) && !self.hidden.contains_key(&it.at)
        };
        let pets: Vec<InstanceRef> = self.running().filter(named).map(|it| it.at.clone()).collect();
        if !pets.is_empty() {
            let at = raft::between(0, pets.len() as u64 - 1) as usize;
            self.hidden.insert(pets[at].clone(), until);
        }
    }

    /// The tags that a listing shows of it at this time.
    pub(crate) fn shown_tags(&self, instance: &Instance, now: Instant) -> Tags {
        match () {
            () if self.tags_lost => Tags::new(),
            () if now < instance.tagged_from => instance.tags_at_first.clone(),
            () => instance.tags.clone(),
        }
    }

    /// Everything that goes wrong for a while is well again.
    pub(crate) fn be_well(&mut self) {
        self.trouble = 0;
        self.tags_lost = false;
        self.one_name = None;
        self.drains_refused = false;
        // Whoever has been refused for long enough may be about to go on without.
        let now = Instant::now();
        self.undrained_since.retain(|_, (_, well)| well.is_none_or(|well| well + GOES_ON > now));
        self.undrained_since.values_mut().for_each(|(_, well)| *well = well.or(Some(now)));
        self.frozen.clear();
    }

    pub(crate) fn running(&self) -> impl Iterator<Item = &Instance> {
        self.instances.iter().filter(|it| it.gone.is_none())
    }
}

/// `foreign` is of class C: tags are set when an instance is made, and a repeat makes another. `blind` is of
/// class D: it lists an instance when it pleases.
pub(crate) fn class(plugin: &PluginName) -> PluginClass {
    match plugin.lookup() {
        "foreign" => PluginClass::C,
        "blind" => PluginClass::D,
        _ => PluginClass::A,
    }
}

/// How long its instances may be missing from listings; the plugin of the pets says so of itself.
pub(crate) fn lags(plugin: &PluginName) -> Option<Millis> {
    match plugin.as_str() {
        "ours/b" => Some(LAG),
        "blind/d" => Some(BLIND),
        _ => None,
    }
}
