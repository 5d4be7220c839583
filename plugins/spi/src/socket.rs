//! The name of a plugin in the directory: its socket and its pid file. Those of a dead process are replaced,
//! those of a running one never.

use std::fs::File;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use tokio::net::UnixListener;

/// Holds a name until it is dropped.
pub(crate) struct Name {
    socket: PathBuf,
    pid: PathBuf,
    /// The socket of this process; another process may have replaced it.
    inode: u64,
    /// Locked as long as this process runs, however it ends.
    _lock: File,
}

/// Binds `name` in the directory, replacing the files of a dead process. The name of a running plugin is
/// `AddrInUse`, that of one that is about to end `WouldBlock`.
pub(crate) fn bind(directory: &Path, name: &str) -> io::Result<(UnixListener, Name)> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    // A leading dot and no socket: listings of the directory pass it over.
    let lock = File::create(directory.join(format!(".{name}.lock")))?;
    let socket = directory.join(name);
    let taken = || {
        io::Error::new(
            io::ErrorKind::AddrInUse,
            format!("a plugin named `{name}` is already running, on {}", socket.display()),
        )
    };
    // A foreign plugin takes no lock, and one that ends listens no more.
    if std::os::unix::net::UnixStream::connect(&socket).is_ok() {
        return Err(taken());
    }
    if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        let ending = format!("the calls of an earlier plugin named `{name}` have not ended yet");
        return Err(io::Error::new(io::ErrorKind::WouldBlock, ending));
    }
    match std::fs::remove_file(&socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(&socket)?;
    let inode = std::fs::symlink_metadata(&socket)?.ino();
    let pid = directory.join(format!("{name}.pid"));
    // No newline: InfraKit's reader stumbles over it.
    std::fs::write(&pid, std::process::id().to_string())?;
    Ok((listener, Name { socket, pid, inode, _lock: lock }))
}

impl Name {
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }
}

impl Name {
    /// Removes it from the directory. No other plugin of this kind gets it before this value is dropped.
    pub(crate) fn withdraw(&self) {
        let ours = std::fs::symlink_metadata(&self.socket).is_ok_and(|found| found.ino() == self.inode);
        if ours {
            // What cannot be removed now is replaced by the next to start.
            let _ = std::fs::remove_file(&self.socket);
            let _ = std::fs::remove_file(&self.pid);
        }
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        self.withdraw();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_dead_socket_is_replaced_and_a_living_one_is_not() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        // What a killed process leaves: a socket nobody listens on, and its pid file.
        drop(std::os::unix::net::UnixListener::bind(dir.path().join("web")).expect("a socket"));
        std::fs::write(dir.path().join("web.pid"), "1").expect("a pid file");
        let (_listener, name) = bind(dir.path(), "web").expect("the dead are replaced");
        let pid = std::fs::read_to_string(dir.path().join("web.pid")).expect("a pid file");
        assert_eq!(pid, std::process::id().to_string());
        let error = bind(dir.path(), "web").map(|_| ()).expect_err("the living are not");
        assert!(error.to_string().contains("is already running"), "{error}");
        drop(name);
        assert!(!dir.path().join("web").exists() && !dir.path().join("web.pid").exists());
    }

    #[tokio::test]
    async fn a_foreign_plugin_that_lives_keeps_its_name() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let _foreign = std::os::unix::net::UnixListener::bind(dir.path().join("web")).expect("a socket");
        assert!(bind(dir.path(), "web").is_err());
    }

    #[tokio::test]
    async fn an_old_process_does_not_remove_its_successors_socket() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (_listener, old) = bind(dir.path(), "web").expect("a name");
        std::fs::remove_file(old.socket()).expect("somebody cleans up");
        let _successor = std::os::unix::net::UnixListener::bind(old.socket()).expect("a foreign successor");
        drop(old);
        assert!(dir.path().join("web").exists());
    }
}
