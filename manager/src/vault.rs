//! The key that seals what a manager keeps: in a file beside the database, for this user alone.

use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use raft::Key;

/// The name of the file: 64 hexadecimal digits.
pub(crate) const FILE: &str = "key";

/// What helps when it cannot be used.
pub(crate) const REMEDY: &str = "bring back the file `key` that belongs to this data directory, readable to this \
                                 user alone; without it nothing there can be read, and the manager must join \
                                 anew with an empty --data-dir";

/// The key of the database in this directory; drawn when there is none yet.
pub(crate) fn key(dir: &Path, new: bool) -> io::Result<Key> {
    key_in(&dir.join(FILE), new)
}

/// The key in this file; drawn when there is none yet and it is to be `new`.
pub(crate) fn key_in(path: &Path, new: bool) -> io::Result<Key> {
    let what = |kind, why: String| io::Error::new(kind, format!("{}: {why}", path.display()));
    match std::fs::read_to_string(path) {
        Ok(text) => {
            let mode = std::fs::metadata(path)?.mode();
            if mode & 0o077 != 0 {
                let why = format!("others may read it (mode {:o})", mode & 0o777);
                return Err(what(io::ErrorKind::PermissionDenied, why));
            }
            let digits = data_encoding::HEXLOWER.decode(text.trim().as_bytes()).ok();
            let bytes = digits.and_then(|it| <[u8; 32]>::try_from(it).ok());
            bytes.map(Key::new).ok_or_else(|| what(io::ErrorKind::NotFound, "it is no key".into()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound && new => {
            let key = Key::draw();
            // Before anything is sealed with it, it survives a power cut.
            let mut file = std::fs::File::options();
            let mut file = file.create_new(true).write(true).mode(0o600).open(path)?;
            writeln!(file, "{}", data_encoding::HEXLOWER.encode(key.expose()))?;
            file.sync_all()?;
            let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
            std::fs::File::open(dir)?.sync_all()?;
            Ok(key)
        }
        Err(error) => Err(what(error.kind(), error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_is_drawn_once_and_kept_to_one_user() {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(key(dir.path(), false).expect_err("there is none").kind(), io::ErrorKind::NotFound);
        let first = key(dir.path(), true).expect("it is drawn");
        assert_eq!(key(dir.path(), true).expect("it is read").expose(), first.expose());
        assert_eq!(key(dir.path(), false).expect("it is read").expose(), first.expose());
        let path = dir.path().join(FILE);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("it is ours");
        let error = key(dir.path(), false).expect_err("others may read it");
        assert!(error.to_string().contains("others may read it"), "{error}");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("it is ours");
        std::fs::write(&path, "rubbish").expect("it is ours");
        assert!(key(dir.path(), true).is_err(), "it is never drawn anew");
    }
}
