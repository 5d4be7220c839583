//! Secrets: what `secret://NAME` stands for in specs.

use super::State;
use super::context::Context;
use crate::Spec;
use crate::access::Secret;
use crate::answer::{Answer, Refusal};
use crate::command::Declaration;
use crate::event::Kind;
use crate::limits::MOST_SECRETS;
use crate::secret::{SecretName, named_in};
use crate::state::StoredSecret;

impl State {
    pub(super) fn set_secret(
        &mut self,
        context: &mut Context<'_>,
        name: &SecretName,
        value: &Secret,
    ) -> Answer {
        let known = self.secrets.contains_key(name);
        if !known && self.secrets.len() >= MOST_SECRETS {
            return Answer::Refused(Refusal::TooManySecrets { most: MOST_SECRETS });
        }
        let stored = StoredSecret { value: value.clone(), at: context.at, by: context.by.to_string() };
        self.secrets.insert(name.clone(), stored);
        let what = if known { "has another value" } else { "is set" };
        context.emit(None, Kind::SecretSet, format!("secret `{name}` {what}"));
        Answer::Done
    }

    pub(super) fn remove_secret(&mut self, context: &mut Context<'_>, name: &SecretName) -> Answer {
        if !self.secrets.contains_key(name) {
            return Answer::Refused(Refusal::NoSecret { name: name.clone() });
        }
        // Also by a template of which members are left: it is needed to drain them.
        let refers = self.groups.iter().find(|(_, group)| {
            // And by what a rollout may go back to.
            let stable = group.rollout.stable.filter(|_| !group.phase.is_over());
            let back = stable.and_then(|at| group.revisions.get(&at)).map(|it| &it.spec.template);
            let mut templates = group.templates.values().map(|known| &known.template).chain(back);
            templates.any(|it| {
                [&it.instance, &it.flavor].iter().any(|part| named_in(&part.properties).contains(name))
            })
        });
        if let Some((group, _)) = refers {
            return Answer::Refused(Refusal::SecretInUse { name: name.clone(), group: group.clone() });
        }
        self.secrets.remove(name);
        context.emit(None, Kind::SecretRemoved, format!("secret `{name}` is removed"));
        Answer::Done
    }

    /// Why a spec cannot be taken: it refers to what there is not.
    pub(super) fn lacks_secret(&self, item: &Declaration) -> Option<Refusal> {
        // Managers of a lower level take it for a text like any other, and all must answer alike.
        if self.level < 1 {
            return None;
        }
        let Spec::Group(spec) = &item.spec;
        let template = &spec.template;
        let named = [&template.instance, &template.flavor].map(|part| named_in(&part.properties));
        let missing = named.into_iter().flatten().find(|name| !self.secrets.contains_key(name));
        missing.map(|name| Refusal::NoSecret { name })
    }
}
