//! Managers on this machine: each has a local socket, found by the address it listens on, and whoever may
//! open it is trusted.

use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Where the sockets of this user's managers are found: `$INFRAKIT_RUNTIME_DIR`, or `/run/infrakit` for root
/// and for whoever it belongs to, or `$XDG_RUNTIME_DIR/infrakit`, or a directory of the user's own among the
/// temporary files.
pub fn runtime_dir() -> PathBuf {
    let named = |name: &str| std::env::var_os(name).filter(|it| !it.is_empty()).map(PathBuf::from);
    let user = rustix::process::geteuid();
    named("INFRAKIT_RUNTIME_DIR")
        .or_else(|| (user.is_root() || owns(SYSTEM, user.as_raw())).then(|| PathBuf::from(SYSTEM)))
        .or_else(|| named("XDG_RUNTIME_DIR").map(|it| it.join("infrakit")))
        .unwrap_or_else(|| std::env::temp_dir().join(format!("infrakit-{}", user.as_raw())))
}

/// Of a manager that runs as a service.
const SYSTEM: &str = "/run/infrakit";

fn owns(path: &str, user: u32) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|it| it.is_dir() && it.uid() == user)
}

/// The socket of the manager of this user that listens on `address`, if there is or was one.
pub fn socket_of(address: &str) -> Option<PathBuf> {
    let dir = runtime_dir();
    // Nobody else may say where to find a manager.
    let metadata = std::fs::symlink_metadata(&dir).ok()?;
    if !metadata.is_dir() || metadata.uid() != rustix::process::geteuid().as_raw() {
        return None;
    }
    let path = dir.join(file(address));
    std::fs::symlink_metadata(&path).is_ok().then_some(path)
}

/// Lets the socket of the manager that listens on `address` be found.
pub fn publish(address: &str, socket: &Path) -> io::Result<()> {
    let dir = runtime_dir();
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
    if std::fs::symlink_metadata(&dir)?.uid() != rustix::process::geteuid().as_raw() {
        return Err(io::Error::other(format!("{} belongs to another user", dir.display())));
    }
    let path = dir.join(file(address));
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    std::os::unix::fs::symlink(std::path::absolute(socket)?, path)
}

/// Takes it back, when it still leads to this socket.
pub fn withdraw(address: &str, socket: &Path) {
    let path = runtime_dir().join(file(address));
    if std::fs::read_link(&path).is_ok_and(|leads| std::path::absolute(socket).is_ok_and(|it| it == leads)) {
        // Whoever finds it meanwhile finds nobody there.
        let _ = std::fs::remove_file(path);
    }
}

fn file(address: &str) -> String {
    format!("{}.sock", address.replace('/', "_"))
}
