//! Could what clients saw of a register have happened one operation after another? Wing and Gong's search
//! with Lowe's memory of where it has been ("Testing for linearizability", 2017), for registers whose
//! written values are all different.

use std::collections::{BTreeMap, HashSet};

/// What one client did to one register, and what it was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operation {
    pub kind: Kind,
    /// When it was asked, by any clock that all clients share.
    pub asked: u64,
    /// When it was answered; never, when nobody knows whether it was done.
    pub answered: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A value that is written only once, and is not 0.
    Write(u64),
    /// 0 when nothing was written yet.
    Read(u64),
}

/// Whether some order explains every answer, in which each operation takes effect between its question
/// and its answer. A write without an answer may take effect at any time after its question, or never.
pub fn is_linearizable(history: &[Operation]) -> bool {
    let read: HashSet<u64> = history
        .iter()
        .filter_map(|it| match it.kind {
            Kind::Read(value) => Some(value),
            Kind::Write(_) => None,
        })
        .collect();
    // A read without an answer says nothing, and a lost write that nobody saw constrains nobody.
    let says_something = |it: &&Operation| match it.kind {
        Kind::Read(_) => it.answered.is_some(),
        Kind::Write(value) => it.answered.is_some() || read.contains(&value),
    };
    let mut operations: Vec<Operation> = history.iter().filter(says_something).copied().collect();
    operations.sort_by_key(|it| it.asked);
    search(&operations)
}

/// What is done so far: every operation before `prefix`, those in `beyond`, and the value that they left.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Done {
    prefix: usize,
    /// In order.
    beyond: Vec<usize>,
    value: u64,
}

impl Done {
    fn has(&self, at: usize) -> bool {
        at < self.prefix || self.beyond.binary_search(&at).is_ok()
    }

    fn with(&self, at: usize, value: u64) -> Done {
        let mut next = Done { value, ..self.clone() };
        if let Err(place) = next.beyond.binary_search(&at) {
            next.beyond.insert(place, at);
        }
        while next.beyond.first() == Some(&next.prefix) {
            next.beyond.remove(0);
            next.prefix += 1;
        }
        next
    }
}

fn search(operations: &[Operation]) -> bool {
    let mut seen = HashSet::new();
    let mut open = vec![Done { prefix: 0, beyond: Vec::new(), value: 0 }];
    while let Some(done) = open.pop() {
        // Whoever was asked after some other's answer cannot come before it.
        let mut first_answer = u64::MAX;
        let mut candidates = Vec::new();
        let mut complete = true;
        for (at, it) in operations.iter().enumerate().skip(done.prefix) {
            if it.asked > first_answer {
                complete = false;
                break;
            }
            if !done.has(at) {
                candidates.push(at);
                first_answer = first_answer.min(it.answered.unwrap_or(u64::MAX));
                complete &= it.answered.is_none();
            }
        }
        if complete {
            return true;
        }
        for at in candidates {
            if operations[at].asked > first_answer {
                continue;
            }
            let value = match operations[at].kind {
                Kind::Write(value) => value,
                Kind::Read(value) if value == done.value => value,
                Kind::Read(_) => continue,
            };
            let next = done.with(at, value);
            if seen.insert(next.clone()) {
                open.push(next);
            }
        }
    }
    false
}

/// The registers whose history nothing explains, of those that several clients used.
pub fn unexplained<K: Ord + Clone>(histories: &BTreeMap<K, Vec<Operation>>) -> Vec<K> {
    let wrong = histories.iter().filter(|(_, history)| !is_linearizable(history));
    wrong.map(|(key, _)| key.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(kind: Kind, asked: u64, answered: u64) -> Operation {
        Operation { kind, asked, answered: (answered > 0).then_some(answered) }
    }

    #[test]
    fn what_can_have_happened_in_some_order_is_accepted_and_nothing_else() {
        use Kind::{Read, Write};
        for (story, history, explained) in [
            ("one after another", vec![op(Write(1), 1, 2), op(Read(1), 3, 4)], true),
            ("a read of nothing first", vec![op(Read(0), 1, 2), op(Write(1), 3, 4)], true),
            ("a stale read", vec![op(Write(1), 1, 2), op(Write(2), 3, 4), op(Read(1), 5, 6)], false),
            ("a read beside a write, old", vec![op(Write(1), 1, 10), op(Read(0), 2, 3)], true),
            ("a read beside a write, new", vec![op(Write(1), 1, 10), op(Read(1), 2, 3)], true),
            (
                "new and then old again",
                vec![op(Write(1), 1, 10), op(Read(1), 2, 3), op(Read(0), 4, 5)],
                false,
            ),
            ("a lost write", vec![op(Write(1), 1, 2), op(Read(0), 3, 4)], false),
            ("an unanswered write that nobody sees", vec![op(Write(1), 1, 0), op(Read(0), 3, 4)], true),
            (
                "an unanswered write that is seen late",
                vec![op(Write(1), 1, 0), op(Read(0), 3, 4), op(Read(1), 5, 6)],
                true,
            ),
            (
                "an unanswered write that goes away again",
                vec![op(Write(1), 1, 0), op(Read(1), 3, 4), op(Read(0), 5, 6)],
                false,
            ),
            ("a value from nowhere", vec![op(Read(7), 1, 2)], false),
        ] {
            assert_eq!(is_linearizable(&history), explained, "{story}");
        }
    }

    /// Every order, tried one by one.
    fn by_force(operations: &[Operation], done: &mut Vec<usize>, value: u64) -> bool {
        let left: Vec<usize> = (0..operations.len()).filter(|at| !done.contains(at)).collect();
        if left.iter().all(|at| operations[*at].answered.is_none()) {
            return true;
        }
        let limit = left.iter().filter_map(|at| operations[*at].answered).min().unwrap_or(u64::MAX);
        left.into_iter().any(|at| {
            let next = match operations[at].kind {
                Kind::Write(value) => value,
                Kind::Read(read) if read == value && operations[at].answered.is_some() => value,
                Kind::Read(_) => return false,
            };
            if operations[at].asked > limit {
                return false;
            }
            done.push(at);
            let found = by_force(operations, done, next);
            done.pop();
            found
        })
    }

    #[test]
    fn it_agrees_with_trying_every_order() {
        let mut state = 1_u64;
        let mut draw = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let mut explained = 0;
        for _ in 0..4000 {
            let mut writes = 0;
            let history: Vec<Operation> = (0..5)
                .map(|_| {
                    let asked = 1 + draw(12);
                    let kind = if draw(2) == 0 {
                        writes += 1;
                        Kind::Write(writes)
                    } else {
                        Kind::Read(draw(3))
                    };
                    let answered = (draw(6) > 0).then(|| asked + 1 + draw(6));
                    Operation { kind, asked, answered }
                })
                .collect();
            let expected = by_force(&history, &mut Vec::new(), 0);
            assert_eq!(is_linearizable(&history), expected, "{history:?}");
            explained += u32::from(expected);
        }
        assert!((400..3600).contains(&explained), "both kinds were met: {explained}");
    }
}
