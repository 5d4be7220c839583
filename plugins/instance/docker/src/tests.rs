//! Against the real engine, with an image made from busybox by `deploy/test`.

mod lives;
mod networks;

use spi::Attachment;

use super::*;

const IMAGE: &str = "infrakit-test:busybox";

/// The engine and the image; none when the caller says that there is no engine here.
async fn containers(namespace: &str) -> Option<Bench> {
    if std::env::var_os("INFRAKIT_TEST_WITHOUT_DOCKER").is_some() {
        return None;
    }
    let docker = Docker::connect_with_defaults().expect("a Docker engine; see deploy/test");
    let docker = docker.negotiate_version().await.expect("the engine answers");
    docker.inspect_image(IMAGE).await.expect("the test image; deploy/test makes it");
    let namespace = Tags::from([("infrakit.test".to_owned(), format!("{namespace}-{}", std::process::id()))]);
    let config = Config { namespace, ..Config::default() };
    Some(Bench { docker, containers: Containers::new(&config), config })
}

/// A plugin, and the engine to look behind it.
struct Bench {
    docker: Docker,
    containers: Containers,
    config: Config,
}

/// The image's own command ends with no signal but this one.
fn spec(more: &str) -> InstanceSpec {
    spec_of(&format!(r#"{{"Config":{{"Image":"{IMAGE}","StopSignal":"SIGKILL"}}{more}}}"#))
}

/// As [`spec`], with a command for the shell.
fn running(script: &str, more: &str) -> InstanceSpec {
    let command = serde_json::to_string(script).expect("JSON");
    spec_of(&format!(
        r#"{{"Config":{{"Image":"{IMAGE}","StopSignal":"SIGKILL","Cmd":["/bin/sh","-c",{command}]}}{more}}}"#
    ))
}

fn spec_of(properties: &str) -> InstanceSpec {
    InstanceSpec {
        properties: Opaque::from_json(properties),
        tags: Tags::new(),
        init: String::new(),
        logical_id: None,
        attachments: vec![],
    }
}

fn with_token(spec: InstanceSpec, name: &str) -> InstanceSpec {
    let token = format!("{name}-{}", std::process::id());
    InstanceSpec { tags: Tags::from([(tags::INTENT.to_owned(), token)]), ..spec }
}

/// A call that ends so soon.
fn within(time: Duration) -> Call {
    Call { not_after: Some(since_boot() + time), ..Call::default() }
}

impl Bench {
    async fn provision(&self, spec: &InstanceSpec) -> Result<InstanceId, Error> {
        self.containers.provision(spec, &Call::default()).await
    }

    async fn all(&self) -> Vec<Description> {
        self.containers.describe(&Tags::new(), true).await.expect("a listing")
    }

    async fn state(&self, id: &InstanceId) -> model::InstanceState {
        let found = self.all().await.into_iter().find(|found| found.id == *id);
        found.expect("it is listed").state.expect("a state")
    }

    /// Waits until the state of a container is as told.
    async fn until(&self, id: &InstanceId, status: model::RunStatus) -> model::InstanceState {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let state = self.state(id).await;
            if state.status == status {
                return state;
            }
            assert!(Instant::now() < deadline, "{id} did not become {status:?}: {state:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn destroy(&self, id: &InstanceId) {
        self.containers.destroy(id, "terminate", &Call::default()).await.expect("it goes");
    }

    async fn clear(&self) {
        for found in self.all().await {
            self.destroy(&found.id).await;
        }
    }

    async fn output(&self, id: &InstanceId, command: &[&str]) -> String {
        let options = bollard::exec::CreateExecOptions {
            cmd: Some(command.iter().map(|word| (*word).to_owned()).collect()),
            attach_stdout: Some(true),
            ..Default::default()
        };
        let exec = self.docker.create_exec(id.as_str(), options).await.expect("an exec").id;
        let mut said = Vec::new();
        let started = self.docker.start_exec(&exec, None).await.expect("it starts");
        if let bollard::exec::StartExecResults::Attached { mut output, .. } = started {
            while let Some(piece) = output.next().await {
                said.extend_from_slice(&piece.expect("output").into_bytes());
            }
        }
        String::from_utf8(said).expect("text")
    }

    /// A container that Provision did not make.
    async fn made_by_hand(&self, spec: &InstanceSpec, labels: &[(&str, &str)]) -> String {
        let mut body = properties::read(&spec.properties).expect("properties").config;
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        body.labels = Some(labels.collect());
        let options = None::<bollard::query_parameters::CreateContainerOptions>;
        self.docker.create_container(options, body).await.expect("a container").id
    }
}

#[tokio::test]
async fn it_keeps_the_contract() {
    let Some(bench) = containers("contract").await else { return };
    let dir = tempfile::tempdir().expect("a temporary directory");
    let plugin = Plugin::default().with_instances("", Arc::new(bench.containers)).knowing_tokens().starting();
    let _running = spi::serve(dir.path(), "docker", plugin).expect("it is served");
    let directory = spi::Directory::new(dir.path()).with_deadline(Duration::from_secs(60));
    let client = directory.find(&"docker".into()).expect("found").client();
    let report = spi::conformance::instances(&client, "", &spec("").properties).await;
    assert!(report.passed(), "{report}");
}

#[tokio::test]
async fn a_slot_has_a_name_of_its_own_and_a_pet_its_address_and_its_volume() {
    let Some(bench) = containers("name").await else { return };
    let network = format!("infrakit-test-{}", std::process::id());
    let third = 16 + std::process::id() % 200;
    let address = format!("10.213.{third}.7");
    let own = |generation: &str| {
        let tags = [
            (tags::OWNER, "0123456789abcdef"),
            (tags::GROUP, network.as_str()),
            (tags::SLOT, "s/1"),
            (tags::GENERATION, generation),
            (tags::INTENT, generation),
        ];
        InstanceSpec {
            tags: tags.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
            logical_id: Some(address.as_str().into()),
            attachments: vec![Attachment { id: format!("{network}-data"), kind: "/data".into() }],
            ..spec(&format!(
                r#","NetworkAttachments":[{{"Name":"{network}","Subnet":"10.213.{third}.0/24"}}]"#
            ))
        }
    };
    let id = bench.provision(&own("1")).await.expect("a container");
    let found = bench.all().await;
    let properties: serde_json::Value =
        serde_json::from_str(found[0].properties.as_ref().expect("properties").as_json()).expect("JSON");
    assert_eq!(properties["Names"][0], format!("/01234567-{network}-s-1-1"));
    assert_eq!(properties["NetworkSettings"]["Networks"][&network]["IPAddress"], address);
    assert_eq!(found[0].logical_id.as_ref().map(|id| id.as_str()), Some(address.as_str()));
    bench.output(&id, &["sh", "-c", "echo kept > /data/file"]).await;
    bench.destroy(&id).await;
    let next = bench.provision(&own("2")).await.expect("the next generation");
    assert_eq!(bench.output(&next, &["cat", "/data/file"]).await, "kept\n", "the volume stays");
    bench.clear().await;
    bench.docker.remove_network(&network).await.expect("the network goes");
    let options = None::<bollard::query_parameters::RemoveVolumeOptions>;
    let volume = bench.docker.remove_volume(&format!("{network}-data"), options).await;
    volume.expect("the volume goes");
}

#[tokio::test]
async fn an_unlabelled_container_is_nobodys() {
    let Some(bench) = containers("stranger").await else { return };
    let stranger = bench.made_by_hand(&spec(""), &[]).await;
    bench.destroy(&listing::short(&stranger)).await;
    bench.docker.inspect_container(&stranger, None).await.expect("a stranger is never removed");
    engine::remove(&bench.docker, &stranger).await.expect("we made it, we remove it");
}

#[tokio::test]
async fn what_an_attempt_left_half_made_is_made_again_under_the_same_token() {
    let Some(bench) = containers("half").await else { return };
    let whole = with_token(InstanceSpec { init: "echo ran > /ran".into(), ..spec("") }, "half");
    // A plugin that died between create and start, or between start and Init, leaves this.
    for is_started in [false, true] {
        let labels = whole.tags.iter().chain(&bench.config.namespace);
        let labels: Vec<(&str, &str)> = labels.map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let half = bench.made_by_hand(&whole, &[&labels[..], &[(boot::LABEL, "1")]].concat()).await;
        if is_started {
            network::start(&bench.docker, &half).await.expect("it starts");
        }
        let state = bench.state(&listing::short(&half)).await;
        assert!(state.message.contains("half made"), "{state:?}");
        let id = bench.provision(&whole).await.expect("a container");
        assert_ne!(id, listing::short(&half));
        assert_eq!(bench.output(&id, &["cat", "/ran"]).await, "ran\n");
        assert_eq!(bench.provision(&whole).await.expect("the same"), id);
        assert_eq!(bench.all().await.len(), 1);
        bench.clear().await;
    }
}

#[tokio::test]
async fn calls_with_one_token_make_one_container_even_at_once() {
    let Some(bench) = containers("token").await else { return };
    let spec = with_token(spec(""), "token");
    let all = futures_util::future::join_all((0..5).map(|_| bench.provision(&spec))).await;
    let ids: std::collections::BTreeSet<InstanceId> =
        all.into_iter().map(|made| made.expect("a container")).collect();
    assert_eq!((ids.len(), bench.all().await.len()), (1, 1));
    // A token that came as a label later counts too.
    let id = ids.first().expect("one");
    let tags = Tags::from([(tags::INTENT.to_owned(), format!("later-{}", std::process::id()))]);
    bench.containers.label(id, &tags, &Call::default()).await.expect("a label");
    let again = InstanceSpec { tags: tags.clone(), ..spec };
    assert_eq!(bench.provision(&again).await.expect("the same"), *id);
    bench.clear().await;
}

#[tokio::test]
async fn events_tell_of_containers_that_come_and_go_and_of_a_new_look() {
    let Some(bench) = containers("events").await else { return };
    let dir = tempfile::tempdir().expect("a temporary directory");
    let made = plugin(&bench.config).await.expect("a plugin");
    let _running = spi::serve(dir.path(), "docker", made).expect("served");
    let client = spi::Directory::new(dir.path()).find(&"docker".into()).expect("found").client();
    let mut events = std::pin::pin!(client.events("").await.expect("a stream"));
    let look = async { while events.next().await.is_some_and(|event| event.message != "look again") {} };
    tokio::time::timeout(Duration::from_secs(10), look).await.expect("a full look is asked for");
    let id =
        bench.provision(&InstanceSpec { init: "sleep 1".into(), ..spec("") }).await.expect("a container");
    bench.destroy(&id).await;
    let mut told = Vec::new();
    let lost = async {
        while let Some(event) = events.next().await {
            if event.id == id.as_str() {
                told.push(event.message);
                if event.kind == "lost" {
                    break;
                }
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), lost).await.expect("an event tells of the lost one");
    assert!(
        ["start", "exec_die", "die", "destroy"].iter().all(|it| told.contains(&(*it).to_owned())),
        "{told:?}"
    );
    bench.clear().await;
}

#[tokio::test]
async fn an_engine_that_is_not_there_is_waited_for() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let socket = dir.path().join("docker.sock");
    let host = format!("unix://{}", socket.display());
    let options = std::collections::BTreeMap::from([("host".to_owned(), host)]);
    let config = configure(&options, |_| None).expect("a configuration");
    let made = plugin(&config).await.expect("it starts without an engine");
    let _running = spi::serve(dir.path(), "docker", made).expect("served");
    let client = spi::Directory::new(dir.path()).find(&"docker".into()).expect("found").client();
    client.hello().await.expect("it answers");
    let instances = client.instances("");
    let error = instances.describe(&Tags::new(), true).await.expect_err("no engine");
    assert_eq!(error.class, Class::Unavailable);
    assert!(error.message.contains("no engine answers at unix://"), "{error}");
    let error = instances.provision(&spec(""), &Call::default()).await.expect_err("no engine");
    assert_eq!(error.class, Class::Unavailable);
    instances.validate(&spec("").properties).await.expect("nothing is wrong with the properties");
    if containers("waits").await.is_some() {
        std::os::unix::fs::symlink("/var/run/docker.sock", &socket).expect("a link");
        instances.describe(&Tags::new(), true).await.expect("the engine is there now");
    }
}

#[tokio::test]
async fn an_engine_is_reached_over_tcp() {
    if containers("tcp").await.is_none() {
        return;
    }
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let options = std::collections::BTreeMap::from([(
        "host".to_owned(),
        format!("http://{}", listener.local_addr().expect("an address")),
    )]);
    let _relay = tokio::spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut unix =
                    tokio::net::UnixStream::connect("/var/run/docker.sock").await.expect("an engine");
                tokio::io::copy_bidirectional(&mut tcp, &mut unix).await
            });
        }
    });
    let containers = Containers::new(&configure(&options, |_| None).expect("a configuration"));
    containers.describe(&Tags::new(), true).await.expect("a listing");
}

#[tokio::test]
async fn an_image_that_cannot_be_had_is_a_refusal_and_leaves_nothing() {
    let Some(bench) = containers("image").await else { return };
    // Nothing listens there, so that no registry is asked.
    let net = format!("infrakit-test-image-{}", std::process::id());
    let absent = format!(
        r#"{{"Config":{{"Image":"127.0.0.1:1/infrakit/absent"}},"NetworkAttachments":[{{"Name":"{net}"}}]}}"#
    );
    let error = bench.provision(&spec_of(&absent)).await.expect_err("there is no such image");
    let said = "docker: the image `127.0.0.1:1/infrakit/absent` is missing and cannot be pulled: ";
    assert!(error.message.starts_with(said) && error.message.contains("connection refused"), "{error}");
    assert!(error.class.is_refusal() && error.class.is_retryable());
    bench.containers.validate(&spec_of(&absent).properties).await.expect("nobody knows better");
    bench.containers.validate(&spec("").properties).await.expect("it is there");
    let network = bench.docker.inspect_network(&net, None).await;
    assert_eq!(network.map(drop).map_err(|error| engine::status(&error)), Err(Some(404)));
}
