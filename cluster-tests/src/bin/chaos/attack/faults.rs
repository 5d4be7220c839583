//! The faults, one of which strikes at a time.

use std::time::{Duration, Instant};

use api::proto as pb;
use cluster_tests::Mood;
use model::RequestId;
use model::tags::Tags;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rustix::process::Signal;
use spi::{Call, Instances};

use super::{Attack, DEMOTED, GROUP, short};

/// The bounds of a group that is scaled.
const SMALLEST: u64 = 4;
const LARGEST: u64 = 16;

// The kinds of faults that a protection is there for.
const DISK_BACK: u64 = 20;
const COPY: u64 = 22;
const MOVED: u64 = 25;
const WIPED: u64 = 26;
const TOO_MUCH: u64 = 27;

/// The kind of the faults that this protection is there for.
pub(crate) fn fault_against(protection: &str) -> Option<u64> {
    match protection {
        "went-back" => Some(DISK_BACK),
        "one-of-copies" => Some(COPY),
        "looks-elsewhere" => Some(MOVED),
        "founder-asks" => Some(WIPED),
        "too-large" => Some(TOO_MUCH),
        _ => None,
    }
}

impl Attack {
    /// One fault, as chance has it.
    pub(super) async fn strike(&mut self, only: Option<u64>) {
        self.let_vote_again().await;
        let leader = self.leader().await;
        let any = self.between(0, 2) as usize;
        let (a, b) = ((leader + 1) % 3, (leader + 2) % 3);
        let drawn = self.between(0, 30);
        let kind = only.unwrap_or(drawn);
        if (3..=9).contains(&kind) || (14..=15).contains(&kind) {
            self.mended = Some(self.soon(1000, 8000));
        }
        match kind {
            0 => self.kill("a manager killed", any),
            1 => self.kill("the leader killed", leader),
            2 => self.cut_power(),
            3 => self.cut_off(leader, [a, b]),
            4 => self.cut_one_way(any, (any + 1) % 3),
            5 => self.cut_voice(leader, [a, b]),
            6 => self.leave_a_bridge(leader, a),
            7 => self.narrow_a_line(any),
            8 => self.slow_a_disk(any),
            9 => self.break_a_disk(any),
            10 | 11 => self.freeze(leader),
            12 => self.kill_plugins(),
            13 => self.set_a_clock(any),
            14 => self.trouble_provider().await,
            15 => self.destroy_behind_their_backs().await,
            18 => self.give_lead_away(a).await,
            19 => self.demote(any).await,
            16..=17 => self.replace(any).await,
            DISK_BACK | 21 => self.set_a_disk_back(any).await,
            COPY => self.run_a_copy(any).await,
            23 => self.run_a_copy_behind_a_partition(any).await,
            24 => self.set_a_clock_days_off(any).await,
            MOVED => self.move_everybody().await,
            WIPED => self.wipe_the_founder().await,
            TOO_MUCH => self.ask_too_much().await,
            _ => self.scale().await,
        }
    }

    fn kill(&mut self, name: &'static str, i: usize) {
        self.count(name);
        self.die(i, 4000);
    }

    fn cut_power(&mut self) {
        self.count("the power cut for everybody");
        for i in 0..3 {
            self.die(i, 1500);
        }
        for i in 0..3 {
            let mut torn = SmallRng::seed_from_u64(self.between(0, u64::MAX));
            let database = self.cluster.database(i);
            self.cluster.disk(i).cut_power(&database, |more| torn.random_range(0..=more));
        }
    }

    fn cut_off(&mut self, leader: usize, others: [usize; 2]) {
        self.count("the leader cut off");
        for other in others {
            self.cut(leader, other);
            self.cut(other, leader);
        }
    }

    fn cut_one_way(&mut self, from: usize, to: usize) {
        self.count("a one-way cut");
        self.cut(from, to);
    }

    fn cut_voice(&mut self, leader: usize, others: [usize; 2]) {
        self.count("the leader hears and is not heard");
        for other in others {
            self.cut(leader, other);
        }
    }

    fn leave_a_bridge(&mut self, leader: usize, other: usize) {
        self.count("a bridge: two who cannot hear each other");
        self.cut(leader, other);
        self.cut(other, leader);
    }

    pub(super) fn cut(&self, from: usize, to: usize) {
        self.cluster.network().cut(from, to).expect("root may cut a line");
    }

    fn narrow_a_line(&mut self, i: usize) {
        self.count("a narrow line that loses what does not fit");
        let kilobits = self.between(64, 512) as u32;
        self.cluster.network().narrow(i, kilobits).expect("root may narrow a line");
    }

    fn slow_a_disk(&mut self, i: usize) {
        self.count("a slow disk");
        let millis = self.between(20, 300) as u32;
        self.cluster.disk(i).be(Mood::Slow(millis));
    }

    fn break_a_disk(&mut self, i: usize) {
        let (mood, name) = if self.between(0, 1) == 0 {
            (Mood::Fails, "a failing disk")
        } else {
            (Mood::Full, "a full disk")
        };
        self.count(name);
        self.cluster.disk(i).be(mood);
        self.bad_disks[i] = true;
    }

    fn freeze(&mut self, leader: usize) {
        self.count("the leader frozen");
        if self.cluster.is_running(leader) && self.cluster.manager_mut(leader).ended().is_none() {
            self.cluster.manager(leader).signal(Signal::STOP);
            let at = self.soon(500, 6000);
            self.frozen.push((leader, at));
        }
    }

    pub(super) fn kill_plugins(&mut self) {
        self.count("the plugins killed");
        self.cluster.kill_plugins();
        self.plugins_back = Some(self.soon(200, 3000));
    }

    fn set_a_clock(&mut self, i: usize) {
        self.count("a clock that is wrong");
        let clock = self.one_of(&["+1h", "-1h", "+0 x1.2", "+0 x0.8"]);
        self.cluster.set_clock(i, Some(clock));
        self.die(i, 1000);
    }

    async fn trouble_provider(&mut self) {
        self.count("provider trouble");
        let provision = self.one_of(&["refuse x 3", "error x 3", "hang x 1", "lose x 2", "late 3s x 2"]);
        let describe = self.one_of(&["error x 3", "empty x 2", "partial x 2", "slow 2s x 2"]);
        let destroy = self.one_of(&["error x 2", "lose x 1"]);
        self.cluster.fault("provision", provision);
        self.cluster.fault("describe", describe);
        self.cluster.fault("destroy", destroy);
        self.destroy_some().await;
    }

    pub(super) fn one_of(&mut self, all: &[&'static str]) -> &'static str {
        all[self.between(0, all.len() as u64 - 1) as usize]
    }

    async fn destroy_behind_their_backs(&mut self) {
        self.count("instances destroyed behind the managers' backs");
        self.destroy_some().await;
    }

    async fn destroy_some(&mut self) {
        if self.plugins_back.is_some() {
            return;
        }
        let simulator = self.cluster.simulator();
        let Ok(there) = simulator.describe(&Tags::new(), false).await else { return };
        for _ in 0..self.between(1, 3) {
            if there.is_empty() {
                return;
            }
            let victim = &there[self.between(0, there.len() as u64 - 1) as usize].id;
            // A fault of the simulator may keep it from going.
            let _ = tokio::time::timeout(
                Duration::from_secs(1),
                simulator.destroy(victim, "chaos", &Call::default()),
            )
            .await;
        }
    }

    async fn give_lead_away(&mut self, to: usize) {
        self.count("the lead given away");
        let request = pb::TransferLeadershipRequest { to: format!("m{}", to + 1) };
        let client = short(&self.cluster);
        // Whoever is asked may be dead, and whoever is named.
        let _ = client.call(async |c| c.nodes().transfer_leadership(request.clone()).await).await;
    }

    async fn demote(&mut self, i: usize) {
        self.count(DEMOTED);
        // With another out for its clock, nobody could agree on anything.
        let safe = self.demoted.is_none() && self.off_by_days.is_empty();
        if safe && self.set_member_role(i, pb::MemberRole::Learner).await {
            let until = self.soon(1000, 15_000);
            self.demoted = Some((i, until));
        }
    }

    /// Whose time without a vote is over gets it again, if that is heard.
    async fn let_vote_again(&mut self) {
        if let Some((i, until)) = self.demoted
            && Instant::now() >= until
            && self.set_member_role(i, pb::MemberRole::Voter).await
        {
            self.demoted = None;
        }
    }

    async fn replace(&mut self, i: usize) {
        let well = self.dead.is_empty() && self.frozen.is_empty() && self.off_by_days.is_empty();
        if !well || self.removed.is_some() || self.demoted.is_some() {
            return;
        }
        self.count("a manager removed for good, and another in its place");
        if self.set_member_role(i, pb::MemberRole::Removed).await {
            self.cluster.kill(i);
            self.wipe(i);
            self.has_joined |= i == 0;
            self.start(i);
        } else {
            // Perhaps it was, and stops when it hears of it.
            self.removed = Some(i);
        }
    }

    async fn scale(&mut self) {
        self.count("a group scaled");
        let before = self.size;
        self.size = self.between(SMALLEST, LARGEST);
        self.surplus += before.saturating_sub(self.size);
        self.ask_to_scale().await;
    }

    /// Asks until it is answered, always under one request id.
    async fn ask_to_scale(&mut self) {
        let request = pb::ScaleRequest {
            group: GROUP.into(),
            size: self.size as u32,
            request_id: api::request_id_bytes(RequestId(rand::random())),
            ..Default::default()
        };
        let client = short(&self.cluster);
        let began = Instant::now();
        while client.call(async |c| c.groups().scale(request.clone()).await).await.is_err() {
            assert!(began.elapsed() < Duration::from_secs(60), "nobody could agree on a scale for a minute");
            self.bring_back(false);
        }
    }
}
