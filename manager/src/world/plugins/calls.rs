//! The calls that change something at a provider: an instance is prepared and created, destroyed, or labelled.

use std::sync::Arc;

use model::intent::Reason;
use model::{Description, InstanceId, Outcome, Part, Slot};
use opentelemetry::Context;
use spi::{Call, Class, Flavors, Index, InstanceSpec, Instances, interface};

use super::{PluginSession, Plugins, ResolvedPart};
use crate::lease::Lease;
use crate::telemetry;
use crate::world::Work;

/// It is retried, unless the class of the error rules that out.
fn refused(part: &Part, error: &spi::Error) -> Outcome {
    Outcome::Refused { message: format!("{}: {error}", part.plugin), retryable: error.class.is_retryable() }
}

/// It may have taken effect.
fn unsure(part: &Part, error: &spi::Error) -> Outcome {
    Outcome::Unsure { message: format!("{}: {error}", part.plugin) }
}

impl Plugins {
    pub(super) async fn provision(&self, work: &Work, slot: &Slot, attempt: &Context) -> Outcome {
        match self.prepare(work, slot, attempt).await {
            Ok((spec, resolved)) => self.create(work, &spec, &resolved, attempt).await,
            // Until the instance plugin is called, any error means that nothing was created.
            Err(refused) => refused,
        }
    }

    /// The spec of an instance as the flavor prepares it, and the part of the instance plugin with the secrets
    /// that are in it.
    async fn prepare(
        &self,
        work: &Work,
        slot: &Slot,
        attempt: &Context,
    ) -> Result<(InstanceSpec, ResolvedPart), Outcome> {
        let template = &work.known.template;
        let by_flavor = |error: spi::Error| refused(&template.flavor, &error);
        let flavor = self.plugin(&template.flavor.plugin, interface::FLAVOR).await.map_err(by_flavor)?;
        let for_flavor = self.resolve(&template.flavor).map_err(by_flavor)?;
        let base = InstanceSpec {
            // Secrets of the instance plugin are filled in after the flavor has prepared the spec.
            properties: template.instance.properties.clone(),
            tags: work.tags.clone(),
            init: String::new(),
            logical_id: slot.logical_id().cloned(),
            attachments: Vec::new(),
        };
        let allocation = &work.spec.allocation;
        let index = Index { group: work.group.clone(), sequence: allocation.count() as u32 };
        let prepared = {
            let _turn = flavor.pace.turn().await;
            let flavor = flavor.client.flavors(template.flavor.plugin.subtype());
            let span = telemetry::calls(attempt, &template.flavor.plugin, "Flavor.Prepare");
            span.ended(flavor.prepare(&for_flavor.part.properties, base, allocation, &index).await)
        };
        let mut spec = prepared.map_err(|error| by_flavor(for_flavor.clean(error)))?;
        // A flavor may change the properties of the instance: the references in them are the same.
        let prepared = Part { properties: spec.properties.clone(), ..template.instance.clone() };
        let mut for_instance =
            self.resolve(&prepared).map_err(|error| refused(&template.instance, &error))?;
        spec.properties = for_instance.part.properties.clone();
        // Secrets of the flavor may be in the script that it prepared.
        for_instance.held.extend(for_flavor.held);
        // A flavor that drops our tags must not make us lose the instance.
        spec.tags.extend(work.tags.clone());
        let _ = work.notes.prepared.set(spec.tags.clone());
        Ok((spec, for_instance))
    }

    async fn create(
        &self,
        work: &Work,
        spec: &InstanceSpec,
        resolved: &ResolvedPart,
        attempt: &Context,
    ) -> Outcome {
        let part = &work.known.template.instance;
        let instances = match self.plugin(&part.plugin, interface::INSTANCE).await {
            Ok(known) => known,
            Err(error) => return refused(part, &error),
        };
        let _turn = instances.pace.turn().await;
        let plugin = instances.client.instances(part.plugin.subtype());
        let mut call = self.call(work, &instances).await;
        let span = telemetry::calls(attempt, &part.plugin, "Instance.Provision");
        call.traceparent = span.traceparent().filter(|_| instances.hello.has_fence());
        match span.ended(plugin.provision(spec, &call).await) {
            Ok(id) => {
                instances.pace.faster();
                Outcome::Done(id)
            }
            Err(error) if error.class.is_refusal() => {
                if error.class == Class::Exhausted {
                    self.metrics.was_throttled(&part.plugin);
                    instances.pace.slower();
                }
                refused(part, &resolved.clean(error))
            }
            Err(error) => unsure(part, &resolved.clean(error)),
        }
    }

    pub(super) async fn destroy(
        &self,
        work: &Work,
        instance: &InstanceId,
        reason: Reason,
        attempt: &Context,
    ) -> Outcome {
        let template = &work.known.template;
        let retried = |part: &Part, error: &spi::Error| Outcome::Refused {
            message: format!("{}: {error}", part.plugin),
            retryable: true,
        };
        let skip_drain = reason == Reason::RollingUpdate && work.spec.updating.skip_drain;
        if !skip_drain {
            let (seen, is_listed) = self.for_drain(work, instance).await;
            let span = telemetry::calls(attempt, &template.flavor.plugin, "Flavor.Drain");
            if let Err(error) = span.ended(self.drain(&template.flavor, &seen, &work.lease).await) {
                if is_listed && work.stays_undrained() {
                    return retried(&template.flavor, &error);
                }
                tracing::warn!(group = %work.group, %instance, %error, "destroyed without a drain, which was refused for too long");
                let why = format!("{}: {error}", template.flavor.plugin);
                let _ = work.notes.not_drained.set(why);
            }
        }
        let instances = match self.plugin(&template.instance.plugin, interface::INSTANCE).await {
            Ok(known) => known,
            Err(error) => return retried(&template.instance, &error),
        };
        let _turn = instances.pace.turn().await;
        let plugin = instances.client.instances(template.instance.plugin.subtype());
        let mut call = self.call(work, &instances).await;
        let span = telemetry::calls(attempt, &template.instance.plugin, "Instance.Destroy");
        call.traceparent = span.traceparent().filter(|_| instances.hello.has_fence());
        let destroyed = span.ended(plugin.destroy(instance, reason.as_str(), &call).await);
        match destroyed.map_err(|error| self.clean(&template.instance, error)) {
            Ok(()) => Outcome::Done(instance.clone()),
            Err(error) if error.class.is_refusal() => retried(&template.instance, &error),
            Err(error) => unsure(&template.instance, &error),
        }
    }

    pub(super) async fn label(&self, work: &Work, instance: &InstanceId, attempt: &Context) -> Outcome {
        let part = &work.known.template.instance;
        let name = &part.plugin;
        let instances = match self.plugin(name, interface::INSTANCE).await {
            Ok(known) => known,
            Err(error) => return refused(part, &error),
        };
        let _turn = instances.pace.turn().await;
        let plugin = instances.client.instances(name.subtype());
        let mut call = self.call(work, &instances).await;
        let span = telemetry::calls(attempt, name, "Instance.Label");
        call.traceparent = span.traceparent().filter(|_| instances.hello.has_fence());
        match span.ended(plugin.label(instance, &work.tags, &call).await) {
            Ok(()) => Outcome::Done(instance.clone()),
            // Labelling is idempotent, so an unknown outcome is simply retried.
            Err(error) => refused(part, &self.clean(part, error)),
        }
    }

    /// Waits for the lease, and returns the fence headers, for plugins with a fence. The deadline counts from
    /// the moment at which the lease held, so that the plugin rejects a call that was delayed after that.
    async fn call(&self, work: &Work, plugin: &PluginSession) -> Call {
        let held = work.lease.held().await;
        if !plugin.hello.has_fence() {
            return Call::default();
        }
        Call {
            token: Some(work.token.clone()),
            epoch: Some(work.lease.epoch()),
            not_after: plugin.found.is_local().then(|| held + self.directory.deadline()),
            traceparent: None,
        }
    }

    /// The instance as its flavor is to drain it: as it was seen last, or as a new listing shows it, or at least with
    /// its id and our own tags. And whether it may be there: a new listing may prove that it is not.
    async fn for_drain(&self, work: &Work, instance: &InstanceId) -> (Arc<Description>, bool) {
        if let Some(seen) = &work.seen {
            return (seen.clone(), true);
        }
        let listed = self.list_now(&work.known.template.instance.plugin, &work.lease).await;
        match listed {
            Ok(listed) => match listed.items.into_iter().find(|it| it.id == *instance) {
                Some(found) => (found, true),
                None => (work.described(instance), false),
            },
            Err(_) => (work.described(instance), true),
        }
    }

    async fn drain(&self, flavor: &Part, seen: &Description, lease: &Lease) -> Result<(), spi::Error> {
        let known = self.plugin(&flavor.plugin, interface::FLAVOR).await?;
        let _turn = known.pace.turn().await;
        lease.held().await;
        let resolved = self.resolve(flavor)?;
        let drained =
            known.client.flavors(flavor.plugin.subtype()).drain(&resolved.part.properties, seen).await;
        drained.map_err(|error| resolved.clean(error))
    }
}
