//! The program as a person meets it: what it says, and how it exits.

use std::io::{Read, Write};
use std::process::{Command, Output, Stdio};

use cluster_tests::{Cluster, group};

struct Shell {
    cluster: Cluster,
}

impl Shell {
    fn run(&self, args: &[&str]) -> Output {
        self.feed(args, b"")
    }

    fn feed(&self, args: &[&str], input: &[u8]) -> Output {
        self.cluster.run(args, input)
    }

    fn groups(&self) -> String {
        text(&self.run(&["group", "ls", "-o", "json"]).stdout)
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What a program has shown when one of these is in it.
fn shown_until(screen: &mut impl Read, any: &[&str]) -> String {
    let mut shown = String::new();
    while !any.iter().any(|it| shown.contains(it)) {
        let mut piece = [0; 256];
        let n = screen.read(&mut piece).expect("it can be read");
        assert!(n > 0, "it ends without {any:?}: {shown}");
        shown.push_str(&String::from_utf8_lossy(&piece[..n]));
    }
    shown
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_gets_one_clear_error_its_exit_code_and_changes_nothing() {
    let shell = Shell { cluster: Cluster::of(1).await };
    let before = shell.groups();
    let web = group("web", 1, "v1");
    let large = vec![b'x'; 10 << 20];
    for (input, code, said) in [
        (web.replace("Size", "Sze").into_bytes(), 65, "did you mean `Size`?"),
        (web.replace("Size: 1", "Size: one").into_bytes(), 65, "<stdin>:4:22: properties.Allocation.Size"),
        (web.replace("Size: 1", "Size: 1, LogicalIDs: [a]").into_bytes(), 65, "both Size and LogicalIDs"),
        (web.replace("Size: 1", "").into_bytes(), 65, "neither Size nor LogicalIDs"),
        (web.replace("Size: 1", "Size: 014").into_bytes(), 65, "`014` is 12 in YAML 1.1 and 14 in YAML 1.2"),
        (web.replace("Size: 1", "LogicalIDs: [a, a]").into_bytes(), 65, "`a` is repeated"),
        (
            web.replace("vanilla", "nosuch").into_bytes(),
            4,
            "error[E1203]: <stdin>:6:11: properties.Flavor: plugin `nosuch` does not answer",
        ),
        (
            web.replace("Init: [echo hi]", "Init: 7").into_bytes(),
            65,
            "error[E1204]: <stdin>:6:11: properties.Flavor: plugin `vanilla` rejects it",
        ),
        (
            [
                &web,
                "---\n",
                &group("db", 1, "v1").replace("simulator/compute", "other").replace("vanilla", "odd"),
            ]
            .concat()
            .into_bytes(),
            4,
            "2 problems\n<stdin>:12:13: properties.Instance: plugin `other` does not answer",
        ),
        (large, 65, "at most 4194304 are accepted"),
        (vec![0xff, 0xfe, 0x00, 0x01], 65, "not valid UTF-8"),
        (b"".to_vec(), 65, "the file has no group"),
    ] {
        let output = shell.feed(&["group", "commit", "-"], &input);
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{said}: {told}");
        assert!(told.contains(said), "{said}: {told}");
        assert_eq!(told.matches("error").count(), 1, "one error, told once: {told}");
        assert!(told.contains("remedy: "), "{told}");
        assert!(output.stdout.is_empty(), "data only on the standard output");
        assert_eq!(shell.groups(), before, "nothing is stored");
    }
    let began = std::time::Instant::now();
    let output = shell.feed(&["group", "commit", "-", "--wait"], web.as_bytes());
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(began.elapsed().as_secs() < 10, "a valid commit goes through after all that");
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_codes_say_what_happened() {
    let shell = Shell { cluster: Cluster::of(1).await };
    let web = group("web", 2, "v1");
    for (args, input, code) in [
        (&["group", "plan", "-", "--detailed-exitcode"][..], web.as_bytes(), 2),
        (&["group", "commit", "-", "--pretend"], web.as_bytes(), 0),
        (&["group", "describe", "web"], b"", 4),
        (&["group", "commit", "-", "--if-revision", "3"], web.as_bytes(), 5),
        (&["group", "plan", "-", "--if-revision", "3"], web.as_bytes(), 5),
        (&["group", "commit", "-", "--wait"], web.as_bytes(), 0),
        (&["group", "commit", "-"], web.as_bytes(), 0),
        (&["group", "plan", "-", "--detailed-exitcode"], web.as_bytes(), 0),
        (&["group", "destroy", "web"], b"", 6),
        (&["group", "scale", "web", "3", "--wait"], b"", 0),
        (&["instance", "describe", "simulator/compute", "nosuch"], b"", 4),
        (&["group", "nosuch"], b"", 64),
        (&["group", "--help"], b"", 0),
        (&["--version"], b"", 0),
        (&["status", "--host", "nonsense"], b"", 64),
        (
            &["manager", "start", "--name", "x", "--data-dir", "/nonexistent", "--plugin-timeout", "16s"],
            b"",
            64,
        ),
        (
            &["manager", "start", "--name", "x", "--data-dir", "/nonexistent", "--plugin-timeout", "0s"],
            b"",
            64,
        ),
        (&["manager", "start", "--name", "x", "--data-dir", "/nonexistent", "--adopt", "none"], b"", 64),
        (&["plugin", "test", "simulator/compute"], b"", 0),
        (&["plugin", "test", "vanilla"], b"", 0),
        (&["group", "free", "web", "--yes"], b"", 0),
        (&["group", "free", "web", "--yes"], b"", 4),
    ] {
        let output = shell.feed(args, input);
        assert_eq!(
            output.status.code(),
            Some(code),
            "{args:?}: {}{}",
            text(&output.stdout),
            text(&output.stderr)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_printed_for_programs_is_one_versioned_object() {
    let shell = Shell { cluster: Cluster::of(1).await };
    assert!(
        shell.feed(&["group", "commit", "-", "--wait"], group("web", 2, "v1").as_bytes()).status.success()
    );
    for (args, kind) in [
        (&["status"][..], "ClusterStatus"),
        (&["node", "ls"], "NodeList"),
        (&["group", "ls"], "GroupList"),
        (&["group", "describe", "web"], "Group"),
        (&["plugin", "ls"], "PluginList"),
        (&["instance", "ls"], "InstanceList"),
        (&["version"], "Version"),
    ] {
        let output = shell.run(&[args, &["-o", "json"]].concat());
        let value: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one object of JSON");
        assert_eq!((&value["apiVersion"], &value["kind"]), (&"infrakit/v1".into(), &kind.into()), "{args:?}");
        assert!(
            text(&shell.run(&[args, &["-o", "yaml"]].concat()).stdout).contains(&format!("kind: {kind}"))
        );
    }
    for line in text(&shell.run(&["events", "-o", "json"]).stdout).lines() {
        serde_json::from_str::<serde_json::Value>(line).expect("one object a line");
    }
    // What `inspect` prints can be committed as it stands, and changes nothing.
    let spec = shell.run(&["group", "inspect", "web"]).stdout;
    let again = shell.feed(&["group", "commit", "-"], &spec);
    assert_eq!(text(&again.stdout), "web: unchanged\n", "{}", text(&again.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_done_is_told_and_can_be_read_by_people_and_programs() {
    let shell = Shell { cluster: Cluster::of(1).await };
    let dir = shell.cluster.path().join("specs");
    std::fs::create_dir(&dir).expect("a directory");
    for name in ["b.yaml", "a.yml", "note.txt"] {
        let text = group(name.split('.').next().unwrap_or_default(), 1, "v1");
        std::fs::write(dir.join(name), text).expect("a file");
    }
    let path = dir.display().to_string();
    let committed = shell.run(&["group", "commit", "--wait", &path]);
    let told = text(&committed.stdout);
    assert!(told.starts_with("a: committed") && told.contains("\nb: committed"), "{told}");
    let names = |args: &[&str]| text(&shell.run(args).stdout);
    assert_eq!(names(&["-o", "name", "group", "ls"]), "a\nb\n");
    assert_eq!(names(&["group", "list", "-o", "name"]), "a\nb\n");
    assert!(
        names(&["-o", "wide", "group", "ls"]).lines().next().is_some_and(|it| it.ends_with("FLAVOR   BY"))
    );
    for (args, told) in [
        (&["secret", "set", "db"][..], "secret `db` is set"),
        (&["var", "set", "k", "v"], "k: set to `v`"),
        (&["group", "pause", "a"], "a: paused"),
        (&["group", "resume", "a"], "a: resumed"),
    ] {
        let done = shell.feed(args, b"value\r\n");
        let (said, errors) = (text(&done.stdout), text(&done.stderr));
        assert!(
            done.status.success() && said.starts_with(told) && said.lines().count() == 1,
            "{said}{errors}"
        );
        let done = shell.feed(&[&["-o", "json"], args].concat(), b"value");
        let value: serde_json::Value = serde_json::from_slice(&done.stdout).expect("one object");
        assert_eq!(value["kind"], "Done", "{args:?}");
    }
    let variables = names(&["var", "ls"]);
    let listed =
        |words: &[&str]| variables.lines().any(|line| line.split_whitespace().eq(words.iter().copied()));
    assert!(
        listed(&["k", "v"]) && listed(&["infrakit/dead-manager-after", "300s", "default"]),
        "{variables}"
    );
    let failed = shell.run(&["-o", "json", "group", "describe", "nosuch"]);
    let value: serde_json::Value = serde_json::from_slice(&failed.stderr).expect("one object");
    assert_eq!(
        (&value["kind"], &value["exitCode"], failed.status.code()),
        (&"Error".into(), &4.into(), Some(4))
    );
    let last = names(&["events", "--last", "1", "--since", "1h"]);
    assert!(last.lines().count() == 1 && last.contains("GroupResumed"), "{last}");
    let file = shell.cluster.path().join("cluster.backup").display().to_string();
    assert_eq!(shell.run(&["backup", &file]).status.code(), Some(0));
    let before = std::fs::read(&file).expect("a backup");
    let again = shell.run(&["backup", &file]);
    assert!(
        again.status.code() == Some(6) && text(&again.stderr).contains("--force"),
        "{}",
        text(&again.stderr)
    );
    assert_eq!(std::fs::read(&file).expect("a backup"), before, "it is as it was");
    assert_eq!(shell.run(&["backup", "--force", &file]).status.code(), Some(0));
}

/// On a terminal of its own: `script` makes one, and passes on what is typed. The shell in it survives Ctrl-C, and says how
/// the terminal was left.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_asked_for_confirmation_may_press_ctrl_c() {
    let shell = Shell { cluster: Cluster::of(1).await };
    assert!(shell.feed(&["secret", "set", "db"], b"v").status.success());
    let program = cluster_tests::program().display().to_string();
    for (verb, typed, code, left) in [
        ("rm db", "\u{3}", 130, "db"),
        ("rm db", "no\n", 6, "db"),
        ("rm db", "db\n", 0, ""),
        ("set new", "\u{3}", 130, ""),
        ("set new", "hidden\n", 0, "new"),
    ] {
        let command = format!(
            "trap : INT; {program} -H {} secret {verb}; code=$?; stty -a; exit $code",
            shell.cluster.addresses()
        );
        let mut child = Command::new("script")
            .args(["-qefc", &command, "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("`script` is a part of every Debian");
        let (mut keys, mut screen) =
            (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
        let mut shown = shown_until(&mut screen, &["to continue: ", "Value of secret `new`: "]);
        keys.write_all(typed.as_bytes()).expect("it reads");
        screen.read_to_string(&mut shown).expect("it ends");
        assert_eq!(child.wait().expect("it ends").code(), Some(code), "{typed:?}: {shown}");
        assert!(shown.contains(" echo ") && !shown.contains("hidden"), "the terminal is as it was: {shown}");
        assert_eq!(text(&shell.run(&["secret", "ls", "-o", "name"]).stdout).trim(), left, "{typed:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_set_is_removed_and_a_manager_describes_itself() {
    let shell = Shell { cluster: Cluster::of(3).await };
    for (args, code) in [
        (&["var", "set", "k", "v"][..], 0),
        (&["var", "rm", "k"], 0),
        (&["var", "get", "k"], 4),
        (&["var", "rm", "k"], 4),
        (&["var", "set", "infrakit/max-instances", "5"], 0),
        (&["var", "rm", "infrakit/max-instances"], 0),
        (&["node", "inspect", "nobody"], 4),
    ] {
        let output = shell.run(args);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", text(&output.stderr));
    }
    let listed = text(&shell.run(&["var", "ls"]).stdout);
    let ceiling = listed.lines().find(|line| line.starts_with("infrakit/max-instances")).expect("a setting");
    assert!(ceiling.split_whitespace().eq(["infrakit/max-instances", "none", "default"]), "{ceiling}");
    // Whoever is asked, the manager itself answers.
    for name in shell.cluster.names("Voter").await.into_iter().chain(shell.cluster.names("Leader").await) {
        let shown = text(&shell.run(&["node", "inspect", &name]).stdout);
        for said in ["certificate  valid until ", " are free", "log          last entry "] {
            assert!(shown.contains(said), "{name}: {shown}");
        }
        let object = shell.run(&["node", "inspect", &name, "-o", "json"]).stdout;
        let object: serde_json::Value = serde_json::from_slice(&object).expect("one object");
        let dir = object["details"]["dataDir"].as_str().unwrap_or_default();
        assert!(object["details"]["log"]["applied"].as_u64() > Some(0), "{object}");
        assert!(std::path::Path::new(dir).join("db").is_dir(), "{name} says {dir}");
    }
}

/// A server of one file, and of nothing else.
fn serve_file(body: String) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut request = [0; 1024];
            let n = stream.read(&mut request).unwrap_or(0);
            let status = if request[..n].starts_with(b"GET /web.yaml ") { "200 OK" } else { "404 Not Found" };
            let head =
                format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            let _ = stream.write_all(format!("{head}{body}").as_bytes());
        }
    });
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_may_be_behind_a_url_and_in_the_yaml_of_before() {
    let shell = Shell { cluster: Cluster::of(1).await };
    let url = serve_file(group("web", 2, "v1").replace("image: v1", "image: v1, spot: yes, mode: 0755"));
    let there = format!("{url}/web.yaml");
    let planned = shell.run(&["group", "plan", &there, "--detailed-exitcode"]);
    assert_eq!(planned.status.code(), Some(2), "{}", text(&planned.stderr));
    let told = text(&planned.stderr);
    assert!(told.contains(&format!("{there}:5:")), "{told}");
    for said in
        ["`yes` is true in YAML 1.1 and the text \"yes\" in YAML 1.2", "`0755` is 493 in YAML 1.1 and 755"]
    {
        assert!(told.contains(said), "{said}: {told}");
    }
    let quiet = shell.run(&["group", "commit", &there, "--yaml", "1.2", "--wait"]);
    assert!(quiet.status.success() && !text(&quiet.stderr).contains("YAML"), "{}", text(&quiet.stderr));
    let inspected = text(&shell.run(&["group", "inspect", "web"]).stdout);
    assert!(inspected.contains("spot: \"yes\"") && inspected.contains("mode: 755"), "{inspected}");
    let again = shell.feed(&["group", "commit", "-"], inspected.as_bytes());
    let told = text(&again.stdout);
    assert!(told.contains("web: unchanged") || told.contains(": Noop"), "{told}{}", text(&again.stderr));
    let nowhere = shell.run(&["group", "plan", &format!("{url}/other.yaml")]);
    assert_eq!(nowhere.status.code(), Some(65), "{}", text(&nowhere.stderr));
    assert!(text(&nowhere.stderr).contains("responded with status 404"), "{}", text(&nowhere.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_stops_waiting_is_told_that_the_work_goes_on() {
    let shell = Shell { cluster: Cluster::of(1).await };
    shell.cluster.fault("provision", "refuse");
    let mut child = Command::new(cluster_tests::program())
        .args(["-H", &shell.cluster.addresses(), "group", "commit", "-", "--wait"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program");
    let web = group("web", 2, "v1");
    child.stdin.take().expect("a pipe").write_all(web.as_bytes()).expect("it reads");
    let mut progress = child.stderr.take().expect("a pipe");
    let mut told = shown_until(&mut progress, &["0/2 ready"]);
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it runs");
    progress.read_to_string(&mut told).expect("it ends");
    assert_eq!(child.wait().expect("it ends").code(), Some(130), "{told}");
    assert!(told.contains("the managers go on with it") && told.contains("describe web --watch"), "{told}");
    assert!(shell.groups().contains("\"name\":\"web\""), "{}", shell.groups());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_is_redrawn_in_place() {
    let shell = Shell { cluster: Cluster::of(1).await };
    let web = group("web", 2, "v1");
    assert!(shell.feed(&["group", "commit", "-", "--wait"], web.as_bytes()).status.success());
    let program = cluster_tests::program().display().to_string();
    let command =
        format!("stty rows 4 cols 30; {program} -H {} group describe web --watch", shell.cluster.addresses());
    let mut child = Command::new("script")
        .args(["-qefc", &command, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("`script` is a part of every Debian");
    let (mut keys, mut screen) = (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
    let mut shown = shown_until(&mut screen, &["more lines"]);
    keys.write_all(b"\x03").expect("it reads");
    screen.read_to_string(&mut shown).expect("it ends");
    assert_eq!(child.wait().expect("it ends").code(), Some(130), "{shown}");
    assert!(shown.starts_with("\x1b[H\x1b[2Jweb: 2/2 ready"), "{shown:?}");
    let first = shown.split("\x1b[H").nth(1).expect("a screen");
    assert!(
        first.lines().count() <= 4 && first.lines().all(|line| line.chars().count() <= 30 + 5),
        "{first:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shell_completes_the_names_of_what_is_there() {
    let shell = Shell { cluster: Cluster::of(1).await };
    for name in ["web", "worker"] {
        let group = group(name, 1, "v1");
        assert!(shell.feed(&["group", "commit", "-", "--wait"], group.as_bytes()).status.success());
    }
    let complete = |words: &[&str]| {
        let output = Command::new(cluster_tests::program())
            .env("INFRAKIT_COMPLETE", "bash")
            .env("INFRAKIT_HOST", shell.cluster.addresses())
            .env("INFRAKIT_PLUGINS_DIR", shell.cluster.plugins_dir())
            .env("_CLAP_COMPLETE_INDEX", (words.len() - 1).to_string())
            .env("_CLAP_COMPLETE_COMP_TYPE", "9")
            .env("_CLAP_COMPLETE_SPACE", "true")
            .env("_CLAP_IFS", "\n")
            .arg("--")
            .args(words)
            .output()
            .expect("the program");
        let mut all: Vec<String> = text(&output.stdout).lines().map(|it| it.trim().to_owned()).collect();
        all.retain(|it| !it.starts_with('-'));
        all.sort();
        all
    };
    assert_eq!(complete(&["infrakit", "group", "describe", "w"]), ["web", "worker"]);
    assert_eq!(complete(&["infrakit", "group", "scale", "wo"]), ["worker"]);
    assert_eq!(complete(&["infrakit", "node", "inspect", ""]), ["m1"]);
    assert!(shell.run(&["var", "set", "tier", "gold"]).status.success());
    assert_eq!(complete(&["infrakit", "var", "rm", ""]), ["tier"], "what has its default cannot be removed");
    let elsewhere = ["infrakit", "--host", "127.0.0.1:1", "group", "describe", "w"];
    assert_eq!(complete(&elsewhere), Vec::<String>::new(), "whoever is named is asked, and nobody else");
    assert_eq!(complete(&["infrakit", "plugin", "start", "vani"]), ["vanilla"]);
    assert!(complete(&["infrakit", "plugin", "test", "sim"]).iter().any(|it| it.starts_with("simulator")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_throwaway_cluster_converges_and_leaves_nothing() {
    let listen = format!("127.0.0.1:{}", cluster_tests::free_ports(1)[0]);
    let mut child = Command::new(cluster_tests::program())
        .args(["dev", "--listen", &listen])
        .env("INFRAKIT_LOG", "error")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program");
    let mut screen = child.stdout.take().expect("a pipe");
    let shown = shown_until(&mut screen, &["infrakit group ls"]);
    let dir =
        shown.split("everything is in ").nth(1).and_then(|rest| rest.split(',').next()).expect("a directory");
    assert!(std::path::Path::new(dir).is_dir(), "{shown}");
    // The address is told first, and then the example is committed.
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/examples/web.yaml");
    let words = ["-H", &listen, "group", "commit", "--wait", "--allow-missing-plugins", example];
    let waited = Command::new(cluster_tests::program()).args(words).output().expect("the program");
    assert!(waited.status.success(), "{}", text(&waited.stderr));
    let listed = Command::new(cluster_tests::program()).args(["-H", &listen, "group", "ls"]).output();
    let listed = text(&listed.expect("the program").stdout);
    assert!(listed.contains("5/5"), "{listed}");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it runs");
    assert!(child.wait().expect("it ends").success());
    assert!(!std::path::Path::new(dir).exists(), "it goes with the program");
}
