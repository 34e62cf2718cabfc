//! When the faults are over, everybody agrees in bounded time: all devices hold the same history,
//! every sender knows what was received and read, lists and unread counts agree with what somebody
//! new is told, no backlog is left, and no old segment is unsealed.

use crate::ledger::Ledger;
use crate::network::Party;
use crate::probe::{Probe, Progress};
use crate::shadow::Privacy;
use crate::simulation::{MS, Simulation};
use crate::trace::Broken;
use roost_protocol::ids::{ConversationId, KeyKind};
use std::collections::{BTreeMap, BTreeSet};

/// For how long a quiet world may take to agree, in milliseconds: the longest backoff, a time-out
/// on either side, and room for one repetition.
const AGREE_WITHIN_MS: u64 = 240_000;
/// How often it is looked at, in milliseconds, at most: never in step with what is looked at.
const LOOK_EVERY_MS: u64 = 800;
/// How long a probe may take, in milliseconds.
const PROBE_MS: u64 = 40_000;

impl Simulation {
    /// Runs until everybody agrees.
    ///
    /// # Errors
    /// They do not in time, or a promise is broken on the way.
    pub(crate) fn converge(&mut self) -> Result<(), Broken> {
        let deadline = self.now_ns + AGREE_WITHIN_MS * MS;
        let mut why;
        loop {
            match self.disagreement()? {
                Some(reason) => why = reason,
                None => match self.probe_all()? {
                    Some(reason) => why = reason,
                    None => {
                        self.tell(|| "everybody agrees".to_owned());
                        self.judge_presences()?;
                        return self.check_order();
                    }
                },
            }
            if self.now_ns >= deadline {
                return Err(Broken::new(format!("no agreement in time: {why}")));
            }
            let pause_ms = self.faults.prng.range(1, LOOK_EVERY_MS);
            self.run_for_ms(pause_ms)?;
        }
    }

    fn unfinished_server(&self) -> Option<String> {
        for (number, seat) in self.host.seats.iter().enumerate() {
            if seat.shard.backlog() > 0 {
                return Some(format!("shard {number} has a backlog"));
            }
            if !seat.shard.is_retold() {
                return Some(format!("shard {number} has not told what earlier runs owe"));
            }
            let unsealed = seat.shard.store().stats().unsealed_segments;
            if unsealed > 1 {
                return Some(format!("shard {number} has {unsealed} unsealed segments"));
            }
        }
        None
    }

    fn unfinished_devices(&self) -> Option<String> {
        for device in &self.devices {
            if !device.is_idle() {
                return Some(format!("{} is not at rest", device.name));
            }
        }
        for (tag, said) in self.shadow.said.iter().enumerate() {
            let kept = said.life > self.devices[said.device].forgot_in;
            if kept && said.accepted.is_none() && said.refused.is_none() && !said.revived {
                return Some(format!("#{tag} has no answer"));
            }
        }
        None
    }

    /// Every conversation of which something was seen, as its log says it is; `Err` in words while
    /// some of it is not known.
    pub(crate) fn ledgers(
        &self,
        probed: bool,
    ) -> Result<Result<BTreeMap<ConversationId, Ledger>, String>, Broken> {
        let ids: BTreeSet<ConversationId> = self.history.facts.keys().map(|(id, _)| *id).collect();
        let mut all = BTreeMap::new();
        for id in ids {
            let facts = self.history.facts.range((id, 0)..=(id, u64::MAX));
            let facts = facts.map(|((_, seq), fact)| (*seq, fact));
            match Ledger::read(id, &self.people, facts)? {
                Some(ledger) => drop(all.insert(id, ledger)),
                // What nobody but its writer need look at an observer will read; a channel that all
                // have left nobody can.
                None if !probed || id.kind() == KeyKind::Channel => {}
                None => return Ok(Err(format!("nobody was shown all of {id}"))),
            }
        }
        Ok(Ok(all))
    }

    /// The first thing that is not as it should be in the end.
    fn disagreement(&self) -> Result<Option<String>, Broken> {
        if !self.host.is_up() {
            return Ok(Some("the server is down".to_owned()));
        }
        if let Some(reason) = self.unfinished_server().or_else(|| self.unfinished_devices()) {
            return Ok(Some(reason));
        }
        match self.ledgers(false)? {
            Ok(ledgers) => self.judge_logs(&ledgers),
            Err(reason) => Ok(Some(reason)),
        }
    }

    /// What each log says holds for everybody who is or was in it.
    pub(crate) fn judge_logs(
        &self,
        ledgers: &BTreeMap<ConversationId, Ledger>,
    ) -> Result<Option<String>, Broken> {
        for (id, ledger) in ledgers {
            self.judge_rights(*id, ledger)?;
            self.judge_claims(*id, ledger)?;
            self.judge_refusals(*id, ledger)?;
            let reason = self.lacking(*id, ledger).or_else(|| match ledger.kind {
                KeyKind::Direct => self.unticked_direct(*id, ledger),
                KeyKind::Group => self.unticked_group(*id, ledger),
                KeyKind::User | KeyKind::Channel => None,
            });
            if reason.is_some() {
                return Ok(reason);
            }
        }
        Ok(None)
    }

    // ---- ticks ----

    fn unticked_direct(&self, id: ConversationId, ledger: &Ledger) -> Option<String> {
        for person in &ledger.people {
            let peer = self.people.peer_in(person.user, id)?;
            let own = ledger.newest_of(person.user);
            if !self.is_open(person.user, peer) {
                continue;
            }
            for device in self.devices_of(person.user) {
                let name = &self.devices[device].name;
                let ticks = self.history.ticks_ever.get(&(device, id));
                let ticks = ticks.copied().unwrap_or_default();
                if ticks.delivered < own {
                    return Some(format!("{name} sees delivered {} of {own}", ticks.delivered));
                }
                let read = self.told_read(peer, id);
                if ticks.read < read {
                    return Some(format!("{name} sees read {} of {read}", ticks.read));
                }
            }
        }
        None
    }

    /// Everybody in a group is there and has everything, so whoever said something knows it.
    fn unticked_group(&self, id: ConversationId, ledger: &Ledger) -> Option<String> {
        let present = || ledger.people.iter().filter(|person| person.role.is_some());
        if present().any(|person| self.shadow.ever_private(person.user, Privacy::ContactsOnly, 1)) {
            return None;
        }
        for person in present() {
            let own = ledger.newest_message_of(person.user);
            let others = || present().filter(|other| other.user != person.user);
            let joined = person.stretches.last().map_or(0, |(at, _)| *at);
            if own <= joined || others().next().is_none() {
                continue;
            }
            for device in self.devices_of(person.user) {
                let ticks = self.history.ticks_ever.get(&(device, id));
                let ticks = ticks.copied().unwrap_or_default();
                let name = &self.devices[device].name;
                if ticks.delivered < own {
                    let told = ticks.delivered;
                    return Some(format!("{name} sees delivered to all {told} of {own} in {id}"));
                }
                let read = others().map(|other| self.told_read(other.user, id)).min().unwrap_or(0);
                if read >= own && ticks.read < own {
                    let told = ticks.read;
                    return Some(format!("{name} sees read by all {told} of {read} in {id}"));
                }
            }
        }
        None
    }

    /// How far a user read on devices that cannot have forgotten it, as far as that is told.
    pub(crate) fn told_read(&self, user: usize, id: ConversationId) -> u64 {
        let tells = !self.shadow.ever_private(user, Privacy::ReadReceipts, 0);
        if tells { self.read_for_sure(user, id) } else { 0 }
    }

    /// How far a user read on devices that cannot have forgotten it.
    pub(crate) fn read_for_sure(&self, user: usize, id: ConversationId) -> u64 {
        let own = self.devices_of(user);
        own.filter_map(|device| self.shadow.read_kept.get(&(device, id)).copied())
            .max()
            .unwrap_or(0)
    }

    // ---- what somebody new is told ----

    fn probe_all(&mut self) -> Result<Option<String>, Broken> {
        self.probes.clear();
        let issued_s = self.now().wall.ms / 1000;
        for user in 0..self.people.len() {
            let name = self.people.id(user).as_str().to_owned();
            self.probed += 1;
            self.probes.push(Probe::new(&name, self.probed, issued_s, self.plan.probe_page));
            self.connect(Party::Probe { probe: user });
        }
        let deadline = self.now_ns + PROBE_MS * MS;
        let asking = |probe: &Probe| probe.progress == Progress::Asking;
        while self.probes.iter().any(asking) && self.now_ns < deadline {
            self.run_for_ms(20)?;
        }
        let found = self.judge_probes();
        self.close_probes();
        found
    }

    fn close_probes(&mut self) {
        let connections = self.network.connections.iter();
        let of_probes = connections.filter(|(_, c)| matches!(c.party, Party::Probe { .. }));
        let ids: Vec<u64> = of_probes.map(|(id, _)| *id).collect();
        for id in ids {
            self.client_leaves(id);
        }
    }
}
