//! The conformance tests: they check a running plugin against the plugin contract.
//!
//! The checks come from defects of real plugins. All created instances are destroyed again, also after a
//! failure.

mod flavor;

use std::fmt;
use std::time::Duration;

use model::plugin::PluginClass;
use model::tags::{self, Tags};
use model::{Description, InstanceId, Opaque};

use crate::call::{Call, Epoch, since_boot};
use crate::client::Client;
use crate::interface;
use crate::interface::handshake::Hello;
use crate::interface::instance::{InstanceSpec, Instances, has_state};

pub use flavor::flavors;

/// The results of a run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// Each check with its outcome, in order.
    pub checks: Vec<(&'static str, Outcome)>,
    /// The measured class of an instance plugin; none if it could not be measured.
    pub class: Option<PluginClass>,
}

/// The outcome of one check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The plugin conforms.
    Passed,
    /// The plugin does not conform, with the reason.
    Failed(String),
    /// The plugin does not claim this, with the reason.
    Skipped(String),
}

impl Report {
    /// Whether there were checks and none failed.
    pub fn passed(&self) -> bool {
        !self.checks.is_empty()
            && !self.checks.iter().any(|(_, outcome)| matches!(outcome, Outcome::Failed(_)))
    }

    /// The first check: the handshake, and whether the plugin serves the interface.
    async fn open(
        &mut self,
        client: &Client,
        check: &'static str,
        interface: &str,
        subtype: &str,
    ) -> Option<Hello> {
        match client.hello().await {
            Ok(hello) if hello.serves(interface, subtype) => {
                self.note(check, Ok(()));
                Some(hello)
            }
            Ok(hello) => {
                self.note(check, Err(hello.lacks(interface, subtype)));
                None
            }
            Err(error) => {
                self.note("it answers Handshake.Hello", Err(error.message));
                None
            }
        }
    }

    fn note(&mut self, check: &'static str, result: Result<(), String>) {
        self.checks.push((check, result.map_or_else(Outcome::Failed, |()| Outcome::Passed)));
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (check, outcome) in &self.checks {
            match outcome {
                Outcome::Passed => writeln!(f, "ok    {check}")?,
                Outcome::Failed(why) => writeln!(f, "FAIL  {check}: {why}")?,
                Outcome::Skipped(why) => writeln!(f, "skip  {check}: {why}")?,
            }
        }
        match self.class {
            Some(class) => writeln!(f, "class {class}"),
            None => Ok(()),
        }
    }
}

/// More instances than any provider lists on its smallest page.
const MANY: usize = 12;

/// A boot script with everything that has broken one: quotes, semicolons, spaces, non-ASCII letters.
fn awkward_init() -> String {
    let mut init = "#!/bin/sh\n# ü — \"quoted\" 'single'; $HOME `x` \\ <&>\necho done; exit 0\n".to_owned();
    while init.len() < 16 * 1024 {
        init.push_str("# padding, so that sixteen kilobytes arrive\n");
    }
    init
}

/// Tests the instance plugin at `subtype`, with instances of `properties`.
pub async fn instances(client: &Client, subtype: &str, properties: &Opaque) -> Report {
    let mut report = Report::default();
    let Some(hello) = report.open(client, "it serves Instance/0.6.1", interface::INSTANCE, subtype).await
    else {
        return report;
    };
    let mark = format!("{:016x}", rand::random::<u64>());
    let bench = Bench { plugin: client.instances(subtype), properties: properties.clone(), mark };
    bench.run(&hello, &mut report).await;
    let states = bench.states(client, subtype).await.unwrap_or_else(Outcome::Failed);
    report.checks.push(("State has the form of the contract", states));
    let cleared = bench.clear().await;
    report.note("destroying everything leaves nothing", cleared);
    report
}

struct Bench<P> {
    plugin: P,
    properties: Opaque,
    /// The tag value of every instance of this run; only these are destroyed.
    mark: String,
}

const MARK: &str = "infrakit.conformance";

impl<P: Instances> Bench<P> {
    fn spec(&self, more: &[(&str, &str)]) -> InstanceSpec {
        let mut tags = Tags::from([(MARK.to_owned(), self.mark.clone())]);
        tags.extend(more.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        InstanceSpec {
            properties: self.properties.clone(),
            tags,
            init: String::new(),
            logical_id: None,
            attachments: Vec::new(),
        }
    }

    async fn make(&self, spec: &InstanceSpec) -> Result<InstanceId, String> {
        self.plugin.provision(spec, &Call::default()).await.map_err(|error| format!("Provision: {error}"))
    }

    async fn list(&self, more: &[(&str, &str)]) -> Result<Vec<Description>, String> {
        let tags = self.spec(more).tags;
        self.plugin.describe(&tags, true).await.map_err(|error| format!("DescribeInstances: {error}"))
    }

    async fn destroy(&self, id: &InstanceId) -> Result<(), String> {
        let destroyed = self.plugin.destroy(id, "terminate", &Call::default()).await;
        destroyed.map_err(|error| format!("Destroy: {error}"))
    }

    async fn clear(&self) -> Result<(), String> {
        for found in self.list(&[]).await? {
            self.destroy(&found.id).await?;
        }
        match self.list(&[]).await?.len() {
            0 => Ok(()),
            left => Err(format!("{left} instances are still listed")),
        }
    }

    async fn run(&self, hello: &Hello, report: &mut Report) {
        let valid = self.plugin.validate(&self.properties).await.map_err(|error| error.message);
        report.note("Validate accepts the properties", valid);
        report.note("created instances are listed with their tags unchanged", self.tags_come_back().await);
        report.note("listings match tags exactly", self.tags_match_exactly().await);
        report.note("listings are complete", self.lists_are_whole().await);
        report.note("listings include the logical id", self.logical_id_comes_back().await);
        report.note("a boot script of 16 KiB is accepted", self.init_is_accepted().await);
        report.note("Label adds tags and keeps the others", self.labels_merge().await);
        report.note("Label of an unknown instance is an error", self.unknown_label_is_refused().await);
        report.note("Destroy twice succeeds", self.destroying_twice_is_fine().await);
        report.note("concurrent calls do not interfere", self.concurrency_is_safe().await);
        // Measured, regardless of what the plugin reports.
        let knows_tokens = self.tokens_are_known().await;
        report.class = match (&knows_tokens, self.is_listed_at_once().await) {
            (Ok(()), _) => Some(PluginClass::A),
            (Err(_), Ok(true)) => Some(PluginClass::C),
            (Err(_), Ok(false)) => Some(PluginClass::D),
            (Err(_), Err(_)) => None,
        };
        let declared = hello.class().dedupes();
        for (check, result) in [
            ("a repeated token creates no second instance", knows_tokens),
            (
                "a call of a deposed leader is rejected and creates nothing",
                self.the_deposed_are_refused().await,
            ),
            ("a call after its deadline is rejected and creates nothing", self.the_late_are_refused().await),
        ] {
            if declared {
                report.note(check, result);
            } else {
                let why = "the plugin does not list Fence/0.1.0".to_owned();
                report.checks.push((check, Outcome::Skipped(why)));
            }
        }
    }

    async fn tags_come_back(&self) -> Result<(), String> {
        let spec = self.spec(&[
            (tags::GROUP, "conformance"),
            ("Upper.Case/slash", "v"),
            ("empty", ""),
            ("unicode", "ü—"),
        ]);
        let id = self.make(&spec).await?;
        let found = self.list(&[("Upper.Case/slash", "v")]).await?;
        let one = found.iter().find(|found| found.id == id).ok_or("it is not listed")?;
        for (key, value) in &spec.tags {
            if one.tags.get(key) != Some(value) {
                return Err(format!("the tag {key}={value:?} came back as {:?}", one.tags.get(key)));
            }
        }
        self.destroy(&id).await
    }

    async fn tags_match_exactly(&self) -> Result<(), String> {
        let id = self.make(&self.spec(&[("tier", "web"), ("unrelated", "x")])).await?;
        for (tags, matches) in [
            (&[("tier", "web")][..], true),
            (&[("tier", "web"), ("unrelated", "x")], true),
            (&[("tier", "db")], false),
            (&[("tie", "web")], false),
            (&[("nosuch", "web")], false),
            (&[("nosuch", "")], false),
            (&[("tier", "web"), ("nosuch", "x")], false),
        ] {
            let listed = self.list(tags).await?.iter().any(|found| found.id == id);
            if listed != matches {
                let not = if matches { "not " } else { "" };
                return Err(format!("an instance with tier=web was {not}listed for {tags:?}"));
            }
        }
        self.destroy(&id).await
    }

    async fn lists_are_whole(&self) -> Result<(), String> {
        let spec = self.spec(&[("page", "yes")]);
        for _ in 0..MANY {
            self.make(&spec).await?;
        }
        let found = self.list(&[("page", "yes")]).await?;
        if found.len() != MANY {
            return Err(format!("{MANY} were created, {} are listed", found.len()));
        }
        for one in found {
            self.destroy(&one.id).await?;
        }
        Ok(())
    }

    async fn logical_id_comes_back(&self) -> Result<(), String> {
        let name = format!("conf-{}", &self.mark[..8]);
        let spec = InstanceSpec {
            logical_id: Some(name.as_str().into()),
            ..self.spec(&[(tags::LOGICAL_ID, &name)])
        };
        let id = self.make(&spec).await?;
        let found = self.list(&[(tags::LOGICAL_ID, &name)]).await?;
        let one = found.iter().find(|found| found.id == id).ok_or("it is not listed")?;
        if one.logical_id.as_ref().map(|id| id.as_str()) != Some(name.as_str()) {
            return Err(format!("{name} came back as {:?}", one.logical_id));
        }
        self.destroy(&id).await
    }

    async fn init_is_accepted(&self) -> Result<(), String> {
        let spec = InstanceSpec { init: awkward_init(), ..self.spec(&[("init", "long")]) };
        let id = self.make(&spec).await?;
        self.destroy(&id).await
    }

    async fn labels_merge(&self) -> Result<(), String> {
        let id = self.make(&self.spec(&[("keep", "me"), ("change", "old")])).await?;
        let labels = Tags::from([("change".into(), "new".into()), ("added".into(), "x".into())]);
        self.plugin.label(&id, &labels, &Call::default()).await.map_err(|error| format!("Label: {error}"))?;
        let found = self.list(&[("keep", "me"), ("change", "new"), ("added", "x")]).await?;
        if !found.iter().any(|found| found.id == id) {
            return Err("the instance is not listed by its old and new tags together".into());
        }
        if self.list(&[("change", "old")]).await?.iter().any(|found| found.id == id) {
            return Err("the instance is still listed by the value that was changed".into());
        }
        self.destroy(&id).await
    }

    async fn unknown_label_is_refused(&self) -> Result<(), String> {
        let labels = Tags::from([("a".into(), "b".into())]);
        match self.plugin.label(&"no-such-instance".into(), &labels, &Call::default()).await {
            Err(_) => Ok(()),
            Ok(()) => Err("it succeeded".into()),
        }
    }

    async fn destroying_twice_is_fine(&self) -> Result<(), String> {
        let id = self.make(&self.spec(&[])).await?;
        self.destroy(&id).await?;
        if self.list(&[]).await?.iter().any(|found| found.id == id) {
            return Err("it is listed after Destroy".into());
        }
        self.destroy(&id).await.map_err(|why| format!("the second time: {why}"))
    }

    async fn concurrency_is_safe(&self) -> Result<(), String> {
        let names: Vec<String> = (0..6).map(|n| format!("c{n}")).collect();
        let specs: Vec<InstanceSpec> = names.iter().map(|name| self.spec(&[("who", name)])).collect();
        let made = futures_util::future::join_all(specs.iter().map(|spec| self.make(spec))).await;
        for (name, id) in names.iter().zip(made) {
            let id = id?;
            let found = self.list(&[("who", name)]).await?;
            if found.len() != 1 || found[0].id != id {
                return Err(format!("{id} was created as {name}, and {} are listed as such", found.len()));
            }
            self.destroy(&id).await?;
        }
        Ok(())
    }

    /// A plugin need not list a `State`; if it does, it has the form of the contract.
    async fn states(&self, client: &Client, subtype: &str) -> Result<Outcome, String> {
        let id = self.make(&self.spec(&[("state", "yes")])).await?;
        let tags = self.spec(&[("state", "yes")]).tags;
        let items = client.listed(subtype, &tags, true).await.map_err(|error| error.message)?;
        self.destroy(&id).await?;
        let mut outcome = Outcome::Skipped("the plugin does not list State".into());
        for item in &items {
            if has_state(item)? {
                outcome = Outcome::Passed;
            }
        }
        Ok(outcome)
    }

    async fn is_listed_at_once(&self) -> Result<bool, String> {
        let id = self.make(&self.spec(&[("class", "yes")])).await?;
        let listed = self.list(&[("class", "yes")]).await?.iter().any(|found| found.id == id);
        self.destroy(&id).await?;
        Ok(listed)
    }

    /// Whether a call that must be rejected has created nothing.
    async fn is_refused(&self, mark: &str, call: Call) -> Result<(), String> {
        let made = self.plugin.provision(&self.spec(&[("refused", mark)]), &call).await;
        let there = self.list(&[("refused", mark)]).await?;
        for found in &there {
            self.destroy(&found.id).await?;
        }
        match made {
            Ok(id) => Err(format!("it created {id}")),
            Err(error) if !error.class.is_refusal() => Err(format!("the outcome is not certain: {error}")),
            Err(_) if !there.is_empty() => Err("it rejected the call and created an instance anyway".into()),
            Err(_) => Ok(()),
        }
    }

    async fn the_deposed_are_refused(&self) -> Result<(), String> {
        // A separate cluster id, so that the leaders of others are not affected.
        let of_term = |term| {
            let epoch = Epoch { cluster: self.mark.clone(), lineage: 1, term };
            Call { epoch: Some(epoch), ..Call::default() }
        };
        let newer = self.plugin.provision(&self.spec(&[]), &of_term(2)).await;
        let id = newer.map_err(|error| format!("Provision: {error}"))?;
        self.destroy(&id).await?;
        self.is_refused("deposed", of_term(1)).await
    }

    async fn the_late_are_refused(&self) -> Result<(), String> {
        let past = since_boot().saturating_sub(Duration::from_millis(1));
        self.is_refused("late", Call { not_after: Some(past), ..Call::default() }).await
    }

    async fn tokens_are_known(&self) -> Result<(), String> {
        let token = format!("conf-{}", self.mark);
        let spec = self.spec(&[(tags::INTENT, &token)]);
        let call = Call { token: Some(token.clone()), ..Call::default() };
        let first =
            self.plugin.provision(&spec, &call).await.map_err(|error| format!("Provision: {error}"))?;
        let again =
            self.plugin.provision(&spec, &call).await.map_err(|error| format!("the repeat: {error}"))?;
        let listed = self.list(&[(tags::INTENT, &token)]).await?.len();
        self.destroy(&first).await?;
        if first != again {
            self.destroy(&again).await?;
        }
        if first != again || listed != 1 {
            return Err(format!("{first} and then {again}; {listed} are listed"));
        }
        Ok(())
    }
}
