//! One process of the program under test.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The `infrakit` program: `INFRAKIT_BIN`, or the one that was built beside these tests.
pub fn program() -> PathBuf {
    if let Some(path) = std::env::var_os("INFRAKIT_BIN") {
        return path.into();
    }
    let mut path = std::env::current_exe().expect("a test knows its own path");
    path.pop();
    if path.ends_with("deps") {
        path.pop();
    }
    let program = path.join("infrakit");
    assert!(program.exists(), "{} is not built; run `cargo build -p infrakit-cli`", program.display());
    program
}

/// What is around a process.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// A command that runs it, such as one that puts it on another host.
    pub before: Vec<String>,
    pub environment: Vec<(String, String)>,
}

/// A process that dies with its owner.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts the program with its output in `log`.
    pub fn start(args: &[&str], log: &Path) -> Self {
        Self::start_in(&Surroundings::default(), args, log)
    }

    /// The same, in surroundings of its own.
    pub fn start_in(surroundings: &Surroundings, args: &[&str], log: &Path) -> Self {
        let file = std::fs::File::options().create(true).append(true).open(log).expect("a log file");
        let again = file.try_clone().expect("a second handle");
        let program = program().display().to_string();
        let mut words = surroundings.before.iter().map(String::as_str).chain([program.as_str()]);
        let child = Command::new(words.next().expect("the program at least"))
            .args(words)
            .args(args)
            .envs(surroundings.environment.iter().map(|(name, value)| (name, value)))
            .env_remove("INFRAKIT_HOST")
            .env_remove("INFRAKIT_PLUGINS_DIR")
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(again)
            .spawn()
            .expect("the program starts");
        Self { child, log: log.to_owned() }
    }

    /// SIGKILL: no warning, no clean-up.
    pub fn kill(&mut self) {
        // It may be dead already.
        let _ = self.child.kill();
        self.child.wait().expect("a killed child can be waited for");
    }

    /// SIGSTOP and SIGCONT.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("the process is there");
    }

    /// Its exit code, when it has ended by itself.
    pub fn ended(&mut self) -> Option<i32> {
        self.child.try_wait().expect("a child can be asked").map(|status| status.code().unwrap_or(-1))
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Waits until `there` gives something, or fails with the sentence.
pub async fn until<T>(sentence: &str, mut there: impl AsyncFnMut() -> Option<T>) -> T {
    let began = Instant::now();
    // Ten times what the slowest story needs on two busy cores.
    let deadline = Duration::from_secs(60);
    loop {
        if let Some(found) = there().await {
            return found;
        }
        assert!(began.elapsed() < deadline, "waited {deadline:?} in vain until {sentence}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
