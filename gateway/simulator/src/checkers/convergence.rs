//! When the faults are over, everybody agrees in bounded time: all devices hold the same history,
//! every sender knows what was received and read, lists and unread counts agree with what somebody
//! new is told, no backlog is left, and no old segment is unsealed.

use crate::network::Party;
use crate::probe::{Probe, Progress, Seen};
use crate::simulation::{MS, Simulation};
use crate::trace::Broken;
use roost_protocol::ids::ConversationId;
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
            match self.disagreement() {
                Some(reason) => why = reason,
                None => match self.probe_all()? {
                    Some(reason) => why = reason,
                    None => {
                        self.tell(|| "everybody agrees".to_owned());
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

    /// The first thing that is not as it should be in the end.
    fn disagreement(&self) -> Option<String> {
        if !self.host.is_up() {
            return Some("the server is down".to_owned());
        }
        self.unfinished_server().or_else(|| self.unfinished_devices()).or_else(|| {
            self.conversations()
                .into_iter()
                .find_map(|(id, (users, head))| self.disagreement_in(id, users, head))
        })
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
            if kept && said.accepted.is_none() {
                return Some(format!("#{tag} has no answer"));
            }
        }
        None
    }

    /// Every conversation in which something was seen, with its users and its head.
    fn conversations(&self) -> BTreeMap<ConversationId, ([usize; 2], u64)> {
        let mut all = BTreeMap::new();
        for ((id, seq), fact) in &self.history.facts {
            if let Some(said) = self.shadow.find(fact.tag) {
                all.insert(*id, ([said.user, said.peer], *seq));
            }
        }
        all
    }

    fn disagreement_in(&self, id: ConversationId, users: [usize; 2], head: u64) -> Option<String> {
        let of_it = self.devices.iter().enumerate().filter(|(_, d)| users.contains(&d.user));
        for (index, device) in of_it {
            let shown = self.history.shown_by(index, id);
            if u64::try_from(shown).ok() != Some(head) {
                return Some(format!("{} holds {shown} of {head}", device.name));
            }
            let peer = if users[0] == device.user { users[1] } else { users[0] };
            let own = self.newest_of(device.user, id);
            let ticks = self.history.ticks_ever.get(&(index, id)).copied().unwrap_or_default();
            if ticks.delivered < own {
                let ticks = ticks.delivered;
                return Some(format!("{} sees delivered {ticks} of {own}", device.name));
            }
            let read = self.read_for_sure(peer, id);
            if ticks.read < read {
                return Some(format!("{} sees read {} of {read}", device.name, ticks.read));
            }
        }
        None
    }

    /// The newest seq that a user wrote.
    fn newest_of(&self, user: usize, id: ConversationId) -> u64 {
        let all = self.history.facts.range((id, 0)..=(id, u64::MAX));
        let own =
            all.filter(|(_, fact)| self.shadow.find(fact.tag).is_some_and(|s| s.user == user));
        own.map(|((_, seq), _)| *seq).max().unwrap_or(0)
    }

    /// How far a user read on devices that cannot have forgotten it.
    fn read_for_sure(&self, user: usize, id: ConversationId) -> u64 {
        let all = self.shadow.read_kept.iter();
        let own = all.filter(|((device, of), _)| *of == id && self.devices[*device].user == user);
        own.map(|(_, seq)| *seq).max().unwrap_or(0)
    }

    // ---- what somebody new is told ----

    fn probe_all(&mut self) -> Result<Option<String>, Broken> {
        self.probes.clear();
        let issued_s = 1_796_083_000;
        for user in 0..self.plan.devices.len() {
            let name = self.user_id(user);
            self.probed += 1;
            self.probes.push(Probe::new(name.as_str(), self.probed, issued_s));
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

    fn judge_probes(&self) -> Result<Option<String>, Broken> {
        let mut ids = BTreeSet::new();
        for (user, probe) in self.probes.iter().enumerate() {
            if probe.progress != Progress::Done {
                return Ok(Some(format!("{}'s probe: {:?}", probe.user, probe.progress)));
            }
            for (id, (users, head)) in self.conversations() {
                if !users.contains(&user) {
                    continue;
                }
                let name = &probe.user;
                let Some(seen) = probe.seen.iter().find(|seen| seen.id == id) else {
                    return Ok(Some(format!("{name}'s list lacks a conversation of {head}")));
                };
                if seen.entry.head != head || seen.head != head {
                    let (list, log) = (seen.entry.head, seen.head);
                    let what = format!("{name}'s list says {list}, the log {log} of {head}");
                    return Ok(Some(what));
                }
                self.judge_history(seen)?;
                if users[0] == user {
                    ids.extend(seen.messages.iter().map(|message| message.message_id));
                }
                let peer = if users[0] == user { users[1] } else { users[0] };
                if let Some(reason) = self.judge_entry(user, peer, seen) {
                    return Ok(Some(reason));
                }
            }
        }
        let distinct: BTreeSet<u64> =
            self.history.facts.values().map(|fact| fact.message_id).collect();
        if distinct.len() != self.history.facts.len() {
            return Err(Broken::new("two messages have one id"));
        }
        Ok(None)
    }

    fn judge_history(&self, seen: &Seen) -> Result<(), Broken> {
        for (message, expected) in seen.messages.iter().zip(1..) {
            let fact = self.history.facts.get(&(seen.id, message.seq));
            let same = fact.is_some_and(|fact| {
                let said = self.shadow.find(fact.tag);
                fact.message_id == message.message_id
                    && said.is_some_and(|said| body_of(message) == Some(&said.body))
            });
            if message.seq != expected || !same {
                let seq = message.seq;
                return Err(Broken::new(format!("the log holds something else at {seq}")));
            }
        }
        let (length, head) = (seen.messages.len(), seen.head);
        if u64::try_from(length).ok() != Some(head) {
            return Err(Broken::new(format!("the log gives {length} messages of {head}")));
        }
        Ok(())
    }

    fn judge_entry(&self, user: usize, peer: usize, seen: &Seen) -> Option<String> {
        let (entry, id) = (&seen.entry, seen.id);
        let name = self.user_id(user);
        let own = self.newest_of(user, id);
        if entry.peer_delivered < own {
            return Some(format!("{name}'s list says delivered {} of {own}", entry.peer_delivered));
        }
        let read = self.read_for_sure(peer, id);
        let read_most = self.shadow.read.get(&(peer, id)).copied().unwrap_or(0);
        if entry.peer_read < read || entry.peer_read > read_most {
            let says = entry.peer_read;
            return Some(format!("{name}'s list says read {says}, true is {read} to {read_most}"));
        }
        let own_read = self.read_for_sure(user, id);
        if entry.read < own_read || entry.read > entry.head {
            let says = entry.read;
            return Some(format!("{name}'s own read mark is {says}, at least {own_read}"));
        }
        let (counted, counted_read) =
            (entry.head - entry.head_uncounted, entry.read - entry.read_uncounted);
        if entry.head_uncounted != 0 || counted - counted_read != entry.head - entry.read {
            return Some(format!("{name}'s unread count is not what is unread"));
        }
        None
    }
}

fn body_of(message: &roost_protocol::wire::Message) -> Option<&bytes::Bytes> {
    match &message.content {
        Some(roost_protocol::wire::message::Content::Body(body)) => Some(body),
        Some(_) | None => None,
    }
}
