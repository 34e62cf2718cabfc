//! What somebody new is told of a user is what the log says and what the user's devices asked for,
//! and all devices of the user show the same list.

use crate::ledger::{Ledger, Person};
use crate::probe::{Probe, Progress, Seen};
use crate::shadow::{Privacy, Setting};
use crate::simulation::Simulation;
use crate::trace::Broken;
use roost_protocol::ids::{ConversationId, KeyKind};
use roost_protocol::wire;

/// What is not so yet, or a promise that is broken.
type Judged = Result<Option<String>, Broken>;

impl Simulation {
    pub(crate) fn judge_probes(&mut self) -> Judged {
        let probes = std::mem::take(&mut self.probes);
        let mut found = Ok(None);
        for (user, probe) in probes.iter().enumerate() {
            found = self.take_probe(user, probe);
            if !matches!(found, Ok(None)) {
                break;
            }
        }
        if matches!(found, Ok(None)) {
            found = self.judge_taken(&probes);
        }
        self.probes = probes;
        found
    }

    /// What a probe was given is as good as what a device was shown.
    fn take_probe(&mut self, user: usize, probe: &Probe) -> Judged {
        if probe.progress != Progress::Done {
            return Ok(Some(format!("{}'s probe: {:?}", probe.user, probe.progress)));
        }
        let by = format!("{}'s probe", probe.user);
        for seen in &probe.seen {
            for message in &seen.messages {
                self.check_given(user, &by, seen.id, message)?;
            }
        }
        self.judge_blocks(user, &probe.blocks)?;
        let listed = |device: &usize| {
            probe.devices.iter().any(|known| known.device[..] == self.devices[*device].id.0)
        };
        match self.devices_of(user).find(|device| !listed(device)) {
            Some(device) => Ok(Some(format!("{} is not listed", self.devices[device].name))),
            None => Ok(None),
        }
    }

    fn judge_taken(&self, probes: &[Probe]) -> Judged {
        let ledgers = match self.ledgers(true)? {
            Ok(ledgers) => ledgers,
            Err(reason) => return Ok(Some(reason)),
        };
        if let Some(reason) = self.judge_logs(&ledgers)? {
            return Ok(Some(reason));
        }
        for (id, ledger) in &ledgers {
            for person in &ledger.people {
                let probe = &probes[person.user];
                let seen = probe.seen.iter().find(|seen| seen.id == *id);
                let judged = match seen {
                    Some(seen) => self.judge_seen(person, *id, ledger, seen)?,
                    None if ledger.kind == KeyKind::Channel => None,
                    None => Some(format!("{}'s list lacks {id}", probe.user)),
                };
                if judged.is_some() {
                    return Ok(judged);
                }
            }
        }
        for (user, probe) in probes.iter().enumerate() {
            if let Some(reason) = self.judge_list(user, probe, &ledgers)? {
                return Ok(Some(reason));
            }
        }
        Ok(None)
    }

    /// Nothing is in a list that does not belong there; all devices show it alike.
    fn judge_list(
        &self,
        user: usize,
        probe: &Probe,
        ledgers: &std::collections::BTreeMap<ConversationId, Ledger>,
    ) -> Judged {
        for seen in &probe.seen {
            let (id, name) = (seen.id, &probe.user);
            let belongs = match id.kind() {
                // Begun by a message for devices that found no list of them: nothing is said.
                KeyKind::Direct => self.people.peer_in(user, id).is_some(),
                KeyKind::Group => ledgers.get(&id).is_some_and(|l| l.person(user).is_some()),
                KeyKind::Channel => ledgers.get(&id).is_none_or(|ledger| {
                    let follows = self.shadow.follows.get(&(user, id));
                    let asked = follows.is_some_and(|register| register.was_asked(true));
                    asked || ledger.person(user).is_some()
                }),
                KeyKind::User => false,
            };
            if !belongs {
                return Err(Broken::new(format!("{name} has {id} in the list")));
            }
            self.judge_settings(user, seen)?;
            for device in self.devices_of(user) {
                if let Some(reason) = self.judge_device(device, seen) {
                    return Ok(Some(reason));
                }
            }
        }
        Ok(None)
    }

    /// The page of history and the entry of somebody who is, or was, in a conversation.
    fn judge_seen(
        &self,
        person: &Person,
        id: ConversationId,
        ledger: &Ledger,
        seen: &Seen,
    ) -> Judged {
        let name = self.people.id(person.user);
        let channel = ledger.kind == KeyKind::Channel;
        let head = if channel { ledger.head() } else { person.head(ledger.head()) };
        if !channel && (seen.entry.head != head || seen.head != head) {
            let (list, log) = (seen.entry.head, seen.head);
            return Ok(Some(format!("{name}'s list says {list}, the log {log} of {head} in {id}")));
        }
        let readable = (1..=head).filter(|seq| channel || person.may_read(*seq));
        let given = seen.messages.iter().map(|message| message.seq);
        if !channel && !readable.eq(given) {
            return Err(Broken::new(format!("{name} is not given all that is there in {id}")));
        }
        if channel {
            return Ok(None);
        }
        if let Some(reason) = self.judge_entry(person, id, ledger, seen) {
            return Ok(Some(reason));
        }
        Ok(self.judge_members(person, ledger, seen))
    }

    fn judge_entry(
        &self,
        person: &Person,
        id: ConversationId,
        ledger: &Ledger,
        seen: &Seen,
    ) -> Option<String> {
        let (entry, user) = (&seen.entry, person.user);
        let name = self.people.id(user);
        let uncounted =
            (ledger.uncounted(entry.head), ledger.uncounted(entry.read.min(entry.head)));
        if (entry.head_uncounted, entry.read_uncounted) != uncounted {
            return Some(format!("{name}'s entry counts {entry:?}, true is {uncounted:?} in {id}"));
        }
        let joined = person.stretches.last().map_or(0, |(at, _)| *at);
        let sure = self.read_for_sure(user, id);
        let most = self.shadow.read_at_most(user, id).max(ledger.newest_of(user)).max(joined);
        if (entry.read < sure && !entry.request) || entry.read > most {
            let says = entry.read;
            return Some(format!("{name}'s read mark says {says}, true is {sure} to {most}"));
        }
        let left = person.role.is_none();
        if entry.left != left {
            return Some(format!("{name}'s entry says left={}, true is {left}", entry.left));
        }
        let strange = self.shadow.ever_private(user, Privacy::ContactsOnly, 1);
        if entry.request && !strange {
            return Some(format!("{name}'s entry is a request"));
        }
        let peer = self.people.peer_in(user, id)?;
        let own = ledger.newest_of(user);
        if entry.peer_delivered < own && self.is_open(user, peer) {
            return Some(format!("{name}'s list says delivered {} of {own}", entry.peer_delivered));
        }
        let read = if self.is_open(user, peer) { self.told_read(peer, id) } else { 0 };
        let read_most = self.shadow.read.get(&(peer, id)).copied().unwrap_or(0);
        if entry.peer_read < read || entry.peer_read > read_most {
            let says = entry.peer_read;
            return Some(format!("{name}'s list says read {says}, true is {read} to {read_most}"));
        }
        None
    }

    /// Who is in a group, and how far each has got, as the group itself tells.
    fn judge_members(&self, person: &Person, ledger: &Ledger, seen: &Seen) -> Option<String> {
        if person.role.is_none() || ledger.kind != KeyKind::Group {
            return None;
        }
        let told = seen.members.iter().map(|member| {
            let user = self.people.find(&member.user);
            let role = (member.left_seq == 0).then(|| member.role());
            (user, role, (member.joined_seq, member.left_seq))
        });
        let people = ledger.people.iter().map(|person| {
            let stretch = person.stretches.last().copied().unwrap_or_default();
            (Some(person.user), person.role, stretch)
        });
        if !told.eq(people) {
            let (name, told) = (self.people.id(person.user), &seen.members);
            return Some(format!("{name} is told {told:?}, true is {:?}", ledger.people));
        }
        for receipt in &seen.receipts {
            let place = usize::try_from(receipt.member).unwrap_or(0).checked_sub(1);
            let Some(of) = place.and_then(|place| ledger.people.get(place)) else {
                return Some("a receipt of nobody".to_owned());
            };
            let most = self.shadow.read_at_most(of.user, seen.id).max(ledger.newest_of(of.user));
            let joined = of.stretches.last().map_or(0, |(at, _)| *at);
            let strange = self.shadow.ever_private(of.user, Privacy::ContactsOnly, 1);
            let stays = of.role.is_some() && of.stretches.len() == 1 && !strange;
            let least = if stays { self.told_read(of.user, seen.id) } else { 0 };
            if receipt.read > most.max(joined) || receipt.read < least {
                return Some(format!("{receipt:?} is told, true is {least} to {most}"));
            }
        }
        None
    }

    /// What a user's devices set is set, and what they deleted stays so.
    fn judge_settings(&self, user: usize, seen: &Seen) -> Result<(), Broken> {
        let (entry, id) = (&seen.entry, seen.id);
        let name = self.people.id(user);
        let settings = [
            (Setting::Muted, entry.muted_until_ms),
            (Setting::Archived, u64::from(entry.archived)),
            (Setting::Pinned, u64::from(entry.pinned)),
        ];
        for (setting, is) in settings {
            let register = self.shadow.settings.get(&(user, id, setting));
            let may_be = register.map_or(is == 0, |register| register.may_be(is, 0));
            if !may_be {
                let what = format!("{name}'s {setting:?} of {id} is {is}: {register:?}");
                return Err(Broken::new(what));
            }
        }
        let none = std::collections::BTreeMap::new();
        let asked = self.shadow.hidden.get(&(user, id)).unwrap_or(&none);
        let lost = asked.iter().find(|(seq, done)| **done && !entry.hidden.contains(seq));
        if let Some((seq, _)) = lost {
            return Err(Broken::new(format!("{name} deleted {seq} of {id}, and it is back")));
        }
        match entry.hidden.iter().find(|seq| !asked.contains_key(seq)) {
            Some(seq) => Err(Broken::new(format!("{seq} of {id} is hidden from {name}"))),
            None => Ok(()),
        }
    }

    /// A device's list is the user's list.
    fn judge_device(&self, device: usize, seen: &Seen) -> Option<String> {
        let (of, id) = (&self.devices[device], seen.id);
        let session = of.session.as_ref()?;
        let name = &of.name;
        // A stranger's conversation is pushed to nobody: Sync finds it, perhaps in ten minutes.
        let strange = self.shadow.ever_private(of.user, Privacy::ContactsOnly, 1);
        let Some(entry) = session.entry_of(id) else {
            if strange {
                return None;
            }
            return Some(format!("{name} does not list {id}"));
        };
        let settings = |entry: &wire::Entry| {
            let muted = (entry.muted_until_ms, entry.archived, entry.pinned);
            (muted, entry.left, entry.request, entry.hidden.clone())
        };
        if strange && seen.entry.request {
            return None;
        }
        if settings(entry) != settings(&seen.entry) {
            return Some(format!("{name} lists {entry:?}, true is {:?}", seen.entry));
        }
        if id.kind() == KeyKind::Channel {
            return None;
        }
        let unread = |read: u64, uncounted: u64| {
            let head = seen.entry.head - seen.entry.head_uncounted;
            if seen.entry.request { 0 } else { head.saturating_sub(read.saturating_sub(uncounted)) }
        };
        let most = unread(seen.entry.read, seen.entry.read_uncounted);
        // A mark that moves with what one writes is not pushed to the other devices: they learn of
        // it with the next Sync, which may be ten minutes away.
        if seen.messages.iter().any(|message| message.client_message_id != 0) {
            return None;
        }
        let shown = session.unread(id);
        (shown != most).then(|| format!("{name} shows {shown} unread of {most} in {id}"))
    }
}
