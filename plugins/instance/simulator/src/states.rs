//! The states of simulated instances: they run, unless their properties or the lab say otherwise.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use model::{InstanceId, InstanceState, Opaque, RunStatus};

/// A state in words: `running`, `starting`, `stopped`, `paused`, `failed` or `unknown`, and an exit code if
/// there is one (`failed 137`).
fn parse(text: &str) -> Result<InstanceState, String> {
    let (word, code) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
    let status = match word {
        "running" => RunStatus::Running,
        "starting" => RunStatus::Starting,
        "stopped" => RunStatus::Stopped,
        "paused" => RunStatus::Paused,
        "failed" => RunStatus::Failed,
        "unknown" => RunStatus::Unknown,
        _ => {
            return Err(format!(
                "`{word}` is not a state; use running, starting, stopped, paused, failed or unknown"
            ));
        }
    };
    let exit_code = match code {
        "" => None,
        code => Some(code.parse().map_err(|_| format!("`{code}` is not an exit code"))?),
    };
    Ok(InstanceState { status, ended: exit_code.is_some(), exit_code, since: None, message: String::new() })
}

/// Of an instance whose file cannot be read.
pub(crate) fn unreadable(why: &str) -> InstanceState {
    let message = format!("the file cannot be read: {why}");
    InstanceState { status: RunStatus::Unknown, message, ..running() }
}

pub(crate) fn running() -> InstanceState {
    InstanceState {
        status: RunStatus::Running,
        ended: false,
        exit_code: None,
        since: None,
        message: String::new(),
    }
}

/// The state that an instance with these properties begins with: `simulator_state`.
pub(crate) fn initial(properties: &Opaque) -> Result<InstanceState, String> {
    #[derive(serde::Deserialize, Default)]
    #[serde(default)]
    struct Requested {
        simulator_state: Option<String>,
    }
    let read: Option<Requested> =
        serde_json::from_str(properties.as_json()).map_err(|error| error.to_string())?;
    match read.unwrap_or_default().simulator_state {
        Some(text) => parse(&text).map_err(|why| format!("simulator_state: {why}")),
        None => Ok(running()),
    }
}

/// The states that a test gives to instances while they exist: `DIR/<id>` has the words.
#[derive(Clone)]
pub(crate) struct States {
    dir: Option<PathBuf>,
}

impl States {
    /// How often the directory is read for changes, to publish them.
    pub(crate) const EVERY: Duration = Duration::from_millis(100);

    pub(crate) fn new(dir: Option<PathBuf>) -> Self {
        Self { dir }
    }

    pub(crate) fn all(&self) -> BTreeMap<InstanceId, InstanceState> {
        let entries = self.dir.as_ref().and_then(|dir| std::fs::read_dir(dir).ok());
        let mut all = BTreeMap::new();
        for entry in entries.into_iter().flatten().flatten() {
            let Ok(text) = std::fs::read_to_string(entry.path()) else { continue };
            match parse(&text) {
                Ok(state) => {
                    all.insert(InstanceId::from(entry.file_name().to_string_lossy().into_owned()), state);
                }
                // The file is perhaps being written.
                Err(_) if text.is_empty() => {}
                Err(why) => tracing::warn!(file = %entry.path().display(), why, "unknown state"),
            }
        }
        all
    }

    /// Whatever the test has said of it is over.
    pub(crate) fn forget(&self, id: &InstanceId) {
        // The ids are those of the store, so none leads out of the directory.
        if let Some(dir) = &self.dir {
            let _ = std::fs::remove_file(dir.join(id.as_str()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_a_word_and_perhaps_an_exit_code() {
        let of = |text| parse(text).map(|state| (state.status, state.exit_code));
        assert_eq!(of("stopped\n"), Ok((RunStatus::Stopped, None)));
        assert_eq!(of("failed 137"), Ok((RunStatus::Failed, Some(137))));
        for wrong in ["", "gone", "Running", "failed x"] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
        let initial = |json: &str| initial(&Opaque::from_json(json)).map(|state| state.status);
        assert_eq!(initial("null"), Ok(RunStatus::Running));
        assert_eq!(initial("{}"), Ok(RunStatus::Running));
        assert_eq!(initial(r#"{"simulator_state":"paused"}"#), Ok(RunStatus::Paused));
        assert!(initial(r#"{"simulator_state":"gone"}"#).is_err());
    }
}
