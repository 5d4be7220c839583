//! Cluster settings, and the limits that they and the state of the whole cluster set for each group.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::State;
use super::context::Context;
use super::records::Variable;
use crate::answer::{Answer, Refusal};
use crate::bounds::Bounds;
use crate::event::Kind;
use crate::ids::{GroupId, LogIndex, PluginName};
use crate::limits::{LEAST_SHARE, MOST_OPEN_IN_CLUSTER};
use crate::plugin::{Guarantees, PluginClass};
use crate::time::Millis;

/// Variables whose names begin with this are cluster settings; unknown ones are refused.
pub const RESERVED: &str = "infrakit/";
/// The maximal number of instances of all groups together: a number, or `none`.
const MOST_INSTANCES: &str = "infrakit/max-instances";
/// `infrakit/plugin/NAME/class`: the class that a plugin is treated as, in place of the one that it reports: `C`,
/// `D` or `none`.
const PLUGIN: &str = "infrakit/plugin/";
const CLASS: &str = "/class";

/// How long a voter may be unreachable before autopilot removes it: whole seconds, or `never`.
const DEAD_MANAGER: &str = "infrakit/dead-manager-after";
const DEAD_MANAGER_USUAL: Millis = Millis::seconds(300);

/// How long there may be no leader before stopped machines of managers are started: whole seconds, or `never`.
const START_MANAGERS: &str = "infrakit/start-managers-after";
const START_MANAGERS_USUAL: Millis = Millis::seconds(30);

/// How long a manager's certificate is valid: whole seconds. It is renewed automatically.
const CERTIFICATE: &str = "infrakit/certificate-life";
const CERTIFICATE_USUAL: Millis = Millis::seconds(30 * 24 * 3600);
const CERTIFICATE_SHORTEST: Millis = Millis::seconds(60);

/// The settings that have a default, with it as one would write it.
pub fn setting_defaults() -> [(&'static str, String); 4] {
    let seconds = |span: Millis| format!("{}s", span.0 / 1000);
    [
        (MOST_INSTANCES, "none".to_owned()),
        (DEAD_MANAGER, seconds(DEAD_MANAGER_USUAL)),
        (START_MANAGERS, seconds(START_MANAGERS_USUAL)),
        (CERTIFICATE, seconds(CERTIFICATE_USUAL)),
    ]
}

/// Checks the value of a variable; the error says why it is refused. It is part of the replicated answer: its words are
/// those of every version.
fn check(key: &str, value: &str) -> Result<(), String> {
    if !key.starts_with(RESERVED) {
        return Ok(());
    }
    if key == MOST_INSTANCES {
        let fits = value == "none" || value.parse::<usize>().is_ok();
        return if fits { Ok(()) } else { Err(format!("`{value}` is neither a number nor `none`")) };
    }
    if key == DEAD_MANAGER || key == START_MANAGERS {
        let fits = value == "never" || seconds(value).is_some();
        return if fits {
            Ok(())
        } else {
            Err(format!("`{value}` is neither three seconds or more, as in `300s`, nor `never`"))
        };
    }
    if key == CERTIFICATE {
        let fits = seconds(value).is_some_and(|lifecycle| lifecycle >= CERTIFICATE_SHORTEST);
        return if fits { Ok(()) } else { Err(format!("`{value}` is not a minute or more, as in `86400s`")) };
    }
    let plugin = key.strip_prefix(PLUGIN).and_then(|rest| rest.strip_suffix(CLASS));
    if plugin.is_some_and(|name| !name.is_empty() && !name.contains('/')) {
        let fits = matches!(value, "C" | "D" | "none");
        return if fits { Ok(()) } else { Err(format!("`{value}` is none of `C`, `D` and `none`")) };
    }
    Err(format!(
        "names that begin with `{RESERVED}` are the managers' own: {MOST_INSTANCES}, {DEAD_MANAGER}, {START_MANAGERS}, {CERTIFICATE} and {PLUGIN}NAME{CLASS}"
    ))
}

/// `300s`; at least three: a manager that has replied within the last two seconds counts as reachable.
fn seconds(text: &str) -> Option<Millis> {
    let seconds: u32 = text.strip_suffix('s')?.parse().ok()?;
    (seconds >= 3).then(|| Millis::seconds(u64::from(seconds)))
}

impl State {
    pub(super) fn set_variable(&mut self, context: &mut Context<'_>, key: &str, value: &str) -> Answer {
        if let Err(message) = check(key, value) {
            return Answer::Refused(Refusal::BadSetting { key: key.to_owned(), message });
        }
        let variable = Variable { value: Arc::from(value), index: context.log.index };
        let before = self.variables.insert(key.to_owned(), variable);
        if before.is_none_or(|it| *it.value != *value) {
            // What users keep in their own variables is not for everybody who reads events.
            let to = if key.starts_with(RESERVED) { format!(" to `{value}`") } else { String::new() };
            context.emit(None, Kind::VariableSet, format!("variable `{key}` is set{to}"));
        }
        Answer::Done
    }

    pub(super) fn remove_variable(&mut self, context: &mut Context<'_>, key: &str) -> Answer {
        if self.variables.remove(key).is_none() {
            return Answer::Refused(Refusal::NoVariable { key: key.to_owned() });
        }
        context.emit(None, Kind::VariableRemoved, format!("variable `{key}` is removed"));
        Answer::Done
    }

    /// How long a voter may be unreachable before autopilot removes it; none when it never does.
    pub fn dead_manager_after(&self) -> Option<Millis> {
        match self.setting(DEAD_MANAGER) {
            Some("never") => None,
            Some(text) => seconds(text),
            None => Some(DEAD_MANAGER_USUAL),
        }
    }

    /// How long there may be no leader before stopped machines of managers are started; none when they never are.
    pub fn start_managers_after(&self) -> Option<Millis> {
        match self.setting(START_MANAGERS) {
            Some("never") => None,
            Some(text) => seconds(text),
            None => Some(START_MANAGERS_USUAL),
        }
    }

    /// How long a manager's certificate is valid.
    pub fn certificate_life(&self) -> Millis {
        self.setting(CERTIFICATE).and_then(seconds).unwrap_or(CERTIFICATE_USUAL)
    }

    fn setting(&self, key: &str) -> Option<&str> {
        self.variables.get(key).map(|variable| &*variable.value)
    }

    /// The maximal number of instances of all groups together; none without a limit.
    pub fn ceiling(&self) -> Option<usize> {
        self.setting(MOST_INSTANCES)?.parse().ok()
    }

    /// The guarantees of a plugin: those that it reports, or a lower class that an operator has set.
    pub fn guarantees(&self, plugin: &PluginName, said: Guarantees) -> Guarantees {
        let class = match self.setting(&format!("{PLUGIN}{}{CLASS}", plugin.lookup())) {
            Some("D") => PluginClass::D,
            Some("C") => PluginClass::C,
            _ => said.class,
        };
        Guarantees { class, ..said }
    }

    /// How many instances of all groups exist or are pending, and are not terminating: with incoming ones.
    pub(super) fn present(&self) -> usize {
        self.groups.values().map(|group| group.roster.incarnations()).sum()
    }

    /// How many more intents a group may open by those that are open in all groups, and by the share of its plugin.
    fn room(&self, id: &GroupId) -> usize {
        let open: usize = self.groups.values().map(|group| group.intents.len()).sum();
        let room = MOST_OPEN_IN_CLUSTER.saturating_sub(open);
        let Some(group) = self.groups.get(id).filter(|_| self.level >= 2) else { return room };
        let mut by_plugin: BTreeMap<&str, usize> = BTreeMap::new();
        for other in self.groups.values() {
            let target = by_plugin.entry(other.plugin_of(other.target).lookup()).or_default();
            if other.templates.len() == 1 {
                *target += other.intents.len();
                continue;
            }
            // What is left at another plugin is that one's.
            for open in other.intents.values() {
                *by_plugin.entry(other.plugin_of(open.task.template()).lookup()).or_default() += 1;
            }
        }
        let share = (MOST_OPEN_IN_CLUSTER / by_plugin.len()).max(LEAST_SHARE);
        let used = by_plugin.get(group.plugin_of(group.target).lookup()).copied().unwrap_or_default();
        room.min(share.saturating_sub(used))
    }

    /// The limits of the cluster for this group, at this entry of the log.
    pub fn bounds(&self, index: LogIndex, group: &GroupId) -> Bounds {
        let machine =
            |manager: &crate::command::Manager| Some((manager.instance.clone()?, manager.name.clone()));
        let present = self.present();
        Bounds {
            level: self.level,
            instances: self.ceiling().map_or(usize::MAX, |most| most.saturating_sub(present)),
            overfull: self.ceiling().is_some_and(|most| present > most),
            open: self.room(group),
            hosts: self.managers.values().filter_map(machine).collect(),
            index,
            since: self.lineages.earlier.last().map_or(LogIndex(0), |era| era.until),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_what_holds_while_nothing_is_set() {
        let holds = |state: &State| {
            (
                state.ceiling(),
                state.dead_manager_after(),
                state.start_managers_after(),
                state.certificate_life(),
            )
        };
        let mut state = State::default();
        let before = holds(&state);
        for (key, value) in setting_defaults() {
            assert_eq!(check(key, &value), Ok(()), "{key}");
            state.variables.insert(key.to_owned(), Variable { value: Arc::from(value), index: LogIndex(1) });
        }
        assert_eq!(holds(&state), before);
    }
}
