//! Replies of foreign plugins, as Go's client reads them (plugin-protocol §8) and within bounds.

use std::path::Path;
use std::sync::{Arc, Mutex};

use model::tags::Tags;
use model::{Allocation, Description, Health, InstanceState, Opaque, RunStatus};
use spi::{
    Call, Class, Client, Directory, Flavors, Index, InstanceSpec, Instances, LONGEST_ID, LONGEST_TEXT,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;

/// Answers every request with these bytes.
fn canned(dir: &Path, body: impl Into<Vec<u8>>) -> Client {
    let body = Arc::new(body.into());
    let listener = UnixListener::bind(dir.join("fk")).expect("a socket");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let body = body.clone();
            tokio::spawn(async move {
                let mut request = vec![0; 64 * 1024];
                let _ = stream.read(&mut request).await;
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                let _ = stream.write_all(head.as_bytes()).await;
                let _ = stream.write_all(&body).await;
            });
        }
    });
    Directory::new(dir).find(&"fk".into()).expect("found").client()
}

/// A client of a plugin with this reply.
async fn with<T>(body: impl Into<Vec<u8>>, ask: impl AsyncFnOnce(Client) -> T) -> T {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let client = canned(dir.path(), body);
    ask(client).await
}

async fn listed(body: impl Into<Vec<u8>>) -> Result<Vec<Description>, spi::Error> {
    with(body, async |client| client.instances("").describe(&Tags::new(), true).await).await
}

fn spec() -> InstanceSpec {
    InstanceSpec {
        properties: Opaque::null(),
        tags: Tags::new(),
        init: String::new(),
        logical_id: None,
        attachments: vec![],
    }
}

async fn provisioned(body: impl Into<Vec<u8>>) -> Result<String, spi::Error> {
    let made =
        with(body, async |client| client.instances("").provision(&spec(), &Call::default()).await).await;
    made.map(|id| id.to_string())
}

#[tokio::test]
async fn keys_count_in_any_case_in_every_reply() {
    let hello = with(r#"{"Result":{"objects":{"Instance/0.6.1":[{"name":"."},{"NAME":"a"}]}}}"#, async |c| {
        c.hello().await.expect("a hello")
    });
    let hello = hello.await;
    assert!(hello.serves(spi::interface::INSTANCE, "") && hello.serves(spi::interface::INSTANCE, "a"));
    assert_eq!(provisioned(r#"{"result":{"id":"i-1"}}"#).await.expect("an id"), "i-1");
    assert_eq!(provisioned(r#"{"result":{"ID":"i-0","id":"i-1"}}"#).await.expect("an id"), "i-1");
    let found = listed(r#"{"RESULT":{"descriptions":[{"id":"a","TAGS":{"K":"v"},"logicalid":"l"}]}}"#).await;
    let found = found.expect("a listing");
    assert_eq!(found[0].tags, Tags::from([("K".into(), "v".into())]));
    assert_eq!(found[0].logical_id, Some("l".into()));
    let verdict = with(r#"{"result":{"health":2,"because":"ill"}}"#, async |client| {
        let flavor = client.flavors("");
        flavor.healthy(&Opaque::null(), &found[0]).await.expect("a verdict")
    });
    assert_eq!(verdict.await.health, Health::Unhealthy);
    let reply = r#"{"result":{"spec":{"properties":{"ID":1, "id":2},"TAGS":{"a":null},"init":"x","attachments":[{"id":"v","type":"t"}]}}}"#;
    let prepared = with(reply, async |client| {
        let index = Index { group: "g".into(), sequence: 1 };
        let flavor = client.flavors("");
        flavor.prepare(&Opaque::null(), spec(), &Allocation::Size(1), &index).await.expect("a spec")
    });
    let prepared = prepared.await;
    assert_eq!(prepared.properties.as_json(), r#"{"ID":1, "id":2}"#, "properties are byte for byte");
    assert_eq!((prepared.init.as_str(), prepared.attachments[0].id.as_str()), ("x", "v"));
    assert_eq!(prepared.tags, Tags::from([("a".into(), String::new())]));
    let error = provisioned(r#"{"ERROR":{"MESSAGE":"full","DATA":{"CLASS":"Exhausted"}}}"#).await;
    assert_eq!(error.expect_err("an error"), spi::Error::new(Class::Exhausted, "full"));
}

#[tokio::test]
async fn null_is_the_zero_value_in_every_reply() {
    for result in ["{\"Type\":null,\"OK\":null}", "{\"type\":null}", "{}"] {
        let body = format!("{{\"result\":{result},\"error\":null}}");
        let valid = with(body.clone(), async |client| client.instances("").validate(&Opaque::null()).await);
        assert!(valid.await.is_ok(), "{result}");
        let destroyed = with(body, async |client| {
            client.instances("").destroy(&"i".into(), "terminate", &Call::default()).await
        });
        assert!(destroyed.await.is_ok(), "{result}");
    }
    let hello =
        with(r#"{"result":{"Objects":{"Instance/0.6.1":[{"Name":".","ProxyFor":null}]}}}"#, async |c| {
            c.hello().await
        });
    assert!(hello.await.is_ok());
    let reply = r#"{"result":{"Type":null,"Descriptions":[{"ID":"a","LogicalID":null,"Tags":null,"Properties":null}]}}"#;
    assert_eq!(listed(reply).await.expect("a listing").len(), 1);
    assert_eq!(provisioned(r#"{"result":{"Type":null,"ID":"a"}}"#).await.expect("an id"), "a");
}

#[tokio::test]
async fn a_reply_that_is_no_listing_is_an_error_and_never_an_empty_one() {
    for empty in [r#"{"result":{"Descriptions":null}}"#, r#"{"result":{"descriptions":[]}}"#] {
        assert_eq!(listed(empty).await.expect(empty), []);
    }
    for broken in [
        r#"{"result":{}}"#,
        r#"{"result":{"Type":"","OK":true}}"#,
        r#"{"result":{"ID":"a"}}"#,
        r#"{"result":null}"#,
        r#"{"result":[]}"#,
        r#"{"result":{"Descriptions":{}}}"#,
        r#"{"result":{"Descriptions":"none"}}"#,
    ] {
        assert_eq!(listed(broken).await.expect_err(broken).class, Class::Unsure, "{broken}");
    }
}

#[tokio::test]
async fn one_odd_instance_hides_no_other() {
    let body = br#"{"result":{"Descriptions":[
        {"ID":"a","Tags":{"x":"\ud800","n":3}},
        {"Tags":{}}, {"ID":null}, null, "text",
        {"ID":"b","Tags":"none","Properties":{"State":"running"}},
        {"ID":"c","Tags":{"x":"#;
    let mut body = body.to_vec();
    body.extend_from_slice(b"\"\xff\"}}, {\"ID\":\"a\",\"Tags\":{\"again\":\"yes\"}},{\"ID\":\"d\",\"Properties\":{\"Status\":\"exited\",\"s\":\"\\ud800\"}}]}}");
    let found = listed(body).await.expect("a listing");
    let ids: Vec<_> = found.iter().map(|it| it.id.as_str()).collect();
    assert_eq!(ids, ["a", "b", "c", "d"]);
    assert_eq!(found[0].tags, Tags::from([("again".into(), "yes".into())]), "the last of an id holds");
    assert_eq!(found[1].state.as_ref().map(|it| it.status), Some(RunStatus::Unknown));
    assert_eq!(found[2].tags["x"], "\u{fffd}");
    assert_eq!(found[3].state.as_ref().map(|it| it.status), Some(RunStatus::Stopped));
    assert_eq!(
        found[3].properties.as_ref().map(Opaque::as_json),
        Some(r#"{"Status":"exited","s":"\ud800"}"#)
    );
}

#[tokio::test]
async fn what_a_plugin_says_is_bounded() {
    let (id, text) = ("x".repeat(LONGEST_ID), "ü".repeat(LONGEST_TEXT));
    let fits = provisioned(format!(r#"{{"result":{{"ID":"{id}"}}}}"#)).await;
    assert_eq!(fits.expect("an id"), id);
    for wrong in [format!(r#""{id}x""#), "\"\"".into(), "null".into(), "true".into(), "{}".into()] {
        let error = provisioned(format!(r#"{{"result":{{"ID":{wrong}}}}}"#)).await.expect_err("no id");
        assert_eq!(error.class, Class::Unsure, "{error}");
    }
    let short = |text: &str| text.len() <= LONGEST_TEXT && text.ends_with("ü…");
    let error = format!(r#"{{"error":{{"message":"{text}"}}}}"#);
    let error = provisioned(error).await.expect_err("an error");
    assert!(error.class == Class::Unsure && short(&error.message), "{error}");
    let garbled = provisioned(format!(r#"{{"result":"{text}"}}"#)).await.expect_err("an error");
    assert!(garbled.message.len() <= LONGEST_TEXT);
    let found = listed(format!(
        r#"{{"result":{{"Descriptions":[{{"ID":"{id}x"}},{{"ID":"a","State":{{"Status":"Failed","Message":"{text}"}}}}]}}}}"#
    ));
    let found = found.await.expect("a listing");
    assert_eq!(found.len(), 1);
    assert!(short(&found[0].state.as_ref().expect("a state").message));
    let verdict = with(format!(r#"{{"result":{{"Health":2,"Because":"{text}"}}}}"#), async |client| {
        client.flavors("").healthy(&Opaque::null(), &found[0]).await.expect("a verdict")
    });
    assert!(short(&verdict.await.message));
}

/// Everything that is logged in this thread.
#[derive(Clone, Default)]
struct Logged(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("a lock").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn instances_without_an_id_are_logged_with_their_plugin_and_not_at_every_listing() {
    let logged = Logged::default();
    let writer = logged.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let body = r#"{"result":{"Descriptions":[{"Tags":{}},{"ID":"a"},{"ID":""}]}}"#;
    with(body, async |client| {
        for subtype in ["disk", "disk", ""] {
            let found = client.instances(subtype).describe(&Tags::new(), true).await.expect("a listing");
            assert_eq!(found.len(), 1);
        }
    })
    .await;
    let text = String::from_utf8(logged.0.lock().expect("a lock").clone()).expect("a text");
    let lines: Vec<&str> = text.lines().filter(|line| line.contains("WARN")).collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(lines[0].contains("plugin=fk/disk") && lines[0].contains("skipped=2"), "{text}");
    assert!(lines[1].contains("plugin=fk "), "{text}");
}

#[tokio::test]
async fn a_state_in_another_form_fails_the_conformance_tests() {
    use spi::conformance::{Outcome, instances};

    for (state, passes) in [
        (r#","State":{"Status":"Running"}"#, Some(true)),
        (r#","State":"up""#, Some(false)),
        (r#","State":{"Status":"up"}"#, Some(false)),
        ("", None),
    ] {
        // The same reply to every call.
        let body = format!(
            r#"{{"result":{{"Objects":{{"Instance/0.6.1":[{{"Name":"."}}]}},"ID":"i","Descriptions":[{{"ID":"i"{state}}}]}}}}"#
        );
        let report = with(body, async |client| instances(&client, "", &Opaque::null()).await).await;
        let check =
            report.checks.into_iter().find(|(check, _)| *check == "State has the form of the contract");
        let found = match check.expect("it is checked").1 {
            Outcome::Passed => Some(true),
            Outcome::Failed(_) => Some(false),
            Outcome::Skipped(_) => None,
        };
        assert_eq!(found, passes, "{state}");
    }
}

/// Keeps the last description that it was given.
struct Mirror(Mutex<Option<Description>>);

#[async_trait::async_trait]
impl Instances for Mirror {
    async fn validate(&self, _: &Opaque) -> Result<(), spi::Error> {
        Ok(())
    }

    async fn provision(&self, _: &InstanceSpec, _: &Call) -> Result<model::InstanceId, spi::Error> {
        Ok("i".into())
    }

    async fn label(&self, _: &model::InstanceId, _: &Tags, _: &Call) -> Result<(), spi::Error> {
        Ok(())
    }

    async fn destroy(&self, _: &model::InstanceId, _: &str, _: &Call) -> Result<(), spi::Error> {
        Ok(())
    }

    async fn describe(&self, _: &Tags, _: bool) -> Result<Vec<Description>, spi::Error> {
        Ok(self.0.lock().expect("a lock").iter().cloned().collect())
    }
}

#[tokio::test]
async fn a_state_arrives_as_it_was_reported() {
    for state in [
        None,
        Some(InstanceState {
            status: RunStatus::Failed,
            ended: true,
            exit_code: Some(137),
            since: Some(model::Timestamp(1_714_557_601_250)),
            message: "out of memory".into(),
        }),
    ] {
        let description = Description {
            id: "i".into(),
            logical_id: None,
            tags: Tags::new(),
            properties: Some(Opaque::from_json(r#"{"State":{}}"#)),
            state,
        };
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mirror = Mirror(Mutex::new(Some(description.clone())));
        let plugin = spi::Plugin::default().with_instances("", Arc::new(mirror));
        let _running = spi::serve(dir.path(), "mirror", plugin).expect("it is served");
        let client = Directory::new(dir.path()).find(&"mirror".into()).expect("found").client();
        let found = client.instances("").describe(&Tags::new(), true).await.expect("a listing");
        assert_eq!(found, [description]);
    }
}
