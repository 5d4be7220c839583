//! Commits of specs, after their plugins have validated them.

use api::{Code, Error, proto as pb};
use futures_util::future::join_all;
use model::command::Declaration;
use model::{Actor, Answer, Change, GroupSpec, ObjectKey, PluginName, Revision};

use super::Service;
use crate::telemetry;
use crate::world::{Rejection, World};

impl Service {
    /// Validates the specs with their plugins: for each, why it waits for a missing plugin, if that is
    /// allowed. All objections are reported together.
    async fn accept(&self, specs: &[&GroupSpec], allow_missing: bool) -> Result<Vec<Option<String>>, Error> {
        let asked = join_all(specs.iter().map(|spec| self.world.validate(spec))).await;
        let mut waits: Vec<Vec<String>> = vec![Vec::new(); specs.len()];
        let mut objections = Vec::new();
        for (item, rejection) in
            asked.into_iter().enumerate().flat_map(|(item, all)| all.into_iter().map(move |it| (item, it)))
        {
            let Rejection { flavor, plugin, absent, message } = rejection;
            if absent && allow_missing {
                waits[item].push(format!("plugin `{plugin}` does not answer: {message}"));
                continue;
            }
            let (item, plugin) = (item as u32, plugin.to_string());
            objections.push(pb::Objection { item, flavor, plugin, absent, cause: message });
        }
        let Some(first) = objections.first() else {
            return Ok(waits.into_iter().map(|why| (!why.is_empty()).then(|| why.join("; "))).collect());
        };
        let group = &specs[first.item as usize].id;
        let error = if first.absent {
            Error::new(
                Code::PluginUnavailable,
                format!("group `{group}`: plugin `{}` does not answer", first.plugin),
            )
            .remedy(format!(
                "start `{}`, use a plugin that `infrakit plugin ls` lists, or commit with \
                 --allow-missing-plugins; nothing was changed",
                PluginName::new(&first.plugin).lookup()
            ))
        } else {
            Error::new(Code::PluginRefused, format!("group `{group}`: plugin `{}` rejects it", first.plugin))
                .remedy("fix the properties that it names; nothing was changed")
        };
        let error = error.cause(first.cause.clone());
        Err(Error { objections, ..error })
    }

    /// The commits of a request, after validation by their plugins.
    pub(super) async fn commits(
        &self,
        asked: Vec<pb::CommitItem>,
        allow_missing: bool,
    ) -> Result<(Vec<Declaration>, Vec<Option<String>>), Error> {
        let mut items: Vec<Declaration> = Vec::new();
        for item in asked {
            let spec = api::spec_from(item.spec)?;
            if items.iter().any(|other| other.spec.key() == ObjectKey::group(&spec.id)) {
                return Err(Error::new(Code::Invalid, format!("the group `{}` is declared twice", spec.id)));
            }
            let if_revision = item.if_revision.map(Revision);
            items.push(Declaration { spec: spec.into(), if_revision, unvalidated: false });
        }
        let specs: Vec<&GroupSpec> = items.iter().filter_map(|item| item.spec.as_group()).collect();
        let waits = self.accept(&specs, allow_missing).await?;
        Ok((items, waits))
    }

    pub(super) async fn commit_now(
        &self,
        request: pb::CommitRequest,
        by: &Actor,
    ) -> Result<pb::CommitReply, Error> {
        let began = std::time::SystemTime::now();
        let id = api::request_id(&request.request_id)?;
        if request.items.is_empty() {
            return Err(Error::new(Code::Invalid, "the request has no group to commit"));
        }
        let (mut items, waits) = self.commits(request.items, request.allow_missing_plugins).await?;
        for (item, waits) in items.iter_mut().zip(&waits) {
            item.unvalidated = waits.is_some();
        }
        let before = self.replica.published();
        let plans: Vec<String> = items.iter().map(|item| self.summary(&before, item)).collect();
        let Answer::Committed(list) = self.propose(id, by, Change::Declare { items }).await? else {
            return Err(Error::new(Code::Internal, "unexpected response to a commit (a bug)"));
        };
        let cluster = &self.replica.identity().cluster;
        list.iter().for_each(|it| telemetry::committed(cluster, by, began, it));
        let committed = list.into_iter().zip(plans).zip(waits).map(|((it, plan), waits)| pb::Committed {
            group: it.group.to_string(),
            revision: it.revision.0,
            replaced: it.replaced.map(|revision| revision.0),
            unchanged: it.unchanged,
            plan,
            waits: waits.unwrap_or_default(),
        });
        Ok(pb::CommitReply { committed: committed.collect() })
    }
}
