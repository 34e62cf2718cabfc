//! Ticks only rise, and say what is true: of the other one in a direct conversation, of all in a
//! group.

use crate::history::{Claim, Ticks};
use crate::ledger::{Ledger, Person};
use crate::shadow::Privacy;
use crate::simulation::Simulation;
use crate::trace::Broken;
use roost_protocol::ids::{ConversationId, KeyKind};

impl Simulation {
    /// A device shows how far others have got.
    pub(crate) fn check_ticks(
        &mut self,
        device: usize,
        conversation: ConversationId,
        shown: Ticks,
    ) -> Result<(), Broken> {
        let name = self.devices[device].name.clone();
        let ticks = self.history.ticks.entry((device, conversation)).or_default();
        let falls = (shown.delivered != 0 && shown.delivered <= ticks.delivered)
            || (shown.read != 0 && shown.read <= ticks.read);
        if falls {
            return Err(Broken::new(format!("{name}'s ticks do not rise: {shown:?}")));
        }
        let ever = self.history.ticks_ever.entry((device, conversation)).or_default();
        let before = *ever;
        for ticks in [ticks, ever] {
            ticks.delivered = shown.delivered.max(ticks.delivered);
            ticks.read = shown.read.max(ticks.read);
        }
        let own = self.devices[device].user;
        if conversation.kind() != KeyKind::Direct {
            self.note_claim(own, conversation, shown);
            return Ok(());
        }
        let Some(peer) = self.people.peer_in(own, conversation) else {
            return Err(Broken::new(format!("{name} sees ticks of a conversation it is not in")));
        };
        self.check_read(peer, conversation, shown.read)?;
        self.check_delivered(peer, conversation, before.delivered, shown.delivered)
    }

    fn check_read(&self, peer: usize, id: ConversationId, up_to: u64) -> Result<(), Broken> {
        let read = self.shadow.read.get(&(peer, id)).copied().unwrap_or(0);
        if up_to > read {
            return Err(Broken::new(format!("read up to {up_to} is shown, true is {read}")));
        }
        let private = self.shadow.privacy.get(&(peer, Privacy::ReadReceipts));
        let hides = private.and_then(crate::register::Register::certain);
        let first = self.shadow.first_read.get(&(peer, id)).copied().unwrap_or(0);
        if up_to > 0 && hides.is_some_and(|(tells, since)| tells == 0 && since < first) {
            return Err(Broken::new(format!("read up to {up_to} is told of who does not tell")));
        }
        Ok(())
    }

    fn check_delivered(
        &self,
        peer: usize,
        id: ConversationId,
        known: u64,
        up_to: u64,
    ) -> Result<(), Broken> {
        if up_to <= known {
            return Ok(());
        }
        let of_peer: Vec<_> = self
            .devices_of(peer)
            .filter_map(|device| self.history.shown.get(&(device, id)))
            .chain(self.history.acknowledged.get(&(peer, id)))
            .collect();
        for ((_, seq), fact) in self.history.facts.range((id, known + 1)..=(id, up_to)) {
            let by_peer = fact.author == Some(peer);
            let held = of_peer.iter().any(|seqs| seqs.contains(seq));
            if !by_peer && !held && !self.shadow.may_hide(peer, id, *seq) {
                return Err(Broken::new(format!(
                    "delivered up to {up_to} is shown, but no device of theirs was shown {seq}"
                )));
            }
        }
        Ok(())
    }

    /// What is told of all is judged when it is known who all were; of whom it is true, now.
    fn note_claim(&mut self, user: usize, conversation: ConversationId, shown: Ticks) {
        for (up_to, read) in [(shown.delivered, false), (shown.read, true)] {
            if up_to == 0 {
                continue;
            }
            let from = (conversation, 0);
            let tops = self.history.tops.range(from..).take_while(|((id, _), _)| *id == from.0);
            let far = |(of, top): (usize, u64)| match read {
                false => top >= up_to || self.shadow.may_hide(of, conversation, up_to),
                true => self.shadow.read_at_most(of, conversation) >= up_to,
            };
            let all = tops.map(|((_, of), top)| (*of, *top));
            let true_of = all.filter(|one| far(*one)).map(|(of, _)| of).collect();
            self.history.claims.push(Claim { user, conversation, up_to, read, true_of });
        }
    }

    /// Whether what was told of all was true of each who was in it then.
    pub(crate) fn judge_claims(&self, id: ConversationId, ledger: &Ledger) -> Result<(), Broken> {
        for claim in self.history.claims.iter().filter(|claim| claim.conversation == id) {
            let wrote = ledger.line(claim.up_to).map(|line| line.author);
            let lacks = |person: &&Person| {
                let user = person.user;
                let counts = user != claim.user && person.is_in_since(claim.up_to);
                // Who does not tell, or did not yet accept the group, is left out.
                let hides = claim.read && self.shadow.ever_private(user, Privacy::ReadReceipts, 0);
                let joined = person.stretches.last().is_some_and(|(at, _)| *at == claim.up_to);
                counts && !hides && !joined && !claim.true_of.contains(&user)
            };
            let lacks = |person: &&Person| lacks(person) && wrote != Some(person.user);
            if let Some(person) = ledger.people.iter().find(lacks) {
                let (by, of) = (self.people.id(claim.user), self.people.id(person.user));
                return Err(Broken::new(format!(
                    "{by} was told of all in {id} up to {} (read: {}), but not {of}",
                    claim.up_to, claim.read
                )));
            }
        }
        Ok(())
    }
}
