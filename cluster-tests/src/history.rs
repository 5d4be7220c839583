//! What the simulator was asked, and the promises that its record must show.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

/// One line of the simulator's record.
#[derive(Debug, Clone, Deserialize)]
pub struct Call {
    pub at: u64,
    pub call: String,
    pub id: String,
    pub group: String,
    pub slot: String,
    pub token: String,
    /// The fingerprint of the template it was made from.
    pub hash: String,
    pub outcome: String,
}

/// The record, in order.
#[derive(Debug, Clone)]
pub struct History(pub Vec<Call>);

impl History {
    pub fn read(lab: &Path) -> Self {
        let text = std::fs::read_to_string(lab.join("history.jsonl")).unwrap_or_default();
        Self(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
    }

    /// How many instances were ever made for a group.
    pub fn made(&self, group: &str) -> usize {
        self.0.iter().filter(|call| call.group == group && call.outcome == "made").count()
    }

    /// No slot ever had two living instances of one template, and no token ever made two.
    pub fn shows_nothing_twice(&self) {
        if let Some(twice) = self.twice() {
            panic!("{twice}:\n{self:#?}");
        }
    }

    /// The first slot that had two living instances of one template, or three of any; or token that made two.
    ///
    /// While another template is rolled out, a slot may have one of the old and one of the new.
    pub fn twice(&self) -> Option<String> {
        let mut running: BTreeMap<(&str, &str), Vec<&Call>> = BTreeMap::new();
        let mut tokens: BTreeMap<&str, &str> = BTreeMap::new();
        for call in self.0.iter().filter(|call| !call.group.is_empty()) {
            let slot = (call.group.as_str(), call.slot.as_str());
            match (call.call.as_str(), call.outcome.as_str()) {
                ("provision", "made") => {
                    let there = running.entry(slot).or_default();
                    let alike = there.iter().find(|it| it.hash == call.hash || there.len() > 1);
                    if let Some(other) = alike {
                        return Some(format!("slot {slot:?} got {} while {} lived", call.id, other.id));
                    }
                    there.push(call);
                    if let Some(other) = tokens.insert(&call.token, &call.id) {
                        return Some(format!("the token {} made {other} and then {}", call.token, call.id));
                    }
                }
                ("destroy", _) => running.entry(slot).or_default().retain(|it| it.id != call.id),
                _ => {}
            }
        }
        None
    }

    /// How many living instances of a group were destroyed for this reason.
    pub fn destroyed(&self, group: &str, reason: &str) -> usize {
        let counts = |call: &&Call| call.call == "destroy" && call.group == group && call.outcome == reason;
        self.0.iter().filter(counts).count()
    }
}
