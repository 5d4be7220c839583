//! The smallest instance plugin: one file for each instance.
//!
//! Files are written atomically, and a file that cannot be read makes a listing fail instead of being left
//! out.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use model::tags::{self, Tags};
use model::{Description, InstanceId, Opaque};
use spi::{Call, Error, InstanceSpec, Instances, Plugin};

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

const EXTENSION: &str = "json";

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

    fn all(&self) -> Result<Vec<(InstanceId, InstanceSpec)>, Error> {
        let mut all: Vec<(InstanceId, InstanceSpec)> = Vec::new();
        for entry in std::fs::read_dir(&self.dir).map_err(|error| failed(&self.dir, error))? {
            let path = entry.map_err(|error| failed(&self.dir, error))?.path();
            if path.extension().is_none_or(|extension| extension != EXTENSION) {
                continue;
            }
            let id = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
            match self.read(&path) {
                Ok(spec) => all.push((id.into(), spec)),
                // Destroyed since the directory was read.
                Err(_) if !path.exists() => {}
                Err(error) => return Err(error),
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
        if let Some(token) = token {
            let known = self.all()?.into_iter().find(|(_, kept)| kept.tags.get(tags::INTENT) == Some(token));
            if let Some((id, _)) = known {
                return Ok(id);
            }
        }
        let id = InstanceId::new(format!("instance-{}", rand::random::<u64>() >> 1));
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
        let describe = |(id, spec): (InstanceId, InstanceSpec)| Description {
            id,
            logical_id: spec.logical_id.clone(),
            properties: properties.then(|| Opaque::from_json(spi::instance_spec_to_json(&spec))),
            tags: spec.tags,
            state: None,
        };
        Ok(self.all()?.into_iter().filter(|(_, spec)| matches(spec)).map(describe).collect())
    }
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

    #[tokio::test]
    async fn a_file_that_cannot_be_read_is_an_error_and_never_a_shorter_list() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let files = Files { dir: dir.path().to_owned(), making: Mutex::new(()) };
        let spec = InstanceSpec {
            properties: Opaque::null(),
            tags: Tags::new(),
            init: String::new(),
            logical_id: None,
            attachments: vec![],
        };
        files.provision(&spec, &Call::default()).await.expect("an instance");
        std::fs::write(dir.path().join("instance-1.json"), "{\"Tags\":").expect("a torn file");
        let error = files.describe(&Tags::new(), true).await.expect_err("it must not be passed over");
        assert!(error.message.contains("instance-1.json"), "{error}");
    }

    #[tokio::test]
    async fn an_id_cannot_leave_the_directory() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(dir.path().join("victim.json"), "{}").expect("a file");
        let inner = dir.path().join("inner");
        std::fs::create_dir(&inner).expect("a directory");
        let files = Files { dir: inner, making: Mutex::new(()) };
        assert!(files.destroy(&"../victim".into(), "terminate", &Call::default()).await.is_err());
        assert!(dir.path().join("victim.json").exists());
    }
}
