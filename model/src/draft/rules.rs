//! How a group is updated and healed, decoded from a tree.

use super::group::{Fields, Reader, join};
use super::tree::{Node, Value};
use crate::spec::{Allocation, Amount, Canary, Healing, HealthGate, OnFailure, Updating};

impl<'a> Reader<'a> {
    pub(super) fn updating(
        &mut self,
        node: &'a Node,
        path: &str,
        allocation: Option<&Allocation>,
    ) -> Option<Updating> {
        let known = [
            "Count",
            "Duration",
            "SkipBeforeInstanceDestroy",
            "MaxSurge",
            "MaxUnavailable",
            "HealthyDeadline",
            "ProgressDeadline",
            "MaxFailureRatio",
            "Monitor",
            "OnFailure",
            "Canary",
        ];
        let fields = self.fields(node, path, &known)?;
        let count = self.or_default(&fields, path, "Count", Self::whole_number);
        let duration = self.or_default(&fields, path, "Duration", Self::duration);
        let skip_drain = self.or_default(&fields, path, "SkipBeforeInstanceDestroy", |reader, node, path| {
            reader.one_of(node, path, &["drain"]).map(|_| true)
        });
        let max_surge = self.optional(&fields, path, "MaxSurge", Self::amount);
        let max_unavailable = self.optional(&fields, path, "MaxUnavailable", Self::amount);
        let healthy_deadline = self.optional(&fields, path, "HealthyDeadline", Self::duration);
        let progress_deadline = self.optional(&fields, path, "ProgressDeadline", Self::duration);
        let max_failures = self.optional(&fields, path, "MaxFailureRatio", Self::ratio);
        let monitor = self.or_default(&fields, path, "Monitor", Self::duration);
        let on_failure = self.or_default(&fields, path, "OnFailure", |reader, node, path| {
            let names = OnFailure::ALL.map(OnFailure::as_str);
            reader.one_of(node, path, &names).map(|at| OnFailure::ALL[at])
        });
        let canary = self.optional(&fields, path, "Canary", Self::canary);
        let gate = match HealthGate::new(count?, duration?) {
            Ok(gate) => gate,
            Err(error) => {
                self.refuse(fields.place, path, &error);
                return None;
            }
        };
        let updating = Updating {
            gate,
            skip_drain: skip_drain?,
            max_surge: max_surge?,
            max_unavailable: max_unavailable?,
            healthy_deadline: healthy_deadline?,
            progress_deadline: progress_deadline?,
            max_failures: max_failures?,
            monitor: monitor?,
            on_failure: on_failure?,
            canary: canary?,
        };
        let wrong = allocation.map(|allocation| updating.check_written(allocation)).unwrap_or_default();
        for error in &wrong {
            let field = error.field();
            let field = field.split('.').next().unwrap_or_default();
            let place = fields.get(field).map_or(fields.place, |node| node.place);
            self.refuse(place, path, error);
        }
        wrong.is_empty().then_some(updating)
    }

    fn canary(&mut self, node: &'a Node, path: &str) -> Option<Canary> {
        let fields = self.fields(node, path, &["Count", "Bake", "Promote"])?;
        let count = match fields.get("Count") {
            None => Some(1),
            Some(node) => self.whole_number(node, &join(path, "Count")),
        };
        let bake = self.or_default(&fields, path, "Bake", Self::duration);
        let manual = self.or_default(&fields, path, "Promote", |reader, node, path| {
            reader.one_of(node, path, &["Auto", "Manual"]).map(|at| at == 1)
        });
        Some(Canary { count: count?, bake: bake?, manual: manual? })
    }

    /// A field that need not be there.
    fn optional<T>(
        &mut self,
        fields: &Fields<'a>,
        path: &str,
        field: &'static str,
        read: impl FnOnce(&mut Self, &'a Node, &str) -> Option<T>,
    ) -> Option<Option<T>> {
        match fields.get(field) {
            None => Some(None),
            Some(node) => read(self, node, &join(path, field)).map(Some),
        }
    }

    fn or_default<T: Default>(
        &mut self,
        fields: &Fields<'a>,
        path: &str,
        field: &'static str,
        read: impl FnOnce(&mut Self, &'a Node, &str) -> Option<T>,
    ) -> Option<T> {
        self.optional(fields, path, field, read).map(Option::unwrap_or_default)
    }

    /// Which of these words it is, in any case.
    fn one_of(&mut self, node: &'a Node, path: &str, words: &[&str]) -> Option<usize> {
        let quoted = || words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
        let Value::String(text) = &node.value else {
            self.mistyped(node, path, &format!("one of {}", quoted()));
            return None;
        };
        let at = words.iter().position(|word| word.eq_ignore_ascii_case(text));
        if at.is_none() {
            let remedy = match words {
                [only] => format!("the only value is `{only}`"),
                _ => format!("write one of {}", quoted()),
            };
            self.notes.wrong(node.place, path, format!("unknown value `{text}`"), remedy);
        }
        at
    }

    /// A number of members, or a share such as `25%`.
    fn amount(&mut self, node: &'a Node, path: &str) -> Option<Amount> {
        let (Value::Number(text) | Value::String(text)) = &node.value else {
            self.mistyped(node, path, "a number of members, or a share such as `25%`");
            return None;
        };
        match text.parse() {
            Ok(amount) => Some(amount),
            Err(why) => {
                self.notes.wrong(node.place, path, why, "");
                None
            }
        }
    }

    /// A share in thousandths, written as a number from 0 to 1 or in percent.
    fn ratio(&mut self, node: &'a Node, path: &str) -> Option<u32> {
        let (Value::Number(text) | Value::String(text)) = &node.value else {
            self.mistyped(node, path, "a share such as `0.1` or `10%`");
            return None;
        };
        let thousandths = match text.strip_suffix('%') {
            None => text.parse::<f64>().map(|it| it * 1000.0),
            Some(percent) => percent.parse::<f64>().map(|it| it * 10.0),
        };
        match thousandths {
            // Whole thousandths: the nearest one, of what no binary fraction can say.
            Ok(share) if (0.0..=1000.0).contains(&share) && (share - share.round()).abs() < 1e-6 => {
                Some(share.round() as u32)
            }
            _ => {
                let what = format!("`{text}` is not a share from 0 to 1 in thousandths, such as 0.1 or 10%");
                self.notes.wrong(node.place, path, what, "");
                None
            }
        }
    }

    pub(super) fn healing(&mut self, node: &'a Node, path: &str) -> Option<Healing> {
        let fields = self.fields(node, path, &["AbsentFor", "Start", "BootDeadline"])?;
        let mut time = |field: &str| match fields.get(field) {
            None => Some(None),
            Some(node) => self.duration(node, &join(path, field)).map(Some),
        };
        let (absent_for, boot_deadline) = (time("AbsentFor"), time("BootDeadline"));
        let start = match fields.get("Start").map(|node| (&node.value, node)) {
            None => Some(false),
            Some((Value::Bool(start), _)) => Some(*start),
            Some((_, node)) => {
                self.mistyped(node, &join(path, "Start"), "`true` or `false`");
                None
            }
        };
        match Healing::new(absent_for?, start?, boot_deadline?) {
            Ok(healing) => Some(healing),
            Err(errors) => {
                for error in &errors {
                    let place = fields.get(&error.field()).map_or(fields.place, |node| node.place);
                    self.refuse(place, path, error);
                }
                None
            }
        }
    }
}
