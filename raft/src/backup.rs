//! A backup: the state after one log entry, in an encrypted file with an authenticated header.
//!
//! ```text
//! INFRAKIT BACKUP\n | length of the head, 4 bytes | head (BackupHead) | nonce, 24 bytes | sealed State
//! ```
//!
//! XChaCha20-Poly1305; the additional data is everything before the nonce. So the head is readable without the key,
//! and cannot be changed.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use model::event::Event;
use model::{ClusterId, LogId, LogIndex, State, Term, Timestamp};
use prost::Message;

use crate::identity::Identity;
use crate::machine::stored;
use crate::published::Published;
use crate::seal::Key;
use crate::wire::PROGRAM;
use crate::{codec, proto as pb};

const MAGIC: &[u8] = b"INFRAKIT BACKUP\n";
const NONCE: usize = 24;
/// The number of the field of a backup that is its state (raft/proto/log.proto).
const STATE: u64 = 2;

/// The version of this form.
const VERSION: u32 = 1;

/// The header of a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    pub cluster: ClusterId,
    pub lineage: u32,
    /// The entry after which the state was so. Its term is the one in which it was taken, or a later one.
    pub last: LogId,
    pub at: Timestamp,
    /// The version of the program that took it.
    pub program: String,
    /// The feature level of the cluster.
    pub level: u32,
    pub groups: u64,
    pub managers: Vec<String>,
}

/// A backup.
#[derive(Debug, Clone, PartialEq)]
pub struct Backup {
    pub head: Head,
    pub state: State,
    /// The latest events up to there.
    pub events: Vec<Event>,
}

/// Why a file is not a usable backup.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadBackup {
    #[error("not a backup of infrakit")]
    Foreign,
    #[error("taken by infrakit {program}, in a format that this version does not support")]
    Newer { program: String },
    #[error("truncated")]
    Short,
    #[error("damaged, or encrypted with another key")]
    Sealed,
    #[error("the state cannot be decoded: {0}")]
    Corrupt(String),
}

impl Backup {
    /// A backup of a published state. For the latest state, call [`Replica::read`](crate::Replica::read)
    /// first.
    pub fn of(
        identity: &Identity,
        published: &Published,
        events: &[Arc<Event>],
        term: Term,
        at: Timestamp,
    ) -> Self {
        let state = (*published.state).clone();
        let up_to = |it: &&Event| it.index <= published.index;
        let events = stored(events).filter(up_to).cloned().collect();
        let head = Head {
            cluster: identity.cluster.clone(),
            lineage: identity.lineage,
            last: LogId { term, index: published.index },
            at,
            program: PROGRAM.to_owned(),
            level: state.level,
            groups: state.groups.len() as u64,
            managers: state.managers.values().map(|it| format!("{} {}", it.name, it.address)).collect(),
        };
        Self { head, state, events }
    }

    /// The plain form, for an encrypted connection.
    pub fn encode(&self) -> Bytes {
        let guess = codec::guess_of_state(&self.state);
        let mut written = Vec::with_capacity(guess);
        let before = pb::Backup { head: Some(head(&self.head)), state: Bytes::new() };
        before.encode(&mut written).expect("a vector grows");
        codec::message(&mut written, STATE, guess, |written| {
            codec::write_state(&self.state, written);
            codec::write_events(&self.state, &self.events, written);
        });
        written.into()
    }

    pub fn decode(bytes: Bytes) -> Result<Self, BadBackup> {
        let read = pb::Backup::decode(bytes).map_err(|error| BadBackup::Corrupt(error.to_string()))?;
        let head = from_head(&read.head.unwrap_or_default())?;
        Self::read(head, &read.state)
    }

    fn read(head: Head, state: &[u8]) -> Result<Self, BadBackup> {
        let corrupt = |error: codec::Corrupt| BadBackup::Corrupt(error.to_string());
        let events = codec::decode_events(state).map_err(corrupt)?;
        Ok(Self { head, state: codec::decode_state(state).map_err(corrupt)?, events })
    }

    /// The encrypted form, for a file.
    pub fn seal(&self, key: &Key) -> Vec<u8> {
        let head = head(&self.head).encode_to_vec();
        let mut whole = BytesMut::from(MAGIC);
        whole.extend_from_slice(&(head.len() as u32).to_le_bytes());
        whole.extend_from_slice(&head);
        let nonce: [u8; NONCE] = rand::random();
        let state = codec::encode_snapshot(&self.state, &self.events);
        let sealed = XChaCha20Poly1305::new(key.expose().into())
            .encrypt(&XNonce::from(nonce), Payload { msg: &state, aad: &whole })
            .expect("a state is shorter than 256 GiB");
        whole.extend_from_slice(&nonce);
        whole.extend_from_slice(&sealed);
        whole.to_vec()
    }

    /// Decrypts what [`Backup::seal`] has written; any change is detected.
    pub fn open(file: &[u8], key: &Key) -> Result<Self, BadBackup> {
        let (head, told) = split(file)?;
        let (nonce, sealed) = file[told..].split_at_checked(NONCE).ok_or(BadBackup::Short)?;
        let nonce: [u8; NONCE] = nonce.try_into().expect("it was split there");
        let opened = XChaCha20Poly1305::new(key.expose().into())
            .decrypt(&XNonce::from(nonce), Payload { msg: sealed, aad: &file[..told] })
            .map_err(|_| BadBackup::Sealed)?;
        Self::read(head, &opened)
    }
}

impl Head {
    /// The header of a file. Without the key it is not authenticated.
    pub fn read(file: &[u8]) -> Result<Self, BadBackup> {
        split(file).map(|(head, _)| head)
    }
}

/// The head of a file, and where it ends.
fn split(file: &[u8]) -> Result<(Head, usize), BadBackup> {
    let rest = file.strip_prefix(MAGIC).ok_or(BadBackup::Foreign)?;
    let (length, rest) = rest.split_first_chunk::<4>().ok_or(BadBackup::Short)?;
    let length = u32::from_le_bytes(*length) as usize;
    let head = rest.get(..length).ok_or(BadBackup::Short)?;
    let head = pb::BackupHead::decode(head).map_err(|error| BadBackup::Corrupt(error.to_string()))?;
    Ok((from_head(&head)?, MAGIC.len() + 4 + length))
}

fn head(it: &Head) -> pb::BackupHead {
    pb::BackupHead {
        version: VERSION,
        cluster: it.cluster.to_string(),
        lineage: it.lineage,
        last: Some(pb::LogId { term: it.last.term.0, index: it.last.index.0 }),
        at: it.at.0,
        program: it.program.clone(),
        level: it.level,
        groups: it.groups,
        managers: it.managers.clone(),
    }
}

fn from_head(it: &pb::BackupHead) -> Result<Head, BadBackup> {
    if it.version != VERSION || it.level > model::command::LEVEL {
        return Err(BadBackup::Newer { program: it.program.clone() });
    }
    let last = it.last.unwrap_or_default();
    Ok(Head {
        cluster: ClusterId::new(&it.cluster),
        lineage: it.lineage,
        last: LogId { term: Term(last.term), index: LogIndex(last.index) },
        at: Timestamp(it.at),
        program: it.program.clone(),
        level: it.level,
        groups: it.groups,
        managers: it.managers.clone(),
    })
}

#[cfg(test)]
mod tests {
    use model::NodeId;
    use model::access::Secret;
    use model::secret::SecretName;
    use model::state::StoredSecret;

    use super::*;

    fn backup() -> Backup {
        let secret =
            StoredSecret { value: Secret::new(&b"planted"[..]), at: Timestamp(1), by: "user:ann".into() };
        let level = model::command::LEVEL;
        let mut state = State { cluster: Some("c".into()), level, ..State::default() };
        state.secrets.insert(SecretName::new("db"), secret);
        let identity = Identity { cluster: "c".into(), lineage: 3, node: NodeId(1) };
        let published = Published { state: Arc::new(state), index: model::LogIndex(77) };
        let event = Event {
            index: LogIndex(70),
            at: Timestamp(900),
            group: Some("web".into()),
            by: "user:ann".into(),
            kind: model::event::Kind::GroupCommitted,
            message: "revision 3".into(),
        };
        Backup::of(&identity, &published, &[Arc::new(event)], Term(5), Timestamp(1000))
    }

    #[test]
    fn a_backup_is_what_was_taken_or_it_is_refused() {
        let (whole, key) = (backup(), Key::draw());
        assert_eq!(whole.events.len(), 1);
        assert_eq!(Backup::decode(whole.encode()).as_ref(), Ok(&whole));
        let file = whole.seal(&key);
        assert_eq!(Backup::open(&file, &key).as_ref(), Ok(&whole));
        assert_eq!(Head::read(&file).as_ref(), Ok(&whole.head), "without a key");
        assert_eq!(Backup::open(&file, &Key::draw()), Err(BadBackup::Sealed));
        assert!(!file.windows(7).any(|it| it == b"planted"), "it is sealed");
        for at in 0..file.len() {
            let mut changed = file.clone();
            changed[at] ^= 1;
            assert!(Backup::open(&changed, &key).is_err(), "byte {at}");
            assert!(Backup::open(&file[..at], &key).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn one_of_a_newer_program_is_refused_by_its_name() {
        let mut newer = backup();
        newer.head.level = model::command::LEVEL + 1;
        newer.head.program = "9.1".into();
        let refused = Backup::open(&newer.seal(&Key::draw()), &Key::draw());
        assert_eq!(refused, Err(BadBackup::Newer { program: "9.1".into() }));
        assert_eq!(Head::read(b"PK\x03\x04"), Err(BadBackup::Foreign));
    }
}
