//! A block that was confirmed holds, through any crash, until somebody asks to lift it.

use crate::shadow::Said;
use crate::simulation::Simulation;
use crate::trace::Broken;
use roost_protocol::ids::KeyKind;

impl Simulation {
    /// Since when one has certainly blocked the other.
    pub(crate) fn blocked_since(&self, who: usize, whom: usize) -> Option<u64> {
        let register = self.shadow.blocks.get(&(who, whom))?;
        register.certain().filter(|(blocked, _)| *blocked).map(|(_, since)| since)
    }

    /// Nothing is accepted that was said after a block was confirmed.
    pub(crate) fn check_not_blocked(&self, tag: u64) -> Result<(), Broken> {
        let Some(said) = self.shadow.find(tag) else { return Ok(()) };
        if said.to.kind() != KeyKind::Direct {
            return Ok(());
        }
        let Some(peer) = self.people.peer_in(said.user, said.to) else { return Ok(()) };
        for (who, whom) in [(said.user, peer), (peer, said.user)] {
            if self.blocked_since(who, whom).is_some_and(|since| since < said.at_ns) {
                let (who, whom) = (self.people.id(who), self.people.id(whom));
                let what = format!("#{tag} is accepted, though {who} has blocked {whom}");
                return Err(Broken::new(what));
            }
        }
        Ok(())
    }

    /// Whether what was said may have met a block.
    pub(crate) fn may_be_blocked(&self, said: &Said) -> bool {
        let Some(peer) = self.people.peer_in(said.user, said.to) else { return false };
        [(said.user, peer), (peer, said.user)].iter().any(|pair| {
            let register = self.shadow.blocks.get(pair);
            register.is_some_and(|register| {
                let lifted = register.certain().filter(|(blocked, _)| !blocked);
                register.was_asked(true) && lifted.is_none_or(|(_, since)| since > said.at_ns)
            })
        })
    }

    /// Whether nothing but friendship ever was between two users, and neither hides anything.
    pub(crate) fn is_open(&self, one: usize, other: usize) -> bool {
        let asked =
            |one, other| self.shadow.blocks.get(&(one, other)).is_some_and(|r| r.was_asked(true));
        let strange =
            |user| self.shadow.ever_private(user, crate::shadow::Privacy::ContactsOnly, 1);
        !asked(one, other) && !asked(other, one) && !strange(one) && !strange(other)
    }

    /// The list of whom a user blocked is what was asked for.
    pub(crate) fn judge_blocks(&self, user: usize, listed: &[String]) -> Result<(), Broken> {
        for whom in 0..self.people.len() {
            let is_listed = listed.iter().any(|name| name == self.people.id(whom).as_str());
            let may_be = self
                .shadow
                .blocks
                .get(&(user, whom))
                .map_or(!is_listed, |register| register.may_be(is_listed, false));
            if !may_be {
                let (who, whom) = (self.people.id(user), self.people.id(whom));
                let is = if is_listed { "is" } else { "is not" };
                return Err(Broken::new(format!("{whom} {is} in the list of whom {who} blocked")));
            }
        }
        Ok(())
    }
}
