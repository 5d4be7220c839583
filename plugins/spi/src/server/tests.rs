//! The recorded exchanges of InfraKit's own programs, held against ours.

use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use model::plugin::PluginClass;
use model::tags::Tags;
use model::{Allocation, Description, InstanceId, Opaque};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use super::*;
use crate::call::Call;
use crate::directory::Directory;
use crate::error::{Class, Error};
use crate::interface::event::Events;
use crate::interface::flavor::{Flavors, Index, Verdict};
use crate::interface::instance::{InstanceSpec, Instances};

const INSTANCE: &str = include_str!("../../tests/transcripts/instance.jsonl");
const FLAVOR: &str = include_str!("../../tests/transcripts/flavor.jsonl");
const HTTP_ERRORS: &str = include_str!("../../tests/transcripts/http-errors.jsonl");
const TOLERANCE: &str = include_str!("../../tests/transcripts/client-tolerance.jsonl");
const HANDSHAKE: &str = include_str!("../../tests/transcripts/handshake.jsonl");

fn lines(transcript: &'static str) -> impl Iterator<Item = Value> {
    transcript.lines().map(|line| serde_json::from_str(line).expect("a transcript holds JSON lines"))
}

/// Keeps whatever it is given, as the recorded `file` plugin does.
#[derive(Default)]
struct Shelf(Mutex<Vec<(InstanceId, InstanceSpec)>>);

#[async_trait]
impl Instances for Shelf {
    async fn validate(&self, _: &Opaque) -> Result<(), Error> {
        Ok(())
    }

    async fn provision(&self, spec: &InstanceSpec, _: &Call) -> Result<InstanceId, Error> {
        let mut shelf = self.0.lock().expect("a lock");
        let id = InstanceId::new(format!("instance-{}", shelf.len()));
        shelf.push((id.clone(), spec.clone()));
        Ok(id)
    }

    async fn label(&self, instance: &InstanceId, labels: &Tags, _: &Call) -> Result<(), Error> {
        let mut shelf = self.0.lock().expect("a lock");
        // The recorded ids are not ours, and the shape of the answer is what is asked.
        if let Some((_, spec)) = shelf.iter_mut().find(|(id, _)| id == instance) {
            spec.tags.extend(labels.clone());
        }
        Ok(())
    }

    async fn destroy(&self, instance: &InstanceId, _: &str, _: &Call) -> Result<(), Error> {
        self.0.lock().expect("a lock").retain(|(id, _)| id != instance);
        Ok(())
    }

    async fn describe(&self, tags: &Tags, properties: bool) -> Result<Vec<Description>, Error> {
        let shelf = self.0.lock().expect("a lock");
        let matches = |spec: &InstanceSpec| tags.iter().all(|(key, value)| spec.tags.get(key) == Some(value));
        let describe = |(id, spec): &(InstanceId, InstanceSpec)| Description {
            id: id.clone(),
            logical_id: spec.logical_id.clone(),
            tags: spec.tags.clone(),
            properties: properties.then(|| spec.properties.clone()),
            state: None,
        };
        Ok(shelf.iter().filter(|(_, spec)| matches(spec)).map(describe).collect())
    }
}

/// Returns specs as they came.
struct Plain;

#[async_trait]
impl Flavors for Plain {
    async fn validate(&self, _: &Opaque, _: &Allocation) -> Result<(), Error> {
        Ok(())
    }

    async fn prepare(
        &self,
        _: &Opaque,
        spec: InstanceSpec,
        _: &Allocation,
        _: &Index,
    ) -> Result<InstanceSpec, Error> {
        Ok(spec)
    }

    async fn healthy(&self, _: &Opaque, _: &Description) -> Result<Verdict, Error> {
        Ok(Verdict::healthy())
    }

    async fn drain(&self, _: &Opaque, _: &Description) -> Result<(), Error> {
        Ok(())
    }
}

struct Served {
    dir: tempfile::TempDir,
    _running: Running,
}

fn served(plugin: Plugin) -> Served {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let running = serve(dir.path(), "p", plugin).expect("it is served");
    Served { dir, _running: running }
}

/// Sends a request head and body as they were recorded; gives the status line and the body back.
async fn exchange(served: &Served, line: &str, headers: &Value, body: &str) -> (String, String) {
    let mut stream = UnixStream::connect(served.dir.path().join("p")).await.expect("a connection");
    let mut request = format!("{line}\r\n");
    for (name, value) in headers.as_object().expect("headers") {
        request.push_str(&format!("{name}: {}\r\n", value.as_str().unwrap_or_default()));
    }
    request.push_str("Connection: close\r\n\r\n");
    request.push_str(body);
    stream.write_all(request.as_bytes()).await.expect("it is sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    (head.lines().next().unwrap_or_default().to_owned(), body.to_owned())
}

/// The same keys with values of the same kind, wherever both have them; nulls fit anything.
fn same_shape(path: &str, recorded: &Value, ours: &Value) {
    match (recorded, ours) {
        (Value::Object(recorded), Value::Object(ours)) => {
            for (key, value) in recorded {
                // Opaque parts and tags belong to whoever made the request.
                if matches!(key.as_str(), "Properties" | "Tags" | "data") {
                    continue;
                }
                let ours = ours.get(key).unwrap_or_else(|| panic!("{path}.{key} is missing"));
                same_shape(&format!("{path}.{key}"), value, ours);
            }
        }
        (Value::Array(recorded), Value::Array(ours)) => {
            if let (Some(recorded), Some(ours)) = (recorded.first(), ours.first()) {
                same_shape(&format!("{path}[0]"), recorded, ours);
            }
        }
        (Value::Null, _) | (_, Value::Null) => {}
        (recorded, ours) => {
            let kind = std::mem::discriminant;
            assert_eq!(kind(recorded), kind(ours), "{path}: {recorded} and {ours}");
        }
    }
}

#[tokio::test]
async fn recorded_instance_and_flavor_requests_get_answers_of_the_recorded_shape() {
    let plugin = Plugin::default()
        .with_instances("", Arc::new(Shelf::default()))
        .with_instances("compute", Arc::new(Shelf::default()))
        .with_flavor("", Arc::new(Plain));
    let served = served(plugin);
    let mut replayed = 0;
    for line in lines(INSTANCE).chain(lines(FLAVOR)) {
        let (request, recorded) = (&line["request"], &line["response"]);
        let known = matches!(request["params"]["Type"].as_str(), None | Some("" | "compute"));
        // What failed there for reasons of that plugin may succeed here; protocol faults are below.
        if recorded.get("error").is_some() || !known {
            continue;
        }
        let headers = &line["http"]["request_headers"];
        let body = line["raw_request"].as_str().expect("a request");
        let (status, answer) = exchange(&served, "POST / HTTP/1.1", headers, body).await;
        assert_eq!(status, "HTTP/1.1 200 OK");
        assert!(answer.ends_with('\n'), "the body ends in a newline");
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        assert_eq!(answer["id"], request["id"], "the id comes back exactly");
        same_shape(line["method"].as_str().unwrap_or_default(), recorded, &answer);
        replayed += 1;
    }
    assert!(replayed > 60, "only {replayed} exchanges were replayed");
}

#[tokio::test]
async fn recorded_protocol_faults_are_answered_alike() {
    let served = served(Plugin::default().with_instances("", Arc::new(Shelf::default())));
    for line in lines(HTTP_ERRORS) {
        let http = &line["http"];
        let request_line = http["request_line"].as_str().expect("a request line");
        if request_line.contains("/info/") {
            continue;
        }
        let body = line["raw_request"].as_str().unwrap_or_default();
        let (status, answer) = exchange(&served, request_line, &http["request_headers"], body).await;
        assert_eq!(status, http["status_line"].as_str().unwrap_or_default(), "{request_line} {body}");
        let recorded = line["raw_response"].as_str().unwrap_or_default();
        let (parsed, ours) =
            (serde_json::from_str::<Value>(recorded), serde_json::from_str::<Value>(&answer));
        match (parsed, ours) {
            // Our Hello lists what we serve.
            (Ok(recorded), Ok(ours)) if recorded.get("result").is_some() => {
                same_shape(body, &recorded, &ours)
            }
            (Ok(recorded), Ok(ours)) => assert_eq!(recorded, ours, "{body}"),
            _ => assert_eq!(recorded, answer, "{request_line} {body}"),
        }
    }
}

/// Answers every request with what it is told.
async fn canned(dir: &Path, name: &str, answers: impl Fn(&str) -> (u16, String) + Send + Sync + 'static) {
    let listener = UnixListener::bind(dir.join(name)).expect("a socket");
    let answers = Arc::new(answers);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answers = answers.clone();
            tokio::spawn(async move {
                let mut request = vec![0; 64 * 1024];
                let n = stream.read(&mut request).await.unwrap_or(0);
                let text = String::from_utf8_lossy(&request[..n]).into_owned();
                let (status, body) = answers(text.split_once("\r\n\r\n").map_or("", |(_, body)| body));
                let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n", body.len());
                let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
            });
        }
    });
}

#[tokio::test]
async fn odd_answers_are_taken_or_refused_as_infrakits_client_does() {
    for (n, line) in lines(TOLERANCE).enumerate() {
        let (case, verdict) =
            (line["case"].as_str().unwrap_or_default(), line["go_client"].as_str().unwrap_or_default());
        if line["method"] != "Instance.Validate" || line["response"] == "(late)" {
            continue;
        }
        let body = match &line["response"] {
            Value::String(text) => text.clone(),
            json => json.to_string(),
        };
        let status = line["http_status"].as_u64().unwrap_or(200) as u16;
        let dir = tempfile::tempdir().expect("a temporary directory");
        canned(dir.path(), "fk", move |_| (status, body.clone())).await;
        let client = Directory::new(dir.path()).find(&"fk".into()).expect("found").client();
        let result = client.instances("").validate(&Opaque::null()).await;
        assert_eq!(
            result.is_ok(),
            verdict.starts_with("success"),
            "{n}: {case}: {result:?}, recorded: {verdict}"
        );
        if let (Err(error), Some(said)) = (&result, verdict.strip_prefix("error: ")) {
            let said = said.split(" (").next().unwrap_or(said);
            let alike = error.message.contains(said) || said.starts_with("invalid character");
            assert!(alike, "{case}: {error}, recorded: {verdict}");
        }
    }
}

#[tokio::test]
async fn every_recorded_hello_is_understood() {
    let mut understood = 0;
    for line in lines(HANDSHAKE) {
        if line["method"] != "Handshake.Hello" || line["response"].get("result").is_none() {
            continue;
        }
        let body = line["raw_response"].as_str().unwrap_or_default().to_owned();
        let dir = tempfile::tempdir().expect("a temporary directory");
        canned(dir.path(), "fk", move |_| (200, body.clone())).await;
        let client = Directory::new(dir.path()).find(&"fk".into()).expect("found").client();
        let hello = client.hello().await.expect("a hello");
        let recorded = line["response"]["result"]["Objects"].as_object().expect("objects");
        assert_eq!(hello.interfaces.len(), recorded.len());
        assert_eq!(hello.class(), PluginClass::C, "a foreign plugin is never taken to know tokens");
        understood += 1;
    }
    assert!(understood > 20, "only {understood} were there");
}

#[tokio::test]
async fn a_lost_answer_is_never_taken_for_not_done() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let directory = Directory::new(dir.path()).with_deadline(Duration::from_millis(100));
    let spec = InstanceSpec {
        properties: Opaque::null(),
        tags: Tags::new(),
        init: String::new(),
        logical_id: None,
        attachments: vec![],
    };
    for (name, answer) in [
        ("half", "{\"result\":{\"ID\":"),
        ("null", "{\"result\":{\"ID\":null}}"),
        ("empty", ""),
        ("rubbish", "\u{1}\u{2}"),
        ("error", "{\"error\":{\"code\":-32000,\"message\":\"it broke half way\",\"data\":null}}"),
    ] {
        canned(dir.path(), name, move |_| (200, answer.to_owned())).await;
        let client = directory.find(&name.into()).expect("found").client();
        let error = client.instances("").provision(&spec, &Call::default()).await.expect_err(name);
        assert_eq!(error.class, Class::Unsure, "{name}: {error}");
    }
    let _hung = std::os::unix::net::UnixListener::bind(dir.path().join("hung")).expect("a socket");
    drop(std::os::unix::net::UnixListener::bind(dir.path().join("dead")).expect("a socket"));
    for (name, class) in [("hung", Class::Unsure), ("dead", Class::Unavailable)] {
        let client = directory.find(&name.into()).expect("found").client();
        let error = client.instances("").provision(&spec, &Call::default()).await.expect_err(name);
        assert_eq!(error.class, class, "{name}: {error}");
    }
}

#[tokio::test]
async fn events_reach_whoever_subscribed_to_their_topic() {
    use futures_util::StreamExt;

    let events = Events::new(["compute/found", "compute/lost"]);
    let served =
        served(Plugin::default().with_instances("", Arc::new(Shelf::default())).with_events(events.clone()));
    let client = Directory::new(served.dir.path()).find(&"p".into()).expect("found").client();
    assert!(client.hello().await.expect("a hello").has_events());
    let mut all = std::pin::pin!(client.events("").await.expect("a stream"));
    let mut lost = std::pin::pin!(client.events("compute/lost").await.expect("a stream"));
    let event = |what: &str, id: &str| crate::Event {
        topic: format!("compute/{what}"),
        kind: what.into(),
        id: id.into(),
        message: String::new(),
    };
    events.publish(event("found", "i1"));
    events.publish(event("lost", "i2"));
    assert_eq!(all.next().await, Some(event("found", "i1")));
    assert_eq!(all.next().await, Some(event("lost", "i2")));
    assert_eq!(lost.next().await, Some(event("lost", "i2")));
}

#[tokio::test]
async fn a_plugin_that_claims_to_know_tokens_and_does_not_is_found_out() {
    for claims in [true, false] {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let plugin = Plugin::default().with_instances("", Arc::new(Shelf::default()));
        let plugin = if claims { plugin.knowing_tokens() } else { plugin };
        let _running = serve(dir.path(), "shelf", plugin).expect("it is served");
        let client = Directory::new(dir.path()).find(&"shelf".into()).expect("found").client();
        let report = crate::conformance::instances(&client, "", &Opaque::from_json("{}")).await;
        assert_eq!(report.class, Some(model::plugin::PluginClass::C), "it is measured, not believed");
        let outcome = |law: &str| {
            report.checks.iter().find(|(known, _)| *known == law).map(|(_, outcome)| outcome.clone())
        };
        let tokens = outcome("a repeated token creates no second instance").expect("it is checked");
        assert_eq!(matches!(tokens, crate::conformance::Outcome::Failed(_)), claims, "{tokens:?}");
        // The gate stands before every plugin that is served with this library.
        let deposed =
            outcome("a call of a deposed leader is rejected and creates nothing").expect("it is checked");
        assert_eq!(deposed == crate::conformance::Outcome::Passed, claims, "{deposed:?}");
        assert_eq!(
            outcome("destroying everything leaves nothing"),
            Some(crate::conformance::Outcome::Passed)
        );
    }
}
