//! Against a small engine that says what it is told, when it is told.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::*;
use crate::fake::{Fake, Reply};

const LAYERS: [&str; 5] = [
    r#"{"status":"Pulling from x","id":"latest"}"#,
    r#"{"status":"Pulling fs layer","progressDetail":{},"id":"a"}"#,
    r#"{"status":"Downloading","progressDetail":{"current":42,"total":100},"id":"a"}"#,
    r#"{"status":"Pull complete","progressDetail":{},"id":"a"}"#,
    r#"{"status":"Status: Downloaded newer image for x:latest"}"#,
];

/// An engine without images, whose pulls say these lines, each when it may, and whose registry says this
/// about every image.
fn without_images(lines: &'static [&'static str], registry: (u16, &'static str)) -> (Fake, Arc<Semaphore>) {
    let allowed = Arc::new(Semaphore::new(0));
    let may = Arc::clone(&allowed);
    let fake = Fake::serve(move |asked| {
        if asked.contains("/images/create") {
            Reply::Slowly(lines, Arc::clone(&may))
        } else if asked.contains("/distribution/") {
            Reply::Now(registry.0, format!(r#"{{"message":"{}"}}"#, registry.1))
        } else {
            Reply::Now(404, r#"{"message":"No such image"}"#.to_owned())
        }
    });
    (fake, allowed)
}

const NO_REGISTRY: (u16, &str) = (500, "no such host");

fn soon() -> Instant {
    Instant::now() + Duration::from_millis(300)
}

fn later() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

#[tokio::test]
async fn all_slots_share_one_pull_and_hear_how_far_it_is() {
    let (fake, allowed) = without_images(&LAYERS, NO_REGISTRY);
    let docker = fake.docker().await;
    let pulls = Pulls::default();
    allowed.add_permits(3);
    let all = (0..5).map(|_| pulls.ensure(&docker, "host:5000/x", soon()));
    for told in futures_util::future::join_all(all).await {
        let error = told.expect_err("it is not there yet");
        assert_eq!(error.message, "docker: pulling host:5000/x:latest, 42 %");
        assert!(error.class.is_refusal() && error.class.is_retryable());
    }
    allowed.add_permits(2);
    pulls.ensure(&docker, "host:5000/x", later()).await.expect("it is there");
    let asked = fake.asked("/images/create");
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert!(asked[0].contains("fromImage=host%3A5000%2Fx") && asked[0].contains("tag=latest"), "{asked:?}");
}

#[tokio::test]
async fn a_failed_pull_is_told_once_and_tried_again() {
    const FAILURE: &str = r#"{"errorDetail":{"message":"no space left"},"error":"no space left"}"#;
    let (fake, allowed) = without_images(&[LAYERS[1], FAILURE], NO_REGISTRY);
    let docker = fake.docker().await;
    let pulls = Pulls::default();
    let error = pulls.ensure(&docker, "x", soon()).await.expect_err("it has not begun");
    assert_eq!(error.message, "docker: pulling x:latest");
    allowed.add_permits(2);
    // It fails while nobody waits.
    tokio::time::sleep(Duration::from_millis(300)).await;
    for pulled in [1, 2] {
        let error = pulls.ensure(&docker, "x", later()).await.expect_err("it failed");
        assert_eq!(error.message, "docker: the image `x` is missing and cannot be pulled: no space left");
        assert!(error.class.is_refusal() && error.class.is_retryable());
        assert_eq!(fake.asked("/images/create").len(), pulled);
        allowed.add_permits(2);
    }
}

#[tokio::test]
async fn validate_refuses_what_a_registry_denies_and_accepts_what_nobody_knows() {
    for (status, said, is_refused) in [
        (404, "manifest unknown", true),
        (403, "denied: requested access to the resource is denied", true),
        (401, "unauthorized", true),
        (404, "page not found", false),
        (500, "no such host", false),
        (503, "too many requests", false),
    ] {
        let (fake, _) = without_images(&[], (status, said));
        let checked = Pulls::default().check(&fake.docker().await, "host:5000/x").await;
        assert_eq!(checked.is_err(), is_refused, "{status} {said}");
        if let Err(error) = checked {
            assert!(error.message.contains(said) && error.class == Class::InvalidSpec, "{error}");
        }
    }
}

#[tokio::test]
async fn credentials_reach_the_engine_in_the_alphabet_that_it_reads() {
    let (fake, _) = without_images(&[], NO_REGISTRY);
    let docker = fake.docker().await;
    let config = tempfile::tempdir().expect("a temporary directory");
    // In one of three places, these letters make the digits that the two alphabets write differently.
    let secret = "???>>>~~~";
    let auth = data_encoding::BASE64.encode(format!("me:{secret}").as_bytes());
    let text = format!(r#"{{"auths":{{"host:5000":{{"auth":"{auth}"}}}}}}"#);
    std::fs::write(config.path().join("config.json"), text).expect("written");
    let pulls = Pulls::with(Some(config.path().to_owned()));
    pulls.ensure(&docker, "host:5000/x", later()).await.expect("pulled");
    pulls.ensure(&docker, "elsewhere/x", later()).await.expect("pulled");
    let asked = fake.asked("/images/create");
    let header = |asked: &str| {
        let line = asked.lines().find(|line| line.to_lowercase().starts_with("x-registry-auth:"))?;
        Some(line[line.find(':')? + 1..].trim().to_owned())
    };
    let sent = header(&asked[0]).expect("credentials");
    let read = data_encoding::BASE64URL.decode(sent.as_bytes()).expect("the alphabet of URLs");
    let read: serde_json::Value = serde_json::from_slice(&read).expect("JSON");
    assert_eq!((read["username"].as_str(), read["password"].as_str()), (Some("me"), Some(secret)));
    assert!(sent.contains(['-', '_']), "the case that matters: {sent}");
    assert_eq!(header(&asked[1]), None, "they are for their registry only");
}

#[test]
fn the_percentage_counts_bytes_and_guesses_what_is_unknown() {
    let mut layers = Layers::default();
    let step = |id: &str, status: &str, progress: Option<(i64, i64)>| CreateImageInfo {
        id: Some(id.to_owned()),
        status: Some(status.to_owned()),
        progress_detail: progress.map(|(current, total)| bollard::models::ProgressDetail {
            current: Some(current),
            total: Some(total),
        }),
        ..CreateImageInfo::default()
    };
    layers.note(&step("latest", "Pulling from library/x", None));
    layers.note(&step("a", "Pulling fs layer", None));
    layers.note(&step("b", "Pulling fs layer", None));
    assert_eq!(layers.percent(), None);
    layers.note(&step("a", "Downloading", Some((50, 100))));
    assert_eq!(layers.percent(), Some(25));
    layers.note(&step("b", "Downloading", Some((0, 300))));
    assert_eq!(layers.percent(), Some(12));
    layers.note(&step("a", "Download complete", None));
    layers.note(&step("a", "Extracting", Some((1, 100))));
    assert_eq!(layers.percent(), Some(25));
    layers.note(&step("b", "Pull complete", None));
    assert_eq!(layers.percent(), Some(100));
}
