//! The basic flavor: a boot script, tags and attachments for every instance, and an optional health probe.

mod probe;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use model::{Allocation, Description, Millis, Opaque};
use serde::Deserialize;
use spi::{Attachment, Error, Flavors, Index, InstanceSpec, Kind, KindOption, NotMade, Plugin, Verdict};

use probe::{Probe, Watch};
use spi::http::{self, Trust};

/// The kind of this plugin.
pub const KIND: Kind = Kind {
    name: "vanilla",
    summary: "a boot script, tags, attachments and an optional health probe",
    options: &[
        KindOption {
            key: "scripts",
            summary: "directories and URL prefixes, separated by commas, from which groups may take scripts",
            variable: None,
        },
        KindOption {
            key: "commands",
            summary: "true if health probes may run commands on this machine [default: false]",
            variable: None,
        },
    ],
    make: |setup| Box::pin(async move { configure(&setup.options).map(plugin).map_err(NotMade::Options) }),
};

/// The plugin.
pub fn plugin(config: Config) -> Plugin {
    Plugin::default().with_flavor("", Arc::new(Vanilla { config, watch: Watch::default() }))
}

/// The options of the plugin: what its operator allows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// Directories and URL prefixes that `InitScriptTemplateURL` may refer to; none by default. Otherwise
    /// anybody who commits a group could read the files of this machine.
    pub scripts: Vec<String>,
    /// Whether probes may run commands on this machine.
    pub commands: bool,
}

/// The properties, as in Docker's InfraKit, and `Health`.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Properties {
    #[serde(rename = "Init")]
    init: Option<Vec<String>>,
    #[serde(rename = "InitScriptTemplateURL")]
    script: Option<String>,
    #[serde(rename = "Tags")]
    tags: Option<BTreeMap<String, String>>,
    #[serde(rename = "Attachments")]
    attachments: Option<Vec<Attached>>,
    #[serde(rename = "Health")]
    health: Option<HealthSpec>,
}

#[derive(Deserialize)]
struct Attached {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "Type")]
    kind: String,
}

/// The health probe of an instance.
#[derive(Deserialize, Default)]
#[serde(default)]
struct HealthSpec {
    /// A `host:port` that must accept a connection.
    #[serde(rename = "TCP")]
    tcp: Option<String>,
    /// A URL that must answer with a status below 400.
    #[serde(rename = "HTTP")]
    http: Option<String>,
    /// A command that must exit with 0.
    #[serde(rename = "Command")]
    command: Option<Vec<String>>,
    /// The timeout of a probe: 3 s by default, at most 10 s, because the whole call has 15 s.
    #[serde(rename = "Timeout")]
    timeout: Option<String>,
    /// How long after the first probe failures are reported as unknown.
    #[serde(rename = "Grace")]
    grace: Option<String>,
}

const TIMEOUT: Duration = Duration::from_secs(3);
const LONGEST_TIMEOUT: Duration = Duration::from_secs(10);
/// The most that is read of a script.
const LARGEST_SCRIPT: usize = 1 << 20;

struct Vanilla {
    config: Config,
    watch: Watch,
}

fn read(properties: &Opaque) -> Result<Properties, Error> {
    if properties.is_null() {
        return Ok(Properties::default());
    }
    let read: Properties = spi::properties::read_opaque("vanilla properties", properties)?;
    if read.init.is_some() && read.script.is_some() {
        return Err(Error::invalid("vanilla: Init and InitScriptTemplateURL exclude each other"));
    }
    for it in read.attachments.iter().flatten() {
        if it.id.is_empty() || it.kind.is_empty() {
            return Err(Error::invalid("vanilla: an attachment needs an ID and a Type"));
        }
    }
    Ok(read)
}

fn span(text: Option<&str>, field: &str) -> Result<Option<Duration>, Error> {
    let Some(text) = text else { return Ok(None) };
    let span =
        Millis::parse_go(text).map_err(|why| Error::invalid(format!("vanilla: Health.{field}: {why}")))?;
    Ok(Some(Duration::from_millis(span.0)))
}

impl Vanilla {
    fn probe(&self, health: &HealthSpec) -> Result<(Probe, Duration, Duration), Error> {
        let kinds = [health.tcp.is_some(), health.http.is_some(), health.command.is_some()];
        if kinds.into_iter().filter(|given| *given).count() != 1 {
            return Err(Error::invalid("vanilla: Health requires exactly one of TCP, HTTP and Command"));
        }
        let probe = match health {
            HealthSpec { tcp: Some(address), .. } => Probe::tcp(address),
            HealthSpec { http: Some(url), .. } => Probe::http(url),
            HealthSpec { command: Some(command), .. } if self.config.commands => Probe::command(command),
            _ => Err("commands are not allowed; start the plugin with --set commands=true".to_owned()),
        };
        let probe = probe.map_err(|why| Error::invalid(format!("vanilla: Health: {why}")))?;
        let timeout = span(health.timeout.as_deref(), "Timeout")?.unwrap_or(TIMEOUT);
        if timeout > LONGEST_TIMEOUT || timeout.is_zero() {
            return Err(Error::invalid(format!(
                "vanilla: Health.Timeout must be more than 0 and at most {LONGEST_TIMEOUT:?}"
            )));
        }
        Ok((probe, timeout, span(health.grace.as_deref(), "Grace")?.unwrap_or_default()))
    }

    /// The script, without template expansion.
    async fn fetch(&self, url: &str) -> Result<String, Error> {
        let allowed = || {
            Error::invalid(format!(
                "vanilla: {url} is not allowed; start the plugin with --set scripts=PREFIX[,PREFIX]"
            ))
        };
        if let Some(script) = url.strip_prefix("str://") {
            return Ok(script.to_owned());
        }
        if http::is_url(url) {
            let below = |prefix: &&String| url.starts_with(prefix.as_str()) && http::is_url(prefix);
            self.config.scripts.iter().find(below).ok_or_else(allowed)?;
            let failed = |why| Error::internal(format!("vanilla: {url}: {why}"));
            let response =
                http::get(url, Trust::System, LARGEST_SCRIPT, LONGEST_TIMEOUT).await.map_err(failed)?;
            if response.status != 200 {
                return Err(failed(format!("status {}", response.status)));
            }
            return String::from_utf8(response.body).map_err(|_| failed("not UTF-8 text".to_owned()));
        }
        let path = url.strip_prefix("file://").unwrap_or(url);
        // Resolved first, so that neither `..` nor a link leads out of the allowed directory.
        let path = std::fs::canonicalize(path)
            .map_err(|error| Error::invalid(format!("vanilla: {url}: {error}")))?;
        let below = |prefix: &&String| {
            let place = PathBuf::from(prefix.strip_prefix("file://").unwrap_or(prefix));
            std::fs::canonicalize(place).is_ok_and(|place| path.starts_with(place))
        };
        self.config.scripts.iter().find(below).ok_or_else(allowed)?;
        std::fs::read_to_string(&path).map_err(|error| Error::invalid(format!("vanilla: {url}: {error}")))
    }
}

#[async_trait]
impl Flavors for Vanilla {
    async fn validate(&self, properties: &Opaque, _: &Allocation) -> Result<(), Error> {
        let read = read(properties)?;
        if let Some(health) = &read.health {
            self.probe(health)?;
        }
        if let Some(url) = &read.script {
            self.fetch(url).await?;
        }
        Ok(())
    }

    async fn prepare(
        &self,
        properties: &Opaque,
        mut spec: InstanceSpec,
        _: &Allocation,
        _: &Index,
    ) -> Result<InstanceSpec, Error> {
        let read = read(properties)?;
        let script = match (&read.init, &read.script) {
            (Some(lines), _) => lines.join("\n"),
            (None, Some(url)) => self.fetch(url).await?,
            (None, None) => String::new(),
        };
        // A `#!` must stay the first two bytes, so nothing ever comes before it.
        let script = without_blanks_before(script);
        spec.init = match (spec.init.is_empty(), script.is_empty()) {
            (_, true) => spec.init,
            (true, false) => script,
            (false, false) => format!("{}\n{script}", spec.init),
        };
        spec.tags.extend(read.tags.unwrap_or_default());
        let attachments = read.attachments.unwrap_or_default().into_iter();
        spec.attachments.extend(attachments.map(|it| Attachment { id: it.id, kind: it.kind }));
        Ok(spec)
    }

    async fn healthy(&self, properties: &Opaque, instance: &Description) -> Result<Verdict, Error> {
        let read = read(properties)?;
        match &read.health {
            None => Ok(Verdict::healthy()),
            Some(health) => {
                let (probe, timeout, grace) = self.probe(health)?;
                let result = probe.run(instance, timeout).await;
                Ok(self.watch.judge(&instance.id, result, grace))
            }
        }
    }

    async fn drain(&self, _: &Opaque, instance: &Description) -> Result<(), Error> {
        self.watch.forget(&instance.id);
        Ok(())
    }
}

fn configure(options: &BTreeMap<String, String>) -> Result<Config, String> {
    let scripts = options.get("scripts").map(|it| it.split(',').map(str::to_owned).collect());
    let commands = options
        .get("commands")
        .map(|it| it.parse().map_err(|_| format!("commands: `{it}` is not true or false")));
    Ok(Config { scripts: scripts.unwrap_or_default(), commands: commands.transpose()?.unwrap_or_default() })
}

/// cloud-init looks at the first bytes of what it gets, so blanks before `#!` or `#cloud-config` would hide them.
fn without_blanks_before(script: String) -> String {
    let trimmed = script.trim_start();
    match trimmed.starts_with('#') && trimmed.len() < script.len() {
        true => trimmed.to_owned(),
        false => script,
    }
}

#[cfg(test)]
mod tests;
