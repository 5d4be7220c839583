//! What the plugins are told, and what is made of what they say.

use std::sync::Mutex as Held;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use model::intent::Reason;
use model::state::StoredSecret;
use model::{Allocation, Generation, InstanceRef, Intent, IntentId, Opaque, Revision, Slot, Term, Timestamp};
use raft::Role;
use spi::{Index, InstanceSpec, Plugin, Running, Verdict};

use super::*;
use crate::alone::{Alone, group};

const PASSWORD: &str = "correct horse battery staple";

/// Says what it is told to say, and keeps what it was told.
#[derive(Default)]
struct Parrot {
    says: Held<Option<spi::Error>>,
    destroyed: Held<usize>,
    heard: Held<Vec<InstanceSpec>>,
}

impl Parrot {
    fn answer(&self) -> Result<(), spi::Error> {
        self.says.lock().expect("a lock").clone().map_or(Ok(()), Err)
    }
}

#[async_trait]
impl spi::Instances for Parrot {
    async fn validate(&self, properties: &Opaque) -> Result<(), spi::Error> {
        // As plugins do: what is wrong with it is told with the whole of it.
        Err(spi::Error::invalid(format!("no image in {}", properties.as_json())))
    }

    async fn provision(&self, spec: &InstanceSpec, _: &Call) -> Result<InstanceId, spi::Error> {
        self.heard.lock().expect("a lock").push(spec.clone());
        self.answer().map(|()| InstanceId::new("i-1"))
    }

    async fn label(&self, _: &InstanceId, _: &Tags, _: &Call) -> Result<(), spi::Error> {
        self.answer()
    }

    async fn destroy(&self, _: &InstanceId, _: &str, _: &Call) -> Result<(), spi::Error> {
        *self.destroyed.lock().expect("a lock") += 1;
        self.answer()
    }

    async fn describe(&self, _: &Tags, _: bool) -> Result<Vec<Description>, spi::Error> {
        Ok(Vec::new())
    }
}

/// Drops every tag, tells its secrets to whoever asks, and drains nobody when it is told so.
#[derive(Default)]
struct Careless {
    keeps: Arc<AtomicBool>,
}

#[async_trait]
impl spi::Flavors for Careless {
    async fn validate(&self, _: &Opaque, _: &Allocation) -> Result<(), spi::Error> {
        Ok(())
    }

    async fn prepare(
        &self,
        _: &Opaque,
        spec: InstanceSpec,
        _: &Allocation,
        _: &Index,
    ) -> Result<InstanceSpec, spi::Error> {
        Ok(InstanceSpec { tags: Tags::from([("theirs".into(), "kept".into())]), ..spec })
    }

    async fn healthy(&self, properties: &Opaque, _: &Description) -> Result<Verdict, spi::Error> {
        let message = format!("tried {}", properties.as_json());
        Ok(Verdict { health: Health::Unhealthy, message })
    }

    async fn drain(&self, properties: &Opaque, _: &Description) -> Result<(), spi::Error> {
        let keeps = self.keeps.load(Ordering::SeqCst);
        if keeps { Err(spi::Error::internal(format!("not now: {}", properties.as_json()))) } else { Ok(()) }
    }
}

struct Stage {
    plugins: Plugins,
    parrot: Arc<Parrot>,
    keeps: Arc<AtomicBool>,
    manager: Alone,
    term: Term,
    _dir: tempfile::TempDir,
    _running: [Running; 2],
    _secrets: watch::Sender<Published>,
}

/// A manager between two plugins that run here, and a secret that both are told.
async fn staged() -> Stage {
    let manager = Alone::leads().await;
    let term = match *manager.replica.watch_role().borrow() {
        Role::Leader { term } => term,
        Role::Other { .. } => panic!("it leads"),
    };
    let mut state = (*manager.state()).clone();
    let value = Secret::new(PASSWORD.as_bytes());
    let stored = StoredSecret { value, at: Timestamp(1), by: "test".into() };
    state.secrets.insert(SecretName::new("db"), stored);
    let (secrets, watch) = watch::channel(Published { state: Arc::new(state), index: model::LogIndex(1) });
    let dir = tempfile::tempdir().expect("a temporary directory");
    let parrot = Arc::new(Parrot::default());
    let instances = Plugin::default().with_instances("compute", parrot.clone()).knowing_tokens();
    let keeps = Arc::new(AtomicBool::new(false));
    let flavor = Plugin::default().with_flavor("", Arc::new(Careless { keeps: keeps.clone() }));
    let serve = |name, plugin| spi::serve(dir.path(), name, plugin).expect("it is served");
    let running = [serve("tabletop", instances), serve("vanilla", flavor)];
    let plugins = Plugins::new(Directory::new(dir.path()), watch, Metrics::default());
    Stage { plugins, parrot, keeps, manager, term, _dir: dir, _running: running, _secrets: secrets }
}

fn spec() -> GroupSpec {
    let mut spec = group("web", 1, "v1");
    for part in [&mut spec.template.instance, &mut spec.template.flavor] {
        part.properties = Opaque::from_json(r#"{"password":"secret://db"}"#);
    }
    spec
}

impl Stage {
    fn work(&self, task: Task) -> Work {
        let spec = Arc::new(spec());
        let known = model::state::TemplateRecord { template: spec.template.clone(), hash: "h".into() };
        let id = IntentId { index: model::LogIndex(7), offset: 0 };
        let (term, since) = (self.term, Timestamp(1));
        Work {
            group: spec.id.clone(),
            spec,
            revision: Revision(1),
            intent: Intent { id, task, attempt: 1, admitted: model::LogIndex(7), term, since },
            known: Arc::new(known),
            token: "01234567-1-7-0".into(),
            tags: Tags::from([(model::tags::GROUP.into(), "web".into())]),
            seen: None,
            refused_for: std::time::Duration::ZERO,
            notes: Default::default(),
            lease: Lease::new(self.manager.replica.clone(), term),
        }
    }

    fn provision(&self) -> Work {
        let (slot, generation, template) = (Slot::Ordinal(0), Generation(1), Revision(1));
        self.work(Task::Provision { slot, generation, template })
    }

    fn destroy(&self, reason: Reason) -> Work {
        let (instance, template) = (InstanceRef::new(&"compute".into(), &"i-1".into()), Revision(1));
        self.work(Task::Destroy { instance, slot: None, template, reason })
    }

    fn says(&self, class: Class) {
        let error = spi::Error::new(class, format!("it did not like {PASSWORD}"));
        *self.parrot.says.lock().expect("a lock") = Some(error);
    }
}

#[tokio::test]
async fn the_instance_plugin_gets_our_tags_whatever_a_flavor_dropped_and_the_secrets_it_refers_to() {
    let stage = staged().await;
    let outcome = stage.plugins.perform(&stage.provision()).await;
    assert_eq!(outcome, Outcome::Done("i-1".into()));
    let heard = stage.parrot.heard.lock().expect("a lock").clone();
    let told = |name: &str| heard[0].tags.get(name).map(String::as_str);
    assert_eq!((told(model::tags::GROUP), told("theirs")), (Some("web"), Some("kept")));
    assert!(heard[0].properties.as_json().contains(PASSWORD), "{:?}", heard[0].properties);
}

#[tokio::test]
async fn a_refusal_is_only_what_a_plugin_says_of_itself_and_no_secret_is_told_on() {
    let stage = staged().await;
    for (class, retryable) in [
        (Class::InvalidSpec, Some(false)),
        (Class::Conflict, Some(false)),
        (Class::Exhausted, Some(true)),
        (Class::Internal, Some(true)),
        // It may have been done.
        (Class::Unsure, None),
    ] {
        stage.says(class);
        let (message, told) = match stage.plugins.perform(&stage.provision()).await {
            Outcome::Refused { message, retryable } => (message, Some(retryable)),
            Outcome::Unsure { message } => (message, None),
            Outcome::Done(id) => panic!("{class:?}: {id} was not made"),
        };
        assert_eq!(told, retryable, "{class:?}: {message}");
        assert!(message.contains("[secret db]") && !message.contains("horse"), "{message}");
        // It is told nothing in these calls, and remembers.
        let label = Task::Label { instance: "i-1".into(), template: Revision(1) };
        for work in [stage.destroy(Reason::Terminate), stage.work(label.clone())] {
            let is_label = work.intent.task == label;
            let outcome = stage.plugins.perform(&work).await;
            // A label is repeated without harm, so nobody has to be unsure about it.
            let unsure = retryable.is_none() && !is_label;
            assert_eq!(matches!(outcome, Outcome::Unsure { .. }), unsure, "{outcome:?}");
            let (Outcome::Refused { message, .. } | Outcome::Unsure { message }) = outcome else {
                panic!("it was not done: {outcome:?}");
            };
            assert!(message.contains("[secret db]") && !message.contains("horse"), "{message}");
        }
    }
}

#[tokio::test]
async fn a_member_that_cannot_be_drained_stays_unless_an_operator_has_waited_for_its_end() {
    let stage = staged().await;
    stage.keeps.store(true, Ordering::SeqCst);
    let seen =
        Description { id: "i-1".into(), logical_id: None, tags: Tags::new(), properties: None, state: None };
    let seen = Some(Arc::new(seen));
    let destroyed = || *stage.parrot.destroyed.lock().expect("a lock");
    let replaced = Work { seen: seen.clone(), ..stage.destroy(Reason::RollingUpdate) };
    let outcome = stage.plugins.perform(&replaced).await;
    let Outcome::Refused { message, retryable: true } = outcome else { panic!("it stays: {outcome:?}") };
    assert!(!message.contains("horse"), "{message}");
    assert_eq!(destroyed(), 0);
    let mut hurried = replaced;
    Arc::make_mut(&mut hurried.spec).updating.skip_drain = true;
    assert_eq!(stage.plugins.perform(&hurried).await, Outcome::Done("i-1".into()));
    // Also where it is one too many, for a while.
    let terminated = Work { seen: seen.clone(), ..stage.destroy(Reason::Terminate) };
    let outcome = stage.plugins.perform(&terminated).await;
    assert!(matches!(outcome, Outcome::Refused { retryable: true, .. }), "{outcome:?}");
    assert_eq!(destroyed(), 1);
    let refused_for = std::time::Duration::from_secs(60);
    let waited_for = Work { seen, refused_for, ..stage.destroy(Reason::Terminate) };
    assert_eq!(stage.plugins.perform(&waited_for).await, Outcome::Done("i-1".into()));
    let why = waited_for.notes.not_drained.get().expect("it is said that it was not drained");
    assert!(why.starts_with("vanilla: "), "{why}");
    assert_eq!(destroyed(), 2);
    // A new listing shows that it is not there: nobody can drain it.
    let unseen = stage.destroy(Reason::RollingUpdate);
    assert_eq!(stage.plugins.perform(&unseen).await, Outcome::Done("i-1".into()));
}

#[tokio::test]
async fn what_plugins_say_of_a_spec_and_of_health_is_told_without_secrets() {
    let stage = staged().await;
    let rejections = stage.plugins.validate(&spec()).await;
    let [Rejection { message, absent: false, flavor: false, .. }] = &rejections[..] else {
        panic!("one of the two says no: {rejections:?}");
    };
    assert!(message.contains("[secret db]") && !message.contains("horse"), "{message}");
    let bare =
        Description { id: "i-1".into(), logical_id: None, tags: Tags::new(), properties: None, state: None };
    let (health, message) = stage.plugins.health(&spec().template.flavor, &bare).await;
    assert_eq!(health, Health::Unhealthy);
    assert!(message.contains("[secret db]") && !message.contains("horse"), "{message}");
}

#[tokio::test]
async fn nothing_is_done_where_a_plugin_is_not_there() {
    let stage = staged().await;
    let mut work = stage.provision();
    let mut known = (*work.known).clone();
    known.template.instance.plugin = "nosuch/compute".into();
    work.known = Arc::new(known);
    let outcome = stage.plugins.perform(&work).await;
    assert!(matches!(outcome, Outcome::Refused { retryable: true, .. }), "{outcome:?}");
    let mut absent = spec();
    absent.template.flavor.plugin = "nosuch".into();
    let rejections = stage.plugins.validate(&absent).await;
    assert!(rejections.iter().any(|it| it.flavor && it.absent), "{rejections:?}");
    let bare =
        Description { id: "i-1".into(), logical_id: None, tags: Tags::new(), properties: None, state: None };
    let (health, _) = stage.plugins.health(&absent.template.flavor, &bare).await;
    assert_eq!(health, Health::Unknown, "not to know is not to be ill");
}

#[tokio::test]
async fn a_lost_secret_is_a_refusal_before_anything_is_made() {
    let stage = staged().await;
    let mut work = stage.provision();
    let mut known = (*work.known).clone();
    known.template.instance.properties = Opaque::from_json(r#"["secret://nosuch"]"#);
    work.known = Arc::new(known);
    let outcome = stage.plugins.perform(&work).await;
    let Outcome::Refused { message, retryable: true } = outcome else { panic!("{outcome:?}") };
    assert!(message.contains("`nosuch`"), "{message}");
    assert!(stage.parrot.heard.lock().expect("a lock").is_empty());
}

#[tokio::test]
async fn a_group_that_asks_for_starts_needs_a_plugin_that_can_start() {
    let stage = staged().await;
    let mut spec = spec();
    let needs = |rejections: Vec<Rejection>| {
        let start = |it: &Rejection| !it.absent && it.message.contains("Start/0.1.0, and Healing.Start");
        rejections.iter().any(start)
    };
    assert!(!needs(stage.plugins.validate(&spec).await));
    spec.healing.start = true;
    assert!(needs(stage.plugins.validate(&spec).await));
}
