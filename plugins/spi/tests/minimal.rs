//! The example of a plugin in one file keeps the contract, started as `infrakit plugin start minimal` would.

use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use model::{Opaque, PluginName};
use spi::Directory;

/// Stops the process when the test ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Cargo builds examples beside the tests.
fn example() -> PathBuf {
    let test = std::env::current_exe().expect("this test");
    test.ancestors().nth(2).expect("the directory of the profile").join("examples/minimal")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_plugin_in_one_file_keeps_the_contract() {
    let dir = tempfile::TempDir::new().expect("a directory");
    let start = |arguments: &[&str]| {
        let mut command = Command::new(example());
        command.args(arguments).env("INFRAKIT_PLUGINS_DIR", dir.path());
        command
    };
    let help = start(&["--help"]).output().expect("it runs");
    assert!(
        help.status.success() && String::from_utf8_lossy(&help.stdout).contains("keeps instances in memory")
    );
    let wrong = start(&["--set", "size=3"]).output().expect("it runs");
    assert_eq!(wrong.status.code(), Some(64));
    assert!(
        String::from_utf8_lossy(&wrong.stderr)
            .contains("unknown option `size` of minimal; known: it has none")
    );

    let mut running = Running(start(&["store"]).spawn().expect("it runs"));
    let name = PluginName::check("store").expect("a name");
    let directory = Directory::new(dir.path());
    let began = Instant::now();
    let client = loop {
        if let Ok(found) = directory.find(&name)
            && found.client().hello().await.is_ok()
        {
            break found.client();
        }
        assert!(began.elapsed() < Duration::from_secs(30), "it does not answer");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let report = spi::conformance::instances(&client, "", &Opaque::from_json("{}")).await;
    assert!(report.passed(), "{report}");
    assert_eq!(report.class, Some(model::plugin::PluginClass::A));

    let pid = rustix::process::Pid::from_child(&running.0);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
    assert!(running.0.wait().expect("it ends").success());
    assert!(directory.list().expect("a directory").is_empty(), "its name is free");
}
