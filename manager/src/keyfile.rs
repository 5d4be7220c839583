//! The file with the encryption key of a data directory, readable by its user only. The key may be locked:
//! then the manager needs an unlock key to start.

use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use model::access::Secret;
use raft::Key;

use crate::private_file;

/// The name of the file. It holds 64 hexadecimal digits, or `locked` and more of them.
pub(crate) const FILE: &str = "key";

/// The prefix of a locked key.
const LOCKED: &str = "locked ";

/// The prefix of an unlock key.
const UNLOCK: &str = "IKUNLOCK-1-";

/// The remedy for a missing or unusable key.
pub(crate) const REMEDY: &str = "restore the file `key` of this data directory, readable by this user \
                                 only; without it the data cannot be read, and the manager must join again \
                                 with an empty --data-dir";

/// The remedy for a locked key.
pub(crate) const UNLOCK_REMEDY: &str = "give the unlock key that `infrakit manager lock` printed: \
                                        --unlock-key-file FILE, or INFRAKIT_UNLOCK_KEY; nothing was \
                                        changed";

/// The key of the database in this directory; generated if `new` is set and there is none.
pub(crate) fn key(dir: &Path, new: bool, unlock: Option<&Secret>) -> io::Result<Key> {
    let path = dir.join(FILE);
    let what = |why: &str| io::Error::new(io::ErrorKind::ResourceBusy, format!("{}: {why}", path.display()));
    match read(&path)? {
        Stored::Nothing if new => {
            let key = Key::draw();
            write_new(&path, &key)?;
            Ok(key)
        }
        Stored::Nothing => {
            Err(io::Error::new(io::ErrorKind::NotFound, format!("{}: No such file", path.display())))
        }
        Stored::Plain(key) => Ok(key),
        Stored::Locked(locked) => {
            let given = unlock.ok_or_else(|| what("it is locked, and no unlock key was given"))?;
            let unlocking =
                parse(given).ok_or_else(|| what("it is locked, and the given text is not an unlock key"))?;
            unlocking.unlock(&locked).ok_or_else(|| what("it is locked with another unlock key"))
        }
    }
}

/// Locks the key in this directory, and returns the new unlock key, which is stored nowhere. A running
/// manager is not affected.
pub fn lock(dir: &Path, unlock: Option<&Secret>) -> io::Result<String> {
    let key = key(dir, false, unlock)?;
    let unlocking = Key::draw();
    let locked = data_encoding::HEXLOWER.encode(&unlocking.lock(&key));
    private_file::save(&dir.join(FILE), format!("{LOCKED}{locked}\n").as_bytes())?;
    Ok(format!("{UNLOCK}{}", data_encoding::BASE32_NOPAD.encode(unlocking.expose())))
}

/// Removes the lock of the key in this directory.
pub fn unlock(dir: &Path, unlock: Option<&Secret>) -> io::Result<()> {
    let key = key(dir, false, unlock)?;
    let text = format!("{}\n", data_encoding::HEXLOWER.encode(key.expose()));
    private_file::save(&dir.join(FILE), text.as_bytes())
}

/// Parses an unlock key.
fn parse(given: &Secret) -> Option<Key> {
    let text = std::str::from_utf8(given.expose()).ok()?.trim().strip_prefix(UNLOCK)?;
    let bytes = data_encoding::BASE32_NOPAD.decode(text.as_bytes()).ok()?;
    bytes.try_into().ok().map(Key::new)
}

/// The key in this file, which is never locked; generated if `new` is set and there is none.
pub(crate) fn key_in(path: &Path, new: bool) -> io::Result<Key> {
    match read(path)? {
        Stored::Plain(key) => Ok(key),
        Stored::Nothing if new => {
            let key = Key::draw();
            write_new(path, &key)?;
            Ok(key)
        }
        Stored::Nothing | Stored::Locked(_) => {
            Err(io::Error::new(io::ErrorKind::NotFound, format!("{}: not a valid key", path.display())))
        }
    }
}

/// The content of a key file.
enum Stored {
    Nothing,
    Plain(Key),
    Locked(Vec<u8>),
}

fn read(path: &Path) -> io::Result<Stored> {
    let what = |kind, why: String| io::Error::new(kind, format!("{}: {why}", path.display()));
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Stored::Nothing),
        Err(error) => return Err(what(error.kind(), error.to_string())),
    };
    let mode = std::fs::metadata(path)?.mode();
    if mode & 0o077 != 0 {
        return Err(what(
            io::ErrorKind::PermissionDenied,
            format!("it is readable by other users (mode {:o})", mode & 0o777),
        ));
    }
    let text = text.trim();
    let digits = |text: &str| data_encoding::HEXLOWER.decode(text.as_bytes()).ok();
    let kept = match text.strip_prefix(LOCKED) {
        Some(locked) => digits(locked).map(Stored::Locked),
        None => digits(text).and_then(|it| it.try_into().ok()).map(|it| Stored::Plain(Key::new(it))),
    };
    kept.ok_or_else(|| what(io::ErrorKind::NotFound, "not a valid key".into()))
}

/// Syncs it to the disk before anything is encrypted with it.
fn write_new(path: &Path, key: &Key) -> io::Result<()> {
    let mut options = std::fs::File::options();
    let mut file = options.create_new(true).write(true).mode(0o600).open(path)?;
    writeln!(file, "{}", data_encoding::HEXLOWER.encode(key.expose()))?;
    file.sync_all()?;
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_is_drawn_once_and_kept_to_one_user() {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(key(dir.path(), false, None).expect_err("there is none").kind(), io::ErrorKind::NotFound);
        let first = key(dir.path(), true, None).expect("it is drawn");
        assert_eq!(key(dir.path(), true, None).expect("it is read").expose(), first.expose());
        assert_eq!(key(dir.path(), false, None).expect("it is read").expose(), first.expose());
        let path = dir.path().join(FILE);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("it is ours");
        let error = key(dir.path(), false, None).expect_err("others may read it");
        assert!(error.to_string().contains("readable by other users"), "{error}");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("it is ours");
        std::fs::write(&path, "rubbish").expect("it is ours");
        assert!(key(dir.path(), true, None).is_err(), "it is never drawn anew");
    }

    #[test]
    fn a_locked_key_is_read_with_its_unlock_key_and_with_no_other() {
        let dir = tempfile::tempdir().expect("a directory");
        let first = key(dir.path(), true, None).expect("it is drawn");
        let secret = |text: &str| Secret::new(text.as_bytes());
        let unlocking = secret(&lock(dir.path(), None).expect("it is locked"));
        let said =
            |given: Option<&Secret>| key(dir.path(), true, given).expect_err("it is locked").to_string();
        assert!(said(None).contains("no unlock key was given"));
        assert!(said(Some(&secret("rubbish"))).contains("is not an unlock key"));
        let other = format!("{UNLOCK}{}", data_encoding::BASE32_NOPAD.encode(Key::draw().expose()));
        assert!(said(Some(&secret(&other))).contains("another unlock key"));
        assert_eq!(key(dir.path(), false, Some(&unlocking)).expect("it opens").expose(), first.expose());
        // Locked anew: the first unlock key opens nothing any more.
        let next = secret(&lock(dir.path(), Some(&unlocking)).expect("it is locked anew"));
        assert!(said(Some(&unlocking)).contains("another unlock key"));
        unlock(dir.path(), Some(&next)).expect("it is unlocked");
        assert_eq!(key(dir.path(), false, None).expect("it opens").expose(), first.expose());
    }
}
