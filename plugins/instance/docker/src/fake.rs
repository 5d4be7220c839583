//! A small engine for tests: it answers what it is told to, and remembers what it was asked.

use std::sync::{Arc, Mutex};

use bollard::Docker;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

use crate::engine::Engine;

pub(crate) enum Reply {
    Now(u16, String),
    /// These lines, each when it may.
    Slowly(&'static [&'static str], Arc<Semaphore>),
}

type Answer = dyn Fn(&str) -> Reply + Send + Sync;

/// The engine, as long as its test holds it.
pub(crate) struct Fake {
    pub(crate) host: String,
    requests: Arc<Mutex<Vec<String>>>,
    _dir: tempfile::TempDir,
}

impl Fake {
    /// Answers every request, by its method and path, but those for the version.
    pub(crate) fn serve(answer: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("docker.sock");
        let listener = UnixListener::bind(&path).expect("a socket");
        let (requests, answer): (Arc<Mutex<Vec<String>>>, Arc<Answer>) = (Arc::default(), Arc::new(answer));
        let asked = Arc::clone(&requests);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(reply(stream, Arc::clone(&answer), Arc::clone(&asked)));
            }
        });
        Self { host: format!("unix://{}", path.display()), requests, _dir: dir }
    }

    pub(crate) async fn docker(&self) -> Docker {
        Engine::at(Some(&self.host)).docker().await.expect("it says its version")
    }

    /// The requests so far with this in them, headers and all.
    pub(crate) fn asked(&self, what: &str) -> Vec<String> {
        let requests = self.requests.lock().expect("requests");
        requests.iter().filter(|it| it.contains(what)).cloned().collect()
    }
}

async fn reply(mut stream: UnixStream, answer: Arc<Answer>, requests: Arc<Mutex<Vec<String>>>) {
    let mut asked = Vec::new();
    while !asked.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read_buf(&mut asked).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
    let asked = String::from_utf8_lossy(&asked).into_owned();
    requests.lock().expect("requests").push(asked.clone());
    let line = asked.lines().next().unwrap_or_default();
    let said = if line.contains("/version ") {
        Reply::Now(200, r#"{"ApiVersion":"1.41"}"#.to_owned())
    } else {
        answer(line)
    };
    // A client that has gone does not mind an answer that fails.
    match said {
        Reply::Now(status, body) => {
            let length = body.len();
            let head =
                format!("HTTP/1.1 {status} x\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
            let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
        }
        Reply::Slowly(lines, allowed) => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n").await;
            for line in lines {
                allowed.acquire().await.expect("it is never closed").forget();
                let _ = stream.write_all(format!("{line}\r\n").as_bytes()).await;
            }
        }
    }
}
