//! Combines several flavors into one: each prepares its own copy, and the additions are merged.
//!
//! The result has the base `Init` once, followed by the additions in order (a MIME archive where a script meets a
//! cloud-config); later tags win; attachments are
//! collected (flavors-cli §A.2, without its defect of repeating the base).

mod boot;

use std::sync::Arc;

use async_trait::async_trait;
use model::{Allocation, Description, Health, Opaque, PluginName};
use serde::Deserialize;
use serde_json::value::RawValue;
use spi::{Directory, Error, Flavors, Index, InstanceSpec, Kind, Plugin, Verdict};

/// The kind of this plugin.
pub const KIND: Kind = Kind {
    name: "combo",
    summary: "combines several flavors into one",
    options: &[],
    make: |setup| Box::pin(async move { Ok(plugin(Directory::new(setup.directory))) }),
};

/// The plugin; its children are looked up in `directory`.
pub fn plugin(directory: Directory) -> Plugin {
    Plugin::default().with_flavor("", Arc::new(Combo { directory }))
}

struct Combo {
    directory: Directory,
}

#[derive(Deserialize)]
struct Child<'a> {
    #[serde(rename = "Plugin")]
    plugin: String,
    #[serde(rename = "Properties", default, borrow)]
    properties: Option<&'a RawValue>,
}

/// A child and its client.
struct Ready<F> {
    name: PluginName,
    properties: Opaque,
    flavor: F,
}

impl Combo {
    fn children(&self, properties: &Opaque) -> Result<Vec<Ready<impl Flavors + use<>>>, Error> {
        let children = read(properties.as_json()).map_err(|error| {
            Error::invalid(format!("combo: the properties must be a list of {{Plugin, Properties}}: {error}"))
        })?;
        if children.is_empty() {
            return Err(Error::invalid("combo: the list is empty; give at least one flavor"));
        }
        children
            .into_iter()
            .map(|child| {
                let name = PluginName::check(&child.plugin)
                    .map_err(|why| Error::invalid(format!("combo: {why}")))?;
                let flavor = self.directory.find(&name)?.client().flavors(name.subtype());
                let properties =
                    child.properties.map_or_else(Opaque::null, |raw| Opaque::from_json(raw.get()));
                Ok(Ready { name, properties, flavor })
            })
            .collect()
    }
}

/// The children: a list, or as `Flavors` of an object, which is the older form.
fn read(properties: &str) -> serde_json::Result<Vec<Child<'_>>> {
    #[derive(Deserialize)]
    struct Older<'a> {
        #[serde(rename = "Flavors")]
        #[serde(borrow)]
        flavors: Vec<Child<'a>>,
    }
    if properties.trim_start().starts_with('{') {
        return spi::read_strict(properties).map(|it: Older<'_>| it.flavors);
    }
    spi::read_strict(properties)
}

fn of_child(name: &PluginName) -> impl Fn(Error) -> Error + '_ {
    move |error| Error::new(error.class, format!("combo: {name}: {}", error.message))
}

#[async_trait]
impl Flavors for Combo {
    async fn validate(&self, properties: &Opaque, allocation: &Allocation) -> Result<(), Error> {
        for child in self.children(properties)? {
            child.flavor.validate(&child.properties, allocation).await.map_err(of_child(&child.name))?;
        }
        Ok(())
    }

    async fn prepare(
        &self,
        properties: &Opaque,
        spec: InstanceSpec,
        allocation: &Allocation,
        index: &Index,
    ) -> Result<InstanceSpec, Error> {
        let mut whole = spec.clone();
        let mut added_by = Vec::new();
        for child in self.children(properties)? {
            let part = child
                .flavor
                .prepare(&child.properties, spec.clone(), allocation, index)
                .await
                .map_err(of_child(&child.name))?;
            // Only the additions of the child: everything else is from the base.
            let added = part.init.strip_prefix(&spec.init).unwrap_or(&part.init);
            let added = if spec.init.is_empty() { added } else { added.strip_prefix('\n').unwrap_or(added) };
            added_by.push((child.name.to_string(), added.to_owned()));
            whole.tags.extend(part.tags.into_iter().filter(|(key, value)| spec.tags.get(key) != Some(value)));
            whole
                .attachments
                .extend(part.attachments.into_iter().filter(|it| !spec.attachments.contains(it)));
        }
        let base = std::iter::once(("the base", spec.init.as_str()));
        let added = added_by.iter().map(|(name, text)| (name.as_str(), text.as_str()));
        let parts: Vec<(&str, &str)> = base.chain(added).collect();
        whole.init = boot::join(&parts).map_err(|why| Error::invalid(format!("combo: {why}")))?;
        Ok(whole)
    }

    /// The first verdict that is not healthy.
    async fn healthy(&self, properties: &Opaque, instance: &Description) -> Result<Verdict, Error> {
        for child in self.children(properties)? {
            let verdict =
                child.flavor.healthy(&child.properties, instance).await.map_err(of_child(&child.name))?;
            if verdict.health != Health::Healthy {
                return Ok(Verdict { message: format!("{}: {}", child.name, verdict.message), ..verdict });
            }
        }
        Ok(Verdict::healthy())
    }

    /// Drains all of them, even if one fails; all failures are reported.
    async fn drain(&self, properties: &Opaque, instance: &Description) -> Result<(), Error> {
        let mut failures = Vec::new();
        for child in self.children(properties)? {
            if let Err(error) = child.flavor.drain(&child.properties, instance).await {
                failures.push(format!("{}: {}", child.name, error.message));
            }
        }
        if failures.is_empty() {
            Ok(())
        } else {
            Err(Error::internal(format!("combo: {}", failures.join(", "))))
        }
    }
}

#[cfg(test)]
mod tests {
    use model::tags::Tags;
    use spi::Attachment;

    use super::*;

    /// Adds its own name to everything, and says what it is told to say of health.
    struct Child(&'static str, Health);

    #[async_trait]
    impl Flavors for Child {
        async fn validate(&self, properties: &Opaque, _: &Allocation) -> Result<(), Error> {
            if properties.is_null() { Ok(()) } else { Err(Error::invalid("no properties please")) }
        }

        async fn prepare(
            &self,
            _: &Opaque,
            mut spec: InstanceSpec,
            _: &Allocation,
            _: &Index,
        ) -> Result<InstanceSpec, Error> {
            spec.init =
                if spec.init.is_empty() { self.0.into() } else { format!("{}\n{}", spec.init, self.0) };
            spec.tags.insert("by".into(), self.0.into());
            spec.attachments.push(Attachment { id: self.0.into(), kind: "v".into() });
            Ok(spec)
        }

        async fn healthy(&self, _: &Opaque, _: &Description) -> Result<Verdict, Error> {
            Ok(Verdict { health: self.1, message: format!("{} says so", self.0) })
        }

        async fn drain(&self, _: &Opaque, _: &Description) -> Result<(), Error> {
            if self.1 == Health::Healthy { Ok(()) } else { Err(Error::internal("cannot")) }
        }
    }

    fn base() -> InstanceSpec {
        InstanceSpec {
            properties: Opaque::from_json("{}"),
            tags: Tags::from([("infrakit.group".into(), "web".into()), ("by".into(), "base".into())]),
            init: "BASE".into(),
            logical_id: Some("a".into()),
            attachments: vec![Attachment { id: "base".into(), kind: "v".into() }],
        }
    }

    #[tokio::test]
    async fn the_base_stands_once_and_the_last_child_wins() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let serve = |name: &'static str, health| {
            let plugin = Plugin::default().with_flavor("", Arc::new(Child(name, health)));
            spi::serve(dir.path(), name, plugin).expect("it is served")
        };
        let _running =
            [serve("A", Health::Healthy), serve("B", Health::Healthy), serve("C", Health::Unhealthy)];
        let combo = Combo { directory: Directory::new(dir.path()) };
        let index = Index { group: "web".into(), sequence: 1 };
        let both = Opaque::from_json(r#"[{"Plugin":"A"},{"Plugin":"B"}]"#);
        let spec = combo.prepare(&both, base(), &Allocation::Size(1), &index).await.expect("a spec");
        let older = Opaque::from_json(r#" {"Flavors": [{"Plugin":"A"},{"Plugin":"B"}]}"#);
        let same = combo.prepare(&older, base(), &Allocation::Size(1), &index).await;
        assert_eq!(same.as_ref(), Ok(&spec), "the older form");
        assert!(
            combo.validate(&Opaque::from_json(r#"{"Plugins": []}"#), &Allocation::Size(1)).await.is_err()
        );
        assert_eq!(spec.init, "BASE\nA\nB");
        assert_eq!(
            spec.tags,
            Tags::from([("infrakit.group".into(), "web".into()), ("by".into(), "B".into())])
        );
        let attached: Vec<_> = spec.attachments.iter().map(|it| it.id.as_str()).collect();
        assert_eq!(attached, ["base", "A", "B"]);
        let bare = InstanceSpec { init: String::new(), ..base() };
        let spec = combo.prepare(&both, bare, &Allocation::Size(1), &index).await.expect("a spec");
        assert_eq!(spec.init, "A\nB");

        let instance = Description {
            id: "i".into(),
            logical_id: None,
            tags: Tags::new(),
            properties: None,
            state: None,
        };
        assert_eq!(combo.healthy(&both, &instance).await.expect("a verdict").health, Health::Healthy);
        let sick = Opaque::from_json(r#"[{"Plugin":"A"},{"Plugin":"C"}]"#);
        let verdict = combo.healthy(&sick, &instance).await.expect("a verdict");
        assert_eq!((verdict.health, verdict.message.as_str()), (Health::Unhealthy, "C: C says so"));
        assert!(combo.drain(&sick, &instance).await.expect_err("C cannot").message.contains("C: cannot"));

        let told = async |properties: &str| {
            let checked = combo.validate(&Opaque::from_json(properties), &Allocation::Size(1)).await;
            checked.expect_err(properties).message
        };
        assert!(told("{}").await.contains("a list of"));
        assert!(told(r#"[{"Plugin":"A","Propertys":{}}]"#).await.contains("unknown field `Propertys`"));
        let any_case = Opaque::from_json(r#"{"flavors":[{"plugin":"A"}]}"#);
        assert_eq!(combo.validate(&any_case, &Allocation::Size(1)).await, Ok(()));
        assert!(told("[]").await.contains("the list is empty"));
        assert!(told(r#"[{"Plugin":"nosuch"}]"#).await.contains("plugin not found:nosuch"));
        assert!(
            told(r#"[{"Plugin":"A"},{"Plugin":"B","Properties":{"x":1}}]"#)
                .await
                .contains("B: no properties please")
        );
    }
}
