//! Against the real engine, with an image made from busybox by `deploy/test`.

use spi::{Attachment, Class};

use super::*;

const IMAGE: &str = "infrakit-test:busybox";

/// The engine and the image; none when the caller says that there is no engine here.
async fn containers(namespace: &str) -> Option<Containers> {
    if std::env::var_os("INFRAKIT_TEST_WITHOUT_DOCKER").is_some() {
        return None;
    }
    let docker = Docker::connect_with_defaults().expect("a Docker engine; see deploy/test");
    let docker = docker.negotiate_version().await.expect("the engine answers");
    docker.inspect_image(IMAGE).await.expect("the test image; deploy/test makes it");
    let namespace = Tags::from([("infrakit.test".to_owned(), format!("{namespace}-{}", std::process::id()))]);
    Some(Containers { docker, namespace })
}

fn spec(more: &str) -> InstanceSpec {
    InstanceSpec {
        properties: Opaque::from_json(format!(r#"{{"Config":{{"Image":"{IMAGE}"}}{more}}}"#)),
        tags: Tags::new(),
        init: String::new(),
        logical_id: None,
        attachments: vec![],
    }
}

async fn clear(containers: &Containers) {
    for (summary, _) in containers.all().await.expect("a listing") {
        let id = id_of(&summary).expect("an id");
        containers.destroy(&id, "terminate", &Call::default()).await.expect("it goes");
    }
}

async fn output(containers: &Containers, id: &InstanceId, command: &[&str]) -> Vec<u8> {
    let options = bollard::exec::CreateExecOptions {
        cmd: Some(command.iter().map(|word| (*word).to_owned()).collect()),
        attach_stdout: Some(true),
        ..Default::default()
    };
    let exec = containers.docker.create_exec(id.as_str(), options).await.expect("an exec").id;
    let mut said = Vec::new();
    let started = containers.docker.start_exec(&exec, None).await.expect("it starts");
    if let bollard::exec::StartExecResults::Attached { mut output, .. } = started {
        while let Some(piece) = output.next().await {
            said.extend_from_slice(&piece.expect("output").into_bytes());
        }
    }
    said
}

#[tokio::test]
async fn it_keeps_the_contract() {
    let Some(containers) = containers("contract").await else { return };
    let dir = tempfile::tempdir().expect("a temporary directory");
    let plugin = Plugin::default().with_instances("", Arc::new(containers)).knowing_tokens().starting();
    let _running = spi::serve(dir.path(), "docker", plugin).expect("it is served");
    let directory = spi::Directory::new(dir.path()).with_deadline(Duration::from_secs(60));
    let client = directory.find(&"docker".into()).expect("found").client();
    let report = spi::conformance::instances(&client, "", &spec("").properties).await;
    assert!(report.passed(), "{report}");
}

#[tokio::test]
async fn init_arrives_byte_for_byte_and_runs_inside() {
    let Some(containers) = containers("init").await else { return };
    let init = "#!/bin/sh\n# ü \"quoted\"; `x` $HOME \\\necho ran > /ran; exit 0\n".to_owned();
    let made = containers.provision(&InstanceSpec { init: init.clone(), ..spec("") }, &Call::default()).await;
    let id = made.expect("a container");
    assert_eq!(output(&containers, &id, &["cat", "/ran"]).await, b"ran\n");
    assert_eq!(output(&containers, &id, &["cat", "/var/lib/infrakit/init"]).await, init.as_bytes());
    let failing = InstanceSpec { init: "echo first; echo why >&2; exit 3".into(), ..spec("") };
    let error = containers.provision(&failing, &Call::default()).await.expect_err("Init fails");
    assert_eq!(error.message, "docker: Init exited with 3: why");
    assert_eq!(containers.all().await.expect("a listing").len(), 1, "the failed one was removed");
    clear(&containers).await;
}

#[tokio::test]
async fn a_slot_has_a_name_of_its_own_and_a_pet_its_address_and_its_volume() {
    let Some(containers) = containers("name").await else { return };
    let subnet = 16 + std::process::id() % 200;
    let network = format!("infrakit-test-{}", std::process::id());
    let ipam = bollard::models::Ipam {
        config: Some(vec![bollard::models::IpamConfig {
            subnet: Some(format!("10.213.{subnet}.0/24")),
            ..Default::default()
        }]),
        ..Default::default()
    };
    let request = bollard::models::NetworkCreateRequest {
        name: network.clone(),
        ipam: Some(ipam),
        ..Default::default()
    };
    containers.docker.create_network(request).await.expect("a network");
    let address = format!("10.213.{subnet}.7");
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
            ..spec(&format!(r#","NetworkAttachments":[{{"Name":"{network}"}}]"#))
        }
    };
    let id = containers.provision(&own("1"), &Call::default()).await.expect("a container");
    let found = containers.describe(&Tags::new(), true).await.expect("a listing");
    let properties: serde_json::Value =
        serde_json::from_str(found[0].properties.as_ref().expect("properties").as_json()).expect("JSON");
    assert_eq!(properties["Names"][0], format!("/01234567-{network}-s-1-1"));
    assert_eq!(properties["NetworkSettings"]["Networks"][&network]["IPAddress"], address);
    assert_eq!(found[0].logical_id.as_ref().map(|id| id.as_str()), Some(address.as_str()));
    output(&containers, &id, &["sh", "-c", "echo kept > /data/file"]).await;
    containers.destroy(&id, "terminate", &Call::default()).await.expect("it goes");
    let next = containers.provision(&own("2"), &Call::default()).await.expect("the next generation");
    assert_eq!(output(&containers, &next, &["cat", "/data/file"]).await, b"kept\n", "the volume stays");
    clear(&containers).await;
    containers.docker.remove_network(&network).await.expect("the network goes");
    let options = None::<bollard::query_parameters::RemoveVolumeOptions>;
    let volume = containers.docker.remove_volume(&format!("{network}-data"), options).await;
    volume.expect("the volume goes");
}

#[tokio::test]
async fn a_stopped_container_is_reported_and_an_unlabelled_one_is_nobodys() {
    let Some(containers) = containers("stopped").await else { return };
    let id = containers.provision(&spec(""), &Call::default()).await.expect("a container");
    containers.docker.kill_container(id.as_str(), None).await.expect("it stops");
    let found = containers.describe(&Tags::new(), true).await.expect("a listing");
    assert_eq!(found.len(), 1);
    assert!(found[0].properties.as_ref().expect("properties").as_json().contains("\"exited\""));
    let body = bollard::models::ContainerCreateBody { image: Some(IMAGE.into()), ..Default::default() };
    let stranger =
        engine::create(&containers.docker, None, body).await.expect("a container of somebody else");
    containers.destroy(&short(&stranger), "terminate", &Call::default()).await.expect("nothing to do");
    containers.docker.inspect_container(&stranger, None).await.expect("a stranger is never removed");
    containers.remove(&stranger).await.expect("we made it, we remove it");
    clear(&containers).await;
}

#[tokio::test]
async fn what_an_attempt_left_half_made_is_made_again_under_the_same_token() {
    let Some(containers) = containers("half").await else { return };
    let tags = Tags::from([(tags::INTENT.to_owned(), format!("half-{}", std::process::id()))]);
    let whole = InstanceSpec { init: "echo ran > /ran".into(), tags: tags.clone(), ..spec("") };
    // A plugin that died between create and start leaves this.
    let mut body = properties::read(&whole.properties).expect("properties").config;
    body.labels = Some(tags.into_iter().chain(containers.namespace.clone()).collect());
    let half = engine::create(&containers.docker, None, body).await.expect("a half-made container");
    let id = containers.provision(&whole, &Call::default()).await.expect("a container");
    assert_ne!(id, short(&half));
    assert_eq!(output(&containers, &id, &["cat", "/ran"]).await, b"ran\n");
    assert_eq!(containers.provision(&whole, &Call::default()).await.expect("the same"), id);
    assert_eq!(containers.all().await.expect("a listing").len(), 1);
    clear(&containers).await;
}

#[tokio::test]
async fn events_tell_of_containers_that_come_and_go() {
    let Some(containers) = containers("events").await else { return };
    let dir = tempfile::tempdir().expect("a temporary directory");
    let config = Config { host: None, namespace: containers.namespace.clone() };
    let _running =
        spi::serve(dir.path(), "docker", plugin(&config).await.expect("a plugin")).expect("served");
    let client = spi::Directory::new(dir.path()).find(&"docker".into()).expect("found").client();
    let mut events = std::pin::pin!(client.events("").await.expect("a stream"));
    // The subscription at the engine begins a moment after the plugin does, so it is tried again.
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    loop {
        let id = containers.provision(&spec(""), &Call::default()).await.expect("a container");
        containers.destroy(&id, "terminate", &Call::default()).await.expect("it goes");
        let lost = async { while events.next().await.is_some_and(|event| event.kind != "lost") {} };
        if tokio::time::timeout(Duration::from_secs(2), lost).await.is_ok() {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "no event told of a lost container");
    }
    clear(&containers).await;
}

#[test]
fn an_attachment_is_a_volume_or_a_path() {
    assert!(mount_of("v", "ebs").is_err());
}

#[tokio::test]
async fn a_stopped_container_is_started_again_and_no_other_is_made() {
    let Some(containers) = containers("start").await else { return };
    let id = containers.provision(&spec(""), &Call::default()).await.expect("a container");
    let runs = async || {
        let inspected = containers.docker.inspect_container(id.as_str(), None).await.expect("it is there");
        inspected.state.and_then(|state| state.running)
    };
    containers.docker.kill_container(id.as_str(), None).await.expect("it stops");
    assert_eq!(runs().await, Some(false));
    for _ in 0..2 {
        containers.start(&id).await.expect("it starts, or runs already");
        assert_eq!(runs().await, Some(true));
    }
    assert_eq!(containers.all().await.expect("a listing").len(), 1);
    let error = containers.start(&"0123456789ab".into()).await.expect_err("it is not there");
    assert_eq!(error.class, Class::NotFound);
    clear(&containers).await;
}
