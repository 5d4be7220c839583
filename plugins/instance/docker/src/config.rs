//! The options of the plugin.

use std::collections::BTreeMap;
use std::path::PathBuf;

use model::tags::Tags;

/// The options of the plugin.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// The address of the engine, as [`configure`] writes it; without it, the engine's usual socket.
    pub host: Option<String>,
    /// Tags that separate the containers of this plugin from those of another one on the same engine.
    pub namespace: Tags,
    /// The directory of Docker's own configuration, with the credentials of registries.
    pub docker_config: Option<PathBuf>,
}

/// Reads the options, and what else Docker's own clients take from the environment.
pub fn configure(
    options: &BTreeMap<String, String>,
    var: impl Fn(&str) -> Option<String>,
) -> Result<Config, String> {
    let host = options.get("host").map(|host| address(host)).transpose()?;
    if host.as_ref().is_some_and(|host| host.starts_with("tcp:")) && var("DOCKER_TLS_VERIFY").is_some() {
        return Err("DOCKER_TLS_VERIFY is set, but the docker plugin speaks no TLS; \
                    reach the engine through a unix socket, such as one that ssh forwards"
            .to_owned());
    }
    let home = || var("HOME").map(|home| PathBuf::from(home).join(".docker"));
    let docker_config = var("DOCKER_CONFIG").map(PathBuf::from).or_else(home);
    let mut config = Config { host, namespace: Tags::new(), docker_config };
    for pair in options.get("namespace").iter().flat_map(|pairs| pairs.split(',')) {
        let (key, value) = pair.split_once('=').ok_or(format!("namespace: `{pair}` is not KEY=VALUE"))?;
        config.namespace.insert(key.to_owned(), value.to_owned());
    }
    Ok(config)
}

/// The port of an engine whose address names none, as in Docker's own clients.
const PORT: &str = "2375";

/// An address as the client takes it: `unix://PATH` or `tcp://HOST:PORT`.
fn address(host: &str) -> Result<String, String> {
    let known = "write unix://PATH, tcp://HOST:PORT or http://HOST:PORT";
    match host.split_once("://") {
        None if host.contains('/') => Ok(format!("unix://{host}")),
        Some(("unix", path)) if !path.is_empty() => Ok(host.to_owned()),
        Some(("tcp" | "http", rest)) if !rest.is_empty() => {
            let rest = rest.trim_end_matches('/');
            // The colons of an IPv6 address stand in brackets.
            let has_port = rest.rsplit(']').next().is_some_and(|end| end.contains(':'));
            Ok(if has_port { format!("tcp://{rest}") } else { format!("tcp://{rest}:{PORT}") })
        }
        Some(("https", _)) => Err(format!("host: `{host}`: the docker plugin speaks no TLS; {known}")),
        Some(_) | None => Err(format!("host: `{host}` is not the address of an engine; {known}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_is_reached_by_a_path_a_unix_a_tcp_or_an_http_address() {
        for (written, read) in [
            ("/run/docker.sock", "unix:///run/docker.sock"),
            ("unix:///run/docker.sock", "unix:///run/docker.sock"),
            ("tcp://10.0.0.1:2376", "tcp://10.0.0.1:2376"),
            ("tcp://engine", "tcp://engine:2375"),
            ("http://engine:80/", "tcp://engine:80"),
            ("tcp://[fd00::1]", "tcp://[fd00::1]:2375"),
            ("tcp://[fd00::1]:99", "tcp://[fd00::1]:99"),
        ] {
            let options = BTreeMap::from([("host".to_owned(), written.to_owned())]);
            let config = configure(&options, |_| None).expect(written);
            assert_eq!(config.host.as_deref(), Some(read), "{written}");
        }
        for odd in ["", "docker", "unix://", "https://engine", "ssh://me@engine", "tcp://"] {
            assert!(address(odd).is_err(), "{odd}");
        }
        let options = BTreeMap::from([("host".to_owned(), "tcp://engine".to_owned())]);
        let tls = |name: &str| (name == "DOCKER_TLS_VERIFY").then(|| "1".to_owned());
        assert!(configure(&options, tls).expect_err("no TLS").contains("DOCKER_TLS_VERIFY"));
    }
}
