//! Health probes of instances, and the grace period after the first probe.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use model::{Description, Health, InstanceId};
use spi::Verdict;
use spi::http::{self, Trust};
use tokio::net::TcpStream;

/// A probe. Its texts may contain `{ID}`, `{LogicalID}` and `{IP}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Probe {
    Tcp(String),
    Http(String),
    Command(Vec<String>),
}

impl Probe {
    pub(crate) fn tcp(address: &str) -> Result<Self, String> {
        match address.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0) => {
                Ok(Probe::Tcp(address.to_owned()))
            }
            _ => Err(format!("TCP: `{address}` is not HOST:PORT")),
        }
    }

    pub(crate) fn http(url: &str) -> Result<Self, String> {
        match http::is_url(url) {
            true => Ok(Probe::Http(url.to_owned())),
            false => Err(format!("HTTP: `{url}` is not an http:// or https:// URL")),
        }
    }

    pub(crate) fn command(command: &[String]) -> Result<Self, String> {
        if command.first().is_none_or(String::is_empty) {
            return Err("Command is empty".into());
        }
        Ok(Probe::Command(command.to_vec()))
    }

    /// Ok if the instance is healthy, else the reason.
    pub(crate) async fn run(&self, instance: &Description, timeout: Duration) -> Result<(), String> {
        let ask = async {
            match self {
                Probe::Tcp(address) => {
                    let address = fill(address, instance)?;
                    TcpStream::connect(&address)
                        .await
                        .map(drop)
                        .map_err(|error| format!("{address}: {error}"))
                }
                Probe::Http(url) => {
                    let url = fill(url, instance)?;
                    // The status line is the answer; what follows may be an endless stream.
                    match http::get(&url, Trust::Anybody, 0, timeout).await {
                        Ok(response) if response.status < 400 => Ok(()),
                        Ok(response) => Err(format!("{url}: status {}", response.status)),
                        Err(why) => Err(format!("{url}: {why}")),
                    }
                }
                Probe::Command(command) => {
                    let words =
                        command.iter().map(|word| fill(word, instance)).collect::<Result<Vec<_>, _>>()?;
                    run(&words).await
                }
            }
        };
        tokio::time::timeout(timeout, ask)
            .await
            .unwrap_or_else(|_| Err(format!("no response within {timeout:?}")))
    }
}

async fn run(words: &[String]) -> Result<(), String> {
    let mut command = tokio::process::Command::new(&words[0]);
    // A command that exceeds the timeout is killed.
    let output = command.args(&words[1..]).kill_on_drop(true).output().await;
    let output = output.map_err(|error| format!("{}: {error}", words[0]))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{}: {}: {}", words[0], output.status, said.lines().next().unwrap_or_default()))
}

fn fill(text: &str, instance: &Description) -> Result<String, String> {
    let logical_id = instance.logical_id.as_ref().map(|id| id.to_string());
    let mut text = text.replace("{ID}", instance.id.as_str());
    for (name, value) in [("{LogicalID}", logical_id), ("{IP}", address_of(instance))] {
        if text.contains(name) {
            let value =
                value.ok_or_else(|| format!("the instance has no {}", name.trim_matches(['{', '}'])))?;
            text = text.replace(name, &value);
        }
    }
    Ok(text)
}

/// The address of an instance: `IPAddress` anywhere in its properties, else a logical id that is an address.
fn address_of(instance: &Description) -> Option<String> {
    fn find(value: &serde_json::Value) -> Option<String> {
        match value {
            serde_json::Value::Object(map) => {
                let here = map.get("IPAddress").and_then(|ip| ip.as_str()).filter(|ip| !ip.is_empty());
                here.map(str::to_owned).or_else(|| map.values().find_map(find))
            }
            serde_json::Value::Array(items) => items.iter().find_map(find),
            _ => None,
        }
    }
    let properties = instance.properties.as_ref().and_then(|it| serde_json::from_str(it.as_json()).ok());
    properties.as_ref().and_then(find).or_else(|| {
        let id = instance.logical_id.as_ref()?.as_str();
        id.parse::<std::net::IpAddr>().is_ok().then(|| id.to_owned())
    })
}

/// The time of the first probe of each instance, for the grace period.
#[derive(Default)]
pub(crate) struct Watch {
    first: Mutex<BTreeMap<InstanceId, Instant>>,
}

/// Beyond this many instances the oldest entries are dropped: their grace period is over.
const REMEMBERED: usize = 200_000;

impl Watch {
    pub(crate) fn judge(&self, id: &InstanceId, result: Result<(), String>, grace: Duration) -> Verdict {
        let mut first = self.first.lock().expect("nobody panics while holding the watch");
        if first.len() > REMEMBERED {
            first.retain(|_, since| since.elapsed() < LONGEST_GRACE);
        }
        let since = *first.entry(id.clone()).or_insert_with(Instant::now);
        match result {
            Ok(()) => Verdict::healthy(),
            Err(message) if since.elapsed() < grace => Verdict {
                health: Health::Unknown,
                message: format!("{message} (within the grace period of {grace:?})"),
            },
            Err(message) => Verdict { health: Health::Unhealthy, message },
        }
    }

    pub(crate) fn forget(&self, id: &InstanceId) {
        self.first.lock().expect("nobody panics while holding the watch").remove(id);
    }
}

const LONGEST_GRACE: Duration = Duration::from_secs(24 * 3600);
