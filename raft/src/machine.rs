//! The replicated state machine for openraft: decode, `State::apply`, publish.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use model::event::Event;
use model::{LogIndex, State, Term};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder};
use tokio::sync::{broadcast, watch};

use crate::divergence::Digests;
use crate::published::Published;
use crate::store::Db;
use crate::types::{LogId, Snapshot, SnapshotMeta, StoredMembership, Types};
use crate::{codec, snapshot};

/// How many events are retained: some history for hundreds of groups.
const EVENTS_KEPT: usize = 4096;

/// How many of them are stored with a snapshot, and outlive a restart from it.
const EVENTS_STORED: usize = 1000;

/// The latest of these, as they are stored.
pub(crate) fn stored<E: std::ops::Deref<Target = Event>>(events: &[E]) -> impl Iterator<Item = &Event> {
    events[events.len().saturating_sub(EVENTS_STORED)..].iter().map(|event| &**event)
}

/// A running openraft with this machine.
pub(crate) type Raft = openraft::Raft<Types, Machine>;

/// The state of one replica.
pub(crate) struct Machine {
    db: Db,
    state: State,
    applied: Option<LogId>,
    membership: StoredMembership,
    published: watch::Sender<Published>,
    declared: watch::Sender<Published>,
    history: History,
    digests: Digests,
}

/// Publish the state: after every batch, and after those that changed a group or a manager.
pub(crate) struct Readers {
    pub(crate) published: watch::Receiver<Published>,
    pub(crate) declared: watch::Receiver<Published>,
    pub(crate) history: History,
}

/// The retained events, and a subscription to new ones.
#[derive(Clone)]
pub(crate) struct History {
    kept: Arc<Mutex<VecDeque<Arc<Event>>>>,
    live: broadcast::Sender<Arc<Event>>,
}

impl History {
    fn new() -> Self {
        Self { kept: Arc::default(), live: broadcast::Sender::new(EVENTS_KEPT) }
    }

    fn add(&self, events: Vec<Event>) {
        let mut kept = self.kept.lock().expect("nobody panics while holding the history");
        for event in events {
            let event = Arc::new(event);
            if kept.len() == EVENTS_KEPT {
                kept.pop_front();
            }
            kept.push_back(event.clone());
            // Nobody may be listening.
            let _ = self.live.send(event);
        }
    }

    /// Events of entries that are not known here, beside others that are.
    fn catch_up(&self, events: Vec<Event>) {
        let known = self.follow().0.last().map_or(LogIndex(0), |event| event.index);
        self.add(events.into_iter().filter(|event| event.index > known).collect());
    }

    /// What is kept, and what follows without a gap.
    pub(crate) fn follow(&self) -> (Vec<Arc<Event>>, broadcast::Receiver<Arc<Event>>) {
        let kept = self.kept.lock().expect("nobody panics while holding the history");
        (kept.iter().cloned().collect(), self.live.subscribe())
    }
}

impl Machine {
    /// Begins at the stored snapshot; openraft replays the log from there.
    pub(crate) fn open(db: Db, digests: Digests) -> io::Result<(Self, Readers)> {
        let history = History::new();
        let (state, applied, membership) = match snapshot::load(&db)? {
            None => Default::default(),
            Some(stored) => {
                let state = codec::decode_state(&stored.snapshot)?;
                history.add(codec::decode_events(&stored.snapshot)?);
                (state, stored.meta.last_log_id, stored.meta.last_membership)
            }
        };
        let (published, read) = watch::channel(Published::of(&state, applied));
        let (declared, read_declared) = watch::channel(Published::of(&state, applied));
        let readers = Readers { published: read, declared: read_declared, history: history.clone() };
        let machine = Self { db, state, applied, membership, published, declared, history, digests };
        Ok((machine, readers))
    }

    fn publish(&self) {
        let now = Published::of(&self.state, self.applied);
        // First, so that whoever is woken by the other finds it here.
        self.published.send_replace(now.clone());
        // Most who wait, wait for groups: a variable that is written ten thousand times a second must not
        // wake them all.
        self.declared.send_if_modified(|known| {
            let same = known.state.groups.ptr_eq(&now.state.groups)
                && known.state.managers.ptr_eq(&now.state.managers)
                && known.state.learners.ptr_eq(&now.state.learners)
                && known.state.authorities == now.state.authorities;
            if !same {
                *known = now;
            }
            !same
        });
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotData = Bytes;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        Ok((self.applied, self.membership.clone()))
    }

    /// Applies one batch; it is published once, before anybody is answered, so that whoever has
    /// an answer also sees its effect.
    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + OptionalSend,
    {
        let mut answers = Vec::new();
        let mut events = Vec::new();
        while let Some(next) = entries.next().await {
            let (entry, responder) = next?;
            let id = entry.log_id;
            let answer = match entry.payload {
                EntryPayload::Blank => None,
                EntryPayload::Normal(sealed) => {
                    let command = codec::decode_command(&sealed)?;
                    let log = model::LogId { term: Term(id.leader_id.term), index: LogIndex(id.index) };
                    let applied = self.state.apply(log, &command);
                    events.extend(applied.events);
                    Some(applied.answer)
                }
                EntryPayload::Membership(members) => {
                    self.membership = StoredMembership::new(Some(id), members);
                    None
                }
            };
            // Where the disk is memory, in tests and simulations, every entry is held against what must hold.
            if cfg!(debug_assertions) && !self.db.blocks() {
                self.state.check().unwrap_or_else(|broken| panic!("after {id:?}: {broken}"));
            }
            self.applied = Some(id);
            self.digests.applied(id.index, &self.state, self.db.blocks());
            if let Some(responder) = responder {
                answers.push((responder, answer));
            }
        }
        // First, so that whoever reads both has all events of what is published.
        self.history.add(events);
        self.publish();
        for (responder, answer) in answers {
            responder.send(answer);
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder {
            db: self.db.clone(),
            state: self.state.clone(),
            events: self.history.follow().0,
            meta: SnapshotMeta { last_log_id: self.applied, last_membership: self.membership.clone() },
        }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, data: Bytes) -> Result<(), io::Error> {
        // Read before it replaces anything.
        let state = codec::decode_state(&data)?;
        let events = codec::decode_events(&data)?;
        let stored = Snapshot { meta: meta.clone(), snapshot: data };
        let db = self.db.clone();
        off_thread(db.clone(), move || snapshot::store(&db, &stored)).await?;
        self.state = state;
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        self.publish();
        self.history.catch_up(events);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        let db = self.db.clone();
        off_thread(db.clone(), move || snapshot::load(&db)).await
    }
}

/// Writes a snapshot of the state as it was when the builder was made.
pub(crate) struct Builder {
    db: Db,
    state: State,
    events: Vec<Arc<Event>>,
    meta: SnapshotMeta,
}

impl RaftSnapshotBuilder<Types> for Builder {
    type SnapshotData = Bytes;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let (db, state, meta) = (self.db.clone(), self.state.clone(), self.meta.clone());
        let events = self.events.clone();
        off_thread(db.clone(), move || {
            if let Err(broken) = state.check() {
                tracing::error!(%broken, "the state contradicts itself: a defect of this program, or bad memory");
            }
            let snapshot = Snapshot { meta, snapshot: Bytes::from(codec::encode_snapshot(&state, stored(&events))) };
            snapshot::store(&db, &snapshot)?;
            Ok(snapshot)
        })
        .await
    }
}

/// A disk blocks; the runtime's own threads must not.
async fn off_thread<T: Send + 'static>(
    db: Db,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    if !db.blocks() {
        return work();
    }
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
