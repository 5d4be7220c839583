//! The credentials of registries, from Docker's own configuration.
//!
//! They go to the engine and nowhere else: nothing here prints them, and the words of a helper, which may
//! hold them, are not repeated.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use bollard::auth::DockerCredentials;
use serde::Deserialize;
use tokio::io::AsyncWriteExt;

/// Docker's own registry, as its configuration names it.
const DOCKERS_OWN: &str = "https://index.docker.io/v1/";
/// How long a helper may take: it may ask another service, but nobody types here.
const HELPER: Duration = Duration::from_secs(10);

/// What a registry is asked with.
#[derive(Default)]
pub(crate) struct Found {
    pub(crate) credentials: Option<DockerCredentials>,
    /// Why there are none, when there should be.
    pub(crate) note: Option<String>,
}

impl Found {
    fn none_because(note: String) -> Self {
        Self { credentials: None, note: Some(note) }
    }
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Written {
    auths: BTreeMap<String, Entry>,
    cred_helpers: BTreeMap<String, String>,
    creds_store: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Helped {
    username: String,
    secret: String,
}

/// The credentials for a registry; none stands for Docker's own.
pub(crate) async fn of(directory: Option<&Path>, registry: Option<&str>) -> Found {
    let Some(directory) = directory else { return Found::default() };
    let path = directory.join("config.json");
    let text = match tokio::fs::read(&path).await {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Found::default(),
        Err(error) => return Found::none_because(format!("{} cannot be read: {error}", path.display())),
    };
    // The message of a parser may quote what it read.
    let Ok(written) = serde_json::from_slice::<Written>(&text) else {
        return Found::none_because(format!("{} is not as Docker writes it", path.display()));
    };
    let server = registry.unwrap_or(DOCKERS_OWN);
    let helper = written.cred_helpers.get(server).or(written.creds_store.as_ref());
    let helped = match helper.filter(|name| !name.is_empty()) {
        Some(name) => ask(&format!("docker-credential-{name}"), server).await,
        None => Found::default(),
    };
    match written.auths.into_iter().find(|(name, _)| host_of(name) == host_of(server)) {
        Some((_, entry)) if helped.credentials.is_none() => match read(entry, server) {
            Some(credentials) => Found { credentials: Some(credentials), note: None },
            None => helped,
        },
        Some(_) | None => helped,
    }
}

/// Registries are named with and without a scheme and a path.
fn host_of(name: &str) -> &str {
    let name = name.split_once("://").map_or(name, |(_, rest)| rest);
    name.split('/').next().unwrap_or(name)
}

fn read(entry: Entry, server: &str) -> Option<DockerCredentials> {
    let decoded = entry.auth.filter(|auth| !auth.is_empty()).and_then(|auth| {
        let bytes = data_encoding::BASE64.decode(auth.as_bytes()).ok()?;
        let text = String::from_utf8(bytes).ok()?;
        let (name, password) = text.split_once(':')?;
        Some((name.to_owned(), password.trim_end_matches('\0').to_owned()))
    });
    let (username, password) = match decoded {
        Some((name, password)) => (Some(name), Some(password)),
        None => (entry.username, entry.password),
    };
    let identitytoken = entry.identitytoken.filter(|token| !token.is_empty());
    let is_empty = username.is_none() && identitytoken.is_none() && entry.registrytoken.is_none();
    (!is_empty).then(|| DockerCredentials {
        username,
        password,
        identitytoken,
        registrytoken: entry.registrytoken,
        serveraddress: Some(server.to_owned()),
        ..DockerCredentials::default()
    })
}

/// Runs a helper, `docker-credential-NAME get`. One that knows nothing about the registry fails too, so a failure means
/// asking without credentials, and is told only if that is refused.
async fn ask(program: &str, server: &str) -> Found {
    let run = async {
        let mut child = tokio::process::Command::new(program)
            .arg("get")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // One that knows a single registry need not read which.
            let _ = stdin.write_all(server.as_bytes()).await;
        }
        child.wait_with_output().await
    };
    let output = match tokio::time::timeout(HELPER, run).await {
        Ok(Ok(output)) if output.status.success() => output.stdout,
        Ok(Ok(output)) => {
            return Found::none_because(format!("`{program} get` gave none: {}", output.status));
        }
        Ok(Err(error)) => return Found::none_because(format!("`{program} get` cannot be run: {error}")),
        Err(_) => return Found::none_because(format!("`{program} get` did not end within {HELPER:?}")),
    };
    let Ok(helped) = serde_json::from_slice::<Helped>(&output) else {
        return Found::none_because(format!("`{program} get` answered in no known form"));
    };
    let mut credentials =
        DockerCredentials { serveraddress: Some(server.to_owned()), ..DockerCredentials::default() };
    if helped.username == "<token>" {
        credentials.identitytoken = Some(helped.secret);
    } else {
        credentials.username = Some(helped.username);
        credentials.password = Some(helped.secret);
    }
    Found { credentials: Some(credentials), note: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn found(config: &str, registry: Option<&str>) -> (Option<String>, Option<String>, Option<String>) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(dir.path().join("config.json"), config).expect("written");
        let found = of(Some(dir.path()), registry).await;
        let credentials = found.credentials.unwrap_or_default();
        (credentials.username, credentials.password.or(credentials.identitytoken), found.note)
    }

    #[tokio::test]
    async fn credentials_come_from_dockers_own_configuration() {
        let own = Some("me".to_owned());
        let auth = data_encoding::BASE64.encode(b"me:p:w");
        for name in ["host:5000", "https://host:5000", "http://host:5000/v1/"] {
            let config =
                format!(r#"{{"auths":{{"{name}":{{"auth":"{auth}"}},"other":{{}}}},"psFormat":"x"}}"#);
            let read = found(&config, Some("host:5000")).await;
            assert_eq!(read, (own.clone(), Some("p:w".to_owned()), None), "{name}");
            assert_eq!(found(&config, Some("host:5001")).await, (None, None, None));
            assert_eq!(found(&config, Some("other")).await, (None, None, None));
            assert_eq!(found(&config, None).await, (None, None, None));
        }
        let config = format!(r#"{{"auths":{{"https://index.docker.io/v1/":{{"auth":"{auth}"}}}}}}"#);
        assert_eq!(found(&config, None).await, (own, Some("p:w".to_owned()), None));
        assert!(of(None, None).await.credentials.is_none());
    }

    #[tokio::test]
    async fn a_broken_configuration_and_a_missing_helper_are_told_without_a_secret() {
        let (_, _, note) = found(r#"{"auths":{"a":{"auth":["s3cret"]}}}"#, Some("a")).await;
        assert!(note.as_ref().is_some_and(|note| !note.contains("s3cret")), "{note:?}");
        let config = r#"{"credHelpers":{"a.io":"no-such-helper"},"credsStore":"nor-this"}"#;
        let (_, _, note) = found(config, Some("a.io")).await;
        assert!(note.expect("a note").starts_with("`docker-credential-no-such-helper get` cannot be run"));
        let (_, _, note) = found(config, None).await;
        assert!(note.expect("a note").starts_with("`docker-credential-nor-this get` cannot be run"));
    }
    #[tokio::test]
    async fn a_helper_is_asked_and_its_words_are_not_repeated() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let helper = dir.path().join("docker-credential-test");
        for (script, name, secret, has_note) in [
            (
                r#"read s; echo "{\"ServerURL\":\"$s\",\"Username\":\"me\",\"Secret\":\"$1 $s\"}""#,
                Some("me"),
                Some("get a.io"),
                false,
            ),
            (r#"echo '{"ServerURL":"","Username":"<token>","Secret":"t"}'"#, None, Some("t"), false),
            ("echo s3cret; echo s3cret >&2; exit 1", None, None, true),
            ("echo s3cret", None, None, true),
        ] {
            std::fs::write(&helper, format!("#!/bin/sh\n{script}\n")).expect("written");
            let mut mode = std::fs::metadata(&helper).expect("there").permissions();
            std::os::unix::fs::PermissionsExt::set_mode(&mut mode, 0o755);
            std::fs::set_permissions(&helper, mode).expect("executable");
            let mut found = ask(&helper.display().to_string(), "a.io").await;
            // Another test may be starting a process, which holds the written file open for a moment.
            while found.note.as_ref().is_some_and(|note| note.contains("busy")) {
                tokio::time::sleep(Duration::from_millis(10)).await;
                found = ask(&helper.display().to_string(), "a.io").await;
            }
            let credentials = found.credentials.unwrap_or_default();
            assert_eq!(credentials.username.as_deref(), name, "{script}");
            assert_eq!(credentials.password.or(credentials.identitytoken).as_deref(), secret, "{script}");
            assert_eq!(found.note.is_some(), has_note, "{script}");
            assert!(!found.note.unwrap_or_default().contains("s3cret"));
        }
    }
}
