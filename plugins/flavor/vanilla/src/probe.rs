//! Health probes of instances, and the grace period after the first probe.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use model::{Description, Health, InstanceId};
use spi::Verdict;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A probe. Its texts may contain `{ID}`, `{LogicalID}` and `{IP}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Probe {
    Tcp(String),
    Http(String),
    Command(Vec<String>),
}

/// How much of a response is read.
const HEAD: usize = 64 * 1024;

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
        if url.starts_with("http://") && url.len() > "http://".len() {
            Ok(Probe::Http(url.to_owned()))
        } else {
            Err(format!("HTTP: `{url}` is not an http:// URL"))
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
                    get(&url, timeout).await.map(drop).map_err(|why| format!("{url}: {why}"))
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

/// The body of a plain HTTP response; a status of 400 or more is an error.
///
/// A probe needs one request and the status line, for which a complete HTTP client would be too much.
pub(crate) async fn get(url: &str, timeout: Duration) -> Result<String, String> {
    let rest = url.strip_prefix("http://").ok_or("only http:// is supported")?;
    let (host, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
    let address = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
    let exchange = async {
        let mut stream = TcpStream::connect(&address).await.map_err(|error| error.to_string())?;
        let request = format!("GET {path} HTTP/1.0\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
        let mut answer = Vec::new();
        let mut limited = stream.take(HEAD as u64 + (1 << 20));
        limited.read_to_end(&mut answer).await.map_err(|error| error.to_string())?;
        Ok::<_, String>(answer)
    };
    let answer = tokio::time::timeout(timeout, exchange)
        .await
        .map_err(|_| format!("no response within {timeout:?}"))??;
    let text = String::from_utf8_lossy(&answer);
    let status = text.split(' ').nth(1).and_then(|code| code.parse::<u16>().ok());
    match status {
        Some(code) if code < 400 => {
            Ok(text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
        }
        Some(code) => Err(format!("status {code}")),
        None => Err("the response is not HTTP".into()),
    }
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
