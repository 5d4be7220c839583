//! What an earlier program left on a disk, killed with calls under way, is taken up and brought to its end.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::process::Command;

use api::proto as pb;
use cluster_tests::{Cluster, History, Options, group, program, until};
use futures_util::{FutureExt, StreamExt};
use model::tags::{self, Tags};
use tempfile::TempDir;

/// How many clusters are taken up at a time: their managers wait for looks most of the time.
const AT_A_TIME: usize = 6;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/0.2.0")
}

/// What `make` beside the fixtures says is to become of one: a kind, and what is said of it.
struct Expected(Vec<(String, String)>);

impl Expected {
    fn read(dir: &Path) -> Self {
        let text =
            std::fs::read_to_string(dir.join("expected")).expect("every fixture says what is expected");
        let line = |line: &str| line.split_once(' ').map(|(kind, rest)| (kind.to_owned(), rest.to_owned()));
        Self(text.lines().map(|it| line(it).expect("a kind and more")).collect())
    }

    /// What is said of one kind.
    fn all(&self, kind: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(it, _)| it == kind).map(|(_, rest)| rest.as_str())
    }

    /// The same, where a name comes first.
    fn named(&self, kind: &str) -> impl Iterator<Item = (&str, &str)> {
        self.all(kind).map(|it| it.split_once(' ').expect("a name and more"))
    }

    /// The groups that are kept real, and how many members each has.
    fn groups(&self) -> BTreeMap<&str, usize> {
        let sized = self.named("group").map(|(name, size)| (name, size.parse().expect("a size")));
        sized.chain(self.named("pets").map(|(name, ids)| (name, ids.split(' ').count()))).collect()
    }
}

/// What an instance says of itself.
#[derive(serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Kept {
    tags: Tags,
}

type Kind = BTreeMap<String, Tags>;

/// The instances that the simulator keeps in files.
fn instances(dir: &Path) -> Kind {
    let files = std::fs::read_dir(dir.join("instances/simulator/compute")).expect("a directory");
    let paths = files.map(|it| it.expect("an entry").path());
    let paths = paths.filter(|path| path.extension().is_some_and(|it| it == "json"));
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).expect("an instance");
        let kept: Kept = serde_json::from_str(&text).expect("a spec");
        (path.file_stem().expect("a name").to_string_lossy().into_owned(), kept.tags)
    };
    paths.map(read).collect()
}

fn tag<'a>(tags: &'a Tags, name: &str) -> &'a str {
    tags.get(name).map_or("", String::as_str)
}

/// Unpacks what is in a fixture. What is private there is private here.
fn unpack(fixture: &str) -> TempDir {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let archive = fixtures().join(format!("{fixture}.tar.gz"));
    let mut tar = Command::new("tar");
    let done = tar.arg("-xzf").arg(&archive).arg("-C").arg(dir.path()).status().expect("tar is installed");
    assert!(done.success(), "{} is unpacked", archive.display());
    // Nothing goes wrong any more.
    std::fs::create_dir_all(dir.path().join("lab/faults")).expect("a directory");
    dir
}

/// A cluster that an earlier program left.
struct Left {
    cluster: Cluster,
    expected: Expected,
    before: Kind,
    /// How many calls the simulator had recorded then.
    calls: usize,
}

impl Left {
    /// Starts it as it was started before.
    async fn taken_up(dir: TempDir) -> Self {
        let (expected, before) = (Expected::read(dir.path()), instances(dir.path()));
        let calls = History::read(&dir.path().join("lab")).0.len();
        assert!(calls > 0, "the history came along");
        let store = format!("dir={}", dir.path().join("instances").display());
        let options = Options { simulator: vec!["--set".into(), store], ..Options::default() };
        Self { cluster: Cluster::on(dir, options).await, expected, before, calls }
    }

    /// Waits until every group is as it was declared, and gives those that are kept real.
    async fn rests(&self) -> BTreeMap<String, pb::Group> {
        let mut groups = BTreeMap::new();
        for (name, size) in self.expected.groups() {
            groups.insert(name.to_owned(), self.cluster.settles(name, size as u64).await);
        }
        let client = self.cluster.client();
        until("there are no other groups", async || {
            let list = client.call(async |c| c.groups().list(pb::ListRequest {}).await).await.ok()?;
            list.groups.iter().all(|it| groups.contains_key(&it.id)).then_some(())
        })
        .await;
        groups
    }

    /// Whether an instance that was there must be there still.
    fn is_wanted(&self, id: &str, groups: &BTreeMap<String, pb::Group>) -> bool {
        let own = &self.before[id];
        let (name, hash) = (tag(own, tags::GROUP), tag(own, tags::CONFIG_HASH));
        if self.expected.all("free").any(|it| it == name) {
            return true;
        }
        let Some(group) = groups.get(name) else { return false };
        let is_current = hash == group.config_hash || hash == tags::BOOTSTRAP;
        is_current && !self.expected.all("doomed").any(|it| it == id)
    }

    /// Nothing was made or destroyed beyond what the open intents and the specs ask for.
    fn has_done_what_was_asked(&self, groups: &BTreeMap<String, pb::Group>) {
        let (after, history) = (instances(self.cluster.path()), self.cluster.history());
        history.shows_nothing_twice();
        for call in &history.0[self.calls..] {
            let wanted = self.before.contains_key(&call.id) && self.is_wanted(&call.id, groups);
            assert!(call.call != "destroy" || !wanted, "a wanted instance was destroyed: {call:?}");
            assert!(call.outcome != "made" || after.contains_key(&call.id), "it was made in vain: {call:?}");
        }
        for id in self.before.keys() {
            assert_eq!(after.contains_key(id), self.is_wanted(id, groups), "{id}: {:?}", self.before[id]);
        }
        let own = |name: &str| after.values().filter(|it| tag(it, tags::GROUP) == name).collect::<Vec<_>>();
        for (name, size) in self.expected.groups() {
            let members = own(name);
            assert_eq!(members.len(), size, "{name}: {members:?}");
            let hash = &groups[name].config_hash;
            let current = |it: &&&Tags| [hash, tags::BOOTSTRAP].contains(&tag(it, tags::CONFIG_HASH));
            assert_eq!(members.iter().filter(current).count(), size, "{name}: {members:?}");
        }
        let tokens: Vec<&str> =
            after.values().map(|it| tag(it, tags::INTENT)).filter(|it| !it.is_empty()).collect();
        assert_eq!(tokens.iter().collect::<BTreeSet<_>>().len(), tokens.len(), "{tokens:?}");
    }

    fn said(&self, args: &[&str]) -> String {
        let output = self.cluster.run(args, b"");
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// What else the state held is in it still.
    async fn knows_what_it_knew(&self, groups: &BTreeMap<String, pb::Group>) {
        for (name, revision) in self.expected.named("revision") {
            assert_eq!(groups[name].revision.to_string(), revision, "{name}");
        }
        for (name, ids) in self.expected.named("pets") {
            let mut slots: Vec<&str> = groups[name].slots.iter().map(|it| it.slot.as_str()).collect();
            slots.sort_unstable();
            assert_eq!(slots.join(" "), ids, "{name}");
        }
        for (key, value) in self.expected.named("variable") {
            assert_eq!(self.said(&["var", "get", key]), value, "{key}");
        }
        let (secrets, tokens) = (self.said(&["secret", "ls"]), self.said(&["token", "ls"]));
        assert!(self.expected.all("secret").all(|name| secrets.contains(name)), "{secrets}");
        assert!(self.expected.all("token").all(|id| tokens.contains(id)), "{tokens}");
        assert!(!self.expected.all("noone").any(|id| tokens.contains(id)), "{tokens}");
        let status = self.cluster.status().await.expect("it serves");
        // In a lineage of its own nobody can say whether it has served already.
        let serves = |id| tokens.contains(id) == (status.lineage == 1);
        assert!(self.expected.all("once").all(serves), "{tokens}");
        for lineage in self.expected.all("lineage") {
            assert_eq!(status.lineage.to_string(), lineage);
        }
    }

    /// What this program writes behind what the earlier one wrote is read as well.
    async fn goes_on(&mut self) {
        self.cluster.commit(&group("later", 1, "v1")).await.expect("it is accepted");
        self.cluster.settles("later", 1).await;
        let made = self.cluster.history().0.len();
        self.cluster.kill(0);
        self.cluster.start(0);
        self.cluster.settles("later", 1).await;
        for (name, size) in self.expected.groups() {
            self.cluster.settles(name, size as u64).await;
        }
        let history = self.cluster.history();
        assert_eq!(history.0.len(), made, "nothing was left to do: {:?}", &history.0[made..]);
    }
}

async fn is_brought_to_its_end(dir: TempDir) {
    let mut left = Left::taken_up(dir).await;
    let groups = left.rests().await;
    left.has_done_what_was_asked(&groups);
    left.knows_what_it_knew(&groups).await;
    left.goes_on().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_0_2_0_left_open_is_brought_to_its_end_and_nothing_is_made_or_destroyed_beyond_it() {
    let files =
        std::fs::read_dir(fixtures()).expect("the fixtures").map(|it| it.expect("an entry").file_name());
    let names = files.filter_map(|it| Some(it.to_str()?.strip_suffix(".tar.gz")?.to_owned()));
    let names: BTreeSet<String> = names.filter(|it| it != "backup").collect();
    assert!(names.len() > 20, "{names:?}");
    let told = futures_util::stream::iter(names).map(async |name| {
        let dir = unpack(&name);
        // One that fails stops none of the others.
        let why = AssertUnwindSafe(is_brought_to_its_end(dir)).catch_unwind().await.err()?;
        let why = why.downcast::<String>().map_or_else(|_| "it panicked".to_owned(), |it| *it);
        Some(format!("{name}: {why}"))
    });
    let failed: Vec<String> = told.buffer_unordered(AT_A_TIME).filter_map(async |it| it).collect().await;
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// Runs the program where there is no cluster.
fn said(args: &[&str]) -> String {
    let output = Command::new(program()).args(args).output().expect("the program starts");
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_0_2_0_is_read_and_a_cluster_goes_on_from_it() {
    let dir = unpack("backup");
    let file = |name: &str| dir.path().join(name).display().to_string();
    for name in ["backup.sealed", "backup.key"] {
        std::fs::copy(fixtures().join(name), file(name)).expect("a copy");
        // A working copy does not remember who may read it.
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(file(name), private).expect("it is ours");
    }
    let checked = std::fs::read_to_string(fixtures().join("backup.check")).expect("what 0.2.0 said");
    assert_eq!(said(&["backup", "--check", &file("backup.sealed")]), checked);
    let (sealed, data) = (file("backup.sealed"), file("m1"));
    said(&[
        "restore",
        &sealed,
        "--data-dir",
        &data,
        "--name",
        "m1",
        "--advertise",
        "127.0.0.1:7701",
        "--yes",
    ]);
    is_brought_to_its_end(dir).await;
}
