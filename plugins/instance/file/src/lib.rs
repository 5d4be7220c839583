//! The smallest instance plugin: one file for each instance.
//!
//! Files are written atomically. A file that cannot be read is listed with the reason, and stops nothing else:
//! an instance is named after its token, so a repeated token finds its file without reading it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use model::tags::{self, Tags};
use model::{Description, InstanceId, InstanceState, Opaque, RunStatus};
use spi::{Call, Error, InstanceSpec, Instances, Kind, KindOption, NotMade, Plugin, Setup};

/// The kind of this plugin.
pub const KIND: Kind = Kind {
    name: "file",
    summary: "keeps one file for each instance: the smallest instance plugin",
    options: &[KindOption {
        key: "dir",
        summary: "the directory of the files; required",
        variable: Some("INFRAKIT_INSTANCE_FILE_DIR"),
    }],
    make: |setup| Box::pin(async move { make(&setup) }),
};

fn make(setup: &Setup) -> Result<Plugin, NotMade> {
    let dir = setup.options.get("dir").ok_or_else(|| {
        let why = "the file plugin requires a directory; give --set dir=DIRECTORY or set INFRAKIT_INSTANCE_FILE_DIR";
        NotMade::Options(why.into())
    })?;
    plugin(dir).map_err(|error| NotMade::Failed(format!("{dir}: {error}")))
}

/// The plugin, with its files in `dir`.
pub fn plugin(dir: impl Into<PathBuf>) -> std::io::Result<Plugin> {
    let dir = dir.into();
    std::fs::create_dir_all(&dir)?;
    let files = Files { dir, making: Mutex::new(()) };
    Ok(Plugin::default().with_instances("", Arc::new(files)).knowing_tokens())
}

struct Files {
    dir: PathBuf,
    /// Serializes calls, so that two calls with one token cannot both create an instance.
    making: Mutex<()>,
}

/// An instance with its spec, or why that cannot be read.
type Kept = (InstanceId, Result<InstanceSpec, Error>);

const EXTENSION: &str = "json";

/// The id of the instance that is made for this token, always the same.
fn id_of(token: &str) -> InstanceId {
    let mut first = [0; 8];
    first.copy_from_slice(&blake3::hash(token.as_bytes()).as_bytes()[..8]);
    // 63 bits, as the ids of Docker's InfraKit: two of a million tokens are alike once in ten million fleets.
    InstanceId::new(format!("instance-{}", u64::from_be_bytes(first) >> 1))
}

impl Files {
    fn path(&self, id: &InstanceId) -> Result<PathBuf, Error> {
        // An id becomes a file name, so anything else is rejected.
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if id.as_str().is_empty() || !id.as_str().chars().all(plain) {
            return Err(Error::not_found(format!("not found {id}")));
        }
        Ok(self.dir.join(format!("{id}.{EXTENSION}")))
    }

    fn read(&self, path: &Path) -> Result<InstanceSpec, Error> {
        let text = std::fs::read_to_string(path).map_err(|error| failed(path, error))?;
        spi::instance_spec_from_json(&text).map_err(|error| failed(path, error))
    }

    fn write(&self, path: &Path, spec: &InstanceSpec) -> Result<(), Error> {
        let fresh = path.with_extension("new");
        let write = || {
            let mut file = std::fs::File::create(&fresh)?;
            file.write_all(spi::instance_spec_to_json(spec).as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&fresh, path)?;
            std::fs::File::open(&self.dir)?.sync_all()
        };
        write().map_err(|error: std::io::Error| failed(path, error))
    }

    fn all(&self) -> Result<Vec<Kept>, Error> {
        let mut all = Vec::new();
        for entry in std::fs::read_dir(&self.dir).map_err(|error| failed(&self.dir, error))? {
            let path = entry.map_err(|error| failed(&self.dir, error))?.path();
            if path.extension().is_none_or(|extension| extension != EXTENSION) {
                continue;
            }
            let id = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
            match self.read(&path) {
                // Destroyed since the directory was read.
                Err(_) if path.symlink_metadata().is_err() => {}
                read => all.push((InstanceId::from(id), read)),
            }
        }
        all.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(all)
    }
}

fn failed(path: &Path, error: impl std::fmt::Display) -> Error {
    Error::internal(format!("{}: {error}", path.display()))
}

#[async_trait]
impl Instances for Files {
    /// Any properties are valid: they are only stored.
    async fn validate(&self, _: &Opaque) -> Result<(), Error> {
        Ok(())
    }

    async fn provision(&self, spec: &InstanceSpec, call: &Call) -> Result<InstanceId, Error> {
        let _alone = self.making.lock().expect("nobody panics while making a file");
        let token = call.token.as_ref().or_else(|| spec.tags.get(tags::INTENT));
        let id = match token {
            Some(token) => {
                let id = id_of(token);
                if self.path(&id)?.symlink_metadata().is_ok() {
                    return Ok(id);
                }
                // Up to version 0.3.0, the names were random.
                let has_token = |kept: &InstanceSpec| kept.tags.get(tags::INTENT) == Some(token);
                let known = self.all()?.into_iter().find(|(_, kept)| kept.as_ref().is_ok_and(has_token));
                if let Some((id, _)) = known {
                    return Ok(id);
                }
                id
            }
            None => InstanceId::new(format!("instance-{}", rand::random::<u64>() >> 1)),
        };
        self.write(&self.path(&id)?, spec)?;
        Ok(id)
    }

    async fn label(&self, instance: &InstanceId, labels: &Tags, _: &Call) -> Result<(), Error> {
        let path = self.path(instance)?;
        if !path.exists() {
            return Err(Error::not_found(format!("not found {instance}")));
        }
        let mut spec = self.read(&path)?;
        spec.tags.extend(labels.clone());
        self.write(&path, &spec)
    }

    async fn destroy(&self, instance: &InstanceId, _: &str, _: &Call) -> Result<(), Error> {
        let path = self.path(instance)?;
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(failed(&path, error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    async fn describe(&self, wanted: &Tags, properties: bool) -> Result<Vec<Description>, Error> {
        let matches =
            |spec: &InstanceSpec| wanted.iter().all(|(key, value)| spec.tags.get(key) == Some(value));
        let describe = |(id, kept): Kept| match kept {
            Ok(spec) => matches(&spec).then(|| Description {
                id,
                logical_id: spec.logical_id.clone(),
                properties: properties.then(|| Opaque::from_json(spi::instance_spec_to_json(&spec))),
                tags: spec.tags,
                state: None,
            }),
            // It is not known to have any tag.
            Err(error) => wanted.is_empty().then(|| unreadable(id, error)),
        };
        Ok(self.all()?.into_iter().filter_map(describe).collect())
    }
}

fn unreadable(id: InstanceId, error: Error) -> Description {
    let state = InstanceState {
        status: RunStatus::Unknown,
        ended: false,
        exit_code: None,
        since: None,
        message: format!("the file cannot be read: {}", error.message),
    };
    Description { id, logical_id: None, tags: Tags::new(), properties: None, state: Some(state) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_keeps_the_contract() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let plugin = plugin(dir.path().join("instances")).expect("a plugin");
        let _running = spi::serve(&dir.path().join("plugins"), "file", plugin).expect("it is served");
        let client =
            spi::Directory::new(dir.path().join("plugins")).find(&"file".into()).expect("found").client();
        let report = spi::conformance::instances(&client, "", &Opaque::from_json("{\"a\":1}")).await;
        assert!(report.passed(), "{report}");
    }

    fn files(dir: &Path) -> Files {
        Files { dir: dir.to_owned(), making: Mutex::new(()) }
    }

    fn spec(token: &str) -> InstanceSpec {
        InstanceSpec {
            properties: Opaque::null(),
            tags: Tags::from([(tags::INTENT.to_owned(), token.to_owned())]),
            init: String::new(),
            logical_id: None,
            attachments: vec![],
        }
    }

    async fn made(files: &Files, token: &str) -> InstanceId {
        let call = Call { token: Some(token.to_owned()), ..Call::default() };
        files.provision(&spec(token), &call).await.expect("an instance")
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_read_is_listed_and_stops_nothing_else() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let files = files(dir.path());
        let first = made(&files, "t-1").await;
        let at = |name: &str| dir.path().join(format!("{name}.json"));
        std::fs::write(at("instance-1"), "{\"Tags\":").expect("a torn file");
        std::fs::write(at("instance-2"), [0xff, 0xfe]).expect("a file that is not text");
        std::fs::create_dir(at("instance-3")).expect("a directory in its place");
        std::os::unix::fs::symlink("nowhere", at("instance-4")).expect("a link to nothing");
        let second = made(&files, "t-2").await;
        let all = files.describe(&Tags::new(), true).await.expect("a listing");
        assert_eq!(all.len(), 6);
        for one in &all {
            let readable = one.id == first || one.id == second;
            assert_eq!(one.tags.is_empty(), !readable, "{one:?}");
            match &one.state {
                None => assert!(readable, "{one:?}"),
                Some(state) => {
                    assert_eq!(state.status, RunStatus::Unknown);
                    assert!(state.message.contains(&format!("{}.json", one.id)), "{}", state.message);
                }
            }
        }
        let found = files.describe(&spec("t-2").tags, true).await.expect("a listing");
        assert_eq!(found.iter().map(|it| &it.id).collect::<Vec<_>>(), [&second], "tags match exactly");
        files.destroy(&"instance-1".into(), "terminate", &Call::default()).await.expect("it is removed");
        assert_eq!(files.describe(&Tags::new(), true).await.expect("a listing").len(), 5);
    }

    #[tokio::test]
    async fn a_repeated_token_finds_its_file_even_if_that_cannot_be_read() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let files = files(dir.path());
        let id = made(&files, "t-1").await;
        assert_ne!(made(&files, "t-2").await, id);
        let path = dir.path().join(format!("{id}.json"));
        for broken in ["", "{", "[]"] {
            std::fs::write(&path, broken).expect("a broken file");
            assert_eq!(made(&files, "t-1").await, id, "{broken:?}");
        }
        assert_eq!(std::fs::read_dir(dir.path()).expect("a directory").count(), 2);
        // A promise: the names must be the same after an upgrade.
        assert_eq!(id.as_str(), "instance-4779107803824856425");
    }

    #[tokio::test]
    async fn an_older_file_is_found_by_the_token_in_it() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let files = files(dir.path());
        let older = dir.path().join("instance-7.json");
        std::fs::write(&older, spi::instance_spec_to_json(&spec("t-1"))).expect("a file");
        std::fs::write(dir.path().join("instance-8.json"), "{").expect("a torn file");
        assert_eq!(made(&files, "t-1").await.as_str(), "instance-7");
        std::fs::remove_file(&older).expect("it is removed");
        assert_ne!(made(&files, "t-1").await.as_str(), "instance-7");
    }

    #[tokio::test]
    async fn an_id_cannot_leave_the_directory() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(dir.path().join("victim.json"), "{}").expect("a file");
        let inner = dir.path().join("inner");
        std::fs::create_dir(&inner).expect("a directory");
        let files = files(&inner);
        assert!(files.destroy(&"../victim".into(), "terminate", &Call::default()).await.is_err());
        assert!(dir.path().join("victim.json").exists());
    }
}
