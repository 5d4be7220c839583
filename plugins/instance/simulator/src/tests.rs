use super::*;

fn serve(config: &Config) -> (tempfile::TempDir, spi::Running, spi::Client) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let running =
        spi::serve(dir.path(), "simulator", plugin(config).expect("a simulator")).expect("it is served");
    let found = spi::Directory::new(dir.path()).with_deadline(Duration::from_millis(500));
    let client = found.find(&"simulator".into()).expect("it is found").client();
    (dir, running, client)
}

#[tokio::test]
async fn it_keeps_the_contract_in_memory_and_in_files() {
    let files = tempfile::tempdir().expect("a temporary directory");
    for store in [None, Some(files.path().to_owned())] {
        let (_dir, _running, client) = serve(&Config { store, ..Config::default() });
        let report = spi::conformance::instances(&client, "compute", &Opaque::from_json("{\"a\":1}")).await;
        assert!(report.passed(), "{report}");
        let states = report.checks.iter().find(|(check, _)| check.starts_with("State"));
        assert_eq!(states.expect("it is checked").1, spi::conformance::Outcome::Passed);
    }
}

#[tokio::test]
async fn files_outlive_the_process() {
    let files = tempfile::tempdir().expect("a temporary directory");
    let config = Config { store: Some(files.path().to_owned()), ..Config::default() };
    let spec = InstanceSpec {
        properties: Opaque::null(),
        tags: Tags::from([("a".into(), "b".into())]),
        init: "x\ny".into(),
        logical_id: Some("l".into()),
        attachments: vec![],
    };
    let made = {
        let (_dir, _running, client) = serve(&config);
        client.instances("disk").provision(&spec, &Call::default()).await.expect("an instance")
    };
    let (_dir, _running, client) = serve(&config);
    let found = client.instances("disk").describe(&spec.tags, true).await.expect("a listing");
    assert_eq!(found.len(), 1);
    assert_eq!((&found[0].id, &found[0].logical_id), (&made, &spec.logical_id));
    assert!(client.instances("net").describe(&Tags::new(), true).await.expect("a listing").is_empty());
}

#[tokio::test]
async fn one_file_that_cannot_be_read_hides_no_other_instance() {
    let files = tempfile::tempdir().expect("a temporary directory");
    let config = Config { store: Some(files.path().to_owned()), ..Config::default() };
    let spec = InstanceSpec {
        properties: Opaque::null(),
        tags: Tags::from([("a".into(), "b".into())]),
        init: String::new(),
        logical_id: None,
        attachments: vec![],
    };
    let made = {
        let (_dir, _running, client) = serve(&config);
        client.instances("disk").provision(&spec, &Call::default()).await.expect("an instance")
    };
    std::fs::write(files.path().join("disk/torn.json"), "{\"Prop").expect("a file");
    let (_dir, _running, client) = serve(&config);
    let disks = client.instances("disk");
    let all = disks.describe(&Tags::new(), true).await.expect("a listing");
    let torn = all.iter().find(|it| it.id.as_str() == "torn").expect("it is listed");
    assert!(
        torn.is_unreadable() && torn.state.as_ref().is_some_and(|it| it.message.contains("cannot be read"))
    );
    let ours = disks.describe(&spec.tags, true).await.expect("a listing");
    assert!(ours.len() == 1 && ours[0].id == made, "{ours:?}");
    disks.destroy(&"torn".into(), "terminate", &Call::default()).await.expect("it can be destroyed");
    assert_eq!(disks.describe(&Tags::new(), true).await.expect("a listing").len(), 1);
}

#[tokio::test]
async fn faults_happen_when_they_are_asked_for() {
    let lab = tempfile::tempdir().expect("a temporary directory");
    let (_dir, _running, client) = serve(&Config { lab: Some(lab.path().to_owned()), ..Config::default() });
    let faults = lab.path().join("faults");
    std::fs::create_dir(&faults).expect("a directory");
    let ask = |call: &str, fault: &str| std::fs::write(faults.join(call), fault).expect("a file");
    let instances = client.instances("compute");
    let token = Tags::from([(tags::INTENT.to_owned(), "t-1".to_owned())]);
    let spec = InstanceSpec {
        properties: Opaque::null(),
        tags: token,
        init: String::new(),
        logical_id: None,
        attachments: vec![],
    };
    let provision = async || instances.provision(&spec, &Call::default()).await;
    ask("provision", "refuse x 1");
    assert_eq!(provision().await.expect_err("refused").class, Class::Exhausted);
    ask("provision", "lose x 1");
    assert_eq!(provision().await.expect_err("lost").class, Class::Unsure);
    let made = provision().await.expect("the same token, the same instance");
    ask("describe", "empty x 1");
    assert!(instances.describe(&Tags::new(), false).await.expect("a listing").is_empty());
    ask("describe", "hang x 1");
    assert_eq!(instances.describe(&Tags::new(), false).await.expect_err("hung").class, Class::Unsure);
    let found = instances.describe(&Tags::new(), false).await.expect("a listing");
    assert_eq!(found.iter().map(|found| &found.id).collect::<Vec<_>>(), [&made]);
    let history = std::fs::read_to_string(lab.path().join("history.jsonl")).expect("a history");
    assert_eq!(history.matches("\"made\"").count(), 1, "{history}");
}

#[tokio::test]
async fn an_instance_runs_unless_a_test_says_otherwise_and_until_it_is_started() {
    use futures_util::StreamExt;
    use model::RunStatus;

    let lab = tempfile::tempdir().expect("a temporary directory");
    let (_dir, _running, client) = serve(&Config { lab: Some(lab.path().to_owned()), ..Config::default() });
    let instances = client.instances("compute");
    let provision = async |properties: &str| {
        let spec = InstanceSpec {
            properties: Opaque::from_json(properties),
            tags: Tags::new(),
            init: String::new(),
            logical_id: None,
            attachments: vec![],
        };
        instances.provision(&spec, &Call::default()).await
    };
    let state = async |id: &InstanceId| {
        let found = instances.describe(&Tags::new(), false).await.expect("a listing");
        let found = found.into_iter().find(|found| found.id == *id).expect("it is listed");
        let state = found.state.expect("it has a state");
        (state.status, state.exit_code)
    };
    let plain = provision("{}").await.expect("an instance");
    assert_eq!(state(&plain).await, (RunStatus::Running, None));
    let stopped = provision(r#"{"simulator_state":"stopped"}"#).await.expect("an instance");
    assert_eq!(state(&stopped).await, (RunStatus::Stopped, None));
    let labels = Tags::from([("a".to_owned(), "b".to_owned())]);
    instances.label(&stopped, &labels, &Call::default()).await.expect("it is labelled");
    assert_eq!(state(&stopped).await, (RunStatus::Stopped, None));
    assert_eq!(provision(r#"{"simulator_state":"gone"}"#).await.expect_err("no").class, Class::InvalidSpec);

    let mut events = std::pin::pin!(client.events("compute/changed").await.expect("a stream"));
    let states = lab.path().join("states");
    std::fs::create_dir(&states).expect("a directory");
    std::fs::write(states.join(plain.as_str()), "failed 137\n").expect("a file");
    assert_eq!(state(&plain).await, (RunStatus::Failed, Some(137)));
    let event = tokio::time::timeout(Duration::from_secs(10), events.next()).await.expect("an event");
    assert_eq!(event.expect("the stream is open").id, plain.as_str());
    for id in [&plain, &stopped] {
        instances.start(id).await.expect("it is started");
        assert_eq!(state(id).await, (RunStatus::Running, None));
    }
    assert_eq!(instances.start(&"nosuch".into()).await.expect_err("no").class, Class::NotFound);
}

#[test]
fn options_are_checked() {
    let set = |pairs: &[(&str, &str)]| {
        let options = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        configure("sim", &options)
    };
    assert_eq!(set(&[]).expect("fine").provision_delay, Duration::ZERO);
    assert_eq!(set(&[("provision-delay", "10ms")]).expect("fine").provision_delay, Duration::from_millis(10));
    assert_eq!(set(&[("dir", "/x")]).expect("fine").store, Some("/x/sim".into()));
    for bad in [("store", "disk"), ("store", "file"), ("describe-delay", "soon")] {
        assert!(set(&[bad]).is_err(), "{bad:?}");
    }
}
