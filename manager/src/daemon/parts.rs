//! What the tasks and the servers of one manager share.

use std::sync::Arc;

use api::tls::Tls;
use model::command::Manager;
use raft::Replica;
use spi::Directory;
use tokio::sync::watch;

use crate::about::About;
use crate::call_gate::CallGate;
use crate::clock::Clock;
use crate::config::Config;
use crate::dial::Secure;
use crate::members::Members;
use crate::metrics::Metrics;
use crate::monitor::Probe;
use crate::outage::Outage;
use crate::reconcile::Assessments;
use crate::service::Service;
use crate::world::Plugins;

#[derive(Clone)]
pub(super) struct Parts {
    pub(super) replica: Replica,
    pub(super) tls: Tls,
    pub(super) dial: Secure,
    pub(super) me: Manager,
    pub(super) clock: Clock,
    pub(super) metrics: Metrics,
    pub(super) world: Arc<Plugins>,
    pub(super) assessments: Assessments,
    pub(super) gate: CallGate,
    pub(super) members: Arc<Members>,
    pub(super) outages: watch::Sender<Option<Outage>>,
    pub(super) about: About,
}

impl Parts {
    pub(super) fn new(config: &Config, replica: Replica, tls: Tls, dial: Secure, me: Manager) -> Self {
        let directory = Directory::new(&config.plugins_dir).with_deadline(config.plugin_deadline);
        let metrics = Metrics::default();
        let world = Arc::new(Plugins::new(directory, replica.watch_state(), metrics.clone()));
        let (clock, gate) = (Clock::default(), CallGate::default());
        let members = Arc::new(Members::new(
            replica.clone(),
            replica.watch_role(),
            clock.clone(),
            gate.clone(),
            dial.clone(),
        ));
        let assessments = Assessments::default();
        let outages = watch::Sender::new(None);
        let about = About::new(config.data_dir.clone(), replica.clone(), metrics.clone());
        Self { replica, tls, dial, me, clock, metrics, world, assessments, gate, members, outages, about }
    }

    pub(super) fn probe(&self) -> Probe {
        Probe::new(self.replica.clone(), self.assessments.clone(), self.clock.clone(), self.metrics.clone())
    }

    /// The public API.
    pub(super) fn service(&self) -> Service {
        Service::new(
            self.about.clone(),
            self.world.clone(),
            self.assessments.clone(),
            self.clock.clone(),
            self.members.clone(),
            self.dial.clone(),
            self.outages.subscribe(),
        )
    }
}
