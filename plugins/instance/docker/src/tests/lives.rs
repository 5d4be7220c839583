//! Init, states and ends of real containers.

use model::RunStatus::{Failed, Paused, Running, Starting, Stopped};

use super::*;
use crate::fake::{Fake, Reply};

#[tokio::test]
async fn init_arrives_byte_for_byte_and_runs_inside() {
    let Some(bench) = containers("init").await else { return };
    let init = "#!/bin/sh\n# ü \"quoted\"; `x` $HOME \\\necho ran > /ran; exit 0\n".to_owned();
    let id = bench.provision(&InstanceSpec { init: init.clone(), ..spec("") }).await.expect("a container");
    assert_eq!(bench.output(&id, &["cat", "/ran"]).await, "ran\n");
    assert_eq!(bench.output(&id, &["cat", "/var/lib/infrakit/init"]).await, init);
    assert_eq!(bench.state(&id).await.status, Running);
    let failing = InstanceSpec { init: "echo first; echo why >&2; exit 3".into(), ..spec("") };
    let error = bench.provision(&failing).await.expect_err("Init fails");
    assert_eq!(error.message, "docker: Init exited with 3: first | why");
    assert!(error.class.is_refusal());
    assert_eq!(bench.all().await.len(), 1, "the failed one was removed");
    let ending = InstanceSpec { init: "sleep 5".into(), ..running("sleep 1; exit 7", "") };
    let error = bench.provision(&ending).await.expect_err("the container ends before Init");
    assert_eq!(error.message, "docker: the container stopped before its Init ended");
    let sealed = InstanceSpec { init: "true".into(), ..spec(r#","HostConfig":{"ReadonlyRootfs":true}"#) };
    let error = bench.provision(&sealed).await.expect_err("nowhere to write Init to");
    assert_eq!(error.class, Class::InvalidSpec);
    bench.clear().await;
}

#[tokio::test]
async fn init_runs_as_whoever_the_container_runs_as() {
    let Some(bench) = containers("user").await else { return };
    let other =
        spec_of(&format!(r#"{{"Config":{{"Image":"{IMAGE}","User":"1000","StopSignal":"SIGKILL"}}}}"#));
    let init = InstanceSpec { init: "echo out; exit 0".into(), ..other.clone() };
    let id = bench.provision(&init).await.expect("a container");
    assert_eq!(bench.output(&id, &["cat", "/var/lib/infrakit/init.log"]).await, "out\n");
    let error =
        bench.provision(&InstanceSpec { init: "exit 4".into(), ..other }).await.expect_err("it fails");
    assert_eq!(error.message, "docker: Init exited with 4");
    bench.clear().await;
}

#[tokio::test]
async fn init_outlives_the_call_and_the_plugin() {
    let Some(bench) = containers("slow").await else { return };
    let soon = within(REST + Duration::from_secs(1));
    let slow = |end: &str, name: &str| {
        with_token(InstanceSpec { init: format!("sleep 5; echo late; {end}"), ..spec("") }, name)
    };
    let good = bench.containers.provision(&slow("exit 0", "good"), &soon).await.expect("an id");
    let soon = within(REST + Duration::from_secs(1));
    let bad = bench.containers.provision(&slow("exit 6", "bad"), &soon).await.expect("an id");
    let cut = bench.containers.provision(&slow("exit 0", "cut"), &soon).await.expect("an id");
    let state = bench.state(&good).await;
    assert_eq!(state.status, Starting);
    assert!(state.message.starts_with("Init runs since 20") && state.since.is_some(), "{state:?}");
    // It is cut off by a restart of the container, and does not run whole any more.
    bench.docker.restart_container(cut.as_str(), None).await.expect("it restarts");
    // The plugin is started anew.
    let bench = Bench { containers: Containers::new(&bench.config), ..bench };
    assert_eq!(bench.provision(&slow("exit 0", "good")).await.expect("the same"), good);
    assert_eq!(bench.until(&good, Running).await.message, "");
    let state = bench.until(&bad, Failed).await;
    assert_eq!((state.exit_code, state.message.as_str()), (Some(6), "Init exited with 6: late"));
    let state = bench.until(&cut, Failed).await;
    assert!(state.message.contains("stopped before its Init ended"), "{state:?}");
    for (name, end, id) in [("good", "exit 0", &good), ("bad", "exit 6", &bad), ("cut", "exit 0", &cut)] {
        assert_eq!(bench.provision(&slow(end, name)).await.expect("the same"), *id, "{name}");
    }
    // What has once run whole stays so, whatever becomes of the container.
    bench.docker.kill_container(good.as_str(), None).await.expect("it stops");
    assert_eq!(bench.until(&good, Failed).await.exit_code, Some(137));
    bench.containers.start(&good).await.expect("it starts");
    bench.until(&good, Running).await;
    bench.clear().await;
}

#[tokio::test]
async fn a_caller_who_hangs_up_leaves_nothing_half_made() {
    let Some(bench) = containers("hangup").await else { return };
    let failing = InstanceSpec { init: "sleep 1; exit 3".into(), ..spec("") };
    let call = bench.provision(&failing);
    tokio::time::timeout(Duration::from_millis(700), call).await.expect_err("it takes longer");
    let deadline = Instant::now() + Duration::from_secs(15);
    tokio::time::sleep(Duration::from_millis(500)).await;
    while !bench.all().await.is_empty() {
        assert!(Instant::now() < deadline, "it is still there");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_listing_tells_the_state_of_every_container() {
    let Some(bench) = containers("states").await else { return };
    let stopped = bench.provision(&running("exit 0", "")).await.expect("a container");
    let failed = bench.provision(&running("exit 3", "")).await.expect("a container");
    let loops = running("exit 9", r#","HostConfig":{"RestartPolicy":{"Name":"always"}}"#);
    let loops = bench.provision(&loops).await.expect("a container");
    let paused = bench.provision(&spec("")).await.expect("a container");
    bench.docker.pause_container(paused.as_str()).await.expect("it pauses");
    let plain: Vec<(String, String)> = bench.config.namespace.clone().into_iter().collect();
    let created = bench.made_by_hand(&spec(""), &[(&plain[0].0, &plain[0].1)]).await;
    assert!(bench.until(&stopped, Stopped).await.since.is_some());
    let state = bench.until(&failed, Failed).await;
    assert_eq!((state.exit_code, state.message.as_str()), (Some(3), "it exited with 3"));
    let looping = bench.until(&loops, Failed).await;
    assert_eq!((looping.exit_code, looping.message.as_str()), (Some(9), "it restarts again and again"));
    assert_eq!(bench.state(&paused).await.status, Paused);
    let state = bench.state(&listing::short(&created)).await;
    assert_eq!((state.status, state.message.as_str()), (Stopped, "it was not started"));
    // Also in the moments in which it runs.
    for _ in 0..30 {
        let again = bench.state(&loops).await;
        assert_eq!(
            (again.status, &again.exit_code, &again.message),
            (Failed, &looping.exit_code, &looping.message)
        );
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    for _ in 0..20 {
        let error = bench.containers.start(&loops).await.expect_err("it cannot be started");
        assert!(error.message.contains("restarts again and again and exits with 9"), "{error}");
        assert_eq!(error.class, Class::Conflict);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    bench.clear().await;
}

#[tokio::test]
async fn a_stopped_container_is_started_again_and_no_other_is_made() {
    let Some(bench) = containers("start").await else { return };
    let id = bench.provision(&spec("")).await.expect("a container");
    bench.docker.kill_container(id.as_str(), None).await.expect("it stops");
    bench.until(&id, Failed).await;
    for _ in 0..2 {
        bench.containers.start(&id).await.expect("it starts, or runs already");
        assert_eq!(bench.state(&id).await.status, Running);
    }
    assert_eq!(bench.all().await.len(), 1);
    let error = bench.containers.start(&"0123456789ab".into()).await.expect_err("it is not there");
    assert_eq!(error.class, Class::NotFound);
    bench.clear().await;
}

/// A container that writes to a volume when it is asked to stop, and needs a while.
fn careful(volume: &str, signal: &str, needs: u32, time: u32) -> InstanceSpec {
    let trap = format!(
        "trap 'sleep {needs}; echo flushed > /data/flushed; exit 0' {signal}; while :; do sleep 0.1; done"
    );
    let trap = serde_json::to_string(&trap).expect("JSON");
    InstanceSpec {
        attachments: vec![Attachment { id: volume.to_owned(), kind: "/data".into() }],
        ..spec_of(&format!(
            r#"{{"Config":{{"Image":"{IMAGE}","StopSignal":"SIG{signal}","StopTimeout":{time},
                "Cmd":["/bin/sh","-c",{trap}]}}}}"#
        ))
    }
}

#[tokio::test]
async fn a_container_is_asked_to_stop_before_it_is_removed() {
    let Some(bench) = containers("stop").await else { return };
    let volume = |name: &str| format!("infrakit-test-stop-{name}-{}", std::process::id());
    // Its own signal is heard; what needs longer than it may is killed; what is paused is not woken up.
    for (name, signal, needs, time, is_paused, is_flushed) in [
        ("hears", "USR1", 1, 10, false, true),
        ("term", "TERM", 0, 10, false, true),
        ("late", "TERM", 20, 1, false, false),
        ("paused", "TERM", 0, 10, true, false),
    ] {
        let id = bench.provision(&careful(&volume(name), signal, needs, time)).await.expect("a container");
        // The shell sets its trap.
        tokio::time::sleep(Duration::from_millis(300)).await;
        if is_paused {
            bench.docker.pause_container(id.as_str()).await.expect("it pauses");
        }
        let began = Instant::now();
        bench.destroy(&id).await;
        assert!(began.elapsed() < Duration::from_secs(6), "{name} took {:?}", began.elapsed());
        let check =
            InstanceSpec { attachments: careful(&volume(name), signal, 0, 1).attachments, ..spec("") };
        let look = bench.provision(&check).await.expect("a container");
        let found = bench.output(&look, &["sh", "-c", "cat /data/flushed || echo nothing"]).await;
        assert_eq!(found == "flushed\n", is_flushed, "{name}: {found}");
        bench.clear().await;
        let options = None::<bollard::query_parameters::RemoveVolumeOptions>;
        bench.docker.remove_volume(&volume(name), options).await.expect("the volume goes");
    }
}

#[tokio::test]
async fn a_stop_that_outlives_the_call_goes_on_and_is_found() {
    let Some(bench) = containers("longstop").await else { return };
    let volume = format!("infrakit-test-longstop-{}", std::process::id());
    let id = bench.provision(&careful(&volume, "TERM", 4, 20)).await.expect("a container");
    tokio::time::sleep(Duration::from_millis(300)).await;
    let soon = within(REPLY + Duration::from_secs(1));
    let error = bench.containers.destroy(&id, "terminate", &soon).await.expect_err("it is not gone");
    assert!(error.message.contains("is still stopping") && error.class == Class::Unsure, "{error}");
    assert_eq!(bench.all().await.len(), 1);
    bench.destroy(&id).await;
    assert_eq!(bench.all().await.len(), 0);
    bench.destroy(&id).await;
    let check = InstanceSpec { attachments: careful(&volume, "TERM", 0, 1).attachments, ..spec("") };
    let look = bench.provision(&check).await.expect("a container");
    assert_eq!(bench.output(&look, &["cat", "/data/flushed"]).await, "flushed\n");
    bench.clear().await;
    let options = None::<bollard::query_parameters::RemoveVolumeOptions>;
    bench.docker.remove_volume(&volume, options).await.expect("the volume goes");
}

#[tokio::test]
async fn a_listing_asks_only_for_what_does_not_run_and_only_once() {
    let listed: Vec<serde_json::Value> = (0..50)
        .map(|n| {
            let (state, status) = if n < 48 { ("running", "Up 3 hours") } else { ("exited", "Exited (3) 2 hours ago") };
            serde_json::json!({
                "Id": format!("{n:064x}"), "State": state, "Status": status, "Labels": {"infrakit.plugin": "docker"},
            })
        })
        .collect();
    let listed = serde_json::Value::Array(listed).to_string();
    let fake = Fake::serve(move |asked| {
        let answer = if asked.contains("/containers/json") {
            listed.clone()
        } else if asked.contains("/volumes") {
            "{}".to_owned()
        } else {
            r#"{"State":{"ExitCode":3,"FinishedAt":"2026-11-27T18:33:27.6Z"}}"#.to_owned()
        };
        Reply::Now(200, answer)
    });
    let config = Config { host: Some(fake.host.clone()), ..Config::default() };
    let containers = Containers::new(&config);
    let look = async || {
        let found = containers.describe(&Tags::new(), true).await.expect("a listing");
        assert_eq!(found.len(), 50);
        found[49].state.clone().expect("a state")
    };
    let looks = || {
        (fake.asked("/containers/json").len(), fake.asked("/volumes").len(), fake.asked("/json HTTP").len())
    };
    for count in 1..4 {
        let state = look().await;
        assert_eq!((state.status, state.exit_code), (Failed, Some(3)));
        assert!(state.since.is_some());
        assert_eq!(looks(), (count, count, 2), "a list of containers and one of volumes");
    }
    // What happened to one, is asked for again, and nothing else.
    containers.states.changed(&format!("{:064x}", 49));
    look().await;
    assert_eq!(looks().2, 3);
    containers.states.forget_ends();
    look().await;
    assert_eq!(looks().2, 5);
}

#[tokio::test]
async fn a_call_for_one_container_lists_no_others() {
    let fake = Fake::serve(|asked| match asked.contains("/containers/json") {
        true => Reply::Now(200, "[]".to_owned()),
        false => Reply::Now(404, r#"{"message":"none"}"#.to_owned()),
    });
    let config = Config { host: Some(fake.host.clone()), ..Config::default() };
    let containers = Containers::new(&config);
    let call = Call { token: Some("t".to_owned()), ..Call::default() };
    let id = "0123456789ab".into();
    containers.start(&id).await.expect_err("it is not there");
    containers.label(&id, &Tags::new(), &call).await.expect_err("it is not there");
    containers.destroy(&id, "terminate", &call).await.expect("nothing to do");
    containers.provision(&spec(""), &call).await.expect_err("there is no image");
    let asked = fake.asked("/containers/json");
    assert_eq!(asked.len(), 4);
    for (n, asked) in asked.iter().enumerate() {
        let filter = if n < 3 { "filters=%7B%22id%22%3A%5B%220123456789ab" } else { "infrakit.intent%3Dt" };
        assert!(asked.contains(filter), "{asked}");
    }
}
