//! Encryption at rest: values are encrypted before they reach the disk, and bound to their column and key.
//!
//! XChaCha20-Poly1305 with random nonces. The additional data are the column and the key, so that values
//! cannot be exchanged.

use std::io;
use std::sync::Weak;

use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};

use crate::store::{Batch, Db, Op, Store, Visit};

/// The first byte of an encrypted value.
const VERSION: u8 = 1;
const NONCE: usize = 24;

/// The encryption key of a disk.
#[derive(Clone)]
pub struct Key([u8; 32]);

impl Key {
    pub fn draw() -> Self {
        Self(rand::random())
    }

    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// Encrypts another key with this one.
    pub fn lock(&self, other: &Key) -> Vec<u8> {
        let nonce: [u8; NONCE] = rand::random();
        let payload = Payload { msg: &other.0[..], aad: LOCKED };
        let sealed = XChaCha20Poly1305::new(&self.0.into()).encrypt(&XNonce::from(nonce), payload);
        [&nonce[..], &sealed.expect("a key is short")].concat()
    }

    /// Decrypts what [`Key::lock`] has encrypted; none if the key is wrong or the bytes were changed.
    pub fn unlock(&self, locked: &[u8]) -> Option<Key> {
        let (nonce, sealed) = locked.split_at_checked(NONCE)?;
        let nonce: [u8; NONCE] = nonce.try_into().ok()?;
        let payload = Payload { msg: sealed, aad: LOCKED };
        let opened = XChaCha20Poly1305::new(&self.0.into()).decrypt(&XNonce::from(nonce), payload).ok()?;
        opened.try_into().ok().map(Key)
    }
}

/// The additional data of a locked key.
const LOCKED: &[u8] = b"infrakit key";

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(key)")
    }
}

/// A store with encrypted values.
pub(crate) struct Sealed {
    inner: Db,
    cipher: XChaCha20Poly1305,
}

impl Sealed {
    pub(crate) fn new(inner: Db, key: &Key) -> Self {
        Self { inner, cipher: XChaCha20Poly1305::new(&key.0.into()) }
    }

    fn seal(&self, column: &str, key: &[u8], value: &[u8]) -> io::Result<Vec<u8>> {
        let nonce: [u8; NONCE] = rand::random();
        let place = place(column, key);
        let payload = Payload { msg: value, aad: &place };
        let sealed = self.cipher.encrypt(&XNonce::from(nonce), payload).map_err(|_| too_long())?;
        let mut whole = Vec::with_capacity(1 + NONCE + sealed.len());
        whole.push(VERSION);
        whole.extend_from_slice(&nonce);
        whole.extend_from_slice(&sealed);
        Ok(whole)
    }

    fn open(&self, column: &str, key: &[u8], whole: &[u8]) -> io::Result<Vec<u8>> {
        let (nonce, sealed) = whole
            .split_first()
            .filter(|(version, _)| **version == VERSION)
            .and_then(|(_, rest)| rest.split_at_checked(NONCE))
            .ok_or_else(|| damaged(column))?;
        let nonce: [u8; NONCE] = nonce.try_into().expect("it was split there");
        let place = place(column, key);
        self.cipher
            .decrypt(&XNonce::from(nonce), Payload { msg: sealed, aad: &place })
            .map_err(|_| damaged(column))
    }
}

fn place(column: &str, key: &[u8]) -> Vec<u8> {
    [column.as_bytes(), &[0], key].concat()
}

fn damaged(column: &str) -> io::Error {
    let why = format!("a value of column `{column}` is damaged, or encrypted with another key");
    io::Error::new(io::ErrorKind::InvalidData, why)
}

fn too_long() -> io::Error {
    io::Error::other("a value is too long to be encrypted")
}

impl Store for Sealed {
    fn get(&self, column: &str, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        self.inner.get(column, key)?.map(|whole| self.open(column, key, &whole)).transpose()
    }

    fn write(&self, batch: Batch) -> io::Result<()> {
        let sealed = batch.into_iter().map(|op| match op {
            Op::Put(column, key, value) => {
                let value = self.seal(column, &key, &value)?;
                Ok(Op::Put(column, key, value))
            }
            other => Ok(other),
        });
        self.inner.write(sealed.collect::<io::Result<_>>()?)
    }

    fn sync(&self) -> io::Result<()> {
        self.inner.sync()
    }

    fn note(&self) -> io::Result<()> {
        self.inner.note()
    }

    fn scan(&self, column: &str, from: &[u8], visit: Visit<'_>) -> io::Result<()> {
        self.inner.scan(column, from, &mut |key, whole| visit(key, self.open(column, key, &whole)?))
    }

    fn last(&self, column: &str) -> io::Result<Option<(Vec<u8>, Vec<u8>)>> {
        let last = self.inner.last(column)?;
        last.map(|(key, whole)| {
            let value = self.open(column, &key, &whole)?;
            Ok((key, value))
        })
        .transpose()
    }

    fn blocks(&self) -> bool {
        self.inner.blocks()
    }

    fn is_open(&self) -> Weak<()> {
        self.inner.is_open()
    }
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;
    use std::sync::Arc;

    use super::*;
    use crate::store::{LOG, META, MemoryDisk};

    fn put(store: &Sealed, column: &'static str, key: &[u8], value: &[u8]) {
        let mut batch = Batch::default();
        batch.put(column, key, value.to_vec());
        store.write(batch).expect("it is written");
    }

    #[test]
    fn a_value_is_read_with_its_key_where_it_was_written_and_nowhere_else() {
        let inner: Db = Arc::new(MemoryDisk::default().open().expect("it is free"));
        let key = Key::draw();
        let store = Sealed::new(inner.clone(), &key);
        let value = b"a planted secret";
        put(&store, LOG, b"1", value);
        put(&store, LOG, b"2", value);
        let kept = inner.get(LOG, b"1").expect("it is read").expect("it is there");
        assert!(!kept.windows(value.len()).any(|it| it == value), "it is sealed");
        assert_ne!(inner.get(LOG, b"2").expect("it is read"), Some(kept.clone()), "each in its own way");
        assert_eq!(store.get(LOG, b"1").expect("it is read").as_deref(), Some(&value[..]));
        assert_eq!(store.last(LOG).expect("it is read"), Some((b"2".to_vec(), value.to_vec())));
        let mut shown = Vec::new();
        let all = &mut |key: &[u8], value: Vec<u8>| {
            shown.push((key.to_vec(), value));
            Ok(ControlFlow::Continue(()))
        };
        store.scan(LOG, b"", all).expect("it is read");
        assert_eq!(shown, [(b"1".to_vec(), value.to_vec()), (b"2".to_vec(), value.to_vec())]);
        // Elsewhere, with another key, or changed by a bit, it is damage and never a value.
        let copy = |column, at: &[u8], whole: Vec<u8>| {
            let mut batch = Batch::default();
            batch.put(column, at, whole);
            inner.write(batch).expect("it is written");
            store.get(column, at).map_err(|error| error.kind())
        };
        let damaged = Err(io::ErrorKind::InvalidData);
        assert_eq!(copy(LOG, b"3", kept.clone()), damaged);
        assert_eq!(copy(META, b"1", kept.clone()), damaged);
        for at in 0..kept.len() {
            let mut changed = kept.clone();
            changed[at] ^= 1;
            assert_eq!(copy(LOG, b"1", changed), damaged, "byte {at}");
            assert_eq!(copy(LOG, b"1", kept[..at].to_vec()), damaged, "cut at {at}");
        }
        assert_eq!(copy(LOG, b"1", kept), Ok(Some(value.to_vec())));
        let other = Sealed::new(inner, &Key::draw());
        assert!(other.get(LOG, b"1").is_err(), "another key");
    }
}
