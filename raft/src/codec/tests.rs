use model::access::{Authority, Role, Secret, TokenId};
use model::command::{Adoption, Claim, Commit, Manager, MemberRole, NewToken, Program, Report, Settle};
use model::intent::Reason;
use model::spec::HealthGate;
use model::{
    Actor, Allocation, Change, Command, GroupSpec, IntentId, Millis, NodeId, Opaque, Outcome, Part,
    RequestId, Revision, Slot, State, Template, Term, Timestamp, Updating,
};

use super::*;

mod old_state;

fn spec(id: &str, image: &str, allocation: Allocation) -> GroupSpec {
    GroupSpec {
        id: id.into(),
        allocation,
        template: Template {
            instance: Part {
                plugin: "simulator/compute".into(),
                properties: Opaque::from_json(format!("{{\"image\":\"{image}\"}}")),
            },
            flavor: Part { plugin: "vanilla".into(), properties: Opaque::null() },
        },
        updating: Updating { gate: HealthGate::Duration(Millis(1500)), skip_drain: true },
    }
}

fn manager(n: u32) -> Manager {
    Manager {
        name: format!("m{n}"),
        address: format!("10.0.0.{n}:7701"),
        storage: format!("disk{n}"),
        instance: None,
        program: Program::default(),
    }
}

fn commit(spec: GroupSpec, if_revision: Option<Revision>) -> Change {
    Change::Commit { items: vec![Commit { spec, if_revision, unvalidated: false }] }
}

/// One of every change, so that together they fill every field of the state.
fn changes() -> Vec<Change> {
    let of = |revision| Report::new("web".into(), Revision(revision), Term(1));
    // The first lines were written before a round named its revision.
    let web = || of(0);
    let slot = Slot::Ordinal;
    let at = |index, offset| IntentId { index, offset };
    vec![
        Change::Bootstrap {
            cluster: "0123456789abcdef0123456789abcdef".into(),
            lineage: 1,
            manager: manager(1),
            authority: None,
        },
        Change::Join { manager: manager(2), token: None },
        Change::Join { manager: manager(1), token: None },
        Change::Join { manager: Manager { address: "10.0.0.2:7701".into(), ..manager(4) }, token: None },
        commit(spec("web", "v1", Allocation::Size(3)), Some(Revision(0))),
        commit(spec("pets", "v1", Allocation::LogicalIds(vec!["a".into(), "b".into()])), None),
        Change::Report(Report {
            claims: (0..3).map(|n| Claim::Provision { slot: slot(n) }).collect(),
            ..web()
        }),
        Change::Report(Report {
            outcomes: vec![
                (at(7, 0), Outcome::Done("i0".into())),
                (at(7, 1), Outcome::Refused { message: "quota".into(), retryable: true }),
                (at(7, 2), Outcome::Unsure { message: "deadline".into() }),
            ],
            ready: vec![(slot(0), "i0".into())],
            adopt: vec![Adoption { slot: slot(1), instance: "seed".into(), template: Revision(0) }],
            repeats: vec![at(7, 2)],
            ..web()
        }),
        commit(spec("web", "v2", Allocation::Size(3)), Some(Revision(1))),
        commit(spec("web", "v2", Allocation::Size(3)), Some(Revision(9))),
        Change::Report(Report {
            claims: vec![
                Claim::Destroy {
                    instance: "i0".into(),
                    slot: Some(slot(0)),
                    template: Revision(1),
                    reason: Reason::RollingUpdate,
                },
                Claim::Destroy {
                    instance: "twin".into(),
                    slot: None,
                    template: Revision(2),
                    reason: Reason::Terminate,
                },
            ],
            gone: vec![(slot(1), "seed".into())],
            replaced: Some(Revision(1)),
            ..web()
        }),
        Change::Validated { group: "web".into(), revision: Revision(2) },
        Change::SetVariable { key: "k".into(), value: "ä".into() },
        Change::Destroy { group: "pets".into() },
        Change::Report(Report { finished: true, ..Report::new("pets".into(), Revision(0), Term(1)) }),
        Change::Free { group: "nosuch".into() },
        Change::Report(Report {
            claims: (0..3).map(|n| Claim::Provision { slot: slot(n) }).collect(),
            ..of(2)
        }),
        Change::Report(Report {
            outcomes: vec![
                (at(17, 0), Outcome::Done("i0".into())),
                (at(17, 1), Outcome::Refused { message: "quota".into(), retryable: true }),
                (at(17, 2), Outcome::Unsure { message: "deadline".into() }),
            ],
            ready: vec![(slot(0), "i0".into())],
            adopt: vec![Adoption { slot: slot(1), instance: "seed".into(), template: Revision(0) }],
            repeats: vec![at(17, 2)],
            ..of(2)
        }),
        Change::Report(Report {
            claims: vec![Claim::Destroy {
                instance: "i0".into(),
                slot: Some(slot(0)),
                template: Revision(2),
                reason: Reason::RollingUpdate,
            }],
            ..of(2)
        }),
        Change::Join { manager: Manager { instance: Some("machine".into()), ..manager(5) }, token: None },
        Change::Report(Report { claims: vec![Claim::Label { instance: "seed2".into() }], ..of(2) }),
        Change::Settle(Settle {
            group: "web".into(),
            intent: at(17, 2),
            attempt: 2,
            made: Some("i9".into()),
        }),
        Change::Settle(Settle { group: "web".into(), intent: at(17, 2), attempt: 2, made: None }),
        Change::SetVariable { key: "infrakit/odd".into(), value: "1".into() },
        Change::SetMemberRole { nodes: vec![NodeId(2)], role: MemberRole::Learner },
        Change::SetMemberRole { nodes: vec![NodeId(20)], role: MemberRole::Removed },
        Change::SetMemberRole { nodes: vec![NodeId(2), NodeId(99)], role: MemberRole::Voter },
        Change::SetMemberRole { nodes: vec![NodeId(1)], role: MemberRole::Removed },
        Change::Join { manager: manager(5), token: None },
        Change::CreateToken(new_token("aa", Role::Manager)),
        Change::CreateToken(NewToken {
            lasts: None,
            once: false,
            instance: Some("i1".into()),
            ..new_token("bb", Role::Manager)
        }),
        Change::CreateToken(NewToken { replaces: Some(TokenId::new("zz")), ..new_token("cc", Role::Viewer) }),
        Change::CreateToken(new_token("dd", Role::Admin)),
        Change::CreateToken(NewToken {
            replaces: Some(TokenId::new("dd")),
            ..new_token("ee", Role::Operator)
        }),
        Change::Join { manager: manager(6), token: Some(TokenId::new("aa")) },
        Change::Join { manager: manager(7), token: Some(TokenId::new("aa")) },
        Change::Join { manager: manager(7), token: Some(TokenId::new("bb")) },
        Change::Join { manager: manager(7), token: Some(TokenId::new("ee")) },
        login("ee", "ann", ""),
        login("dd", "ann", ""),
        Change::RevokeToken { id: TokenId::new("dd") },
        rotate(1),
        rotate(2),
        rotate(3),
        // The log indices of the second and of the first of the steps.
        Change::StepRotation { after: 43 },
        Change::StepRotation { after: 45 },
        Change::StepRotation { after: 45 },
        rotate(4),
        Change::CreateToken(NewToken { lasts: Some(Millis(1)), ..new_token("ff", Role::Viewer) }),
        login("ff", "bob", ""),
        Change::CreateToken(new_token("gg", Role::Viewer)),
        login("gg", "bob", "k1"),
        login("gg", "bob", "k2"),
    ]
}

fn login(token: &str, name: &str, key: &str) -> Change {
    Change::Login { token: TokenId::new(token), name: name.into(), key: key.into() }
}

fn new_token(id: &str, role: Role) -> NewToken {
    let (lasts, once) = (Some(Millis(60_000)), true);
    NewToken { id: TokenId::new(id), role, lasts, once, instance: None, replaces: None }
}

fn rotate(n: u8) -> Change {
    Change::Rotate { next: authority(n), bridge: [n, 3].as_slice().into() }
}

fn authority(n: u8) -> Authority {
    Authority { certificate: [n, 1].as_slice().into(), key: Secret::new([n, 2].as_slice()) }
}

fn log() -> Vec<(model::LogId, Command)> {
    let entry = |(n, change)| {
        let index = n as u64 + 1;
        let command = Command {
            id: RequestId(u128::from(index) << 64 | 7),
            by: Actor("user:ann".into()),
            at: Timestamp(1_700_000_000_000 + index),
            change,
        };
        (model::LogId { term: Term(1), index }, command)
    };
    changes().into_iter().enumerate().map(entry).collect()
}

fn replay(mut state: State, log: &[(model::LogId, Command)]) -> State {
    for (id, command) in log {
        state.apply(*id, command);
    }
    state
}

#[test]
fn every_command_comes_back_as_it_was_written() {
    for (_, command) in log() {
        assert_eq!(decode_command(&encode_command(&command)), Ok(command));
    }
}

#[test]
fn a_snapshot_in_the_middle_changes_nothing() {
    let log = log();
    let whole = replay(State::default(), &log);
    let web = whole.group(&"web".into()).expect("the log says enough");
    assert!(web.intents.len() == 2 && web.running() == 2 && web.templates.len() == 2, "{web:?}");
    assert_eq!(web.repeated.len(), 1, "{web:?}");
    assert_eq!((whole.tokens.len(), whole.managers.len()), (5, 3), "{whole:?}");
    let authorities = whole.authorities.as_ref().expect("there is one");
    assert_eq!((&authorities.signing, authorities.trusted().count()), (&authority(2), 2), "{whole:?}");
    for cut in 0..=log.len() {
        let restored =
            decode_state(&encode_state(&replay(State::default(), &log[..cut]))).expect("it can be read");
        assert_eq!(replay(restored, &log[cut..]), whole, "cut at {cut}");
    }
}

#[test]
fn entries_votes_and_memberships_come_back_as_they_were_written() {
    let nodes = |ids: &[u64]| {
        ids.iter().map(|id| (*id, BasicNode::new(format!("h:{id}")))).collect::<BTreeMap<_, _>>()
    };
    let joint = Membership::new(vec![BTreeSet::from([1, 2]), BTreeSet::from([2, 3])], nodes(&[1, 2, 3, 4]));
    let joint = joint.expect("a valid membership");
    let id = LogId::new_term_index(3, 9);
    for payload in [
        EntryPayload::Blank,
        EntryPayload::Normal(Encoded(Bytes::from_static(b"abc"))),
        EntryPayload::Membership(joint.clone()),
    ] {
        let whole = Entry { log_id: id, payload };
        let back = from_entry(decode(entry(&whole).encode_to_vec()).expect("protobuf")).expect("an entry");
        assert_eq!(format!("{back:?}"), format!("{whole:?}"));
    }
    for whole in [Vote::new(4, 2), Vote::new_committed(5, 1)] {
        assert_eq!(from_vote(vote(&whole)), whole);
    }
    for whole in [StoredMembership::default(), StoredMembership::new(Some(id), joint)] {
        assert_eq!(from_stored_membership(stored_membership(&whole)), Ok(whole));
    }
}

/// The frozen form: what was written by any earlier program must be read for ever. Lines are added,
/// never edited.
#[test]
fn golden_commands_are_still_read_and_written_alike() {
    let golden = include_str!("golden.txt");
    let lines: Vec<&str> = golden.lines().collect();
    let written: Vec<String> = log().iter().map(|(_, command)| hex(&encode_command(command).0)).collect();
    assert_eq!(written, lines, "to add lines, append: {:#?}", &written[lines.len().min(written.len())..]);
    for (line, (_, command)) in lines.iter().zip(log()) {
        assert_eq!(decode_command(&Encoded(unhex(line).into())), Ok(command));
    }
}

#[test]
fn a_newer_form_stops_the_reader_with_a_clear_word() {
    let (_, command) = log().remove(0);
    let mut written: pb::Command = decode(encode_command(&command).0).expect("protobuf");
    written.format = FORMAT + 1;
    let error = decode_command(&Encoded(written.encode_to_vec().into())).expect_err("it is newer");
    assert!(error.to_string().contains("use the newer program"), "{error}");
    written.format = FORMAT;
    written.change = None;
    assert!(
        decode_command(&Encoded(written.encode_to_vec().into())).is_err(),
        "an unknown change is never skipped"
    );
    for rubbish in [&b""[..], b"\xff\xff\xff", b"hello"] {
        assert!(decode_command(&Encoded(Bytes::copy_from_slice(rubbish))).is_err());
        assert!(rubbish.is_empty() || decode_state(rubbish).is_err());
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal"))
        .collect()
}
