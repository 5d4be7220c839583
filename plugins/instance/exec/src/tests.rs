use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use model::tags::{INTENT, Tags};
use model::{LogicalId, RunStatus};
use spi::conformance;
use tempfile::TempDir;

use super::*;

/// A program of this text, as `name` in the directory.
fn script(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, text).expect("a file");
    std::fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("it can be run");
    path
}

/// The shell script of an example, with these variables set for it.
fn example(dir: &Path, name: &str, variables: &str) -> PathBuf {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/").to_owned() + name;
    script(dir, name, &format!("#!/bin/sh\nexport {variables}\nexec {path} \"$@\"\n"))
}

fn directories(dir: &Path) -> PathBuf {
    std::fs::create_dir(dir.join("all")).expect("a directory");
    example(dir, "directories.sh", &format!("DIRECTORIES={}/all", dir.display()))
}

/// Waits until `there` gives something, or fails with the sentence.
async fn until<T>(sentence: &str, mut there: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = there() {
            return found;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "waited in vain until {sentence}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Nothing while this process runs.
fn has_ended(pid: &str) -> Option<()> {
    let state = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    (state.is_empty() || state.contains(") Z")).then_some(())
}

fn exec(path: PathBuf, deadline: Duration) -> Exec {
    Exec { program: Program::new(path, deadline, 4) }
}

fn saying(dir: &TempDir, text: &str) -> Exec {
    exec(script(dir.path(), "program", &format!("#!/bin/sh\n{text}\n")), Duration::from_secs(20))
}

fn spec(tags: &[(&str, &str)]) -> InstanceSpec {
    InstanceSpec {
        properties: Opaque::from_json(r#"{"size": 3}"#),
        tags: tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        init: "#!/bin/sh\necho \"it's\" up\n".into(),
        logical_id: Some("db-1".into()),
        attachments: Vec::new(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shell_script_is_held_to_the_contract_and_is_of_the_class_that_knows_tokens() {
    let dir = TempDir::new().expect("a directory");
    let path = directories(dir.path());
    let made = plugin(Program::new(path, DEADLINE, PARALLEL)).await.expect("it says what it is");
    let _running = spi::serve(dir.path(), "dirs", made).expect("it is served");
    let found = spi::Directory::new(dir.path()).find(&model::PluginName::check("dirs").expect("a name"));
    let report =
        conformance::instances(&found.expect("it is there").client(), "", &Opaque::from_json("{}")).await;
    assert!(report.passed(), "{report}");
    assert_eq!(report.class, Some(model::plugin::PluginClass::A), "{report}");
}

#[tokio::test]
async fn what_went_in_comes_out_as_it_was_with_every_label() {
    let dir = TempDir::new().expect("a directory");
    let path = directories(dir.path());
    let exec = exec(path, DEADLINE);
    assert!(exec.describe(&Tags::new(), true).await.expect("none yet").is_empty());
    let spec = spec(&[("infrakit.group", "db"), (INTENT, "t-1")]);
    let id = exec.provision(&spec, &Call::default()).await.expect("it is made");
    assert_eq!(exec.provision(&spec, &Call::default()).await, Ok(id.clone()), "one for a token");
    for labels in [[("colour", "red")], [("colour", "blue")]] {
        let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        exec.label(&id, &labels, &Call::default()).await.expect("it is labelled");
    }
    let wanted: Tags = [("infrakit.group".to_owned(), "db".to_owned())].into();
    let all = exec.describe(&wanted, true).await.expect("a listing");
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].logical_id, Some(LogicalId::from("db-1")));
    assert_eq!(all[0].properties.as_ref().map(Opaque::as_json), Some(r#"{"size":3}"#));
    assert_eq!(all[0].tags.get("colour").map(String::as_str), Some("blue"), "the last one");
    assert_eq!(all[0].state.as_ref().map(|it| it.status), Some(RunStatus::Running));
    let other: Tags = [("infrakit.group".to_owned(), "web".to_owned())].into();
    assert!(exec.describe(&other, true).await.expect("a listing").is_empty());
    std::fs::create_dir(dir.path().join("victim")).expect("a directory");
    let outside = InstanceId::from(format!("{id}/../../victim"));
    exec.destroy(&outside, "terminate", &Call::default()).await.expect("there is no such instance");
    assert!(dir.path().join("victim").exists());
    let odd = InstanceSpec { tags: [(INTENT.to_owned(), "a/b".to_owned())].into(), ..spec.clone() };
    assert!(exec.provision(&odd, &Call::default()).await.is_err());
    exec.destroy(&id, "terminate", &Call::default()).await.expect("it goes");
    exec.destroy(&id, "terminate", &Call::default()).await.expect("it is gone");
    let error = exec.label(&id, &Tags::new(), &Call::default()).await.expect_err("it is gone");
    assert_eq!(
        (error.class, error.message.contains("no such directory")),
        (Class::NotFound, true),
        "{error}"
    );
}

#[tokio::test]
async fn an_exit_code_says_what_may_be_done_next() {
    let dir = TempDir::new().expect("a directory");
    let id = InstanceId::from("i-1");
    let about =
        Description { id: id.clone(), logical_id: None, tags: Tags::new(), properties: None, state: None };
    for (code, provision, listing, health) in [
        (1, Class::Unsure, Class::Internal, Some(Health::Unhealthy)),
        (64, Class::Internal, Class::Internal, Some(Health::Unknown)),
        (65, Class::InvalidSpec, Class::InvalidSpec, Some(Health::Unhealthy)),
        (66, Class::NotFound, Class::NotFound, Some(Health::Unhealthy)),
        (69, Class::Exhausted, Class::Exhausted, Some(Health::Unknown)),
        (75, Class::Exhausted, Class::Exhausted, Some(Health::Unknown)),
        (127, Class::Unsure, Class::Internal, Some(Health::Unknown)),
        (137, Class::Unsure, Class::Internal, Some(Health::Unknown)),
    ] {
        let exec = saying(&dir, &format!("echo 'why {code}' >&2; exit {code}"));
        let none = (Call::default(), Opaque::null(), Allocation::Size(1));
        let error = exec.provision(&spec(&[]), &none.0).await.expect_err("it failed");
        assert_eq!((error.class, error.message.as_str()), (provision, &*format!("why {code}")), "{code}");
        assert_eq!(
            exec.describe(&Tags::new(), false).await.expect_err("no listing").class,
            listing,
            "{code}"
        );
        let verdict = exec.healthy(&none.1, &about).await;
        assert_eq!(verdict.ok().map(|it| it.health), health, "{code}");
        // Whoever does not know the words has nothing to refuse.
        let valid = Instances::validate(&exec, &none.1).await;
        assert_eq!(valid.is_ok(), code == 64);
        let told_nothing = matches!(code, 69 | 75 | 127 | 137);
        assert!(valid.err().is_none_or(|it| (it.class == Class::Unavailable) == told_nothing), "{code}");
        assert_eq!(Flavors::validate(&exec, &none.1, &none.2).await.is_ok(), code == 64);
        assert_eq!(exec.drain(&none.1, &about).await.is_ok(), code == 64);
        let gone = exec.destroy(&id, "terminate", &none.0).await;
        assert_eq!(gone.is_ok(), code == 66, "what is not there is destroyed");
    }
    let healthy = saying(&dir, "echo all is well").healthy(&Opaque::null(), &about).await.expect("a verdict");
    assert_eq!(healthy, Verdict { health: Health::Healthy, message: "all is well".into() });
    let nowhere = exec(dir.path().join("nosuch"), DEADLINE);
    let error = nowhere.provision(&spec(&[]), &Call::default()).await.expect_err("there is none");
    assert_eq!(error.class, Class::Unavailable, "nothing was done: {error}");
}

#[tokio::test]
async fn what_is_not_done_in_time_ends_with_all_that_it_has_started() {
    let dir = TempDir::new().expect("a directory");
    let noted = dir.path().join("pid");
    let text = format!("#!/bin/sh\nsleep 1000 &\necho $! >{}\necho 'waits' >&2\nwait\n", noted.display());
    let exec = exec(script(dir.path(), "program", &text), Duration::from_millis(1500));
    let error = exec.provision(&spec(&[]), &Call::default()).await.expect_err("it takes for ever");
    assert_eq!(error.class, Class::Unsure, "it may have been made: {error}");
    assert!(error.message.contains("was killed after") && error.message.contains("waits"), "{error}");
    let child = std::fs::read_to_string(&noted).expect("it was started");
    until("what it has started has ended", || has_ended(&child)).await;
    // A call whose deadline is over is not begun.
    let late = Call { not_after: Some(Duration::from_nanos(1)), ..Call::default() };
    std::fs::remove_file(&noted).expect("it is there");
    let error = exec.provision(&spec(&[]), &late).await.expect_err("it is too late");
    assert_eq!((error.class, noted.exists()), (Class::Exhausted, false));
}

#[tokio::test]
async fn a_program_need_not_read_its_input_and_may_say_much() {
    let dir = TempDir::new().expect("a directory");
    let large = InstanceSpec { init: "x".repeat(2 << 20), ..spec(&[]) };
    let id = saying(&dir, "echo chatter; echo i-7").provision(&large, &Call::default()).await;
    assert_eq!(id, Ok(InstanceId::from("i-7")), "the last line");
    let listed = r#"i=0; while [ $i -lt 3000 ]; do echo "{\"ID\": \"i-$i\", \"Tags\": {\"n\": \"$i\"}}"; i=$((i+1)); done"#;
    let all = saying(&dir, listed).describe(&Tags::new(), false).await.expect("a listing");
    assert_eq!(all.len(), 3000);
}

#[test]
fn ids_and_descriptions_are_read_as_programs_write_them() {
    for (said, id) in [
        ("i-1\n", Some("i-1")),
        ("making…\n\ni-1\n\n", Some("i-1")),
        (r#"{"ID": "i-1"}"#, Some("i-1")),
        (r#""i-1""#, Some("i-1")),
        ("", None),
        ("\n", None),
        ("{}", None),
        (r#"{"ID": 7}"#, None),
        ("a\tb", None),
        ("making…\n{\"ID\": \"i-1\"}", Some("i-1")),
        ("making…\n{\n  \"ID\": \"i-1\"\n}\n", Some("i-1")),
        ("{\n  \"ID\": \n}", None),
    ] {
        assert_eq!(convert::id(said).ok(), id.map(InstanceId::from), "{said:?}");
    }
    assert!(convert::id(&"i".repeat(spi::LONGEST_ID + 1)).is_err());
    let ids = |said: &str| {
        convert::descriptions(said).map(|all| all.iter().map(|it| it.id.to_string()).collect::<Vec<_>>())
    };
    assert_eq!(ids(""), Ok(Vec::new()));
    assert_eq!(
        ids(r#"[{"ID": "a"}, {"ID": "b"}] {"ID": "c"}"#),
        Ok(vec!["a".into(), "b".into(), "c".into()])
    );
    // What is not listed would be taken to be gone.
    for wrong in [
        r#"{"ID": "a"} oops"#,
        r#"{"ID": "a"} {"ID""#,
        r#"{"ID": "a"} {}"#,
        "7",
        r#"["a"]"#,
        r#"{"ID": "a", "Spec": "x"}"#,
        r#"{"ID": "a", "Labels": ["x"]}"#,
    ] {
        assert!(ids(wrong).is_err(), "{wrong}");
    }
    let all = convert::descriptions(
        r#"{"ID": "a", "Spec": {"LogicalID": "l", "Tags": null, "Init": "x"}, "Labels": {"k": "v"}}
           {"ID": "b", "Tags": {"own": "1"}, "Spec": {"Tags": {"other": "2"}}}"#,
    );
    let all = all.expect("they can be read");
    assert_eq!(all[0].logical_id, Some(LogicalId::from("l")));
    let tags: Vec<String> = all.iter().flat_map(|it| it.tags.keys().cloned()).collect();
    assert_eq!(tags, ["k", "own"]);
}

#[tokio::test]
async fn what_a_program_is_it_says_itself() {
    let dir = TempDir::new().expect("a directory");
    for (said, error) in [
        ("echo instance", None),
        ("echo flavor instance start tokens lists-within=3s", None),
        ("echo instance lists-within=never", None),
        ("echo instance lists-within=3s", Some("without tokens")),
        ("echo tokens", Some("neither instance nor flavor")),
        ("echo instance teleport", Some("`teleport`")),
        ("echo 'no licence' >&2; exit 1", Some("no licence")),
        ("exit 64", Some("exit code 64")),
    ] {
        let made = plugin(saying(&dir, said).program).await;
        assert_eq!(made.is_err(), error.is_some(), "{said}");
        if let (Err(told), Some(error)) = (made, error) {
            assert!(told.to_string().contains(error), "{told}");
        }
    }
    for (options, why) in [
        (&[][..], "requires a program"),
        (&[("program", "/bin/true"), ("deadline", "soon")], "deadline"),
        (&[("program", "/bin/true"), ("parallel", "0")], "parallel"),
    ] {
        let options = options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let made = KIND.plugin("x", dir.path(), options, |_| None).await;
        assert!(matches!(&made, Err(NotMade::Options(said)) if said.contains(why)), "{why}");
    }
}

#[tokio::test]
async fn puppet_configures_the_members_of_a_group() {
    let dir = TempDir::new().expect("a directory");
    let tools = dir.path().join("tools");
    std::fs::create_dir(&tools).expect("a directory");
    let asked = dir.path().join("asked");
    script(&tools, "curl", &format!("#!/bin/sh\necho \"$@\" >>{0}\ncat {0}.reply\n", asked.display()));
    script(&tools, "puppet", &format!("#!/bin/sh\necho puppet \"$@\" >>{}\n", asked.display()));
    let variables =
        format!("PATH={}:$PATH PUPPET_SERVER=puppet.test PUPPETDB=http://db.test", tools.display());
    let exec = exec(example(dir.path(), "puppet.sh", &variables), Duration::from_secs(20));
    let index = Index { group: "db".into(), sequence: 1 };
    let prepared = exec.prepare(&Opaque::null(), spec(&[("a", "b")]), &Allocation::Size(1), &index).await;
    let prepared = prepared.expect("it is prepared");
    assert!(prepared.init.starts_with("#!/bin/sh\necho \"it's\" up\n"), "{}", prepared.init);
    assert!(prepared.init.contains("--server puppet.test") && prepared.init.ends_with("--certname db-1"));
    assert_eq!(
        (prepared.tags, prepared.properties),
        (spec(&[("a", "b")]).tags, Opaque::from_json(r#"{"size": 3}"#))
    );
    let instance = Description {
        id: "i-1".into(),
        logical_id: Some("db-1".into()),
        tags: Tags::new(),
        properties: None,
        state: None,
    };
    for (reply, health) in [
        (r#""changed","deactivated":null"#, Health::Healthy),
        (r#""unchanged","deactivated":null"#, Health::Healthy),
        (r#""failed","deactivated":null"#, Health::Unhealthy),
        (r#"null,"deactivated":null"#, Health::Unknown),
        (r#""changed","deactivated":"2030-01-01T00:00:00Z""#, Health::Unknown),
    ] {
        let text = format!(r#"{{"certname":"db-1","latest_report_status":{reply}}}"#);
        std::fs::write(dir.path().join("asked.reply"), text).expect("a file");
        let verdict = exec.healthy(&Opaque::null(), &instance).await.expect("a verdict");
        assert_eq!(verdict.health, health, "{verdict:?}");
    }
    std::fs::remove_file(dir.path().join("asked.reply")).expect("it is there");
    let verdict = exec.healthy(&Opaque::null(), &instance).await.expect("a verdict");
    assert_eq!(verdict.health, Health::Unknown, "PuppetDB does not answer: {verdict:?}");
    exec.drain(&Opaque::null(), &instance).await.expect("it is drained");
    let asked = std::fs::read_to_string(asked).expect("they were asked");
    assert!(
        asked.contains("http://db.test/pdb/query/v4/nodes/db-1")
            && asked.contains("puppet node deactivate db-1")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_end_with_the_plugin_that_is_stopped() {
    let dir = TempDir::new().expect("a directory");
    let noted = dir.path().join("pid");
    let text = format!(
        "#!/bin/sh\n[ $1 != interfaces ] || {{ echo instance; exit; }}\necho $$ >{}.new\nmv {0}.new {0}\nsleep 1000\n",
        noted.display()
    );
    let program = Program::new(script(dir.path(), "program", &text), DEADLINE, 4);
    let running = spi::serve(dir.path(), "slow", plugin(program).await.expect("it says what it is"));
    let running = running.expect("it is served");
    let found = spi::Directory::new(dir.path()).find(&model::PluginName::check("slow").expect("a name"));
    let client = found.expect("it is there").client();
    let call =
        tokio::spawn(async move { client.instances("").provision(&spec(&[]), &Call::default()).await });
    let pid = until("the program is started", || std::fs::read_to_string(&noted).ok()).await;
    running.stop(async {}).await;
    let error = call.await.expect("it ends").expect_err("it was cut");
    assert_eq!(error.class, Class::Unsure, "{error}");
    until("the program has ended with its plugin", || has_ended(&pid)).await;
}
