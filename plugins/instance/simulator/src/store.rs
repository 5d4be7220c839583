//! The store of simulated instances.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use model::tags::{self, Tags};
use model::{Description, InstanceId, InstanceState, Opaque};
use spi::{Error, InstanceSpec};

use crate::states;

/// Instances in memory, optionally with a file for each.
pub(crate) struct Store {
    kept: BTreeMap<InstanceId, Kept>,
    /// Instances whose files cannot be read, and why: they are there, and nothing else is known of them.
    unreadable: BTreeMap<InstanceId, String>,
    /// Instances by token.
    tokens: BTreeMap<String, InstanceId>,
    dir: Option<PathBuf>,
}

/// An instance: its spec, with its current tags.
pub(crate) struct Kept {
    pub(crate) spec: InstanceSpec,
    /// The whole spec as JSON, which listings show as properties.
    shown: Opaque,
    state: InstanceState,
}

impl Kept {
    pub(crate) fn new(spec: InstanceSpec) -> Self {
        let shown = Opaque::from_json(spi::instance_spec_to_json(&spec));
        let state = states::initial(&spec.properties).unwrap_or_else(|_| states::running());
        Self { spec, shown, state }
    }
}

impl Store {
    pub(crate) fn memory() -> Self {
        Self { kept: BTreeMap::new(), unreadable: BTreeMap::new(), tokens: BTreeMap::new(), dir: None }
    }

    /// Loads existing instances. One whose file cannot be read hides no other.
    pub(crate) fn files(dir: &Path) -> std::io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let mut store = Self { dir: Some(dir.to_owned()), ..Self::memory() };
        for entry in std::fs::read_dir(dir)? {
            let path = entry?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let id = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
            let text = std::fs::read_to_string(&path).map_err(|error| error.to_string());
            match text.and_then(|text| spi::instance_spec_from_json(&text).map_err(|error| error.to_string()))
            {
                Ok(spec) => store.keep(id.into(), Kept::new(spec)),
                Err(error) => drop(store.unreadable.insert(id.into(), error)),
            }
        }
        Ok(store)
    }

    pub(crate) fn len(&self) -> usize {
        self.kept.len()
    }

    pub(crate) fn by_token(&self, token: &str) -> Option<InstanceId> {
        self.tokens.get(token).cloned()
    }

    fn keep(&mut self, id: InstanceId, kept: Kept) {
        if let Some(token) = kept.spec.tags.get(tags::INTENT) {
            self.tokens.insert(token.clone(), id.clone());
        }
        self.kept.insert(id, kept);
    }

    pub(crate) fn insert(&mut self, id: InstanceId, kept: Kept) -> Result<(), Error> {
        self.write(&id, &kept)?;
        self.keep(id, kept);
        Ok(())
    }

    pub(crate) fn label(&mut self, id: &InstanceId, labels: &Tags) -> Result<(), Error> {
        let Some(kept) = self.kept.get(id) else {
            return Err(Error::not_found(format!("not found {id}")));
        };
        let mut spec = kept.spec.clone();
        spec.tags.extend(labels.clone());
        let state = kept.state.clone();
        self.insert(id.clone(), Kept { state, ..Kept::new(spec) })
    }

    /// Starts an instance; false if there is none.
    pub(crate) fn start(&mut self, id: &InstanceId) -> bool {
        self.kept.get_mut(id).map(|kept| kept.state = states::running()).is_some()
    }

    pub(crate) fn has(&self, id: &InstanceId) -> bool {
        self.kept.contains_key(id) || self.unreadable.contains_key(id)
    }

    pub(crate) fn remove(&mut self, id: &InstanceId) -> Result<Option<Kept>, Error> {
        if let Some(path) = self.path(id)
            && let Err(error) = std::fs::remove_file(&path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            return Err(Error::unsure(format!("{}: {error}", path.display())));
        }
        self.unreadable.remove(id);
        let gone = self.kept.remove(id);
        if let Some(token) = gone.as_ref().and_then(|kept| kept.spec.tags.get(tags::INTENT)) {
            self.tokens.remove(token);
        }
        Ok(gone)
    }

    /// Every instance that has all these tags with exactly these values.
    pub(crate) fn matching(&self, wanted: &Tags) -> Vec<Description> {
        let matches = |kept: &&Kept| wanted.iter().all(|(key, value)| kept.spec.tags.get(key) == Some(value));
        let describe = |(id, kept): (&InstanceId, &Kept)| Description {
            id: id.clone(),
            logical_id: kept.spec.logical_id.clone(),
            tags: kept.spec.tags.clone(),
            properties: Some(kept.shown.clone()),
            state: Some(kept.state.clone()),
        };
        // They are not known to have any tag.
        let unreadable =
            self.unreadable.iter().filter(|_| wanted.is_empty()).map(|(id, error)| Description {
                id: id.clone(),
                logical_id: None,
                tags: Tags::new(),
                properties: None,
                state: Some(states::unreadable(error)),
            });
        self.kept.iter().filter(|(_, kept)| matches(kept)).map(describe).chain(unreadable).collect()
    }

    fn path(&self, id: &InstanceId) -> Option<PathBuf> {
        self.dir.as_ref().map(|dir| dir.join(format!("{id}.json")))
    }

    fn write(&self, id: &InstanceId, kept: &Kept) -> Result<(), Error> {
        let Some(path) = self.path(id) else { return Ok(()) };
        let fresh = path.with_extension("new");
        std::fs::write(&fresh, kept.shown.as_json())
            .and_then(|()| std::fs::rename(&fresh, &path))
            .map_err(|error| Error::internal(format!("{}: {error}", path.display())))
    }
}
