//! Some managers, their plugins, and a client.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use api::{Addresses, CertificateRequest, Client, Credentials, Fingerprint, JoinToken, proto as pb};
use model::Role;
use tempfile::TempDir;

use crate::disk::Disk;
use crate::history::History;
use crate::network::Network;
use crate::process::{Process, Surroundings, program, until};

/// How a cluster is set up.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// More arguments for the simulator.
    pub simulator: Vec<String>,
    /// More arguments for every manager.
    pub manager: Vec<String>,
    /// What is in the environment of every manager.
    pub environment: Vec<(String, String)>,
    /// Every manager has a [`Disk`] that misbehaves on request.
    pub disks: bool,
    /// Every manager has a host of its own on a [`Network`]. Needs root.
    pub network: bool,
    /// The first one is told where the others are, though it founds the cluster.
    pub founder_knows_peers: bool,
    /// The wall clock of every manager, as libfaketime has it: `+3y`. It can be set while they run.
    pub clock: Option<String>,
}

/// A cluster on this machine, in a directory of its own.
pub struct Cluster {
    dir: TempDir,
    ports: Vec<u16>,
    options: Options,
    managers: Vec<Option<Process>>,
    network: Option<Network>,
    /// What the wall clock of each manager is from its next start on, as libfaketime has it.
    clocks: Vec<Option<String>>,
    plugins: Option<Process>,
    files: Option<Process>,
    /// The simulator writes down what it is asked.
    recorded: bool,
}

fn request_id() -> Vec<u8> {
    api::request_id_bytes(model::RequestId(rand::random()))
}

fn fresh() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

/// Ports of this machine that nobody listens on; no two alike.
pub fn free_ports(n: usize) -> Vec<u16> {
    // Below those that the kernel gives to connections: one of them would take a port before its manager does.
    const RANGE: std::ops::Range<u16> = 12_000..32_000;
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut given = GIVEN.lock().expect("nobody panics while holding the ports");
    let mut ports = Vec::new();
    while ports.len() < n {
        let port = rand::random_range(RANGE);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() && given.insert(port) {
            ports.push(port);
        }
    }
    ports
}

/// A group of `size` in the simulator, as a person would write it.
pub fn group(name: &str, size: u32, image: &str) -> String {
    format!(
        "kind: group\nmetadata: {{name: {name}}}\nproperties:\n  Allocation: {{Size: {size}}}\n  \
         Instance: {{Plugin: simulator/compute, Properties: {{image: {image}}}}}\n  \
         Flavor: {{Plugin: vanilla, Properties: {{Init: [echo hi]}}}}\n"
    )
}

/// What a file declares, as it is committed.
fn items_of(text: &str) -> Vec<pb::CommitItem> {
    let draft =
        model::draft::read("test.yaml", text.as_bytes(), model::draft::Yaml::Unsaid).expect("a valid file");
    let item = |spec: &model::GroupSpec| pb::CommitItem {
        spec: Some(api::spec(spec, model::Revision(0))),
        if_revision: None,
    };
    draft.specs.iter().map(item).collect()
}

impl Cluster {
    /// Starts `n` managers and their plugins, and waits until all of them vote.
    pub async fn of(n: usize) -> Self {
        Self::with(n, Options::default()).await
    }

    pub async fn with(n: usize, options: Options) -> Self {
        Self::start_all(fresh(), n, options, true).await
    }

    /// One manager and its plugins where others were before: `m1` holds its data, and `lab` the history.
    pub async fn on(dir: TempDir, options: Options) -> Self {
        Self::start_all(dir, 1, options, true).await
    }

    /// As [`Cluster::of`], with a simulator that writes nothing down: for measurements.
    pub async fn without_history(n: usize) -> Self {
        Self::start_all(fresh(), n, Options::default(), false).await
    }

    async fn start_all(dir: TempDir, n: usize, options: Options, recorded: bool) -> Self {
        let ports = free_ports(n);
        std::fs::create_dir_all(dir.path().join("lab/faults")).expect("a directory");
        let managers = (0..n).map(|_| None).collect();
        let network = options.network.then(|| Network::of(n).expect("root may set up a network"));
        let (plugins, files, clocks) = (None, None, vec![None; n]);
        let mut cluster =
            Cluster { dir, ports, options, managers, network, clocks, plugins, files, recorded };
        cluster.start_plugins();
        for i in 0..n {
            cluster.start(i);
        }
        cluster.until_voters(n).await;
        cluster
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn plugins_dir(&self) -> PathBuf {
        self.path().join("plugins")
    }

    pub fn address(&self, i: usize) -> String {
        match &self.network {
            Some(network) => format!("{}:{}", network.address(i), self.ports[i]),
            None => format!("127.0.0.1:{}", self.ports[i]),
        }
    }

    pub fn addresses(&self) -> String {
        (0..self.ports.len()).map(|i| self.address(i)).collect::<Vec<_>>().join(",")
    }

    /// Starts the simulator and vanilla in one process, or starts them again.
    pub fn start_plugins(&mut self) {
        let (plugins, lab) = (self.plugins_dir(), self.path().join("lab"));
        let (plugins, lab) = (plugins.display().to_string(), format!("lab={}", lab.display()));
        let mut args = vec!["plugin", "start", "simulator", "vanilla", "--plugins-dir", &plugins];
        if self.recorded {
            args.extend(["--set", &lab]);
        }
        args.extend(self.options.simulator.iter().map(String::as_str));
        self.plugins = Some(Process::start(&args, &self.path().join("plugins.log")));
    }

    /// Starts the file plugin; gives the directory of its files.
    pub fn start_files(&mut self) -> PathBuf {
        let (plugins, files) = (self.plugins_dir().display().to_string(), self.path().join("files"));
        let dir = format!("dir={}", files.display());
        let args = ["plugin", "start", "file", "--plugins-dir", &plugins, "--set", &dir];
        self.files = Some(Process::start(&args, &self.path().join("files.log")));
        files
    }

    pub fn kill_plugins(&mut self) {
        self.plugins = None;
    }

    /// Starts a manager with the command it was first started with.
    pub fn start(&mut self, i: usize) {
        let others: Vec<String> =
            (0..self.ports.len()).filter(|other| *other != i).map(|other| self.address(other)).collect();
        let others = others.join(",");
        let how: &[&str] = match (i, self.options.founder_knows_peers) {
            (0, true) => &["--bootstrap", "--peers", &others],
            (0, false) => &["--bootstrap"],
            _ => &["--join", &others],
        };
        self.start_so(i, how);
    }

    /// The first one too joins the others.
    pub fn start_joining(&mut self, i: usize, addresses: &str) {
        self.start_so(i, &["--join", addresses]);
    }

    fn start_so(&mut self, i: usize, how: &[&str]) {
        let (data, listen) = (self.data(i), self.address(i));
        let log = self.path().join(format!("m{}.log", i + 1));
        self.managers[i] = Some(self.process(i, &self.surroundings(i), &data, &listen, how, &log));
    }

    /// Starts the program of a manager on a copy of its data directory, which lies in `copy`, on the host of another one.
    /// It is no manager of this cluster: whoever has it ends it.
    pub fn start_copy(&self, i: usize, copy: &Path, host: usize) -> Process {
        let before = self.network.as_ref().map(|network| network.enter(host)).unwrap_or_default();
        let surroundings = Surroundings { before, environment: self.options.environment.clone() };
        let (address, port) = (self.address(host), free_ports(1)[0]);
        let host = address.rsplit_once(':').expect("an address has a port").0;
        let how = ["--join", &self.addresses()];
        let log = copy.with_extension("log");
        self.process(i, &surroundings, copy, &format!("{host}:{port}"), &how, &log)
    }

    /// The program of one manager, there and with these arguments beside the usual ones.
    fn process(
        &self,
        i: usize,
        surroundings: &Surroundings,
        data: &Path,
        listen: &str,
        how: &[&str],
        log: &Path,
    ) -> Process {
        let name = format!("m{}", i + 1);
        let [data, plugins] = [data, &self.plugins_dir()].map(|it| it.display().to_string());
        let known = ["--name", &name, "--data-dir", &data, "--listen", listen, "--plugins-dir", &plugins];
        let mut args = [&["manager", "start"][..], &known].concat();
        args.extend(self.options.manager.iter().map(String::as_str));
        args.extend(how);
        Process::start_in(surroundings, &args, log)
    }

    /// Starts one more manager, which joins the others. Gives its place.
    pub fn add(&mut self) -> usize {
        self.ports.extend(free_ports(1));
        self.managers.push(None);
        self.clocks.push(None);
        let i = self.managers.len() - 1;
        self.start(i);
        i
    }

    /// More arguments for every manager from its next start on, in place of those before.
    pub fn set_manager_arguments(&mut self, arguments: &[&str]) {
        self.options.manager = arguments.iter().map(|it| (*it).to_owned()).collect();
    }

    fn surroundings(&self, i: usize) -> Surroundings {
        let before = self.network.as_ref().map(|network| network.enter(i)).unwrap_or_default();
        let mut environment = self.options.environment.clone();
        let mut preload = Vec::new();
        if self.options.disks {
            let disk = self.disk(i);
            preload.push(disk.library().display().to_string());
            let own = disk.environment().map(|(name, path)| (name.to_owned(), path.display().to_string()));
            environment.extend(own);
        }
        if let Some(clock) = &self.options.clock {
            let file = self.clock_file(i);
            if !file.exists() {
                std::fs::write(&file, clock).expect("a file");
            }
            preload.push(Self::clock_library().expect("libfaketime is installed").to_owned());
            environment.push(("FAKETIME_TIMESTAMP_FILE".into(), file.display().to_string()));
            environment.push(("FAKETIME_CACHE_DURATION".into(), "1".into()));
            environment.push(("FAKETIME_DONT_FAKE_MONOTONIC".into(), "1".into()));
        } else if let (Some(clock), Some(library)) = (&self.clocks[i], Self::clock_library()) {
            preload.push(library.to_owned());
            environment.push(("FAKETIME".into(), clock.clone()));
            environment.push(("FAKETIME_DONT_FAKE_MONOTONIC".into(), "1".into()));
        }
        if !preload.is_empty() {
            environment.push(("LD_PRELOAD".into(), preload.join(" ")));
        }
        Surroundings { before, environment }
    }

    fn clock_file(&self, i: usize) -> PathBuf {
        self.path().join(format!("clock-m{}", i + 1))
    }

    /// Sets the wall clock of a manager of a cluster that was made with [`Options::clock`], while it runs.
    pub fn set_running_clock(&self, i: usize, clock: &str) {
        std::fs::write(self.clock_file(i), clock).expect("a file");
    }

    /// The library that makes a process see another time, when it is installed.
    pub fn clock_library() -> Option<&'static str> {
        let known = [
            "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
            "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
        ];
        known.into_iter().find(|path| Path::new(path).exists())
    }

    /// From its next start on, a manager's wall clock is so: `+1h` ahead, `-1h` behind, `+0 x1.1` fast.
    pub fn set_clock(&mut self, i: usize, clock: Option<&str>) {
        assert!(clock.is_none() || Self::clock_library().is_some(), "libfaketime is not installed");
        self.clocks[i] = clock.map(str::to_owned);
    }

    pub fn network(&self) -> &Network {
        self.network.as_ref().expect("it was asked for")
    }

    pub fn is_running(&self, i: usize) -> bool {
        self.managers[i].is_some()
    }

    /// SIGKILL.
    pub fn kill(&mut self, i: usize) {
        self.managers[i] = None;
    }

    /// The disk of a manager, when they have such.
    pub fn disk(&self, i: usize) -> Disk {
        Disk::new(self.path(), &format!("m{}", i + 1))
    }

    /// Where a manager's database is.
    pub fn database(&self, i: usize) -> PathBuf {
        self.data(i).join("db")
    }

    pub fn manager_mut(&mut self, i: usize) -> &mut Process {
        self.managers[i].as_mut().expect("it was started")
    }

    pub fn manager(&self, i: usize) -> &Process {
        self.managers[i].as_ref().expect("it was started")
    }

    /// Runs the program as a person would, with this input.
    pub fn run(&self, args: &[&str], input: &[u8]) -> Output {
        let mut child = Command::new(program())
            .args(args)
            .env("INFRAKIT_HOST", self.addresses())
            .env("INFRAKIT_PLUGINS_DIR", self.plugins_dir())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        // It may refuse before it has read everything.
        let _ = child.stdin.take().expect("a pipe").write_all(input);
        child.wait_with_output().expect("it ends")
    }

    /// From its next start on, a manager listens elsewhere.
    pub fn move_elsewhere(&mut self, i: usize) {
        self.ports[i] = free_ports(1)[0];
    }

    /// A manager's data directory.
    pub fn data(&self, i: usize) -> PathBuf {
        self.path().join(format!("m{}", i + 1))
    }

    /// A client of all managers.
    pub fn client(&self) -> Client {
        Self::client_of(&self.addresses())
    }

    pub fn client_of(addresses: &str) -> Client {
        Client::new(&Addresses::parse(addresses).expect("addresses"), None).expect("a client")
    }

    pub async fn status(&self) -> Option<pb::ClusterStatus> {
        self.client().call(async |c| c.cluster().status(pb::StatusRequest::default()).await).await.ok()
    }

    /// Which manager leads: its place, by its address.
    pub async fn leader(&self) -> usize {
        until("somebody leads", async || {
            let status = self.status().await?;
            let leader = status.nodes.iter().find(|node| node.id == status.leader)?;
            (0..self.ports.len()).find(|i| self.address(*i) == leader.address)
        })
        .await
    }

    pub async fn until_voters(&self, n: usize) {
        until(&format!("{n} managers vote and are reachable"), async || {
            let status = self.status().await?;
            let well = |node: &&pb::Node| node.role != "Learner" && node.status == "Reachable";
            (status.nodes.iter().filter(well).count() == n).then_some(())
        })
        .await;
    }

    /// Waits until a manager that was stopped answers again, and all vote: for a moment the others may not have missed it.
    pub async fn until_back(&self, i: usize) {
        let client = Self::client_of(&self.address(i));
        until("it answers itself", async || {
            let status =
                client.call(async |c| c.cluster().status(pb::StatusRequest::default()).await).await.ok()?;
            (status.outage.is_none() && status.leader > 0).then_some(())
        })
        .await;
        self.until_voters(self.ports.len()).await;
    }

    /// Commits a file as the command line would.
    pub async fn commit(&self, text: &str) -> Result<pb::CommitReply, api::Error> {
        self.commit_with(text, false).await
    }

    pub async fn commit_with(
        &self,
        text: &str,
        allow_missing_plugins: bool,
    ) -> Result<pb::CommitReply, api::Error> {
        Self::commit_by(&self.client(), text, allow_missing_plugins).await
    }

    pub async fn commit_by(
        client: &Client,
        text: &str,
        allow_missing_plugins: bool,
    ) -> Result<pb::CommitReply, api::Error> {
        let request =
            pb::CommitRequest { items: items_of(text), allow_missing_plugins, ..Default::default() };
        client.call(async |c| c.groups().commit(request.clone()).await).await
    }

    /// Commits several files in one request.
    pub async fn commit_all_by(client: &Client, texts: &[String]) -> Result<pb::CommitReply, api::Error> {
        let items = texts.iter().flat_map(|text| items_of(text)).collect();
        let request = pb::CommitRequest { items, ..Default::default() };
        client.call(async |c| c.groups().commit(request.clone()).await).await
    }

    pub async fn describe(&self, name: &str) -> Option<pb::Group> {
        let request = pb::GroupRequest { group: name.to_owned(), ..pb::GroupRequest::default() };
        self.client().call(async |c| c.groups().describe(request.clone()).await).await.ok()
    }

    /// Makes a token of a role, as `infrakit token create` does.
    pub async fn token(
        &self,
        role: Role,
        once: bool,
        lasts: Option<Duration>,
    ) -> Result<JoinToken, api::Error> {
        let mut token = JoinToken::draw(Fingerprint::of(&Vec::new().into()));
        let request = pb::CreateTokenRequest {
            request_id: request_id(),
            id: token.id().as_str().to_owned(),
            role: role.to_string(),
            lasts_ms: lasts.map(|span| span.as_millis() as u64),
            once,
            ..pb::CreateTokenRequest::default()
        };
        let reply = self.client().call(async |c| c.access().create_token(request.clone()).await).await?;
        token.authority = Fingerprint::of(&reply.authority.into());
        Ok(token)
    }

    /// Logs somebody in by a token, as `infrakit login` does.
    pub async fn log_in_by(&self, token: &JoinToken, name: &str) -> Result<Credentials, api::Error> {
        let request = CertificateRequest::new().expect("a key");
        let asked = pb::LoginRequest {
            secret: token.secret.expose().to_vec(),
            name: name.to_owned(),
            csr: request.der().to_vec(),
        };
        let reply = self.client().call(async |c| c.access().login(asked.clone()).await).await?;
        Ok(request.granted(reply.certificate, reply.trusted))
    }

    /// Somebody with a role, known by a certificate.
    pub async fn log_in(&self, role: Role, name: &str) -> Credentials {
        let token = self.token(role, false, None).await.expect("an admin asks");
        self.log_in_by(&token, name).await.expect("the token is good")
    }

    /// Stores a variable.
    pub async fn set(&self, key: &str, value: &str) -> Result<(), api::Error> {
        let request = pb::SetVariableRequest { key: key.into(), value: value.into(), ..Default::default() };
        self.client().call(async |c| c.variables().set(request.clone()).await).await.map(drop)
    }

    /// Asks that managers be so from now on.
    pub async fn set_member_role(
        &self,
        managers: &[&str],
        role: pb::MemberRole,
        force: bool,
    ) -> Result<bool, api::Error> {
        let request = pb::SetMemberRoleRequest {
            request_id: request_id(),
            managers: managers.iter().map(|it| (*it).to_owned()).collect(),
            role: role.into(),
            force,
        };
        self.client().call(async |c| c.nodes().set_role(request.clone()).await).await.map(|reply| reply.done)
    }

    /// The names of the managers in a role: `Voter`, with the leader among them, or `Learner`.
    pub async fn names(&self, role: &str) -> Vec<String> {
        let Some(status) = self.status().await else { return Vec::new() };
        let fits = |node: &&pb::Node| node.role == role || role == "Voter" && node.role == "Leader";
        let mut names: Vec<String> = status.nodes.iter().filter(fits).map(|node| node.name.clone()).collect();
        names.sort();
        names
    }

    /// Waits until a group is as declared, with `size` members.
    pub async fn settles(&self, name: &str, size: u64) -> pb::Group {
        until(&format!("{name} has {size} members and rests"), async || {
            let group = self.describe(name).await?;
            (group.converged && group.ready == size && group.observed_at_ms.is_some()).then_some(group)
        })
        .await
    }

    /// The simulator's instances, asked past the managers.
    pub fn simulator(&self) -> impl spi::Instances + use<> {
        let directory = spi::Directory::new(self.plugins_dir());
        directory.find(&"simulator".into()).expect("the simulator").client().instances("compute")
    }

    /// Asks the simulator to fail: a call, and what goes wrong with it.
    pub fn fault(&self, call: &str, what: &str) {
        std::fs::write(self.path().join("lab/faults").join(call), what).expect("a file");
    }

    pub fn history(&self) -> History {
        History::read(&self.path().join("lab"))
    }
}
