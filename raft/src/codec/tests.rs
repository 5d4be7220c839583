use model::access::{Authority, Role, Secret, TokenId};
use model::command::Steer;
use model::command::{
    Declaration, Machine, Manager, MemberRole, NewToken, Program, Settle, Stray, StrayFate, Strays, Verb,
};
use model::intent::Reason;
use model::limits::{HEAVIEST_PART, LARGEST_BATCH};
use model::report::Finding;
use model::report::{Adoption, Claim, Fact, Report};
use model::spec::{Amount, Canary, Healing, HealthGate, OnFailure};
use model::{
    Actor, Allocation, Change, Command, GroupSpec, InstanceRef, IntentId, Millis, NodeId, ObjectKey, Opaque,
    Outcome, Part, RequestId, Revision, Slot, State, Template, Term, Timestamp, Updating,
};

use super::*;
use crate::wire::LARGEST_ENTRY;

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
        updating: Updating {
            gate: HealthGate::Duration(Millis(1500)),
            skip_drain: true,
            ..Updating::default()
        },
        healing: Default::default(),
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

/// As programs until feature level 2 name it.
fn any(id: &str) -> InstanceRef {
    InstanceRef::of_any_plugin(&id.into())
}

fn of_compute(id: &str) -> InstanceRef {
    InstanceRef::new(&"simulator/compute".into(), &id.into())
}

fn commit(spec: GroupSpec, if_revision: Option<Revision>) -> Change {
    Change::Declare { items: vec![Declaration { spec: spec.into(), if_revision, unvalidated: false }] }
}

/// One of every change, so that together they fill every field of the state.
fn changes() -> Vec<Change> {
    let key = |name: &str| ObjectKey::group(&name.into());
    let of = |revision| Report::new(key("web"), Revision(revision), Term(1));
    let done = |id, instance: &str| Fact::Outcome(id, Outcome::Done(instance.into()));
    let refused = |id| Fact::Outcome(id, Outcome::Refused { message: "quota".into(), retryable: true });
    let unsure = |id| Fact::Outcome(id, Outcome::Unsure { message: "deadline".into() });
    let ready = Fact::Ready { slot: Slot::Ordinal(0), instance: any("i0") };
    let seed = Adoption { slot: Slot::Ordinal(1), instance: "seed".into(), template: Revision(0) };
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
        Change::Report(web().with_claims((0..3).map(|n| Claim::Provision { slot: slot(n) }))),
        Change::Report(
            web()
                .with_facts([
                    done(at(model::LogIndex(7), 0), "i0"),
                    refused(at(model::LogIndex(7), 1)),
                    unsure(at(model::LogIndex(7), 2)),
                    ready.clone(),
                ])
                .with_facts([Fact::Adopted(seed.clone())])
                .with_repeats([at(model::LogIndex(7), 2)]),
        ),
        commit(spec("web", "v2", Allocation::Size(3)), Some(Revision(1))),
        commit(spec("web", "v2", Allocation::Size(3)), Some(Revision(9))),
        Change::Report(
            web()
                .with_facts([Fact::Gone { slot: slot(1), instance: any("seed") }])
                .with_facts([Fact::AllReplaced(Revision(1))])
                .with_claims([
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
                ]),
        ),
        Change::Object { key: key("web"), verb: Verb::Accept(Revision(2)) },
        Change::SetVariable { key: "k".into(), value: "ä".into() },
        Change::Object { key: key("pets"), verb: Verb::Destroy },
        Change::Report(Report::new(key("pets"), Revision(0), Term(1)).with_facts([Fact::Emptied])),
        Change::Object { key: key("nosuch"), verb: Verb::Release },
        Change::Report(of(2).with_claims((0..3).map(|n| Claim::Provision { slot: slot(n) }))),
        Change::Report(
            of(2)
                .with_facts([
                    done(at(model::LogIndex(17), 0), "i0"),
                    refused(at(model::LogIndex(17), 1)),
                    unsure(at(model::LogIndex(17), 2)),
                    ready.clone(),
                ])
                .with_facts([Fact::Adopted(seed.clone())])
                .with_repeats([at(model::LogIndex(17), 2)]),
        ),
        Change::Report(of(2).with_claims([Claim::Destroy {
            instance: "i0".into(),
            slot: Some(slot(0)),
            template: Revision(2),
            reason: Reason::RollingUpdate,
        }])),
        Change::Join { manager: Manager { instance: Some("machine".into()), ..manager(5) }, token: None },
        Change::Report(of(2).with_claims([Claim::Label { instance: "seed2".into() }])),
        Change::Settle(Settle {
            group: "web".into(),
            intent: at(model::LogIndex(17), 2),
            attempt: 2,
            made: Some("i9".into()),
        }),
        Change::Settle(Settle {
            group: "web".into(),
            intent: at(model::LogIndex(17), 2),
            attempt: 2,
            made: None,
        }),
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
        Change::StepRotation { after: model::LogIndex(43) },
        Change::StepRotation { after: model::LogIndex(45) },
        Change::StepRotation { after: model::LogIndex(45) },
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

/// What feature level 2 brought, one of each.
fn changes_of_level_2() -> Vec<Change> {
    let roll = ObjectKey::group(&"roll".into());
    let finding = |finding| {
        let fact = Fact::Rollout { to: Revision(1), finding };
        Change::Report(Report::new(roll.clone(), Revision(1), Term(1)).with_facts([fact]))
    };
    let updating = Updating {
        max_surge: Some(Amount::Members(2)),
        max_unavailable: Some(Amount::Percent(25)),
        healthy_deadline: Some(Millis(30_000)),
        progress_deadline: Some(Millis(60_000)),
        max_failures: Some(250),
        monitor: Millis(5_000),
        on_failure: OnFailure::Rollback,
        canary: Some(Canary { count: 1, bake: Millis(10_000), manual: true }),
        ..Updating::default()
    };
    let key = || ObjectKey::group(&"web".into());
    let of = |revision| Report::new(key(), Revision(revision), Term(1));
    let at = |index, offset| IntentId { index, offset };
    let done = |id, instance: &str| Fact::Outcome(id, Outcome::Done(instance.into()));
    let slot = Slot::Ordinal;
    let healing =
        Healing { absent_for: Some(Millis(90_000)), start: true, boot_deadline: Some(Millis(600_000)) };
    let founder = Manager { program: Program { version: "0.3.0".into(), level: 2 }, ..manager(1) };
    let machine = Machine { id: "i2".into(), plugin: Some("simulator/compute".into()) };
    let on_machine = Manager { program: founder.program.clone(), instance: Some(machine), ..manager(5) };
    let old = Claim::Destroy {
        instance: "i1".into(),
        slot: Some(slot(1)),
        template: Revision(1),
        reason: Reason::RollingUpdate,
    };
    vec![
        Change::Bootstrap {
            cluster: "0123456789abcdef0123456789abcdef".into(),
            lineage: 1,
            manager: founder,
            authority: None,
        },
        commit(spec("web", "v1", Allocation::Size(2)), None),
        Change::Report(of(1).with_claims((0..2).map(|n| Claim::Provision { slot: slot(n) }))),
        Change::Report(
            of(1)
                .with_facts((0..2).map(|n| done(at(model::LogIndex(3), n), &format!("i{n}"))))
                .with_facts((0..2).map(|n| Fact::Ready { slot: slot(n), instance: any(&format!("i{n}")) }))
                .with_facts([Fact::AllReplaced(Revision(1))]),
        ),
        Change::Report(of(1).with_facts([Fact::Unhealthy {
            slot: slot(0),
            instance: any("i0"),
            since: Timestamp(1_700_000_000_003),
        }])),
        commit(spec("web", "v2", Allocation::Size(2)), None),
        Change::Report(
            of(2).with_claims([Claim::Replace { slot: slot(1) }, Claim::Replace { slot: slot(0) }]),
        ),
        Change::Report(of(2).with_facts([done(at(model::LogIndex(7), 0), "i2")]).with_claims([old.clone()])),
        Change::Report(
            of(2).with_facts([Fact::Ready { slot: slot(1), instance: any("i2") }]).with_claims([old]),
        ),
        Change::Object { key: key(), verb: Verb::Pause },
        Change::Report(
            of(2).with_claims([Claim::Replace { slot: slot(0) }]).with_repeats([at(model::LogIndex(9), 0)]),
        ),
        Change::Report(of(2).with_facts([done(at(model::LogIndex(9), 0), "i1")])),
        Change::Object { key: key(), verb: Verb::Resume },
        Change::Report(of(2).with_claims([Claim::Replace { slot: slot(0) }])),
        commit(spec("api", "v1", Allocation::LogicalIds(vec!["a".into()])), None),
        Change::Object { key: ObjectKey::group(&"api".into()), verb: Verb::Release },
        Change::Object { key: key(), verb: Verb::Accept(Revision(2)) },
        Change::Object { key: key(), verb: Verb::Destroy },
        Change::Object { key: key(), verb: Verb::Pause },
        Change::Report(of(2).with_facts([
            Fact::Gone { slot: slot(1), instance: of_compute("i1") },
            Fact::Ready { slot: slot(1), instance: of_compute("i2") },
            Fact::Unhealthy { slot: slot(1), instance: of_compute("i2"), since: Timestamp(7) },
        ])),
        Change::Report(of(2).with_facts([Fact::NotDrained {
            instance: of_compute("i2"),
            message: "the node is busy".into(),
        }])),
        commit(GroupSpec { healing, ..spec("db", "v1", Allocation::Size(1)) }, None),
        Change::Strays(Strays {
            group: "db".into(),
            fate: StrayFate::Adopted,
            items: vec![Stray { instance: of_compute("i9"), template: Revision(0), slot: Some(slot(0)) }],
        }),
        Change::Strays(Strays {
            group: "db".into(),
            fate: StrayFate::Destroyed,
            items: vec![Stray { instance: of_compute("i8"), template: Revision(0), slot: None }],
        }),
        Change::Strays(Strays {
            group: "db".into(),
            fate: StrayFate::Destroyed,
            items: vec![Stray { instance: of_compute("i9"), template: Revision(0), slot: None }],
        }),
        Change::Join { manager: on_machine, token: None },
        Change::Lead { node: NodeId(1) },
        Change::SetVariable { key: "infrakit/max-instances".into(), value: "7".into() },
        Change::Report(of(2).with_facts([Fact::Started { instance: of_compute("i2") }])),
        Change::Duplicate { node: NodeId(1) },
        commit(spec("api", "v2", Allocation::LogicalIds(vec!["a".into()])), None),
        Change::Report(of(2).with_facts([Fact::MembersKnown])),
        Change::RemoveVariable { key: "infrakit/max-instances".into() },
        Change::RemoveVariable { key: "infrakit/max-instances".into() },
        commit(GroupSpec { updating, ..spec("roll", "v1", Allocation::Size(4)) }, None),
        finding(Finding::CanariesHealthy),
        finding(Finding::CanariesProven),
        finding(Finding::Failed { slot: slot(0), generation: model::Generation(3) }),
        finding(Finding::NoProgress),
        Change::Object { key: roll.clone(), verb: Verb::Rollout(Steer::Pause) },
        Change::Object { key: roll.clone(), verb: Verb::Rollout(Steer::Resume) },
        Change::Object { key: roll.clone(), verb: Verb::Rollout(Steer::Promote) },
        Change::Object { key: roll.clone(), verb: Verb::Rollout(Steer::Abort) },
        Change::Object { key: roll, verb: Verb::Rollout(Steer::Pause) },
    ]
}

fn log_of_level_2() -> Vec<(model::LogId, Command)> {
    entries(changes_of_level_2())
}

fn log() -> Vec<(model::LogId, Command)> {
    entries(changes())
}

fn entries(changes: Vec<Change>) -> Vec<(model::LogId, Command)> {
    let entry = |(n, change)| {
        let index = n as u64 + 1;
        let command = Command {
            id: RequestId(u128::from(index) << 64 | 7),
            by: Actor("user:ann".into()),
            at: Timestamp(1_700_000_000_000 + index),
            change,
        };
        (model::LogId { term: Term(1), index: model::LogIndex(index) }, command)
    };
    changes.into_iter().enumerate().map(entry).collect()
}

fn replay(mut state: State, log: &[(model::LogId, Command)]) -> State {
    for (id, command) in log {
        state.apply(*id, command);
        state.check().unwrap_or_else(|broken| panic!("after {id:?}: {broken}"));
    }
    state
}

#[test]
fn every_command_comes_back_as_it_was_written() {
    for (_, command) in log() {
        for level in [1, 2] {
            assert_eq!(decode_command(&encode_command(&command, level)).as_ref(), Ok(&command), "{level}");
        }
    }
    for (_, command) in log_of_level_2() {
        assert_eq!(decode_command(&encode_command(&command, 2)), Ok(command));
    }
}

#[test]
fn a_snapshot_in_the_middle_changes_nothing() {
    let whole = replay(State::default(), &log());
    let web = whole.group(&"web".into()).expect("the log says enough");
    assert!(web.intents.len() == 2 && web.running() == 2 && web.templates.len() == 2, "{web:?}");
    assert_eq!(web.repeated.len(), 1, "{web:?}");
    assert_eq!((whole.tokens.len(), whole.managers.len()), (5, 3), "{whole:?}");
    let authorities = whole.authorities.as_ref().expect("there is one");
    assert_eq!((&authorities.signing, authorities.trusted().count()), (&authority(2), 2), "{whole:?}");
    assert!(web.revisions.is_empty(), "what older managers do not know is not in the state");
    let newer = replay(State::default(), &log_of_level_2());
    let web = newer.group(&"web".into()).expect("the log says enough");
    assert_eq!((web.revisions.len(), web.intents.len(), web.roster.incarnations()), (2, 1, 3), "{web:?}");
    assert!(web.paused.is_some(), "{web:?}");
    let mut released = newer.clone();
    let group = released.groups.get_mut(&model::GroupId::new("web")).expect("the log says enough");
    std::sync::Arc::make_mut(group).lifecycle = model::state::Lifecycle::Releasing;
    assert_eq!(decode_state(&encode_state(&released)).as_ref(), Ok(&released));
    for log in [log(), log_of_level_2()] {
        let whole = replay(State::default(), &log);
        for cut in 0..=log.len() {
            let restored =
                decode_state(&encode_state(&replay(State::default(), &log[..cut]))).expect("it can be read");
            assert_eq!(replay(restored, &log[cut..]), whole, "cut at {cut}");
        }
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

/// The frozen forms: what was written by any earlier program must be read for ever. Lines are added, never edited.
#[test]
fn golden_commands_are_still_read_and_written_alike() {
    let forms = [(include_str!("golden.txt"), log(), 1), (include_str!("golden_2.txt"), log_of_level_2(), 2)];
    for (golden, log, level) in forms {
        let lines: Vec<&str> = golden.lines().collect();
        let written: Vec<String> =
            log.iter().map(|(_, command)| hex(&encode_command(command, level).0)).collect();
        let added = &written[lines.len().min(written.len())..];
        assert_eq!(written, lines, "to add lines, append: {added:#?}");
        for (line, (_, command)) in lines.iter().zip(log) {
            assert_eq!(decode_command(&Encoded(unhex(line).into())), Ok(command));
        }
    }
}

/// With ids and texts as long as plugins may make them, and as many of each as the planner and the loop put into one.
#[test]
fn the_largest_report_can_be_sent() {
    let long = |n: usize, of: usize| format!("{n:>of$}");
    let id = |n: usize| any(&long(n, 4 << 10));
    let (few, many) = (HEAVIEST_PART >> 12, LARGEST_BATCH);
    let slot = |n: usize| Slot::Logical(long(n, 256).as_str().into());
    let intent = |n: usize| IntentId { index: model::LogIndex(u64::MAX), offset: n as u32 };
    let fact = |n: usize| {
        [
            Fact::Outcome(intent(n), Outcome::Done(id(n).id)),
            Fact::Gone { slot: slot(n), instance: id(n) },
            Fact::Ready { slot: slot(n), instance: id(n) },
            Fact::Unhealthy { slot: slot(n), instance: id(n), since: Timestamp(u64::MAX) },
            Fact::Adopted(Adoption { slot: slot(n), instance: id(n).id, template: Revision(u64::MAX) }),
        ]
    };
    let by_loop = |n: usize| {
        let message = long(n, 1 << 10);
        [Fact::Outcome(intent(n), Outcome::Done(id(n).id)), Fact::NotDrained { instance: id(n), message }]
    };
    let claim = |n: usize| Claim::Destroy {
        instance: id(n).id,
        slot: Some(slot(n)),
        template: Revision(u64::MAX),
        reason: Reason::RollingUpdate,
    };
    let report = Report::new(ObjectKey::group(&"web".into()), Revision(u64::MAX), Term(u64::MAX))
        .with_facts((0..many).flat_map(by_loop))
        .with_facts((0..few).flat_map(fact))
        .with_claims((0..many).map(claim))
        .with_repeats((0..many).map(intent));
    let command = Command {
        id: RequestId(u128::MAX),
        by: Actor("leader".into()),
        at: Timestamp(u64::MAX),
        change: Change::Report(report),
    };
    let bytes = encode_command(&command, 2).0.len();
    assert!(bytes <= LARGEST_ENTRY, "{bytes}");
    assert!(bytes > LARGEST_ENTRY / 2, "it is a large one: {bytes}");
}

#[test]
fn an_object_of_an_unknown_kind_stops_the_reader_before_anything_is_applied() {
    let declared = pb::command::Change::Commit(pb::Commit { items: vec![pb::CommitItem::default()] });
    let accepted = pb::command::Change::Validated(pb::Validated::default());
    let released = pb::command::Change::Release(pb::Key::default());
    for change in [declared, accepted, released] {
        let written = pb::Command {
            format: FORMAT,
            id: vec![7; 16].into(),
            by: "user:ann".into(),
            at: 1,
            change: Some(change),
        };
        let error = decode_command(&Encoded(written.encode_to_vec().into())).expect_err("it is unknown");
        assert!(error.to_string().contains("of a kind that this program does not know"), "{error}");
    }
    let (revisions, format) = (vec![pb::RevisionOf::default()], FORMAT);
    let state = pb::State { revisions, format, ..pb::State::default() };
    assert!(decode_state(&state.encode_to_vec()).is_err());
}

#[test]
fn a_newer_form_stops_the_reader_with_a_clear_word() {
    let (_, command) = log().remove(0);
    let mut written: pb::Command = decode(encode_command(&command, 2).0).expect("protobuf");
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
