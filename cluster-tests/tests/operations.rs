//! What an operator sees and sets: figures, health, the service manager, the configuration file, the doctor.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use cluster_tests::{Cluster, Process, Surroundings, free_ports, group, until};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::trace::v1::Span;
use rustix::process::Signal;

/// Asks as a scraper would: the status, and the text.
fn get(port: u16, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split_whitespace().nth(1)?.parse().ok()?;
    Some((status, body.to_owned()))
}

/// The names of metrics in a text, without what stands for parts of one.
fn names(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices("infrakit_") {
        let rest = &text[at..];
        let end = rest.find(|c: char| !(c.is_ascii_lowercase() || c == '_')).unwrap_or(rest.len());
        let name = &rest[..end];
        let name = ["_total", "_bucket"].iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name);
        found.insert(name.to_owned());
    }
    found
}

fn alerts_and_dashboard_ask_for_what_is_told(metrics: &str) {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/monitoring");
    for file in ["alerts.yaml", "dashboard.json"] {
        let text = std::fs::read_to_string(deploy.join(file)).expect("it is there");
        let asked = names(&text);
        assert!(asked.len() > 10, "{file} asks for something: {asked:?}");
        for name in asked {
            assert!(
                metrics.contains(&format!("# TYPE {name} ")),
                "{file} asks for {name}, which is not told"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_tells_how_it_is_and_the_alerts_ask_for_what_it_tells() {
    let mut cluster = Cluster::of(3).await;
    cluster.commit(&group("web", 3, "v1")).await.expect("it is accepted");
    let ports = free_ports(3);
    for (i, port) in ports.iter().enumerate() {
        let (monitor, backups) = (format!("127.0.0.1:{port}"), cluster.path().join(format!("backups-{i}")));
        let backups = backups.display().to_string();
        cluster.set_manager_arguments(&["--monitor", &monitor, "--backup-dir", &backups]);
        cluster.kill(i);
        cluster.start(i);
        cluster.until_voters(3).await;
    }
    cluster.commit(&group("web", 5, "v1")).await.expect("it is accepted");
    cluster.settles("web", 5).await;
    for port in &ports {
        until("it serves", async || get(*port, "/readyz").filter(|(status, _)| *status == 200)).await;
        assert_eq!(get(*port, "/healthz").expect("it answers").0, 200);
        assert_eq!(get(*port, "/nosuch").expect("it answers").0, 404);
    }
    let leader = cluster.leader().await;
    let metrics = until("it has taken a backup", async || {
        get(ports[leader], "/metrics")
            .map(|it| it.1)
            .filter(|text| text.contains("infrakit_backup_age_seconds"))
    })
    .await;
    for line in [
        "infrakit_raft_is_leader 1",
        "infrakit_raft_voters 3",
        "infrakit_raft_voters_reached 3",
        "infrakit_group_desired{group=\"web\"} 5",
        "infrakit_group_instances{group=\"web\",state=\"Ready\"} 5",
        "infrakit_group_converged{group=\"web\"} 1",
        "infrakit_plugin_up{plugin=\"simulator/compute\"} 1",
        "infrakit_provider_calls_total{plugin=\"simulator/compute\",method=\"Provision\",result=\"done\"}",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    alerts_and_dashboard_ask_for_what_is_told(&metrics);
    let follower = (leader + 1) % 3;
    let followers = get(ports[follower], "/metrics").expect("it answers").1;
    assert!(followers.contains("infrakit_raft_is_leader 0") && !followers.contains("infrakit_group_desired"));

    // Without a majority it lives, and does not serve.
    cluster.kill(leader);
    cluster.kill(follower);
    let left = (leader + 2) % 3;
    let why =
        until("it says so", async || get(ports[left], "/readyz").filter(|(status, _)| *status == 503)).await;
    assert!(why.1.contains("leader"), "{}", why.1);
    assert_eq!(get(ports[left], "/healthz").expect("it answers").0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_manager_hears_what_a_manager_does_and_a_file_says_what_it_is_to_do() {
    let dir = tempfile::tempdir().expect("a directory");
    let port = free_ports(1)[0];
    let path = |name: &str| dir.path().join(name).display().to_string();
    let file = format!(
        "name: filed\ndata-dir: {}\nlisten: 127.0.0.1:{port}\nplugins-dir: {}\nbootstrap: true\nlog-format: json\n",
        path("data"),
        path("plugins")
    );
    std::fs::write(dir.path().join("infrakit.yaml"), file).expect("a file");
    let socket = UnixDatagram::bind(dir.path().join("notify")).expect("a socket");
    socket.set_read_timeout(Some(Duration::from_millis(100))).expect("it is ours");
    let environment = [("NOTIFY_SOCKET", path("notify")), ("WATCHDOG_USEC", "2000000".to_owned())];
    let surroundings = Surroundings {
        environment: environment.map(|(name, value)| (name.to_owned(), value)).to_vec(),
        ..Surroundings::default()
    };
    let config = path("infrakit.yaml");
    let mut manager =
        Process::start_in(&surroundings, &["manager", "start", "--config", &config], &dir.path().join("log"));
    let mut heard = String::new();
    let mut listen = || {
        let mut bytes = [0; 4096];
        while let Ok(length) = socket.recv(&mut bytes) {
            heard.push_str(&String::from_utf8_lossy(&bytes[..length]));
            heard.push('\n');
        }
        heard.clone()
    };
    let told = until("it is ready", async || Some(listen()).filter(|it| it.contains("READY=1"))).await;
    assert!(told.contains("STATUS=leader in term") && told.contains("WATCHDOG=1"), "{told}");
    assert!(told.contains("EXTEND_TIMEOUT_USEC"), "it began before it served: {told}");
    manager.signal(Signal::TERM);
    until("it has stopped", async || manager.ended()).await;
    assert!(listen().contains("STOPPING=1"));
    let log = manager.log();
    let line = log.lines().find(|line| line.contains("manager `filed`")).expect("it says who it is");
    assert!(serde_json::from_str::<serde_json::Value>(line).is_ok(), "as the file has it: {line}");
}

type Spans = std::sync::Arc<std::sync::Mutex<Vec<Span>>>;

/// Takes spans as a collector does.
struct Collector(Spans);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        let spans = request.into_inner().resource_spans.into_iter();
        let spans = spans.flat_map(|it| it.scope_spans).flat_map(|it| it.spans);
        self.0.lock().expect("nobody panics here").extend(spans);
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_one_trace_from_the_commit_to_the_calls_of_plugins() {
    let (spans, port) = (Spans::default(), free_ports(1)[0]);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    let server = tonic::transport::Server::builder()
        .add_service(TraceServiceServer::new(Collector(spans.clone())))
        .serve_with_incoming(tokio_stream::wrappers::TcpListenerStream::new(listener));
    tokio::spawn(server);
    let options = cluster_tests::Options {
        environment: vec![
            ("OTEL_EXPORTER_OTLP_ENDPOINT".into(), endpoint),
            ("OTEL_BSP_SCHEDULE_DELAY".into(), "100".into()),
        ],
        manager: vec!["--monitor".into(), format!("127.0.0.1:{port}")],
        ..Default::default()
    };
    let cluster = Cluster::with(1, options).await;
    let planted = "planted-for-the-trace";
    let set = cluster.run(&["secret", "set", "db"], planted.as_bytes());
    assert!(set.status.success(), "{set:?}");
    // The plugin says no once, in the words that it was told.
    cluster.fault("provision", "refuse x 1");
    cluster.commit(&group("web", 2, "secret://db")).await.expect("it is accepted");
    cluster.settles("web", 2).await;
    let all = until("everything is told", async || {
        let all = spans.lock().expect("nobody panics here").clone();
        let told = |name: &str| all.iter().filter(|it| it.name == name).count();
        (told("commit") == 1 && told("provision") > 2 && told("Instance.Provision") > 2).then_some(all)
    })
    .await;
    let root = all.iter().find(|it| it.name == "commit").expect("the commit is told");
    assert!(root.parent_span_id.is_empty() && all.iter().all(|it| it.trace_id == root.trace_id), "{all:?}");
    let attempts: Vec<_> = all.iter().filter(|it| it.name == "provision").collect();
    assert!(attempts.iter().all(|it| it.parent_span_id == root.span_id), "{all:?}");
    for call in all.iter().filter(|it| it.name == "Instance.Provision" || it.name == "Flavor.Prepare") {
        assert!(attempts.iter().any(|it| it.span_id == call.parent_span_id), "{call:?}");
    }
    let metrics = get(port, "/metrics").expect("it answers").1;
    assert!(metrics.contains("infrakit_provision_seconds"), "{metrics}");
    let told = format!("{all:?}{metrics}{}", cluster.manager(0).log());
    assert!(!told.contains(planted), "no secret is told");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_names_what_is_wrong_and_what_to_do() {
    let mut cluster = Cluster::of(3).await;
    cluster.commit(&group("web", 2, "v1")).await.expect("it is accepted");
    cluster.settles("web", 2).await;
    let doctor = |cluster: &Cluster| {
        let output = cluster.run(&["doctor"], b"");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (code, said) = doctor(&cluster);
    assert!(code == Some(0) && said.contains("3 of 3 voters") && !said.contains("FAIL"), "{said}");
    let dead = (cluster.leader().await + 1) % 3;
    cluster.kill(dead);
    let said = until("it is missed", async || Some(doctor(&cluster)).filter(|it| it.0 == Some(1))).await.1;
    assert!(said.contains(&format!("FAIL  manager `m{}`", dead + 1)), "{said}");
    assert!(said.contains("infrakit node rm") && said.contains("no further voter"), "{said}");
    cluster.kill_plugins();
    let said = doctor(&cluster).1;
    assert!(said.contains("FAIL  plugin `simulator` does not answer"), "{said}");
    (0..3).for_each(|i| cluster.kill(i));
    let (code, said) = doctor(&cluster);
    assert!(code == Some(1) && said.contains("FAIL  the managers do not answer"), "{said}");
}
