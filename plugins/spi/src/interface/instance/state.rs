//! The state of an instance: as plugins of this project report it, and in the words of providers.

use model::{Description, InstanceState, RunStatus, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::bounds;
use crate::json::{self, Any, Tried};

/// The state of an instance.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct State {
    status: String,
    /// What ran in it has ended and can be started again; left out when it has not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    ended: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    exit_code: Option<i64>,
    /// RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    since: Option<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    message: String,
}

/// The state of an instance as it is read, in the notations of providers: `docker inspect` and EC2 have such an
/// object in their properties.
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
struct ReadState {
    status: Tried<String>,
    name: Tried<String>,
    ended: Tried<bool>,
    running: Tried<Option<bool>>,
    paused: Tried<bool>,
    restarting: Tried<bool>,
    dead: Tried<bool>,
    exit_code: Tried<Option<i64>>,
    since: Tried<String>,
    started_at: Tried<String>,
    finished_at: Tried<String>,
    message: Tried<String>,
    error: Tried<String>,
}

/// Where the properties of an instance commonly have its state.
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
struct StateProperties<'a> {
    #[serde(borrow)]
    state: Option<&'a RawValue>,
    status: Option<&'a RawValue>,
}

/// The state that a description has as its `State`, or else what its properties say.
pub(super) fn reported(state: Option<&RawValue>, properties: Option<&RawValue>) -> Option<InstanceState> {
    state.and_then(read).or_else(|| derived(properties?))
}

pub(super) fn write(description: &Description) -> Any {
    let state = description.state.as_ref()?;
    let since = state.since.and_then(|at| jiff::Timestamp::from_millisecond(at.0.try_into().ok()?).ok());
    let written = State {
        status: state.status.as_str().to_owned(),
        ended: state.ended,
        exit_code: state.exit_code,
        since: since.map(|since| since.to_string()),
        message: bounds::shorten(state.message.clone()),
    };
    serde_json::value::to_raw_value(&written).ok()
}

/// Why a `State` is not in the form of the contract.
pub(super) fn check(state: &RawValue) -> Result<(), String> {
    let read: State = serde_json::from_str(state.get()).map_err(|error| error.to_string())?;
    if STATUSES.iter().all(|status| status.as_str() != read.status) {
        return Err(format!("its Status is none of {}", STATUSES.map(RunStatus::as_str).join(", ")));
    }
    match &read.since {
        Some(since) if since.parse::<jiff::Timestamp>().is_err() => {
            Err("its Since is not a time, such as 2030-01-31T12:00:00Z".into())
        }
        Some(_) | None => Ok(()),
    }
}

const STATUSES: [RunStatus; 6] = [
    RunStatus::Running,
    RunStatus::Starting,
    RunStatus::Stopped,
    RunStatus::Paused,
    RunStatus::Failed,
    RunStatus::Unknown,
];

/// A word of a provider; the table is in the documentation of [`crate::Instances::describe`].
enum Word {
    Is(RunStatus),
    /// Its exit code says how.
    Ended,
}

/// Nothing is guessed: an unknown word has no state.
fn word(text: &str) -> Option<Word> {
    let plain: String = text.chars().filter(|c| !matches!(c, ' ' | '-' | '_')).collect();
    Some(match plain.to_ascii_lowercase().as_str() {
        "running" | "active" | "poweredon" => Word::Is(RunStatus::Running),
        "starting" | "created" | "creating" | "pending" | "provisioning" | "staging" | "initializing"
        | "build" | "building" | "booting" | "reboot" | "rebooting" => Word::Is(RunStatus::Starting),
        "stopped" | "stopping" | "off" | "shutoff" | "poweredoff" | "shuttingdown" | "terminated"
        | "terminating" | "deallocated" | "deallocating" | "removing" => Word::Is(RunStatus::Stopped),
        "paused" | "suspended" | "suspending" => Word::Is(RunStatus::Paused),
        "failed" | "error" | "dead" | "restarting" | "crashed" => Word::Is(RunStatus::Failed),
        "unknown" => Word::Is(RunStatus::Unknown),
        "exited" => Word::Ended,
        _ => return None,
    })
}

fn ended(exit_code: Option<i64>) -> RunStatus {
    match exit_code {
        Some(0) | None => RunStatus::Stopped,
        Some(_) => RunStatus::Failed,
    }
}

fn only(status: RunStatus, exit_code: Option<i64>) -> InstanceState {
    InstanceState { status, ended: false, exit_code, since: None, message: String::new() }
}

/// A state as a word, or as an object with one.
fn read(raw: &RawValue) -> Option<InstanceState> {
    match json::read_raw::<String>(raw) {
        Ok(text) => match word(&text)? {
            Word::Is(status) => Some(only(status, None)),
            Word::Ended => Some(InstanceState { ended: true, ..only(RunStatus::Stopped, None) }),
        },
        Err(_) => read_object(json::read_raw(raw).ok()?),
    }
}

fn read_object(read: ReadState) -> Option<InstanceState> {
    let exit_code = value(read.exit_code);
    let is = |it: Tried<bool>| value(it);
    let named = word(&value(read.status)).or_else(|| word(&value(read.name)));
    let (restarting, dead, paused) = (is(read.restarting), is(read.dead), is(read.paused));
    let running = value(read.running);
    let has_ended = matches!(named, Some(Word::Ended)) || named.is_none() && running == Some(false);
    let status = match (named, running) {
        (Some(Word::Is(status)), _) => status,
        (Some(Word::Ended), _) => ended(exit_code),
        (None, _) if restarting || dead => RunStatus::Failed,
        (None, _) if paused => RunStatus::Paused,
        (None, Some(true)) => RunStatus::Running,
        (None, Some(false)) => ended(exit_code),
        (None, None) => return None,
    };
    let over = matches!(status, RunStatus::Stopped | RunStatus::Failed);
    let times = if over { [read.since, read.finished_at] } else { [read.since, read.started_at] };
    let message = [read.message, read.error].map(value).into_iter().find(|text| !text.is_empty());
    Some(InstanceState {
        status,
        // `docker inspect` has the exit code 0 of what still runs.
        ended: over && !restarting && !dead && (value(read.ended) || has_ended),
        exit_code: exit_code.filter(|_| over),
        since: times.into_iter().find_map(|text| time(&value(text))),
        message: bounds::shorten(message.unwrap_or_default()),
    })
}

fn value<T: Default>(tried: Tried<T>) -> T {
    tried.0.unwrap_or_default()
}

/// A time before 1970 is Go's zero.
fn time(text: &str) -> Option<Timestamp> {
    let at: jiff::Timestamp = text.parse().ok()?;
    at.as_millisecond().try_into().ok().map(Timestamp)
}

/// The state in the properties of a foreign plugin.
fn derived(properties: &RawValue) -> Option<InstanceState> {
    let StateProperties { state, status } = json::read_raw(properties).ok()?;
    let text = |raw: Option<&RawValue>| raw.and_then(|raw| json::read_raw::<String>(raw).ok());
    if let Some(Word::Ended) = text(state).and_then(|text| word(&text)) {
        let exit_code = text(status).and_then(|sentence| exit_code_in(&sentence));
        return Some(InstanceState { ended: true, ..only(ended(exit_code), exit_code) });
    }
    state.and_then(read).or_else(|| status.and_then(read))
}

/// A list of Docker's containers has the exit code in a sentence: `Exited (137) 3 minutes ago`.
fn exit_code_in(sentence: &str) -> Option<i64> {
    let (code, _) = sentence.strip_prefix("Exited (")?.split_once(')')?;
    code.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.into()).expect("JSON")
    }

    fn of(properties: &str) -> Option<(RunStatus, Option<i64>)> {
        derived(&raw(properties)).map(|state| (state.status, state.exit_code))
    }

    #[test]
    fn the_words_of_providers_are_known_and_no_others() {
        use RunStatus::*;
        for (status, words) in [
            (Running, "running RUNNING active ACTIVE poweredOn PoweredOn"),
            (
                Starting,
                "created pending provisioning PROVISIONING staging initializing BUILD starting reboot",
            ),
            (Stopped, "stopped stopping shutting-down shutting_down terminated TERMINATED SHUTOFF off"),
            (Stopped, "removing poweredOff exited deallocated"),
            (Paused, "paused PAUSED suspended SUSPENDING"),
            (Failed, "failed ERROR error dead restarting crashed"),
            (Unknown, "unknown"),
        ] {
            for word in words.split(' ') {
                let texts = [
                    format!(r#"{{"State":"{word}"}}"#),
                    format!(r#"{{"status":"{word}"}}"#),
                    format!(r#"{{"State":{{"Name":"{word}","Code":16}}}}"#),
                    format!(r#"{{"State":"CA","Status":"{word}"}}"#),
                ];
                for text in texts {
                    assert_eq!(of(&text), Some((status, None)), "{text}");
                }
            }
        }
        for text in [
            "{}",
            "null",
            "[]",
            "5",
            r#""running""#,
            r#"{"State":null}"#,
            r#"{"State":""}"#,
            r#"{"State":"California"}"#,
            r#"{"State":16}"#,
            r#"{"State":true}"#,
            r#"{"State":["running"]}"#,
            r#"{"State":{}}"#,
            r#"{"State":{"Code":16}}"#,
            r#"{"Status":"Up 5 minutes"}"#,
            r#"{"Properties":{"State":"running"}}"#,
        ] {
            assert_eq!(of(text), None, "{text}");
        }
    }

    #[test]
    fn an_exit_code_other_than_zero_is_a_failure() {
        use RunStatus::*;
        for (text, status, code) in [
            (r#"{"State":"exited","Status":"Exited (0) 3 minutes ago"}"#, Stopped, Some(0)),
            (r#"{"State":"exited","Status":"Exited (137) 3 minutes ago"}"#, Failed, Some(137)),
            (r#"{"State":{"Status":"exited","Running":false,"ExitCode":0}}"#, Stopped, Some(0)),
            (r#"{"State":{"Status":"exited","Running":false,"ExitCode":2}}"#, Failed, Some(2)),
            (r#"{"State":{"Status":"running","Running":true,"ExitCode":0}}"#, Running, None),
            (r#"{"State":{"Running":true,"Paused":true,"ExitCode":0}}"#, Paused, None),
            (r#"{"State":{"Running":true,"Restarting":true,"ExitCode":1}}"#, Failed, Some(1)),
            (r#"{"State":{"Running":false,"Dead":true}}"#, Failed, None),
            (r#"{"State":{"Running":false,"ExitCode":1}}"#, Failed, Some(1)),
            (r#"{"State":{"Running":true}}"#, Running, None),
        ] {
            assert_eq!(of(text), Some((status, code)), "{text}");
        }
    }

    #[test]
    fn a_container_is_read_as_docker_inspects_it() {
        let inspected = r#"{"State":{"Status":"exited","Running":false,"Paused":false,"ExitCode":127,
            "Error":"no such file","StartedAt":"2024-05-01T10:00:00.5Z","FinishedAt":"2024-05-01T10:00:01.25Z"}}"#;
        let state = derived(&raw(inspected)).expect("a state");
        assert_eq!((state.status, state.message.as_str()), (RunStatus::Failed, "no such file"));
        assert_eq!(state.since, Some(Timestamp(1_714_557_601_250)));
        let created = r#"{"State":{"Status":"created","StartedAt":"0001-01-01T00:00:00Z"}}"#;
        assert_eq!(derived(&raw(created)), Some(only(RunStatus::Starting, None)));
    }

    #[test]
    fn what_is_written_is_read() {
        for status in STATUSES {
            let whole = InstanceState {
                status,
                ended: status == RunStatus::Failed,
                exit_code: Some(-1).filter(|_| status == RunStatus::Failed),
                since: Some(Timestamp(1_714_557_601_250)),
                message: "why".into(),
            };
            for state in [whole, only(status, None)] {
                let description = Description {
                    id: "i".into(),
                    logical_id: None,
                    tags: model::tags::Tags::new(),
                    properties: None,
                    state: Some(state),
                };
                let written = write(&description).expect("it is written");
                assert_eq!(check(&written), Ok(()));
                assert_eq!(reported(Some(&written), None), description.state);
            }
        }
    }

    #[test]
    fn only_the_form_of_the_contract_conforms() {
        let checked = |text: &str| check(&raw(text)).is_ok();
        assert!(checked(r#"{"Status":"Running","Newer":1}"#));
        for wrong in [
            r#""Running""#,
            "{}",
            "3",
            r#"{"Status":"running"}"#,
            r#"{"Status":"Ended"}"#,
            r#"{"Status":"Failed","ExitCode":"1"}"#,
            r#"{"Status":"Failed","Since":"yesterday"}"#,
        ] {
            assert!(!checked(wrong), "{wrong}");
        }
    }
}
