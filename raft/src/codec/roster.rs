//! The members of a group, written straight into a snapshot.
//!
//! A hundred thousand of them are most of a large state. Making a message of each first, only to measure it at every
//! level above it, took most of the time of a snapshot; the bytes are the same (`tests`).

use model::state::{Incarnation, Member, Occupied, Verdict};
use model::{Generation, IntentId, Slot};

/// Wire types of protobuf.
const VARINT: u64 = 0;
const LENGTH: u64 = 2;

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn number(out: &mut Vec<u8>, field: u64, value: u64) {
    varint(out, field << 3 | VARINT);
    varint(out, value);
}

/// Left out when it is 0, as proto3 has it.
fn number_if_any(out: &mut Vec<u8>, field: u64, value: u64) {
    if value != 0 {
        number(out, field, value);
    }
}

fn bytes(out: &mut Vec<u8>, field: u64, value: &[u8]) {
    varint(out, field << 3 | LENGTH);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

/// How many bytes a varint takes.
fn width(value: usize) -> usize {
    (value | 1).ilog2() as usize / 7 + 1
}

/// A message written in place, before its length is known. With a guess of it, the place for the length is left
/// free, and what was written need not be moved.
pub(crate) fn message(out: &mut Vec<u8>, field: u64, guess: usize, write: impl FnOnce(&mut Vec<u8>)) {
    varint(out, field << 3 | LENGTH);
    let (at, gap) = (out.len(), width(guess));
    out.resize(at + gap, 0);
    write(out);
    let length = out.len() - at - gap;
    let mut rest = length;
    let need = width(length);
    if need != gap {
        out.resize(out.len() + need.saturating_sub(gap), 0);
        out.copy_within(at + gap..at + gap + length, at + need);
        out.truncate(at + need + length);
    }
    for byte in &mut out[at..at + need] {
        *byte = rest as u8 | 0x80;
        rest >>= 7;
    }
    out[at + need - 1] &= 0x7f;
}

/// A small message: most are shorter than 128 bytes, and their length takes one.
fn small(out: &mut Vec<u8>, field: u64, write: impl FnOnce(&mut Vec<u8>)) {
    message(out, field, 0, write);
}

fn intent_id(out: &mut Vec<u8>, field: u64, id: IntentId) {
    small(out, field, |out| {
        number_if_any(out, 1, id.index.0);
        number_if_any(out, 2, u64::from(id.offset));
    });
}

fn slot(out: &mut Vec<u8>, field: u64, slot: &Slot) {
    small(out, field, |out| match slot {
        Slot::Ordinal(n) => number(out, 1, u64::from(*n)),
        Slot::Logical(id) => bytes(out, 2, id.as_str().as_bytes()),
    });
}

/// `latest` is the generation of its slot: what most have is not written again.
fn occupied(out: &mut Vec<u8>, field: u64, it: &Occupied, latest: Generation) {
    small(out, field, |out| {
        let id = it.instance.id.as_str();
        if !id.is_empty() {
            bytes(out, 1, id.as_bytes());
        }
        number_if_any(out, 2, it.template.0);
        number_if_any(out, 3, it.since.0);
        number_if_any(out, 4, it.recorded.0);
        number_if_any(out, 5, u64::from(it.health != Verdict::Booting));
        if let Some(intent) = it.terminating {
            intent_id(out, 6, intent);
        }
        if it.generation != latest {
            number(out, 7, u64::from(it.generation.0));
        }
        if let Verdict::Unhealthy { since } = it.health {
            number(out, 8, since.0);
        }
    });
}

/// One entry of the roster, as a field of its group.
pub(super) fn member(out: &mut Vec<u8>, field: u64, at: &Slot, it: &Member) {
    small(out, field, |out| {
        slot(out, 1, at);
        number_if_any(out, 2, u64::from(it.generation.0));
        match &it.current {
            None => bytes(out, 3, &[]),
            Some(Incarnation::Pending(id)) => intent_id(out, 4, *id),
            Some(Incarnation::Occupied(held)) => occupied(out, 5, held, it.generation),
        }
        match it.incoming.as_deref() {
            None => {}
            Some(Incarnation::Pending(id)) => intent_id(out, 6, *id),
            Some(Incarnation::Occupied(next)) => occupied(out, 7, next, it.generation),
        }
    });
}

/// How many members are touched before they are written.
const TOGETHER: usize = 64;

/// All entries of a roster. The ids of a large one lie all over the memory: whoever reads one after the other waits
/// for each, so the first bytes of some are read together before these are written.
pub(super) fn members<'a>(
    out: &mut Vec<u8>,
    field: u64,
    mut all: impl Iterator<Item = (&'a Slot, &'a Member)>,
) {
    let mut some = Vec::with_capacity(TOGETHER);
    loop {
        some.extend(all.by_ref().take(TOGETHER));
        if some.is_empty() {
            return;
        }
        let ids = some.iter().filter_map(|(_, it)| it.occupied()?.instance.id.as_str().bytes().next());
        std::hint::black_box(ids.fold(0, |all, byte| all ^ byte));
        for (slot, it) in some.drain(..) {
            member(out, field, slot, it);
        }
    }
}

#[cfg(test)]
mod tests {
    use model::{InstanceRef, Revision, Timestamp};
    use prost::Message;

    use super::*;
    use crate::proto as pb;

    #[test]
    fn a_member_is_written_as_its_message_would_be() {
        let intent = IntentId { index: model::LogIndex(300), offset: 0 };
        let held = |instance: &str, health, terminating| {
            Incarnation::Occupied(Occupied {
                instance: InstanceRef { id: instance.into(), plugin: "p".into() },
                generation: Generation(2),
                template: Revision(1),
                since: Timestamp(1_700_000_000_000),
                recorded: model::LogIndex(77),
                health,
                terminating,
            })
        };
        let long = "i".repeat(4096);
        let all = [
            None,
            Some(Incarnation::Pending(intent)),
            Some(held("i-1", Verdict::Ready, None)),
            Some(held("", Verdict::Booting, Some(intent))),
            Some(held(&long, Verdict::Unhealthy { since: Timestamp(0) }, None)),
        ];
        for slot in [Slot::Ordinal(0), Slot::Ordinal(70_000), Slot::Logical("10.0.0.1".into())] {
            for (current, incoming) in all.iter().flat_map(|a| all.iter().map(move |b| (a, b))) {
                for generation in [Generation(0), Generation(2), Generation(3)] {
                    let it = Member {
                        generation,
                        current: current.clone(),
                        incoming: incoming.clone().map(Box::new),
                    };
                    let mut written = Vec::new();
                    member(&mut written, 10, &slot, &it);
                    let group = pb::Group {
                        roster: vec![super::super::state::member(&slot, &it)],
                        ..Default::default()
                    };
                    assert_eq!(written, group.encode_to_vec(), "{slot} {it:?}");
                }
            }
        }
    }
}
