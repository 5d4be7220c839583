//! Looks at plugins: one look at a time each, shared by all groups, often while something moves and
//! seldom at rest.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use model::observed::Trouble;
use model::{GroupId, Listing, PluginName};
use raft::Replica;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::clock::Clock;
use crate::world::World;

/// Between two looks while anything is in motion.
const MOVING: Duration = Duration::from_secs(1);
/// The longest time between two looks at rest.
const RESTING: Duration = Duration::from_secs(10);
/// Looks may take up to a tenth of the time, and no more: a slow plugin is not asked without a pause,
/// and a large listing does not crowd out the work that it is for.
const REST_PER_WORK: u32 = 9;
/// Between two looks however fast the plugin is.
const GAP: Duration = Duration::from_millis(15);

/// What was last seen of one plugin.
#[derive(Clone, Default)]
pub(super) struct Latest {
    pub(super) listing: Option<Arc<Listing>>,
    pub(super) trouble: Option<Trouble>,
}

/// One observer a plugin, made when a group first needs it.
pub(super) struct Observers<W> {
    replica: Replica,
    world: Arc<W>,
    clock: Clock,
    all: Mutex<BTreeMap<PluginName, Observer>>,
}

struct Observer {
    latest: watch::Receiver<Latest>,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    /// Somebody wants a look now.
    poke: Notify,
    /// The groups that are in motion on this plugin.
    moving: Mutex<BTreeSet<GroupId>>,
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl<W: World> Observers<W> {
    pub(super) fn new(replica: Replica, world: Arc<W>, clock: Clock) -> Self {
        Self { replica, world, clock, all: Mutex::default() }
    }

    fn with<T>(&self, plugin: &PluginName, use_it: impl FnOnce(&Observer) -> T) -> T {
        let mut all = self.all.lock().expect("nobody panics while holding the observers");
        let observer = all.entry(plugin.clone()).or_insert_with(|| {
            let (sender, latest) = watch::channel(Latest::default());
            let shared = Arc::new(Shared::default());
            let work = observe(
                plugin.clone(),
                self.replica.clone(),
                self.world.clone(),
                self.clock.clone(),
                sender,
                shared.clone(),
            );
            Observer { latest, shared, task: tokio::spawn(work) }
        });
        use_it(observer)
    }

    /// What the plugin shows, at every look.
    pub(super) fn watch(&self, plugin: &PluginName) -> watch::Receiver<Latest> {
        self.with(plugin, |observer| observer.latest.clone())
    }

    /// Asks for a look as soon as the pace allows.
    pub(super) fn poke(&self, plugin: &PluginName) {
        self.with(plugin, |observer| observer.shared.poke.notify_one());
    }

    /// Says whether a group is in motion on this plugin.
    pub(super) fn moving(&self, plugin: &PluginName, group: &GroupId, moves: bool) {
        let began = self.with(plugin, |observer| {
            let mut moving = observer.shared.moving.lock().expect("nobody panics while holding this");
            let began = moves && moving.is_empty();
            if moves {
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

async fn observe<W: World>(
    plugin: PluginName,
    replica: Replica,
    world: Arc<W>,
    clock: Clock,
    latest: watch::Sender<Latest>,
    shared: Arc<Shared>,
) {
    let mut pause = MOVING;
    let mut trouble_since = None;
    loop {
        let began = Instant::now();
        let (after, taken_at) = (replica.published().index, clock.now());
        let has_events = match world.look(&plugin).await {
            Ok(look) => {
                if trouble_since.take().is_some() {
                    tracing::info!(%plugin, "the plugin answers again");
                }
                let listing = Listing { items: look.items, taken_at, after, knows_tokens: look.knows_tokens };
                latest.send_replace(Latest { listing: Some(Arc::new(listing)), trouble: None });
                look.has_events
            }
            Err(because) => {
                if trouble_since.is_none() {
                    tracing::warn!(%plugin, %because, "the plugin cannot be looked at");
                }
                let since = *trouble_since.get_or_insert(taken_at);
                // What was seen before stays the latest evidence, with its age.
                latest.send_modify(|latest| latest.trouble = Some(Trouble { since, because }));
                false
            }
        };
        tokio::time::sleep(GAP.max(began.elapsed() * REST_PER_WORK)).await;
        let in_motion = !shared.moving.lock().expect("nobody panics while holding this").is_empty();
        let broken = trouble_since.is_some();
        pause = if in_motion || broken { MOVING } else { (pause * 2).min(RESTING) };
        let event = async {
            if !has_events || world.next_event(&plugin).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shared.poke.notified() => {}
            () = event => {}
        }
    }
}
