//! Lists the instances of plugins: one listing at a time for each, shared by all groups, often while actions are
//! under way and rarely at rest.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use model::observed::{ListingHistory, Trouble};
use model::{GroupId, InstanceId, Listing, PluginName};
use raft::Replica;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::caught::{DEFECT, caught};
use crate::clock::Clock;
use crate::lease::Lease;
use crate::world::{Told, World};

/// The time between two listings while any group is in motion: a lost instance is noticed within a second, and then
/// confirmed.
const MOVING: Duration = Duration::from_millis(900);
/// The longest time between two listings at rest.
const RESTING: Duration = Duration::from_secs(10);
/// Listings take at most a tenth of the time: a slow plugin is not called without a pause, and a large listing
/// leaves time for the actions that it is needed for.
const REST_PER_WORK: u32 = 9;
/// The shortest time between two listings, however fast the plugin is.
const GAP: Duration = Duration::from_millis(15);

/// The latest listing of one plugin, and the trouble with it if there is any.
#[derive(Clone, Default)]
pub(super) struct Latest {
    pub(super) listing: Option<Arc<Listing>>,
    pub(super) trouble: Option<Trouble>,
}

/// One observer for each plugin, created when a group first needs it.
pub(super) struct Observers<W> {
    deps: Arc<ObserverDeps<W>>,
    all: Mutex<BTreeMap<PluginName, Observer>>,
}

/// What every listing needs.
struct ObserverDeps<W> {
    replica: Replica,
    world: Arc<W>,
    clock: Clock,
    lease: Lease,
}

struct Observer {
    latest: watch::Receiver<Latest>,
    demand: Arc<Demand>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Demand {
    /// A listing is needed now.
    poke: Notify,
    /// The groups that are in motion on this plugin.
    moving: Mutex<BTreeSet<GroupId>>,
    /// Instances of which the plugin said that they are gone, and when.
    said_gone: Mutex<BTreeMap<InstanceId, Instant>>,
    /// A group was in motion since the last listing: the pauses begin small again.
    moved: AtomicBool,
}

/// How long the word of a plugin that an instance is gone is kept, and of how many.
const SAID_FOR: Duration = Duration::from_secs(120);
const MOST_SAID: usize = 10_000;

impl Demand {
    fn said(&self, instance: InstanceId) {
        let mut said = self.said_gone.lock().expect("nobody panics while holding this");
        if said.len() < MOST_SAID {
            said.insert(instance, Instant::now());
        }
    }

    /// The instances that are gone by the plugin's word and not in this listing, which began at that time. A listing
    /// that began after the word and shows the instance takes the word back.
    fn gone_from(&self, listing: &Listing, began: Instant) -> BTreeSet<InstanceId> {
        let mut said = self.said_gone.lock().expect("nobody panics while holding this");
        said.retain(|_, at| at.elapsed() < SAID_FOR);
        if said.is_empty() {
            return BTreeSet::new();
        }
        let listed: BTreeSet<&InstanceId> = listing.items.iter().map(|it| &it.id).collect();
        said.retain(|instance, at| *at > began || !listed.contains(instance));
        said.keys().filter(|it| !listed.contains(it)).cloned().collect()
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl<W: World> Observers<W> {
    pub(super) fn new(replica: Replica, world: Arc<W>, clock: Clock, lease: Lease) -> Self {
        Self { deps: Arc::new(ObserverDeps { replica, world, clock, lease }), all: Mutex::default() }
    }

    fn with<T>(&self, plugin: &PluginName, use_it: impl FnOnce(&Observer) -> T) -> T {
        let mut all = self.all.lock().expect("nobody panics while holding the observers");
        let observer = all.entry(plugin.clone()).or_insert_with(|| {
            let (sender, latest) = watch::channel(Latest::default());
            let demand = Arc::new(Demand::default());
            let work = observe(plugin.clone(), self.deps.clone(), sender, demand.clone());
            Observer { latest, demand, task: tokio::spawn(work) }
        });
        use_it(observer)
    }

    /// Every listing of the plugin.
    pub(super) fn watch(&self, plugin: &PluginName) -> watch::Receiver<Latest> {
        self.with(plugin, |observer| observer.latest.clone())
    }

    /// Requests a listing as soon as the pace allows.
    pub(super) fn poke(&self, plugin: &PluginName) {
        self.with(plugin, |observer| observer.demand.poke.notify_one());
    }

    /// Says whether a group is in motion on this plugin.
    pub(super) fn moving(&self, plugin: &PluginName, group: &GroupId, moves: bool) {
        let began = self.with(plugin, |observer| {
            let mut moving = observer.demand.moving.lock().expect("nobody panics while holding this");
            let began = moves && moving.is_empty();
            if moves {
                observer.demand.moved.store(true, Ordering::Relaxed);
                moving.insert(group.clone());
            } else {
                moving.remove(group);
            }
            began
        });
        if began {
            // A pause of ten seconds may just have begun.
            self.poke(plugin);
        }
    }
}

/// Turns the plugin's events into requests for a listing. They are read as they come: a burst of ten thousand
/// is one request, however long a listing takes.
async fn follow_events<W: World>(plugin: &PluginName, world: &W, demand: &Demand) {
    loop {
        match caught(world.next_event(plugin)).await {
            Some(Ok(told)) => {
                if let Told::Gone(instance) = told {
                    demand.said(instance);
                }
                // An engine may send an event before its listings show what happened: one listing is not the last.
                demand.moved.store(true, Ordering::Relaxed);
                demand.poke.notify_one();
            }
            // There is no event stream, or it broke: listings continue, and a new stream is tried.
            Some(Err(_)) | None => tokio::time::sleep(MOVING).await,
        }
    }
}

async fn observe<W: World>(
    plugin: PluginName,
    deps: Arc<ObserverDeps<W>>,
    latest: watch::Sender<Latest>,
    demand: Arc<Demand>,
) {
    tokio::select! {
        biased;
        () = follow_events(&plugin, &*deps.world, &demand) => {}
        () = list_again_and_again(&plugin, &deps, latest, &demand) => {}
    }
}

async fn list_again_and_again<W: World>(
    plugin: &PluginName,
    deps: &ObserverDeps<W>,
    latest: watch::Sender<Latest>,
    demand: &Demand,
) {
    let mut pause = MOVING;
    let mut trouble_since = None;
    let mut listings_seen = ListingHistory::default();
    loop {
        let began = Instant::now();
        let (after, taken_at) = (deps.replica.published().index, deps.clock.now());
        let looked = caught(deps.world.list(plugin, &deps.lease)).await;
        match looked.unwrap_or_else(|| Err(DEFECT.into())) {
            Ok(look) => {
                if trouble_since.take().is_some() {
                    tracing::info!(%plugin, "the plugin lists its instances again");
                }
                let mut listing = listings_seen.showed(look.items, look.guarantees, taken_at, after);
                listing.said_gone = demand.gone_from(&listing, began);
                latest.send_replace(Latest { listing: Some(Arc::new(listing)), trouble: None });
            }
            Err(message) => {
                listings_seen.failed();
                if trouble_since.is_none() {
                    tracing::warn!(%plugin, %message, "the plugin does not list its instances; it is tried again");
                }
                let since = *trouble_since.get_or_insert(taken_at);
                // The last listing stays the latest evidence, with its age.
                latest.send_modify(|latest| latest.trouble = Some(Trouble { since, message }));
            }
        }
        tokio::time::sleep(GAP.max(began.elapsed() * REST_PER_WORK)).await;
        let moving = !demand.moving.lock().expect("nobody panics while holding this").is_empty();
        let in_motion = demand.moved.swap(false, Ordering::Relaxed) || moving;
        let broken = trouble_since.is_some();
        pause = if in_motion || broken { MOVING } else { (pause * 2).min(RESTING) };
        let why = tokio::select! {
            biased;
            () = tokio::time::sleep(pause) => "the pause is over",
            () = demand.poke.notified() => "a group needs a listing, or the plugin sent an event",
        };
        tracing::trace!(%plugin, why, in_motion, took = ?began.elapsed(), "listing again");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use model::{Description, GroupSpec, Health, LogIndex, Outcome, Part};

    use super::*;
    use crate::world::{Listed, Rejection, Told, Work};

    /// Has so many events waiting, and then none.
    struct Burst(AtomicU32);

    impl World for Burst {
        async fn list(&self, _: &PluginName, _: &Lease) -> Result<Listed, String> {
            Err("not asked here".into())
        }

        async fn next_event(&self, _: &PluginName) -> Result<Told, String> {
            if self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_err() {
                std::future::pending::<()>().await;
            }
            tokio::task::yield_now().await;
            Ok(Told::Changed)
        }

        async fn perform(&self, _: &Work) -> Outcome {
            Outcome::Unsure { message: "not asked here".into() }
        }

        async fn start(&self, _: &Part, _: &InstanceId, _: &Lease) -> Result<(), String> {
            Err("not asked here".into())
        }

        async fn health(&self, _: &Part, _: &Description) -> (Health, String) {
            (Health::Unknown, String::new())
        }

        async fn validate(&self, _: &GroupSpec) -> Vec<Rejection> {
            Vec::new()
        }
    }

    #[tokio::test]
    async fn the_word_that_one_is_gone_counts_until_a_later_listing_shows_it() {
        let demand = Demand::default();
        let shows = |ids: &[&str]| {
            let item = |id: &&str| {
                let (id, tags) = ((*id).into(), Default::default());
                Arc::new(Description { id, logical_id: None, tags, properties: None, state: None })
            };
            let items = ids.iter().map(item).collect();
            ListingHistory::default().showed(items, Default::default(), Default::default(), LogIndex(0))
        };
        let before = Instant::now();
        tokio::task::yield_now().await;
        demand.said("i-1".into());
        assert!(demand.gone_from(&shows(&["i-1"]), before).is_empty(), "it is listed");
        assert_eq!(demand.gone_from(&shows(&[]), before).len(), 1, "that listing began before the word");
        let after = Instant::now() + Duration::from_millis(1);
        assert!(demand.gone_from(&shows(&["i-1"]), after).is_empty());
        assert!(demand.gone_from(&shows(&[]), after).is_empty(), "a later listing took the word back");
    }

    #[tokio::test]
    async fn a_burst_of_events_is_one_reason_to_look() {
        let (world, demand, plugin) =
            (Burst(AtomicU32::new(10_000)), Demand::default(), PluginName::new("p"));
        let until_read = async {
            while world.0.load(Ordering::SeqCst) > 0 {
                tokio::task::yield_now().await;
            }
            tokio::task::yield_now().await;
        };
        tokio::select! {
            biased;
            () = follow_events(&plugin, &world, &demand) => {}
            () = until_read => {}
        }
        demand.poke.notified().await;
        let again = tokio::time::timeout(Duration::from_millis(20), demand.poke.notified()).await;
        assert!(again.is_err(), "the whole burst was one request");
    }
}
