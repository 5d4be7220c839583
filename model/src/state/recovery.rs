//! A cluster that lost its majority goes on from what one disk holds, or from a backup.

use super::State;
use crate::command::Manager;
use crate::ids::{LogIndex, NodeId};

impl State {
    /// This state as the only manager of another lineage has it, which begins after the entry `until`.
    ///
    /// Every other manager is removed for good, for it may hold what this one does not know. Tokens that serve
    /// once are gone: whether they were used since is not known. Everything else goes on; an intent that is open
    /// is looked for under the name that it has.
    #[must_use]
    pub fn begun_anew(&self, lineage: u32, until: LogIndex, node: NodeId, me: Manager) -> State {
        let (mut state, level) = (self.clone(), me.program.level);
        state.lineages = self.lineages.followed_by(lineage, until);
        for (id, other) in
            self.managers.iter().filter(|(id, other)| **id != node && other.storage != me.storage)
        {
            state.removed.insert(*id, other.storage.clone());
        }
        state.removed.remove(&node);
        state.managers = std::iter::once((node, me)).collect();
        state.learners = Default::default();
        state.rises_to(state.level.max(level));
        state.tokens =
            self.tokens.iter().filter(|(_, it)| !it.once).map(|(id, it)| (id.clone(), it.clone())).collect();
        state
    }
}
