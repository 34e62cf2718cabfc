//! What people do beside talking: every request a device can make, chosen by weights that are drawn
//! anew per seed.

mod groups;
mod looks;
mod settings;
mod writes;

use crate::simulation::{MS, Simulation};
use crate::trace::Broken;
use crate::weights::Act;
use roost_client::{Command, Input};
use roost_protocol::ids::{ConversationId, KeyKind};

impl Simulation {
    /// Somebody whose app runs does something.
    pub(crate) fn act_mixed(&mut self) -> Result<(), Broken> {
        let Some(index) = self.somebody() else { return Ok(()) };
        let Some(act) = self.plan.acts.draw(&mut self.workload.prng) else { return Ok(()) };
        self.act_of(index, act)
    }

    /// A device whose app runs.
    fn somebody(&mut self) -> Option<usize> {
        // Of many devices most apps run: a few tries find one.
        for _ in 0..20 {
            let index = self.workload.prng.place(self.devices.len());
            if self.devices[index].session.is_some() {
                return Some(index);
            }
        }
        None
    }

    fn act_of(&mut self, index: usize, act: Act) -> Result<(), Broken> {
        match act {
            Act::Say => self.act_say(index),
            Act::Reply => self.act_reply(index),
            Act::Forward => self.act_forward(index),
            Act::Edit => self.act_edit(index),
            Act::Delete => self.act_delete(index),
            Act::React => self.act_react(index),
            Act::Encrypt => self.act_encrypt(index),
            Act::Read => self.act_read(index),
            Act::Typing => self.act_typing(index),
            Act::CreateGroup => self.act_create(index, false),
            Act::CreateChannel => self.act_create(index, true),
            Act::CreateAgain => self.act_create_again(index),
            Act::ChangeGroup => self.act_change(index),
            Act::Race => self.act_race(index),
            Act::Follow => self.act_follow(index),
            Act::WatchChannel => self.act_watch_channel(index),
            Act::Hide => self.act_hide(index),
            Act::Settings => self.act_settings(index),
            Act::Block => self.act_block(index),
            Act::Privacy => self.act_privacy(index),
            Act::Accept => self.act_accept(index),
            Act::QueryPresence => self.act_query_presence(index),
            Act::WatchPresence => self.act_watch_presence(index),
            Act::Lists => self.act_lists(index),
            Act::Rename => self.act_rename_device(index),
            Act::SignOut => self.act_sign_out(index),
            Act::LookUp => self.act_look_up(index),
            Act::Activity => self.act_activity(index),
            Act::Sync => self.feed(index, Input::Command(Command::Sync)),
            Act::Older => self.act_older(index),
            Act::Refresh => self.act_refresh(index),
            Act::Extension => {
                self.act_extension(index);
                Ok(())
            }
        }
    }

    /// Before anything else: some know each other already, or are about to.
    pub(crate) fn open_mixed(&mut self) -> Result<(), Broken> {
        let openings = self.workload.prng.below(4);
        for _ in 0..openings {
            if let Some(index) = self.somebody() {
                let act = self.workload.prng.pick(&[Act::CreateGroup, Act::CreateGroup, Act::Say]);
                self.act_of(index, act)?;
            }
        }
        if self.workload.prng.percent(50) {
            let ms = self.workload.prng.range(1, 2_000);
            self.run_until(self.now_ns + ms * MS)?;
        }
        Ok(())
    }

    /// A conversation of the device's list, or the direct one with anybody; rarely a group that is
    /// none of its business.
    fn some_place(&mut self, index: usize) -> Option<ConversationId> {
        let user = self.devices[index].user;
        if self.workload.prng.percent(5) && !self.shadow.groups.is_empty() {
            return self.some_group();
        }
        let known = self.known_places(index);
        if known.is_empty() || self.workload.prng.percent(self.plan.stranger_percent) {
            let users = self.people.len();
            let to = (user + 1 + self.workload.prng.place(users - 1)) % users;
            return Some(self.people.direct(user, to));
        }
        Some(self.workload.prng.pick(&known))
    }

    /// A conversation of the device's list, or rarely a group that is none of its business.
    fn some_known_place(&mut self, index: usize) -> Option<ConversationId> {
        let known = self.known_places(index);
        if known.is_empty() || self.workload.prng.percent(5) {
            return self.some_group();
        }
        Some(self.workload.prng.pick(&known))
    }

    fn some_group(&mut self) -> Option<ConversationId> {
        let there = self.groups_there(None);
        (!there.is_empty()).then(|| self.workload.prng.pick(&there))
    }

    /// Groups and channels that are there. (To one that is not a conversation cannot refuse what is
    /// old: what was sent to it before it began may come after it did.)
    fn groups_there(&self, kind: Option<KeyKind>) -> Vec<ConversationId> {
        let there = self.shadow.groups.iter().filter(|(_, creation)| creation.answered);
        let all = there.map(|(id, _)| *id);
        all.filter(|id| kind.is_none_or(|kind| kind == id.kind())).collect()
    }

    fn known_places(&self, index: usize) -> Vec<ConversationId> {
        let session = self.devices[index].session.as_ref();
        let listed = session.into_iter().flat_map(roost_client::Session::conversations);
        // What one has left rarely tempts.
        listed.filter(|(_, entry)| !entry.left).map(|(id, _)| id).collect()
    }

    fn some_of_kind(&mut self, index: usize, kind: KeyKind) -> Option<ConversationId> {
        let mut known = self.known_places(index);
        known.retain(|id| id.kind() == kind);
        if known.is_empty() || self.workload.prng.percent(10) {
            known = self.groups_there(Some(kind));
        }
        (!known.is_empty()).then(|| self.workload.prng.pick(&known))
    }

    /// Some users, the asker not among them.
    fn some_users(&mut self, but: usize, most: usize) -> Vec<usize> {
        let users = self.people.len();
        let count = 1 + self.workload.prng.place(most.min(users - 1));
        let mut some: Vec<usize> = Vec::new();
        for _ in 0..count {
            let user = (but + 1 + self.workload.prng.place(users - 1)) % users;
            if !some.contains(&user) {
                some.push(user);
            }
        }
        some
    }
}
