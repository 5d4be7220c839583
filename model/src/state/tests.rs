use super::*;
use crate::access::{Authority, BadToken, Role, Rotation, Secret, TokenId};
use crate::answer::{Admission, Denial};
use crate::command::{Declaration, MemberRole, NewToken, Program, Verb};
use crate::ids::{IntentId, LogIndex, Slot, Term};
use crate::intent::{Outcome, Reason};
use crate::limits::MOST_OPEN;
use crate::part::{Opaque, Part};
use crate::report::{Adoption, Claim, Fact, Report};
use crate::spec::{GroupSpec, Template, Updating};
use crate::time::Millis;
use crate::{Actor, Allocation, Refusal};

fn spec(id: &str, allocation: Allocation) -> GroupSpec {
    let part = |plugin: &str| Part { plugin: plugin.into(), properties: Opaque::null() };
    GroupSpec {
        id: id.into(),
        allocation,
        template: Template { instance: part("simulator/compute"), flavor: part("vanilla") },
        updating: Updating::default(),
        healing: Default::default(),
    }
}

fn manager(n: u64) -> Manager {
    Manager {
        name: format!("m{n}"),
        address: format!("h:{n}"),
        storage: format!("s{n}"),
        instance: None,
        program: Program::default(),
    }
}

struct Machine {
    state: State,
    index: u64,
    term: u64,
}

impl Machine {
    fn new() -> Self {
        Machine { state: State::default(), index: 0, term: 1 }
    }

    fn apply(&mut self, change: Change) -> Answer {
        self.index += 1;
        let id = RequestId(u128::from(self.index));
        self.repeat(id, change)
    }

    fn repeat(&mut self, id: RequestId, change: Change) -> Answer {
        let log = LogId { term: Term(self.term), index: LogIndex(self.index) };
        let command = Command { id, by: Actor("test".into()), at: Timestamp(self.index), change };
        let answer = self.state.apply(log, &command).answer;
        self.state.check().unwrap_or_else(|broken| panic!("{broken}: {:?}", self.state));
        answer
    }

    fn commit(&mut self, spec: GroupSpec) -> Answer {
        self.apply(commit(spec, None))
    }

    fn report(&self) -> Report {
        let revision = self.state.group(&"web".into()).map_or(Revision(0), |group| group.revision);
        Report::new(ObjectKey::group(&"web".into()), revision, Term(self.term))
    }

    fn claim(&mut self, claims: Vec<Claim>) -> Vec<Admission> {
        let report = self.report().with_claims(claims);
        match self.apply(Change::Report(report)) {
            Answer::Admitted(answers) => answers,
            other => panic!("a round is answered by admissions, not {other:?}"),
        }
    }

    fn done(&mut self, intent: IntentId, instance: &str) {
        let mut report = self.report();
        report.facts.push(Fact::Outcome(intent, Outcome::Done(instance.into())));
        self.apply(Change::Report(report));
    }
}

fn commit(spec: GroupSpec, if_revision: Option<Revision>) -> Change {
    Change::Declare { items: vec![Declaration { spec: spec.into(), if_revision, unvalidated: false }] }
}

fn provision(n: u32) -> Claim {
    Claim::Provision { slot: Slot::Ordinal(n) }
}

fn destroy(n: u32, instance: &str) -> Claim {
    Claim::Destroy {
        instance: instance.into(),
        slot: Some(Slot::Ordinal(n)),
        template: Revision(1),
        reason: Reason::Terminate,
    }
}

#[test]
fn a_slot_has_one_living_or_pending_instance_and_a_group_no_more_than_it_wants() {
    let mut machine = Machine::new();
    machine.commit(spec("web", Allocation::Size(2)));
    let answers = machine.claim(vec![provision(0), provision(0), provision(1), provision(2)]);
    assert!(matches!(answers[0], Admission::Granted(IntentId { offset: 0, .. })));
    assert_eq!(answers[1], Admission::Denied(Denial::SlotTaken));
    assert!(matches!(answers[2], Admission::Granted(IntentId { offset: 2, .. })));
    assert_eq!(answers[3], Admission::Denied(Denial::EnoughMembers));
    machine.done(IntentId { index: LogIndex(2), offset: 0 }, "i0");
    assert_eq!(machine.claim(vec![provision(0)]), [Admission::Denied(Denial::SlotTaken)]);
}

#[test]
fn only_a_named_and_not_yet_doomed_instance_is_destroyed() {
    let mut machine = Machine::new();
    machine.commit(spec("web", Allocation::Size(1)));
    machine.claim(vec![provision(0)]);
    machine.done(IntentId { index: LogIndex(2), offset: 0 }, "i0");
    assert_eq!(
        machine.claim(vec![destroy(0, "other"), destroy(7, "i0")]),
        [Admission::Denied(Denial::NotThere); 2]
    );
    let answers = machine.claim(vec![destroy(0, "i0"), destroy(0, "i0")]);
    assert!(matches!(answers[0], Admission::Granted(_)));
    assert_eq!(answers[1], Admission::Denied(Denial::NotThere), "it is doomed already");
    let free = Claim::Destroy {
        instance: "i0".into(),
        slot: None,
        template: Revision(1),
        reason: Reason::Terminate,
    };
    assert_eq!(machine.claim(vec![free]), [Admission::Denied(Denial::NotThere)], "a member is no stray");
}

#[test]
fn a_deposed_leaders_round_changes_nothing() {
    let mut machine = Machine::new();
    machine.commit(spec("web", Allocation::Size(1)));
    machine.term = 2;
    let before = machine.state.groups.clone();
    let gone = Fact::Gone { slot: Slot::Ordinal(0), instance: "i0".into() };
    let late = Report { term: Term(1), ..machine.report().with_facts([gone]).with_claims([provision(0)]) };
    let answer = machine.apply(Change::Report(late));
    assert_eq!(answer, Answer::Admitted(vec![Admission::Denied(Denial::OtherTerm)]));
    assert_eq!(machine.state.groups, before);
}

#[test]
fn a_claim_that_was_planned_before_a_commit_is_denied() {
    let mut machine = Machine::new();
    machine.commit(spec("web", Allocation::Size(3)));
    let adoption = Adoption { slot: Slot::Ordinal(1), instance: "i".into(), template: Revision(1) };
    let planned = machine.report().with_facts([Fact::Adopted(adoption)]).with_claims([provision(0)]);
    let mut moved = spec("web", Allocation::Size(3));
    moved.template.instance.plugin = "file".into();
    machine.commit(moved);
    let answer = machine.apply(Change::Report(planned.clone()));
    assert_eq!(answer, Answer::Admitted(vec![Admission::Denied(Denial::OtherRevision)]));
    let group = machine.state.group(&"web".into()).expect("it is there").clone();
    assert!(group.is_empty(), "nobody at the new plugin has been looked for yet");
    // The same after the group was freed and declared again: revisions go on counting.
    machine.apply(Change::Object { key: ObjectKey::group(&"web".into()), verb: Verb::Release });
    machine.commit(spec("web", Allocation::Size(3)));
    assert_eq!(machine.apply(Change::Report(planned)), answer);
}

#[test]
fn no_more_intents_are_open_than_the_bound() {
    let mut machine = Machine::new();
    machine.commit(spec("web", Allocation::Size(5000)));
    let answers = machine.claim((0..1500).map(provision).collect());
    let granted = answers.iter().filter(|answer| matches!(answer, Admission::Granted(_))).count();
    assert_eq!(granted, MOST_OPEN);
    assert_eq!(answers[MOST_OPEN], Admission::Denied(Denial::TooManyOpen));
}

/// How many of 1,200 claims of this group are granted.
fn opens(machine: &mut Machine, group: &str) -> usize {
    let revision = machine.state.group(&group.into()).expect("it is declared").revision;
    let report = Report::new(ObjectKey::group(&group.into()), revision, Term(machine.term))
        .with_claims((0..1200).map(provision));
    let Answer::Admitted(all) = machine.apply(Change::Report(report)) else { panic!("it is a report") };
    all.iter().filter(|it| matches!(it, Admission::Granted(_))).count()
}

#[test]
fn a_plugin_that_hangs_holds_no_more_than_its_share_of_the_open_intents() {
    let of = |name: &str, plugin: &str| {
        let mut spec = spec(name, Allocation::Size(5000));
        spec.template.instance.plugin = plugin.into();
        spec
    };
    let hung: Vec<String> = (0..8).map(|n| format!("hung{n}")).collect();
    for level in [1, 2] {
        let mut machine = Machine::new();
        machine.state.level = level;
        for name in &hung {
            machine.commit(of(name, "hung/compute"));
        }
        machine.commit(of("fine", "fine"));
        // Nothing that they open ends.
        let open: usize = hung.iter().map(|name| opens(&mut machine, name)).sum();
        let fine = opens(&mut machine, "fine");
        if level < 2 {
            assert_eq!((open, fine), (5000, 0), "as programs until then apply it");
            continue;
        }
        // Two plugins: half of 5,000 each. Every group may have one in any case.
        assert_eq!((open, fine), (2500 + 5, 1000));
        for n in 0..9 {
            machine.commit(of(&format!("other{n}"), &format!("other{n}")));
        }
        let others: usize = (0..9).map(|n| opens(&mut machine, &format!("other{n}"))).sum();
        assert_eq!(others, 1495 + 7, "however many there are, a plugin's share is what one group may open");
    }
}

#[test]
fn a_repeated_request_gets_the_first_answer() {
    let mut machine = Machine::new();
    let id = RequestId(77);
    machine.index = 1;
    let first = machine.repeat(id, commit(spec("web", Allocation::Size(1)), Some(Revision(0))));
    machine.commit(spec("web", Allocation::Size(2)));
    let again = machine.repeat(id, commit(spec("web", Allocation::Size(1)), Some(Revision(0))));
    assert_eq!(first, again);
    assert_eq!(
        machine.state.group(&"web".into()).map(|group| group.desired()),
        Some(2),
        "the repeat had no effect"
    );
    for n in 0..ANSWERS_KEPT as u128 + 10 {
        machine.repeat(RequestId(1000 + n), Change::SetVariable { key: "k".into(), value: "v".into() });
    }
    assert_eq!((machine.state.answers.len(), machine.state.answered.len()), (ANSWERS_KEPT, ANSWERS_KEPT));
}

#[test]
fn several_documents_are_committed_all_or_none() {
    let mut machine = Machine::new();
    machine.commit(spec("api", Allocation::Size(1)));
    let item = |id: &str, size, if_revision| Declaration {
        spec: spec(id, Allocation::Size(size)).into(),
        if_revision,
        unvalidated: false,
    };
    let answer = machine
        .apply(Change::Declare { items: vec![item("web", 1, None), item("api", 2, Some(Revision(9)))] });
    let refusal = Refusal::Conflict { group: "api".into(), stored: Revision(1), expected: Revision(9) };
    assert_eq!(answer, Answer::Refused(refusal));
    assert!(machine.state.group(&"web".into()).is_none(), "nothing of it was stored");
}

#[test]
fn the_same_spec_again_is_unchanged_and_revisions_outlive_the_group() {
    let mut machine = Machine::new();
    machine.commit(spec("web", Allocation::Size(1)));
    let Answer::Committed(again) = machine.commit(spec("web", Allocation::Size(1))) else { panic!() };
    assert!(again[0].unchanged && again[0].revision == Revision(1));
    assert_eq!(
        machine.apply(Change::Object { key: ObjectKey::group(&"web".into()), verb: Verb::Release }),
        Answer::Done
    );
    let Answer::Committed(anew) = machine.commit(spec("web", Allocation::Size(1))) else { panic!() };
    assert_eq!((anew[0].revision, anew[0].replaced), (Revision(2), None));
}

#[test]
fn size_does_not_become_names_while_somebody_is_there() {
    let mut machine = Machine::new();
    machine.commit(spec("web", Allocation::Size(1)));
    machine.claim(vec![provision(0)]);
    let names = spec("web", Allocation::LogicalIds(vec!["a".into()]));
    let refusal = Answer::Refused(Refusal::OtherAllocation { group: "web".into() });
    assert_eq!(machine.commit(names.clone()), refusal);
    machine.done(IntentId { index: LogIndex(2), offset: 0 }, "i0");
    assert_eq!(machine.commit(names.clone()), refusal);
    machine.claim(vec![destroy(0, "i0")]);
    let destruction = IntentId { index: LogIndex(machine.index), offset: 0 };
    machine.done(destruction, "i0");
    assert!(matches!(machine.commit(names), Answer::Committed(_)), "an empty group may change its kind");
}

#[test]
fn a_disk_keeps_its_id_and_a_name_or_address_its_owner() {
    let mut machine = Machine::new();
    let manager = |name: &str, address: &str, storage: &str| Manager {
        name: name.into(),
        address: address.into(),
        storage: storage.into(),
        instance: None,
        program: Program::default(),
    };
    let found = Change::Bootstrap {
        cluster: "c".into(),
        lineage: 1,
        manager: manager("m1", "h:1", "s1"),
        authority: None,
    };
    assert_eq!(machine.apply(found.clone()), Answer::Joined(NodeId(1)));
    assert_eq!(machine.apply(found), Answer::Refused(Refusal::AlreadyBootstrapped));
    let join = |m| Change::Join { manager: m, token: None };
    let second = machine.apply(join(manager("m2", "h:2", "s2")));
    assert_eq!(second, Answer::Joined(NodeId(3)), "the id is the index of the entry");
    assert_eq!(machine.apply(join(manager("m2", "h:9", "s2"))), second, "the same disk is the same manager");
    assert!(matches!(
        machine.apply(join(manager("m2", "h:4", "s4"))),
        Answer::Refused(Refusal::NameTaken { .. })
    ));
    assert!(matches!(
        machine.apply(join(manager("m5", "h:1", "s5"))),
        Answer::Refused(Refusal::AddressTaken { .. })
    ));
}

#[test]
fn time_never_runs_backwards() {
    let mut machine = Machine::new();
    machine.index = 100;
    machine.commit(spec("web", Allocation::Size(1)));
    let at = machine.state.time;
    machine.index = 50;
    machine.commit(spec("web", Allocation::Size(2)));
    assert_eq!(machine.state.time, at);
}

#[test]
fn what_managers_are_to_be_is_all_or_nothing_and_somebody_always_votes() {
    let mut machine = Machine::new();
    machine.apply(Change::Bootstrap {
        cluster: "c".into(),
        lineage: 1,
        manager: manager(1),
        authority: None,
    });
    for n in 2..=3 {
        assert_eq!(
            machine.apply(Change::Join { manager: manager(n), token: None }),
            Answer::Joined(NodeId(n))
        );
    }
    let voters = |machine: &Machine| machine.state.voters().map(|id| id.0).collect::<Vec<_>>();
    let mut set_member_role = |nodes: &[u64], role| {
        let nodes = nodes.iter().copied().map(NodeId).collect();
        let answer = machine.apply(Change::SetMemberRole { nodes, role });
        (answer, voters(&machine))
    };
    let refused = |refusal| Answer::Refused(refusal);
    assert_eq!(
        set_member_role(&[2, 9], MemberRole::Learner),
        (refused(Refusal::NoManager { node: NodeId(9) }), vec![1, 2, 3])
    );
    assert_eq!(
        set_member_role(&[1, 2, 3], MemberRole::Removed),
        (refused(Refusal::LastVoter), vec![1, 2, 3])
    );
    assert_eq!(set_member_role(&[1, 2], MemberRole::Learner), (Answer::Done, vec![3]));
    assert_eq!(set_member_role(&[3], MemberRole::Learner), (refused(Refusal::LastVoter), vec![3]));
    assert_eq!(set_member_role(&[2], MemberRole::Voter), (Answer::Done, vec![2, 3]));
    assert_eq!(set_member_role(&[3, 1], MemberRole::Removed), (Answer::Done, vec![2]));
    assert_eq!(
        set_member_role(&[3], MemberRole::Voter),
        (refused(Refusal::NoManager { node: NodeId(3) }), vec![2])
    );
    // Its disk is not taken in again; its name and its address are free.
    let again = machine.apply(Change::Join { manager: manager(3), token: None });
    assert_eq!(again, Answer::Refused(Refusal::Removed { node: NodeId(3) }));
    let fresh = Manager { storage: "s9".into(), ..manager(3) };
    assert!(
        matches!(machine.apply(Change::Join { manager: fresh, token: None }), Answer::Joined(id) if id.0 > 3)
    );
}

#[test]
fn a_token_that_serves_once_lets_one_in_and_whoever_is_refused_uses_nothing_up() {
    let mut machine = Machine::new();
    let authority = Authority { certificate: [1].as_slice().into(), key: Secret::new([1].as_slice()) };
    let authority = Some(authority);
    machine.apply(Change::Bootstrap { cluster: "c".into(), lineage: 1, manager: manager(1), authority });
    let once = TokenId::new("once");
    let token = |once| NewToken {
        id: TokenId::new("once"),
        role: Role::Manager,
        lasts: Some(Millis(100)),
        once,
        instance: None,
        replaces: None,
    };
    assert_eq!(machine.apply(Change::CreateToken(token(true))), Answer::Done);
    let join = |manager| Change::Join { manager, token: Some(once.clone()) };
    let taken = Manager { name: "m1".into(), ..manager(2) };
    assert_eq!(machine.apply(join(taken)), Answer::Refused(Refusal::NameTaken { name: "m1".into() }));
    let joined = machine.apply(join(manager(2)));
    assert!(matches!(joined, Answer::Joined(_)));
    let bad = |why| Answer::Refused(Refusal::Token(why));
    assert_eq!(machine.apply(join(manager(3))), bad(BadToken::Used));
    assert_eq!(machine.apply(join(manager(2))), joined, "it asks again, for its answer was lost");
    // The disk of a member is no secret: whoever only names it is not let in.
    let stranger = Change::Join { manager: manager(1), token: Some(TokenId::new("guess")) };
    assert_eq!(machine.apply(stranger), bad(BadToken::Unknown));
    assert_eq!(machine.apply(Change::RevokeToken { id: once.clone() }), Answer::Done);
    assert_eq!(machine.apply(join(manager(2))), bad(BadToken::Unknown));
    assert_eq!(
        machine.apply(Change::RevokeToken { id: once.clone() }),
        Answer::Refused(Refusal::NoToken { id: once.clone() })
    );
    machine.apply(Change::CreateToken(token(false)));
    machine.index += 100;
    assert_eq!(machine.apply(join(manager(4))), bad(BadToken::Expired));
}

#[test]
fn an_authority_is_trusted_before_it_signs_and_after_it_has() {
    let authority =
        |n: u8| Authority { certificate: [n].as_slice().into(), key: Secret::new([n].as_slice()) };
    let rotate = |n: u8| Change::Rotate { next: authority(n), bridge: [n + 100].as_slice().into() };
    let mut machine = Machine::new();
    machine.apply(rotate(1));
    let seen = |machine: &Machine| {
        let known = machine.state.authorities.as_ref().expect("there is one");
        let trusted: Vec<u8> = known.trusted().map(|it| it[0]).collect();
        (known.signing.certificate[0], trusted, known.bridge().map(|it| it[0]), known.changed.0)
    };
    let at = machine.index;
    assert_eq!(seen(&machine), (1, vec![1], None, at));
    assert_eq!(machine.apply(Change::StepRotation { after: LogIndex(at) }), Answer::Done);
    assert_eq!(seen(&machine), (1, vec![1], None, at), "there is no step to take");
    machine.apply(rotate(2));
    let at = machine.index;
    assert_eq!(seen(&machine), (1, vec![1, 2], None, at));
    assert_eq!(machine.apply(rotate(3)), Answer::Refused(Refusal::IsRotating));
    machine.apply(Change::StepRotation { after: LogIndex(at - 1) });
    assert_eq!(seen(&machine), (1, vec![1, 2], None, at), "nobody takes another's step");
    machine.apply(Change::StepRotation { after: LogIndex(at) });
    let switched = machine.index;
    assert_eq!(seen(&machine), (2, vec![2, 1], Some(102), switched));
    machine.apply(Change::StepRotation { after: LogIndex(at) });
    assert_eq!(seen(&machine), (2, vec![2, 1], Some(102), switched), "nobody takes a step twice");
    machine.apply(Change::StepRotation { after: LogIndex(switched) });
    assert_eq!(seen(&machine), (2, vec![2], None, machine.index));
    assert_eq!(machine.state.authorities.as_ref().map(|it| &it.rotation), Some(&Rotation::None));
}

#[test]
fn a_cluster_that_begins_anew_keeps_everything_but_whom_it_cannot_know() {
    let mut machine = Machine::new();
    let found = Change::Bootstrap { cluster: "c".into(), lineage: 1, manager: manager(1), authority: None };
    machine.apply(found);
    let joined = machine.apply(Change::Join { manager: manager(2), token: None });
    let Answer::Joined(second) = joined else { panic!("{joined:?}") };
    machine.apply(Change::Join { manager: manager(3), token: None });
    machine.apply(Change::SetMemberRole { nodes: vec![second], role: MemberRole::Learner });
    let token = |once, id: &str| {
        let id = TokenId::new(id);
        Change::CreateToken(NewToken {
            id,
            role: Role::Manager,
            lasts: None,
            once,
            instance: None,
            replaces: None,
        })
    };
    machine.apply(token(true, "once"));
    machine.apply(token(false, "often"));
    machine.apply(Change::Declare {
        items: vec![Declaration {
            spec: spec("web", Allocation::Size(2)).into(),
            if_revision: None,
            unvalidated: false,
        }],
    });
    let claims = vec![Claim::Provision { slot: Slot::Ordinal(0) }];
    machine.apply(Change::Report(
        Report::new(ObjectKey::group(&"web".into()), Revision(1), Term(1)).with_claims(claims),
    ));
    let before = machine.state.clone();
    let open = *before.groups[&GroupId::new("web")].intents.keys().next().expect("one is open");
    let until = machine.index;
    // On the disk of the second, which goes on as who it is.
    let state = before.begun_anew(9, LogIndex(until), second, before.managers[&second].clone());
    assert_eq!(state.managers.keys().copied().collect::<Vec<_>>(), [second]);
    assert_eq!(state.removed.values().collect::<Vec<_>>(), ["s1", "s3"]);
    assert!(state.learners.is_empty(), "it votes");
    assert_eq!(state.tokens.keys().map(TokenId::as_str).collect::<Vec<_>>(), ["often"]);
    assert_eq!((state.lineages.now, state.lineages.of(open)), (9, 1), "its name stays");
    assert_eq!(state.groups, before.groups);
    // On a new disk, from a backup: nobody of before is left.
    let state = before.begun_anew(9, LogIndex(until), NodeId(until + 1000), manager(7));
    assert_eq!(state.removed.len(), 3);
    assert_eq!(state.voters().collect::<Vec<_>>(), [NodeId(until + 1000)]);
    // Nor is heard again: their disks never join.
    let mut machine = Machine { state, index: until + 1000, term: 2 };
    let refused = machine.apply(Change::Join { manager: manager(1), token: None });
    assert_eq!(refused, Answer::Refused(Refusal::Removed { node: NodeId(1) }));
}

#[test]
fn nothing_is_written_that_a_manager_does_not_know_and_no_older_one_comes_in_afterwards() {
    let mut machine = Machine::new();
    let with = |n: u64, level: u32| Manager {
        program: Program { version: format!("0.{level}"), level },
        ..manager(n)
    };
    machine.apply(Change::Bootstrap {
        cluster: "c".into(),
        lineage: 1,
        manager: with(1, 1),
        authority: None,
    });
    assert_eq!(machine.state.level, 1);
    let older = machine.apply(Change::Join { manager: with(2, 0), token: None });
    assert_eq!(older, Answer::Refused(Refusal::TooOld { level: 1 }));
    machine.apply(Change::Join { manager: with(2, 1), token: None });
    // One after another is started with a newer program; the last one makes it so.
    machine.apply(Change::Join { manager: with(1, 2), token: None });
    assert_eq!(machine.state.level, 1);
    machine.apply(Change::Join { manager: with(2, 3), token: None });
    assert_eq!(machine.state.level, 2);
    let older = machine.apply(Change::Join { manager: with(3, 1), token: None });
    assert_eq!(older, Answer::Refused(Refusal::TooOld { level: 2 }));
}

#[test]
fn a_secret_is_there_before_a_spec_refers_to_it_and_stays_as_long_as_one_does() {
    let mut machine = Machine::new();
    machine.state.level = 1;
    let mut web = spec("web", Allocation::Size(2));
    web.template.flavor.properties = Opaque::from_json(r#"{"Init":["login secret://reg"]}"#);
    let commit = |spec: &GroupSpec| Change::Declare {
        items: vec![Declaration { spec: spec.clone().into(), if_revision: None, unvalidated: false }],
    };
    let name = crate::secret::SecretName::new("reg");
    let missing = Answer::Refused(Refusal::NoSecret { name: name.clone() });
    assert_eq!(machine.apply(commit(&web)), missing);
    assert_eq!(machine.apply(Change::RemoveSecret { name: name.clone() }), missing);
    let set = |value: &[u8]| Change::SetSecret { name: name.clone(), value: Secret::new(value) };
    let set_once = machine.apply(set(b"planted"));
    assert_eq!(set_once, Answer::Done);
    assert!(!format!("{:?}{:?}", set_once, machine.state.secrets).contains("planted"));
    let first = machine.apply(commit(&web));
    assert!(matches!(first, Answer::Committed(_)), "{first:?}");
    let hash = machine.state.groups[&GroupId::new("web")].spec.template.fingerprint();
    assert_eq!(machine.apply(set(b"another")), Answer::Done);
    assert_eq!(
        machine.state.groups[&GroupId::new("web")].spec.template.fingerprint(),
        hash,
        "nobody is replaced"
    );
    let in_use = Answer::Refused(Refusal::SecretInUse { name: name.clone(), group: "web".into() });
    assert_eq!(machine.apply(Change::RemoveSecret { name: name.clone() }), in_use);
    machine.apply(Change::Object { key: ObjectKey::group(&"web".into()), verb: Verb::Release });
    assert_eq!(machine.apply(Change::RemoveSecret { name: name.clone() }), Answer::Done);
    assert!(machine.state.secrets.is_empty());
}
