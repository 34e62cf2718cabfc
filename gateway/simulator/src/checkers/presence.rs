//! Nobody hears of somebody's presence or typing who did not ask, or has no right to.

use crate::shadow::Privacy;
use crate::simulation::Simulation;
use crate::trace::Broken;
use roost_protocol::ids::{ConversationId, KeyKind};
use roost_protocol::wire::{self, Audience};

impl Simulation {
    /// A device is pushed how users come and go.
    pub(crate) fn check_presence_pushed(
        &mut self,
        device: usize,
        presences: &[wire::Presence],
    ) -> Result<(), Broken> {
        let since = self.devices[device].connected_ns;
        for presence in presences {
            let of = self.people.find(&presence.user);
            let of = of.ok_or_else(|| Broken::new("the presence of an unknown user"))?;
            let watched = self.devices[device].watched.iter().any(|((_, user), _)| *user == of);
            if !watched {
                let name = &self.devices[device].name;
                let what = format!("{name} is pushed the presence of {of}, and never asked");
                return Err(Broken::new(what));
            }
            self.check_presence(device, of, presence, since)?;
        }
        Ok(())
    }

    /// A device learns whether somebody is there; what it asked, it asked at or after `since`.
    pub(crate) fn check_presence(
        &mut self,
        device: usize,
        of: usize,
        presence: &wire::Presence,
        since: u64,
    ) -> Result<(), Broken> {
        let user = self.devices[device].user;
        if (!presence.online && presence.last_seen_ms == 0) || user == of {
            return Ok(());
        }
        let blocked = self.blocked_since(of, user).is_some_and(|at| at < since);
        let privacy = self.shadow.privacy.get(&(of, Privacy::Presence));
        let audience = privacy.and_then(crate::register::Register::certain);
        let shows = |which: Audience| {
            audience.is_some_and(|(audience, at)| audience == which as i32 && at < since)
        };
        if shows(Audience::Contacts) {
            self.history.presences.insert((of, user));
        }
        let hidden = shows(Audience::Nobody);
        if blocked || hidden {
            let (of, name) = (self.people.id(of), &self.devices[device].name);
            let why = if blocked { "blocked them" } else { "shows it to nobody" };
            return Err(Broken::new(format!("{name} sees {of}, who {why}")));
        }
        Ok(())
    }

    /// Whoever saw somebody shares a conversation with them.
    pub(crate) fn judge_presences(&self) -> Result<(), Broken> {
        for (of, by) in &self.history.presences {
            let direct = self.people.direct(*of, *by);
            let share = self.history.head(direct) > 0
                || self.shadow.groups.keys().any(|id| {
                    let read = |user| self.ever_in(user, *id);
                    id.kind() == KeyKind::Group && read(*of) && read(*by)
                });
            if !share {
                let (of, by) = (self.people.id(*of), self.people.id(*by));
                return Err(Broken::new(format!("{by} sees {of}, a stranger")));
            }
        }
        Ok(())
    }

    /// Whether a user ever was given a record of a conversation.
    fn ever_in(&self, user: usize, id: ConversationId) -> bool {
        self.history.tops.contains_key(&(id, user)) || self.history.given.contains_key(&(user, id))
    }

    /// A device is told that somebody types.
    pub(crate) fn check_typing(&self, device: usize, id: ConversationId) -> Result<(), Broken> {
        let of = &self.devices[device];
        let (user, name) = (of.user, of.name.clone());
        let mut typists = self.shadow.typed.range((id, 0)..).take_while(|((of, _), _)| *of == id);
        if !typists.any(|((_, typist), _)| *typist != user) {
            return Err(Broken::new(format!("{name} is told that somebody types, who does not")));
        }
        if id.kind() != KeyKind::Direct {
            // Who has gone has read so, on an earlier connection, and read nothing since.
            return match of.gone.get(&id) {
                Some(at) if *at < of.connected_ns => {
                    Err(Broken::new(format!("{name} has gone from {id}, and hears of typing")))
                }
                Some(_) | None => Ok(()),
            };
        }
        let Some(peer) = self.people.peer_in(user, id) else {
            return Err(Broken::new(format!("{name} hears of typing elsewhere")));
        };
        let since = of.connected_ns;
        let blocks = [(user, peer), (peer, user)];
        if blocks.iter().any(|(a, b)| self.blocked_since(*a, *b).is_some_and(|at| at < since)) {
            return Err(Broken::new(format!("{name} hears of typing across a block")));
        }
        Ok(())
    }
}
