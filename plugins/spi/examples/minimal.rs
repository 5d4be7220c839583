//! A whole plugin in one file: instances that exist in memory only. Built as `infrakit-plugin-minimal`, and put beside
//! `infrakit` or on the `PATH`, `infrakit plugin start minimal` starts it.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use model::tags::{self, Tags};
use model::{Description, InstanceId, Opaque};
use spi::{Call, Error, InstanceSpec, Instances, Kind, Plugin};

const KIND: Kind = Kind {
    name: "minimal",
    summary: "keeps instances in memory",
    options: &[],
    make: |_| {
        Box::pin(async {
            Ok(Plugin::default().with_instances("", Arc::new(Memory::default())).knowing_tokens())
        })
    },
};

fn main() -> ExitCode {
    spi::run(&KIND)
}

/// The specs by id.
#[derive(Default)]
struct Memory(Mutex<BTreeMap<InstanceId, InstanceSpec>>);

impl Memory {
    fn with<T>(&self, change: impl FnOnce(&mut BTreeMap<InstanceId, InstanceSpec>) -> T) -> T {
        change(&mut self.0.lock().expect("nobody panics while holding it"))
    }
}

#[async_trait]
impl Instances for Memory {
    async fn validate(&self, _: &Opaque) -> Result<(), Error> {
        Ok(())
    }

    /// The id is made of the token, so that a second call with it creates nothing more.
    async fn provision(&self, spec: &InstanceSpec, call: &Call) -> Result<InstanceId, Error> {
        let token = call.token.as_ref().or_else(|| spec.tags.get(tags::INTENT));
        let id = match token {
            Some(token) => InstanceId::new(format!("minimal-{token}")),
            None => self.with(|all| {
                let mut numbers = (1..).map(|n: u64| InstanceId::new(format!("minimal-{n}")));
                numbers.find(|id| !all.contains_key(id)).expect("there are more numbers than instances")
            }),
        };
        self.with(|all| {
            all.entry(id.clone()).or_insert_with(|| spec.clone());
        });
        Ok(id)
    }

    async fn label(&self, instance: &InstanceId, labels: &Tags, _: &Call) -> Result<(), Error> {
        self.with(|all| {
            let spec = all.get_mut(instance).ok_or_else(|| Error::not_found(format!("no `{instance}`")))?;
            spec.tags.extend(labels.clone());
            Ok(())
        })
    }

    async fn destroy(&self, instance: &InstanceId, _: &str, _: &Call) -> Result<(), Error> {
        self.with(|all| drop(all.remove(instance)));
        Ok(())
    }

    async fn describe(&self, tags: &Tags, properties: bool) -> Result<Vec<Description>, Error> {
        let has = |spec: &InstanceSpec| tags.iter().all(|(key, value)| spec.tags.get(key) == Some(value));
        let described = |(id, spec): (&InstanceId, &InstanceSpec)| Description {
            id: id.clone(),
            logical_id: spec.logical_id.clone(),
            tags: spec.tags.clone(),
            properties: properties.then(|| spec.properties.clone()),
            state: None,
        };
        Ok(self.with(|all| all.iter().filter(|(_, spec)| has(spec)).map(described).collect()))
    }
}
