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
        (web.replace("Size: 1", "LogicalIDs: [a, a]").into_bytes(), 65, "`a` is repeated"),
        (
            web.replace("vanilla", "nosuch").into_bytes(),
            1,
            "error[E1203]: <stdin>:6:11: properties.Flavor: plugin `nosuch` does not answer",
        ),
        (
            web.replace("Init: [echo hi]", "Init: 7").into_bytes(),
            1,
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
            1,
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
        let mut shown = String::new();
        while !shown.contains("to continue: ") && !shown.contains("Value of secret `new`: ") {
            let mut piece = [0; 256];
            let n = screen.read(&mut piece).expect("it shows something");
            assert!(n > 0, "it asks for nothing: {shown}");
            shown.push_str(&String::from_utf8_lossy(&piece[..n]));
        }
        keys.write_all(typed.as_bytes()).expect("it reads");
        screen.read_to_string(&mut shown).expect("it ends");
        assert_eq!(child.wait().expect("it ends").code(), Some(code), "{typed:?}: {shown}");
        assert!(shown.contains(" echo ") && !shown.contains("hidden"), "the terminal is as it was: {shown}");
        assert_eq!(text(&shell.run(&["secret", "ls", "-o", "name"]).stdout).trim(), left, "{typed:?}");
    }
}
