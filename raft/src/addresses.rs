//! Where the members are: as the state has it, unless one has been found at another address since.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, OnceLock};

use model::{NodeId, State};

/// Members that are not where the state has them: when all of them have moved, nobody leads, and no state can say so.
#[derive(Clone, Default)]
pub(crate) struct Addresses {
    found: Arc<Mutex<BTreeMap<NodeId, Found>>>,
    /// Where candidates said that they are: places to look at.
    rumours: Arc<Mutex<VecDeque<String>>>,
    /// Where this manager is.
    own: Arc<OnceLock<String>>,
}

struct Found {
    /// Where the state had it then. When the state changes, it is newer.
    recorded: String,
    address: String,
}

impl Addresses {
    /// The address of a member; `first` is that in the membership.
    pub(crate) fn of(&self, state: &State, node: NodeId, first: &str) -> String {
        let recorded = state.managers.get(&node).map_or(first, |manager| &manager.address);
        let mut all = self.found.lock().expect("nobody panics while holding the addresses");
        // What the state has had since is newer, also if it comes back to what it was.
        if all.get(&node).is_some_and(|found| found.recorded != recorded) {
            all.remove(&node);
        }
        all.get(&node).map_or(recorded, |it| &it.address).to_owned()
    }

    /// Where this manager is; empty if nobody has said so.
    pub(crate) fn own(&self) -> String {
        self.own.get().cloned().unwrap_or_default()
    }

    pub(crate) fn is_at(&self, address: &str) {
        self.own.get_or_init(|| address.to_owned());
    }

    /// A candidate says that it is here. Whether it is has to be seen.
    pub(crate) fn heard(&self, address: &str) {
        let mut rumours = self.rumours.lock().expect("nobody panics while holding the addresses");
        if !rumours.iter().any(|it| it == address) {
            rumours.push_back(address.to_owned());
            if rumours.len() > RUMOURS {
                rumours.pop_front();
            }
        }
    }

    pub(crate) fn rumours(&self) -> Vec<String> {
        self.rumours.lock().expect("nobody panics while holding the addresses").iter().cloned().collect()
    }

    /// Who is called elsewhere than at the address that the state has, and where.
    pub(crate) fn elsewhere(&self) -> Vec<(NodeId, String)> {
        let all = self.found.lock().expect("nobody panics while holding the addresses");
        all.iter().map(|(node, found)| (*node, found.address.clone())).collect()
    }

    /// A member is not where it was found any more: it is called where the state has it.
    pub(crate) fn lost(&self, node: NodeId) {
        self.found.lock().expect("nobody panics while holding the addresses").remove(&node);
    }

    /// A member was found here. Only a hint: whoever connects checks who it is.
    pub(crate) fn found(&self, state: &State, node: NodeId, address: &str) {
        let Some(manager) = state.managers.get(&node) else { return };
        let found = Found { recorded: manager.address.clone(), address: address.to_owned() };
        let mut all = self.found.lock().expect("nobody panics while holding the addresses");
        if found.recorded == address {
            all.remove(&node);
        } else {
            all.insert(node, found);
        }
    }
}

/// How many places are remembered: more than a cluster has members.
const RUMOURS: usize = 16;

#[cfg(test)]
mod tests {
    use model::command::{Manager, Program};

    use super::*;

    #[test]
    fn a_member_is_where_it_was_found_until_the_state_says_where() {
        let at = |address: &str| {
            let manager = Manager {
                name: "m2".into(),
                address: address.into(),
                storage: "d2".into(),
                instance: None,
                program: Program::default(),
            };
            let mut state = State::default();
            state.managers.insert(NodeId(2), manager);
            state
        };
        let addresses = Addresses::default();
        let of = |state: &State| addresses.of(state, NodeId(2), "first:1");
        assert_eq!(of(&State::default()), "first:1");
        assert_eq!(of(&at("old:1")), "old:1");
        addresses.found(&State::default(), NodeId(2), "anywhere:1");
        assert_eq!(of(&at("old:1")), "old:1", "nobody of that id is a member");
        addresses.found(&at("old:1"), NodeId(2), "new:1");
        assert_eq!(of(&at("old:1")), "new:1");
        assert_eq!(of(&at("newer:1")), "newer:1");
        assert_eq!(of(&at("old:1")), "old:1", "it moved there since");
        addresses.found(&at("old:1"), NodeId(2), "old:1");
        assert_eq!(of(&at("old:1")), "old:1", "it is back");
        addresses.found(&at("old:1"), NodeId(2), "new:1");
        assert_eq!(addresses.elsewhere(), [(NodeId(2), "new:1".to_owned())]);
        addresses.lost(NodeId(2));
        assert_eq!((of(&at("old:1")), addresses.elsewhere()), ("old:1".into(), Vec::new()));
    }
}
