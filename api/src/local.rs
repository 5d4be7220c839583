//! Managers on this machine: each has a local socket, found by the address it listens on. Access to the
//! socket authenticates the user.

use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The directory with the sockets of this user's managers: `$INFRAKIT_RUNTIME_DIR`, or `/run/infrakit` for
/// root and its owner, or `$XDG_RUNTIME_DIR/infrakit`, or a directory of the user in the temporary directory.
pub fn runtime_dir() -> PathBuf {
    let named = |name: &str| std::env::var_os(name).filter(|it| !it.is_empty()).map(PathBuf::from);
    let user = rustix::process::geteuid();
    named("INFRAKIT_RUNTIME_DIR")
        .or_else(|| (user.is_root() || owns(SYSTEM, user.as_raw())).then(|| PathBuf::from(SYSTEM)))
        .or_else(|| named("XDG_RUNTIME_DIR").map(|it| it.join("infrakit")))
        .unwrap_or_else(|| std::env::temp_dir().join(format!("infrakit-{}", user.as_raw())))
}

/// The runtime directory of the system service.
const SYSTEM: &str = "/run/infrakit";

fn owns(path: &str, user: u32) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|it| it.is_dir() && it.uid() == user)
}

/// The socket of this user's manager that listens on `address`, if one is published.
pub fn socket_of(address: &str) -> Option<PathBuf> {
    let dir = runtime_dir();
    // A directory of another user is not trusted.
    let metadata = std::fs::symlink_metadata(&dir).ok()?;
    if !metadata.is_dir() || metadata.uid() != rustix::process::geteuid().as_raw() {
        return None;
    }
    let path = dir.join(file(address));
    std::fs::symlink_metadata(&path).is_ok().then_some(path)
}

/// Publishes the socket of the manager that listens on `address`.
pub fn publish(address: &str, socket: &Path) -> io::Result<()> {
    let dir = runtime_dir();
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
    if std::fs::symlink_metadata(&dir)?.uid() != rustix::process::geteuid().as_raw() {
        return Err(io::Error::other(format!("{} belongs to another user", dir.display())));
    }
    sweep(&dir);
    let path = dir.join(file(address));
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    std::os::unix::fs::symlink(std::path::absolute(socket)?, path)
}

/// Removes the names of managers that were killed: nobody listens there any more.
fn sweep(dir: &Path) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        // A manager that has just published its name may not listen yet.
        let is_old = |path: &Path| {
            let published = std::fs::symlink_metadata(path).and_then(|it| it.modified());
            published.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > STALE_AFTER))
        };
        let is_name = path.extension().is_some_and(|it| it == "sock") && path.is_symlink();
        if is_name && is_old(&path) && is_deserted(&path) && is_old(&path) {
            // Whatever cannot be removed stays, and misleads nobody.
            let _ = std::fs::remove_file(&path);
        }
    }
}

/// A younger name is left alone.
const STALE_AFTER: Duration = Duration::from_secs(60);

/// Whether nobody listens on a socket. Does not wait for whoever does.
fn is_deserted(path: &Path) -> bool {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
    let tried = SocketAddrUnix::new(path).and_then(|address| {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        connect(&socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?, &address)
    });
    matches!(tried, Err(rustix::io::Errno::CONNREFUSED | rustix::io::Errno::NOENT))
}

/// Withdraws it, if it still points to this socket.
pub fn withdraw(address: &str, socket: &Path) {
    let path = runtime_dir().join(file(address));
    if std::fs::read_link(&path).is_ok_and(|leads| std::path::absolute(socket).is_ok_and(|it| it == leads)) {
        // If it cannot be removed, clients find that nothing listens there.
        let _ = std::fs::remove_file(path);
    }
}

fn file(address: &str) -> String {
    format!("{}.sock", address.replace('/', "_"))
}
