//! One run of the program: in its own process group, so that all it has started ends with it.

use std::fmt;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use spi::{Call, Class, Error, since_boot};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

/// The most that is read of what a program says: a listing of 100,000 instances.
const LARGEST_OUTPUT: u64 = 64 << 20;

/// How much of its standard error is kept, from the end.
const LAST_WORDS: usize = 2000;

/// The second words of what changes something.
const CHANGE: [&str; 4] = ["provision", "label", "destroy", "start"];

/// How long after its end what it has left running may hold its output open.
const LINGERS: Duration = Duration::from_millis(500);

pub(crate) struct Program {
    path: PathBuf,
    deadline: Duration,
    /// For what changes something, and for what only tells: neither waits for the other.
    turns: [Arc<Semaphore>; 2],
}

/// The outcome of a run.
#[derive(Debug)]
pub(crate) struct Ended {
    /// None when a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) output: String,
    pub(crate) errors: String,
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.display().fmt(f)
    }
}

impl Ended {
    /// Its last words, or the exit code with `instead`.
    pub(crate) fn why(&self, instead: &str) -> String {
        let said = self.errors.trim();
        if !said.is_empty() {
            return said.to_owned();
        }
        match self.code {
            Some(code) => format!("exit code {code}: {instead}"),
            None => "it was ended by a signal".to_owned(),
        }
    }
}

/// Ends all that a run has started, also when nobody waits for it any more.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // It may have ended.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// A task that ends with whoever waits for it: something that was left running may hold its pipe open.
struct Task<T>(JoinHandle<T>);

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Program {
    pub(crate) fn new(path: PathBuf, deadline: Duration, parallel: usize) -> Self {
        Self { path, deadline, turns: [(); 2].map(|()| Arc::new(Semaphore::new(parallel))) }
    }

    /// Runs it once. It is an error when it does not start, which is certain to have done nothing, or when it does not
    /// end in time, which may have done anything.
    pub(crate) async fn run(&self, words: &[&str], input: &str, call: &Call) -> Result<Ended, Error> {
        let began = Instant::now();
        let left = call.not_after.map(|until| until.saturating_sub(since_boot()));
        let whole = left.map_or(self.deadline, |left| left.min(self.deadline));
        // Half of the time is for the program: it is not begun only to be killed.
        let changes = words.get(1).is_some_and(|it| CHANGE.contains(it));
        let turn = timeout(whole / 2, self.turns[usize::from(changes)].acquire()).await;
        let Ok(Ok(_turn)) = turn else {
            let why = "as many of its programs run as may; nothing was done";
            return Err(Error::new(Class::Exhausted, why));
        };
        let deadline = whole.saturating_sub(began.elapsed());
        if deadline.is_zero() {
            return Err(Error::new(Class::Exhausted, "the deadline of the call is over"));
        }
        let mut command = Command::new(&self.path);
        command
            .args(words)
            .env("INFRAKIT_DEADLINE", deadline.as_secs().max(1).to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        let mut child = command
            .spawn()
            .map_err(|error| Error::new(Class::Unavailable, format!("{self} cannot be run: {error}")))?;
        let group = Group(child.id().and_then(|id| Pid::from_raw(id as i32)));
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let input = input.as_bytes().to_vec();
        // One that does not read its input closes it.
        let _writing = Task(tokio::spawn(async move {
            if let Some(mut stdin) = stdin {
                let _ = stdin.write_all(&input).await;
            }
        }));
        let mut output = Task(tokio::spawn(read(stdout, LARGEST_OUTPUT)));
        let mut errors = Task(tokio::spawn(last_words(stderr)));
        let ended = timeout(deadline, child.wait()).await;
        // Whatever it has left behind ends too; then both ends of its output are closed.
        drop(group);
        let status = match ended {
            Ok(status) => status.map_err(Error::unsure)?,
            Err(_) => {
                let errors =
                    timeout(LINGERS, &mut errors.0).await.map(Result::unwrap_or_default).unwrap_or_default();
                let errors = if errors.is_empty() { errors } else { format!(": {errors}") };
                return Err(Error::unsure(format!(
                    "`{}` was killed after {deadline:?}{errors}",
                    words.join(" ")
                )));
            }
        };
        let output = timeout(LINGERS, &mut output.0)
            .await
            .map_err(|_| Error::unsure("something that it left running holds its output open"))?;
        let errors = timeout(LINGERS, &mut errors.0).await.map(Result::unwrap_or_default).unwrap_or_default();
        let output = output.map_err(Error::unsure)?.map_err(Error::unsure)?;
        if !errors.trim().is_empty() {
            tracing::info!(program = %self, words = words.join(" "), "{}", errors.trim());
        }
        Ok(Ended { code: status.code(), output, errors })
    }
}

async fn read(from: Option<impl AsyncRead + Unpin>, most: u64) -> Result<String, String> {
    let Some(from) = from else { return Ok(String::new()) };
    let mut bytes = Vec::new();
    from.take(most + 1).read_to_end(&mut bytes).await.map_err(|error| error.to_string())?;
    if bytes.len() as u64 > most {
        return Err(format!("it says more than {most} bytes"));
    }
    String::from_utf8(bytes).map_err(|error| format!("what it says is not UTF-8: {error}"))
}

async fn last_words(from: Option<impl AsyncRead + Unpin>) -> String {
    let Some(mut from) = from else { return String::new() };
    let (mut last, mut piece) = (Vec::new(), [0; 4096]);
    while let Ok(n @ 1..) = from.read(&mut piece).await {
        last.extend_from_slice(&piece[..n]);
        let surplus = last.len().saturating_sub(LAST_WORDS);
        last.drain(..surplus);
    }
    String::from_utf8_lossy(&last).into_owned()
}
