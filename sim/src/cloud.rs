//! A provider that every manager reaches through a plugin of its own, with everything that real ones do
//! to their callers; and the record by which a run is judged.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use manager::{Listed, Rejection, Work, World};
use model::ids::IntentId;
use model::plugin::{Guarantees, PluginClass};
use model::tags::{self, Tags};
use model::{
    Description, GroupId, GroupSpec, Health, InstanceId, Millis, Opaque, Outcome, Part, PluginName, Task,
};
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// How far the listings of one plugin lag behind, as it says of itself.
const LAG: Millis = Millis::seconds(20);
/// How far those of a plugin do that says nothing of itself.
const BLIND: Millis = Millis::seconds(60);
/// When a call takes effect that everybody has given up: after the longest time it may take, in seconds.
const TOO_LATE: (u64, u64) = (31, 40);
/// What a plugin's answer is waited for.
const DEADLINE: Duration = Duration::from_secs(15);

/// One instance, as the provider knows it.
#[derive(Debug, Clone)]
pub(crate) struct Instance {
    pub(crate) id: InstanceId,
    pub(crate) plugin: PluginName,
    pub(crate) tags: Tags,
    /// Where in the log the intent stands that made it.
    pub(crate) claim: IntentId,
    pub(crate) born: Instant,
    pub(crate) gone: Option<Instant>,
    /// From when its flavor calls it healthy.
    pub(crate) healthy_from: Instant,
    /// From when it is listed.
    listed_from: Instant,
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
    /// Managers that are frozen: their calls go on when they wake.
    pub(crate) frozen: Vec<usize>,
}

/// The provider as one manager's plugins show it.
#[derive(Clone)]
pub(crate) struct Sight {
    cloud: Arc<Mutex<Cloud>>,
    node: usize,
    turns: Arc<Semaphore>,
}

/// How many calls of one manager are under way at once.
const TURNS: usize = 8;

/// What happens to one call.
#[derive(Clone, Copy, PartialEq)]
enum Fate {
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
}

impl Cloud {
    fn fate(&mut self, plugin: &PluginName) -> Fate {
        if raft::between(1, 100) > self.trouble {
            return Fate::Well;
        }
        let (fate, name) = [
            (Fate::Refused, "a call refused"),
            (Fate::Lost, "an answer lost"),
            (Fate::Late, "an effect that came late"),
            (Fate::Hung, "a call that hung"),
            (Fate::TooLate, "an effect that came when it was given up"),
        ][raft::between(0, if class(plugin) == PluginClass::C { 4 } else { 3 }) as usize];
        *self.faults.entry(name).or_default() += 1;
        fate
    }

    fn provision(&mut self, work: &Work) -> InstanceId {
        let plugin = work.known.template.instance.plugin.clone();
        let key = (plugin.clone(), work.token.clone());
        if class(&plugin).dedupes()
            && let Some(at) = self.by_token.get(&key)
        {
            return self.instances[*at].id.clone();
        }
        let lag = match lags(&plugin) {
            Some(lag) => raft::between(0, lag.0 - 1000),
            None => 0,
        };
        let listed_from = Instant::now() + Duration::from_millis(lag);
        let boots = if self.boots.1 > 0 { raft::between(self.boots.0, self.boots.1) } else { 0 };
        let id = InstanceId::new(format!("i-{:05}", self.instances.len()));
        self.by_token.insert(key, self.instances.len());
        self.instances.push(Instance {
            id: id.clone(),
            plugin,
            tags: work.tags.clone(),
            claim: work.intent.id,
            born: Instant::now(),
            healthy_from: Instant::now() + Duration::from_millis(boots),
            gone: None,
            listed_from,
            ended_by: None,
        });
        id
    }

    fn destroy(&mut self, id: &InstanceId, token: &str) {
        if let Some(instance) = self.instances.iter_mut().find(|it| it.id == *id && it.gone.is_none()) {
            instance.gone = Some(Instant::now());
            instance.ended_by = Some(token.to_owned());
        }
    }

    /// An instance dies by itself.
    pub(crate) fn lose_one(&mut self) {
        // Whom a plugin that proves nothing has never shown to a leader it cannot miss.
        let now = Instant::now();
        let shown = |it: &Instance| {
            class(&it.plugin) != PluginClass::D || it.listed_from + Duration::from_secs(30) <= now
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

    pub(crate) fn running(&self) -> impl Iterator<Item = &Instance> {
        self.instances.iter().filter(|it| it.gone.is_none())
    }
}

/// `foreign` is of class C: tags are set when an instance is made, and a repeat makes another. `blind` is of
/// class D: it lists an instance when it pleases.
fn class(plugin: &PluginName) -> PluginClass {
    match plugin.lookup() {
        "foreign" => PluginClass::C,
        "blind" => PluginClass::D,
        _ => PluginClass::A,
    }
}

/// How long its instances may be missing from listings; the plugin of the pets says so of itself.
fn lags(plugin: &PluginName) -> Option<Millis> {
    match plugin.as_str() {
        "ours/b" => Some(LAG),
        "blind/d" => Some(BLIND),
        _ => None,
    }
}

impl Sight {
    pub(crate) fn new(cloud: Arc<Mutex<Cloud>>, node: usize) -> Self {
        Self { cloud, node, turns: Arc::new(Semaphore::new(TURNS)) }
    }

    pub(crate) fn cloud(&self) -> MutexGuard<'_, Cloud> {
        self.cloud.lock().expect("nobody panics while holding the cloud")
    }

    /// Dies here, when it is to.
    async fn fateful(&self, after: bool) {
        let dies = {
            let mut cloud = self.cloud();
            let moment = cloud.moments;
            cloud.moments += 1;
            let terminating = cloud.terminating == Some((self.node, after));
            let dies = terminating || cloud.dies_at == Some(moment);
            if dies {
                cloud.terminating = cloud.terminating.filter(|_| !terminating);
                cloud.died.push(self.node);
                *cloud
                    .faults
                    .entry(if after { "a death after a call" } else { "a death before a call" })
                    .or_default() += 1;
            }
            dies
        };
        if dies {
            std::future::pending::<()>().await;
        }
    }

    /// A frozen process goes on, in the middle of whatever it did, when it is woken.
    async fn awake(&self) {
        while self.cloud().frozen.contains(&self.node) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl World for Sight {
    async fn list(&self, plugin: &PluginName, _: &manager::Lease) -> Result<Listed, String> {
        self.awake().await;
        tokio::time::sleep(Duration::from_millis(raft::between(1, 50))).await;
        self.awake().await;
        let mut cloud = self.cloud();
        let now = Instant::now();
        if raft::between(1, 100) <= cloud.trouble / 2 {
            *cloud.faults.entry("a look that failed").or_default() += 1;
            return Err("simulated: it cannot be looked at".into());
        }
        let items = cloud.running().filter(|it| it.plugin == *plugin && it.listed_from <= now).map(|it| {
            Arc::new(Description {
                id: it.id.clone(),
                logical_id: it.tags.get(tags::LOGICAL_ID).map(|id| id.as_str().into()),
                tags: it.tags.clone(),
                properties: Some(Opaque::null()),
                state: None,
            })
        });
        let mut items: Vec<_> = items.collect();
        if raft::between(1, 100) <= cloud.trouble / 4 {
            if raft::between(0, 1) == 0 {
                items.clear();
                *cloud.faults.entry("an empty listing").or_default() += 1;
            } else {
                items.truncate(items.len() * raft::between(0, 45) as usize / 100);
                *cloud.faults.entry("a truncated listing").or_default() += 1;
            }
        }
        let lists_within = match class(plugin) {
            PluginClass::A | PluginClass::B | PluginClass::C => Some(lags(plugin).unwrap_or_default()),
            PluginClass::D => None,
        };
        Ok(Listed { items, guarantees: Guarantees { class: class(plugin), lists_within } })
    }

    async fn next_event(&self, _: &PluginName) -> Result<(), String> {
        std::future::pending().await
    }

    async fn perform(&self, work: &Work) -> Outcome {
        self.fateful(false).await;
        // As with the real plugins: a call waits for its turn, and then asks whether it may be made.
        let _turn = self.turns.acquire().await;
        self.awake().await;
        work.lease.held().await;
        let (fate, takes) = {
            let mut cloud = self.cloud();
            cloud.calls.push(Call {
                at: Instant::now(),
                node: self.node,
                term: work.intent.term.0,
                group: work.group.clone(),
                claim: work.intent.id,
                token: work.token.clone(),
                task: work.intent.task.clone(),
            });
            (cloud.fate(&work.known.template.instance.plugin), Duration::from_millis(raft::between(20, 1500)))
        };
        let unsure = || Outcome::Unsure { message: "simulated: no answer".into() };
        let (sight, token) = (self.clone(), work.token.clone());
        let effect = {
            let (task, sight) = (work.intent.task.clone(), sight.clone());
            let made = work.clone();
            move || match &task {
                Task::Provision { .. } => sight.cloud().provision(&made),
                Task::Destroy { instance, .. } => {
                    sight.cloud().destroy(instance, &token);
                    instance.clone()
                }
                Task::Label { instance, .. } => instance.clone(),
            }
        };
        let after = |delay: Duration| {
            // The plugin's process carries it out, whatever becomes of its caller.
            tokio::spawn(async move {
                tokio::time::sleep(delay).await;
                effect()
            })
        };
        let outcome = match fate {
            Fate::Well => match after(takes).await {
                Ok(id) => Outcome::Done(id),
                Err(_) => unsure(),
            },
            Fate::Refused => {
                tokio::time::sleep(takes).await;
                Outcome::Refused { message: "simulated: refused".into(), retryable: true }
            }
            Fate::Lost => {
                drop(after(takes));
                tokio::time::sleep(DEADLINE).await;
                unsure()
            }
            Fate::Late => {
                drop(after(Duration::from_millis(raft::between(1000, 25_000))));
                tokio::time::sleep(takes).await;
                unsure()
            }
            Fate::TooLate => {
                let delay = Duration::from_secs(raft::between(TOO_LATE.0, TOO_LATE.1));
                {
                    let mut cloud = self.cloud();
                    cloud.given_up.insert(work.token.clone());
                    cloud.to_come += 1;
                }
                let (effect, sight) = (after(delay), self.clone());
                tokio::spawn(async move {
                    drop(effect.await);
                    sight.cloud().to_come -= 1;
                });
                tokio::time::sleep(takes).await;
                unsure()
            }
            Fate::Hung => {
                tokio::time::sleep(DEADLINE).await;
                unsure()
            }
        };
        self.fateful(true).await;
        self.awake().await;
        outcome
    }

    async fn health(&self, _: &Part, instance: &Description) -> (Health, String) {
        self.awake().await;
        tokio::time::sleep(Duration::from_millis(raft::between(1, 20))).await;
        let cloud = self.cloud();
        let Some(it) = cloud.running().find(|it| it.id == instance.id) else {
            return (Health::Unknown, String::new());
        };
        let healthy = it.healthy_from <= Instant::now();
        (if healthy { Health::Healthy } else { Health::Unhealthy }, String::new())
    }

    async fn validate(&self, _: &GroupSpec) -> Vec<Rejection> {
        Vec::new()
    }
}
