//! The provider as a manager's plugins show it: listings and answers that are late, wrong or lost.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use manager::{Listed, Rejection, Told, Work, World};
use model::plugin::{Guarantees, PluginClass};
use model::tags;
use model::{
    Description, GroupSpec, Health, InstanceId, InstanceRef, InstanceState, Opaque, Outcome, Part,
    PluginName, RunStatus,
};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::cloud::{Call, Cloud, Fate, class, lags};

/// When a call takes effect that everybody has given up: after the longest time it may take, in seconds.
const TOO_LATE: (u64, u64) = (31, 40);
/// What a plugin's answer is waited for.
const DEADLINE: Duration = Duration::from_secs(15);
/// How many calls of one manager are under way at once.
const TURNS: usize = 8;

/// The provider as one manager's plugins show it.
#[derive(Clone)]
pub(crate) struct Sight {
    cloud: Arc<Mutex<Cloud>>,
    node: usize,
    turns: Arc<Semaphore>,
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

    /// Writes a call down. What happens to it, and how long it takes.
    fn record(&self, work: &Work) -> (Fate, Duration) {
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
    }

    /// Carries a call out as its fate says.
    async fn carry_out(&self, work: &Work, fate: Fate, takes: Duration) -> Outcome {
        let unsure = || Outcome::Unsure { message: "simulated: no answer".into() };
        match fate {
            Fate::Well => match self.takes_effect(work, takes).await {
                Ok(id) => Outcome::Done(id),
                Err(_) => unsure(),
            },
            Fate::Refused => {
                tokio::time::sleep(takes).await;
                Outcome::Refused { message: "simulated: refused".into(), retryable: true }
            }
            Fate::Lost => {
                drop(self.takes_effect(work, takes));
                tokio::time::sleep(DEADLINE).await;
                unsure()
            }
            Fate::Late => {
                drop(self.takes_effect(work, Duration::from_millis(raft::between(1000, 25_000))));
                tokio::time::sleep(takes).await;
                unsure()
            }
            Fate::TooLate => {
                self.takes_effect_too_late(work);
                tokio::time::sleep(takes).await;
                unsure()
            }
            Fate::HalfMade => self.half_make(work).await,
            Fate::Hung => {
                tokio::time::sleep(DEADLINE).await;
                unsure()
            }
        }
    }

    /// An instance is made and listed, then a later step fails, and the plugin removes it and says no: one of ours as a
    /// refusal, a foreign one with an error that says nothing.
    async fn half_make(&self, work: &Work) -> Outcome {
        let refused = || Outcome::Refused { message: "simulated: half made".into(), retryable: true };
        if !matches!(work.intent.task, model::Task::Provision { .. }) {
            return refused();
        }
        tokio::time::sleep(Duration::from_millis(raft::between(20, 500))).await;
        let made = self.cloud().half_make(work);
        // The plugin goes on, whatever becomes of its caller.
        let (sight, shown) = (self.clone(), Duration::from_millis(raft::between(200, 5000)));
        let removed = tokio::spawn(async move {
            tokio::time::sleep(shown).await;
            sight.cloud().unmake(&made);
        });
        drop(removed.await);
        if class(&work.known.template.instance.plugin).dedupes() {
            refused()
        } else {
            Outcome::Unsure { message: "simulated: half made".into() }
        }
    }

    /// The plugin's process carries it out after a delay, whatever becomes of its caller.
    fn takes_effect(&self, work: &Work, delay: Duration) -> JoinHandle<InstanceId> {
        let (sight, work) = (self.clone(), work.clone());
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            sight.cloud().take_effect(&work)
        })
    }

    fn takes_effect_too_late(&self, work: &Work) {
        let delay = Duration::from_secs(raft::between(TOO_LATE.0, TOO_LATE.1));
        {
            let mut cloud = self.cloud();
            cloud.given_up.insert(work.token.clone());
            cloud.to_come += 1;
        }
        let (effect, sight) = (self.takes_effect(work, delay), self.clone());
        tokio::spawn(async move {
            drop(effect.await);
            sight.cloud().to_come -= 1;
        });
    }
}

fn stopped() -> InstanceState {
    InstanceState {
        status: RunStatus::Stopped,
        ended: true,
        exit_code: Some(0),
        since: None,
        message: String::new(),
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
        let items = cloud
            .running()
            .filter(|it| {
                it.at.plugin == *plugin
                    && it.listed_from <= now
                    && cloud.hidden.get(&it.at).is_none_or(|until| *until <= now)
            })
            .map(|it| {
                let own = it.tags.get(tags::LOGICAL_ID).map(|id| id.as_str().into());
                Arc::new(Description {
                    id: it.at.id.clone(),
                    logical_id: own.map(|own| cloud.one_name.clone().unwrap_or(own)),
                    tags: cloud.shown_tags(it, now),
                    properties: Some(Opaque::null()),
                    state: (cloud.stopped.as_ref() == Some(&it.at)).then(stopped),
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

    async fn next_event(&self, _: &PluginName) -> Result<Told, String> {
        std::future::pending().await
    }

    async fn perform(&self, work: &Work) -> Outcome {
        self.fateful(false).await;
        // As with the real plugins: a call waits for its turn, and then asks whether it may be made.
        let _turn = self.turns.acquire().await;
        self.awake().await;
        if let model::Task::Destroy { instance, .. } = &work.intent.task {
            tokio::time::sleep(Duration::from_millis(raft::between(1, 500))).await;
            if !self.cloud().drain(instance) && work.stays_undrained() {
                return Outcome::Refused { message: "simulated: not drained".into(), retryable: true };
            }
        }
        self.awake().await;
        work.lease.held().await;
        let (fate, takes) = self.record(work);
        let outcome = self.carry_out(work, fate, takes).await;
        self.fateful(true).await;
        self.awake().await;
        outcome
    }

    async fn start(&self, part: &Part, id: &InstanceId, lease: &manager::Lease) -> Result<(), String> {
        self.awake().await;
        lease.held().await;
        let mut cloud = self.cloud();
        if cloud.stopped == Some(InstanceRef::new(&part.plugin, id)) {
            cloud.stopped = None;
        }
        Ok(())
    }

    async fn health(&self, flavor: &Part, instance: &Description) -> (Health, String) {
        self.awake().await;
        tokio::time::sleep(Duration::from_millis(raft::between(1, 20))).await;
        let mut cloud = self.cloud();
        // The flavor's properties name the instances' plugin.
        let plugin = flavor.properties.as_json().trim_matches('"').into();
        let at = InstanceRef::new(&plugin, &instance.id);
        if cloud.half_made.contains(&at) {
            cloud.broken.insert(format!("{at} was half made, and became a member"));
        }
        let Some(it) = cloud.running().find(|it| it.at == at) else {
            return (Health::Unknown, String::new());
        };
        let healthy = it.healthy_from <= Instant::now();
        (if healthy { Health::Healthy } else { Health::Unhealthy }, String::new())
    }

    async fn validate(&self, _: &GroupSpec) -> Vec<Rejection> {
        Vec::new()
    }
}
