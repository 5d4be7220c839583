//! Init: it runs detached in its container, longer than the call that began it, and what it said and how it
//! ended is written there.
//!
//! ```text
//!   Never -----> Runs -----> Ended { code }
//!                 |
//!                 +--------> CutOff          the container stopped first
//! ```

use std::time::Duration;

use bollard::Docker;
use bollard::exec::{CreateExecOptions, StartExecOptions};
use model::time::Timestamp;
use spi::Error;
use tokio::time::Instant;

use crate::archive::File;
use crate::engine;

/// The label of a container that has an Init.
pub(crate) const LABEL: &str = "infrakit.init";

const INIT: &str = "var/lib/infrakit/init";
const BOOT: &str = "var/lib/infrakit/boot";
const LOG: &str = "var/lib/infrakit/init.log";
const EXIT: &str = "var/lib/infrakit/init.exit";
/// Who runs Init: the id of its exec, when it began, and when its container had started.
const EXEC: &str = "var/lib/infrakit/init.exec";

/// Needs a shell and nothing else. What it ends with is read only when its line is whole.
const WRAPPER: &[u8] = b"#!/bin/sh
/bin/sh /var/lib/infrakit/init </dev/null >/var/lib/infrakit/init.log 2>&1
code=$?
echo $code >/var/lib/infrakit/init.exit
exit $code
";

/// How much of the output is told: a few lines, which fit into a message of 1 KiB.
const TOLD: usize = 800;
const TOLD_LINES: usize = 5;

/// How far the Init of a container is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Boot {
    /// It was not begun: whoever made the container did not come so far.
    Never,
    Runs {
        since: Option<Timestamp>,
    },
    /// It ended with this code, after these last lines.
    Ended {
        code: i64,
        said: String,
    },
    /// Its container stopped before it ended.
    CutOff,
}

impl Boot {
    /// Whether it stays so.
    pub(crate) fn is_over(&self) -> bool {
        match self {
            Boot::Never | Boot::Runs { .. } => false,
            Boot::Ended { .. } | Boot::CutOff => true,
        }
    }
}

/// What a failed Init is told as.
pub(crate) fn told(code: i64, said: &str) -> String {
    let end = format!("Init exited with {code}");
    if said.is_empty() { end } else { format!("{end}: {said}") }
}

/// Writes what [`begin`] needs. The files that Init writes exist before it does, so that it may run as
/// anybody.
pub(crate) async fn put(docker: &Docker, id: &str, init: &str) -> Result<(), Error> {
    let file = |path, mode, content| File { path, mode, content };
    let files = [
        file(INIT, 0o755, init.as_bytes()),
        file(BOOT, 0o755, WRAPPER),
        file(LOG, 0o666, b""),
        file(EXIT, 0o666, b""),
    ];
    engine::put(docker, id, &files).await
}

/// Begins Init in a started container.
pub(crate) async fn begin(docker: &Docker, id: &str) -> Result<(), Error> {
    let options = CreateExecOptions {
        cmd: Some(vec!["/bin/sh".to_owned(), format!("/{BOOT}")]),
        ..CreateExecOptions::default()
    };
    let exec = docker.create_exec(id, options).await.map_err(engine::failed)?.id;
    let started = started_at(docker, id).await?.unwrap_or_default();
    let note = format!("{exec}\n{}\n{started}\n", jiff::Timestamp::now());
    // Written first: what has begun is never begun again.
    engine::put(docker, id, &[File { path: EXEC, mode: 0o644, content: note.as_bytes() }]).await?;
    let options = StartExecOptions { detach: true, ..StartExecOptions::default() };
    docker.start_exec(&exec, Some(options)).await.map(drop).map_err(engine::failed)
}

/// The exit code of what was killed.
const KILLED: i64 = 137;
/// How much later than its processes a container is told as stopped.
const STOPS_WITHIN: Duration = Duration::from_millis(500);

/// Waits for the end of Init, as long as there is time.
pub(crate) async fn wait(docker: &Docker, id: &str, until: Instant) -> Result<Boot, Error> {
    let mut pause = Duration::from_millis(20);
    loop {
        let boot = look(docker, id).await?;
        if !matches!(boot, Boot::Runs { .. }) || Instant::now() + pause > until {
            return Ok(boot);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(500));
    }
}

/// Looks how far Init is.
pub(crate) async fn look(docker: &Docker, id: &str) -> Result<Boot, Error> {
    if let Some(code) = exit_code(docker, id).await? {
        return ended(docker, id, code).await;
    }
    let Some(note) = engine::tail(docker, id, EXEC, 1024).await? else { return Ok(Boot::Never) };
    let note = String::from_utf8_lossy(&note);
    let mut lines = note.lines();
    let (exec, began, started) = (lines.next(), lines.next(), lines.next());
    let (Some(exec), Some(started)) = (exec, started) else { return Ok(Boot::Never) };
    let code = match docker.inspect_exec(exec).await {
        Ok(found) if found.running == Some(true) => None,
        Ok(found) if found.exit_code.is_none() => return Ok(Boot::Never),
        Ok(found) => found.exit_code,
        // The engine was started anew, and may have kept the container running.
        Err(error) if engine::status(&error) == Some(404) => None,
        Err(error) => return Err(engine::failed(error)),
    };
    if code == Some(KILLED) {
        // With its container, which is told as stopped a moment later, or alone.
        tokio::time::sleep(STOPS_WITHIN).await;
    }
    let goes_on = started_at(docker, id).await?.is_some_and(|at| at == started);
    // It may have ended since the first look.
    match (exit_code(docker, id).await?, code) {
        (Some(code), _) => ended(docker, id, code).await,
        (None, _) if !goes_on => Ok(Boot::CutOff),
        (None, Some(code)) => ended(docker, id, code).await,
        (None, None) => Ok(Boot::Runs { since: began.and_then(timestamp) }),
    }
}

/// When the container was started, if it runs.
async fn started_at(docker: &Docker, id: &str) -> Result<Option<String>, Error> {
    let state = engine::inspect(docker, id).await?.and_then(|found| found.state).unwrap_or_default();
    Ok(state.started_at.filter(|_| state.running == Some(true)))
}

async fn exit_code(docker: &Docker, id: &str) -> Result<Option<i64>, Error> {
    let written = engine::tail(docker, id, EXIT, 32).await?.unwrap_or_default();
    let written = String::from_utf8_lossy(&written);
    Ok(written.strip_suffix('\n').and_then(|code| code.trim().parse().ok()))
}

async fn ended(docker: &Docker, id: &str, code: i64) -> Result<Boot, Error> {
    let log = match code {
        0 => Vec::new(),
        _ => engine::tail(docker, id, LOG, TOLD).await?.unwrap_or_default(),
    };
    Ok(Boot::Ended { code, said: last_lines(&log) })
}

fn last_lines(log: &[u8]) -> String {
    let text = String::from_utf8_lossy(log);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(TOLD_LINES)..].join(" | ")
}

/// A point in time as the engine writes it; none for the year 1, which stands for never.
pub(crate) fn timestamp(text: &str) -> Option<Timestamp> {
    let at: jiff::Timestamp = text.parse().ok()?;
    u64::try_from(at.as_millisecond()).ok().map(Timestamp)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive;
    use crate::fake::{Fake, Reply};

    #[test]
    fn the_last_lines_are_told() {
        assert_eq!(told(3, &last_lines(b"first\n\nwhy\n")), "Init exited with 3: first | why");
        assert_eq!(told(3, &last_lines(b"")), "Init exited with 3");
        assert_eq!(last_lines(b"1\n2\n3\n4\n5\n6\n7"), "3 | 4 | 5 | 6 | 7");
        assert_eq!(timestamp("0001-01-01T00:00:00Z"), None);
        assert_eq!(timestamp("1970-01-01T00:00:01.5Z"), Some(Timestamp(1500)));
    }

    /// An engine that was started anew and knows no exec of before. It may have kept the container running.
    #[tokio::test]
    async fn an_engine_that_has_forgotten_the_exec_is_asked_for_the_container() {
        let runs = Boot::Runs { since: Some(Timestamp(2_000)) };
        let ended = Boot::Ended { code: 0, said: String::new() };
        for (exit, started, is_running, boot) in [
            ("", "1970-01-01T00:00:01Z", true, runs),
            ("", "1970-01-01T00:00:09Z", true, Boot::CutOff),
            ("", "1970-01-01T00:00:01Z", false, Boot::CutOff),
            ("0\n", "1970-01-01T00:00:09Z", true, ended),
        ] {
            let fake = Fake::serve(move |asked| {
                let file = |content: &str| {
                    let tar = archive::pack(&[File { path: "f", mode: 0o644, content: content.as_bytes() }]);
                    Reply::Now(200, String::from_utf8(tar).expect("ASCII"))
                };
                if asked.contains("init.exit") {
                    file(exit)
                } else if asked.contains("init.exec") {
                    file("abc\n1970-01-01T00:00:02Z\n1970-01-01T00:00:01Z\n")
                } else if asked.contains("/exec/abc/") {
                    Reply::Now(404, r#"{"message":"No such exec instance: abc"}"#.to_owned())
                } else {
                    let state = serde_json::json!({ "Running": is_running, "StartedAt": started });
                    Reply::Now(200, serde_json::json!({ "State": state }).to_string())
                }
            });
            assert_eq!(look(&fake.docker().await, "x").await.expect("an answer"), boot, "{exit:?} {started}");
        }
    }
}
