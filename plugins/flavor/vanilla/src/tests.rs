use model::Health;
use model::tags::Tags;

use super::*;

fn vanilla(scripts: &[&str]) -> Vanilla {
    let scripts = scripts.iter().map(|it| (*it).to_owned()).collect();
    Vanilla { config: Config { scripts, commands: true }, watch: Watch::default() }
}

fn json(text: &str) -> Opaque {
    Opaque::from_json(text)
}

fn base() -> InstanceSpec {
    InstanceSpec {
        properties: json("{\"image\":\"x\"}"),
        tags: Tags::from([("infrakit.group".into(), "web".into()), ("tier".into(), "old".into())]),
        init: String::new(),
        logical_id: None,
        attachments: vec![],
    }
}

fn instance(id: &str) -> Description {
    Description {
        id: id.into(),
        logical_id: Some("127.0.0.1".into()),
        tags: Tags::new(),
        properties: Some(json(r#"{"Networks":{"a":{"IPAddress":"127.0.0.1"}}}"#)),
        state: None,
    }
}

async fn prepare(vanilla: &Vanilla, properties: &str, spec: InstanceSpec) -> Result<InstanceSpec, Error> {
    let index = Index { group: "web".into(), sequence: 1 };
    vanilla.prepare(&json(properties), spec, &Allocation::Size(1), &index).await
}

#[tokio::test]
async fn blanks_before_a_script_are_left_out() {
    for (lines, init) in [
        (r##"["", "#!/bin/sh", "echo"]"##, "#!/bin/sh\necho"),
        (r##"["  #!/bin/sh"]"##, "#!/bin/sh"),
        (r##"["", "\t", "#cloud-config", "a: 1"]"##, "#cloud-config\na: 1"),
        (r##"["", "echo"]"##, "\necho"),
    ] {
        let it = Vanilla { config: Config::default(), watch: Watch::default() };
        let made =
            prepare(&it, &format!("{{\"Init\":{lines}}}"), InstanceSpec { init: String::new(), ..base() })
                .await;
        assert_eq!(made.expect("it is prepared").init, init, "{lines}");
    }
}

#[tokio::test]
async fn it_adds_its_lines_tags_and_attachments_and_keeps_the_rest() {
    let it = vanilla(&[]);
    let properties = r##"{"Init":["#!/bin/sh","echo hi"],"Tags":{"tier":"web"},"Attachments":[{"ID":"v","Type":"volume"}]}"##;
    let spec = prepare(&it, properties, base()).await.expect("a spec");
    assert_eq!(spec.init, "#!/bin/sh\necho hi", "the shebang is the first byte");
    assert_eq!(spec.tags["tier"], "web");
    assert_eq!(spec.tags["infrakit.group"], "web");
    assert_eq!(spec.attachments.len(), 1);
    assert_eq!(spec.properties, base().properties);
    let after =
        prepare(&it, properties, InstanceSpec { init: "BASE".into(), ..base() }).await.expect("a spec");
    assert_eq!(after.init, "BASE\n#!/bin/sh\necho hi");
    assert_eq!(prepare(&it, "null", base()).await.expect("a spec"), base());
}

#[tokio::test]
async fn what_is_wrong_with_its_properties_is_said_at_the_door() {
    let it = vanilla(&[]);
    for (properties, said) in [
        (r#"{"Inits":[]}"#, "unknown field `Inits`"),
        (r#"{"Init":"x"}"#, "invalid type"),
        (r#"{"Init":[],"InitScriptTemplateURL":"str://x"}"#, "exclude each other"),
        (r#"{"Attachments":[{"ID":"","Type":"ebs"}]}"#, "needs an ID and a Type"),
        (r#"{"Health":{}}"#, "exactly one of"),
        (r#"{"Health":{"TCP":"x"}}"#, "is not HOST:PORT"),
        (r#"{"Health":{"HTTP":"ftp://x"}}"#, "is not an http:// or https:// URL"),
        (r#"{"Health":{"TCP":"h:1","Timeout":"1h"}}"#, "at most 10s"),
        (r#"{"Health":{"TCP":"h:1","Grace":"soon"}}"#, "is not a duration"),
    ] {
        let error = it.validate(&json(properties), &Allocation::Size(1)).await.expect_err(properties);
        assert!(error.message.contains(said), "{properties}: {error}");
    }
    let odd =
        it.validate(&json(r#"{"Health":{"TCPs":"h:1"}}"#), &Allocation::Size(1)).await.expect_err("odd");
    assert!(odd.message.contains("Health.TCPs: unknown field `TCPs`; did you mean `TCP`?"), "{odd}");
    let any_case = json(r#"{"init":["x"],"health":{"tcp":"h:1"},"ATTACHMENTS":[{"id":"a","type":"b"}]}"#);
    assert_eq!(it.validate(&any_case, &Allocation::Size(1)).await, Ok(()), "as Docker's InfraKit read them");
    let careful = Vanilla { config: Config::default(), watch: Watch::default() };
    let command = json(r#"{"Health":{"Command":["true"]}}"#);
    assert!(
        careful.validate(&command, &Allocation::Size(1)).await.is_err(),
        "commands must be allowed first"
    );
}

#[tokio::test]
async fn a_script_comes_only_from_where_the_operator_allows() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (inside, outside) = (dir.path().join("in"), dir.path().join("out"));
    for place in [&inside, &outside] {
        std::fs::create_dir(place).expect("a directory");
        std::fs::write(place.join("s.sh"), "echo {{ as it is }}").expect("a file");
    }
    std::os::unix::fs::symlink(outside.join("s.sh"), inside.join("link.sh")).expect("a link");
    let it = vanilla(&[inside.to_str().expect("a path")]);
    let of = |path: PathBuf| format!("{{\"InitScriptTemplateURL\":\"file://{}\"}}", path.display());
    let spec = prepare(&it, &of(inside.join("s.sh")), base()).await.expect("it is allowed");
    assert_eq!(spec.init, "echo {{ as it is }}");
    for path in [outside.join("s.sh"), inside.join("link.sh"), inside.join("../out/s.sh")] {
        let error = it.validate(&json(&of(path)), &Allocation::Size(1)).await.expect_err("it is not allowed");
        assert!(error.message.contains("is not allowed"), "{error}");
    }
    assert!(prepare(&it, r#"{"InitScriptTemplateURL":"http://127.0.0.1:1/x"}"#, base()).await.is_err());
}

/// A server whose certificate nobody vouches for, as instances have it.
async fn https() -> u16 {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let own = rcgen::generate_simple_self_signed(vec!["elsewhere".to_owned()]).expect("a certificate");
    let key = rustls::pki_types::PrivateKeyDer::try_from(own.signing_key.serialize_der()).expect("a key");
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![own.cert.der().clone()], key)
        .expect("a configuration");
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let _ = stream.read(&mut [0; 512]).await;
            let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await;
        }
    });
    port
}

#[tokio::test]
async fn a_probe_finds_out_by_tcp_http_and_command() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 512];
            let n = stream.read(&mut request).await.unwrap_or(0);
            let head = String::from_utf8_lossy(&request[..n]).into_owned();
            // A probe by TCP says nothing.
            if head.is_empty() {
                continue;
            }
            assert!(
                head.contains(" HTTP/1.1\r\n") && head.to_lowercase().contains("\r\nhost: 127.0.0.1:"),
                "{head}"
            );
            let well = ["/well", "/endless"].iter().any(|path| head.contains(path));
            let status = if well { "200 OK" } else { "503 Sick" };
            let _ = stream.write_all(format!("HTTP/1.1 {status}\r\n\r\n").as_bytes()).await;
            if head.contains("/endless") {
                // The body goes on as long as anybody listens.
                tokio::spawn(async move { while stream.write_all(b"more").await.is_ok() {} });
            }
        }
    });
    let tls_port = https().await;
    let it = vanilla(&[]);
    let ask = async |health: String| {
        let properties = json(&format!("{{\"Health\":{health}}}"));
        it.healthy(&properties, &instance("i")).await.expect("a verdict")
    };
    for (health, expected) in [
        (format!(r#"{{"TCP":"{{IP}}:{port}"}}"#), Health::Healthy),
        (format!(r#"{{"TCP":"{{LogicalID}}:{port}"}}"#), Health::Healthy),
        (r#"{"TCP":"127.0.0.1:1"}"#.to_owned(), Health::Unhealthy),
        (format!(r#"{{"HTTP":"http://{{IP}}:{port}/well"}}"#), Health::Healthy),
        (format!(r#"{{"HTTP":"http://{{IP}}:{port}/ill"}}"#), Health::Unhealthy),
        (format!(r#"{{"HTTP":"http://{{IP}}:{port}/endless"}}"#), Health::Healthy),
        (format!(r#"{{"HTTP":"https://{{IP}}:{tls_port}/well"}}"#), Health::Healthy),
        (format!(r#"{{"HTTP":"https://{{IP}}:{port}/well","Timeout":"1s"}}"#), Health::Unhealthy),
        (r#"{"Command":["test","{ID}","=","i"]}"#.to_owned(), Health::Healthy),
        (r#"{"Command":["false"]}"#.to_owned(), Health::Unhealthy),
        (r#"{"Command":["sleep","60"],"Timeout":"50ms"}"#.to_owned(), Health::Unhealthy),
        (r#"{"Command":["false"],"Grace":"1h"}"#.to_owned(), Health::Unknown),
    ] {
        let verdict = ask(health.clone()).await;
        assert_eq!(verdict.health, expected, "{health}: {}", verdict.message);
        assert_eq!(verdict.message.is_empty(), expected == Health::Healthy, "a bad word has a reason");
    }
}

#[tokio::test]
async fn it_keeps_the_contract() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let _running = spi::serve(dir.path(), "vanilla", plugin(Config::default())).expect("it is served");
    let client = spi::Directory::new(dir.path()).find(&"vanilla".into()).expect("found").client();
    let report = spi::conformance::flavors(&client, "", &json(r#"{"Init":["x"],"Tags":{"t":"u"}}"#)).await;
    assert!(report.passed(), "{report}");
}
