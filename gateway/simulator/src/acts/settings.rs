//! What people set: for a conversation, for themselves, for their devices.

use crate::questions::Question;
use crate::shadow::{Privacy, Setting};
use crate::simulation::Simulation;
use crate::trace::Broken;
use roost_client::{Command, Input};
use roost_protocol::ids::Sequence;
use roost_protocol::request::{Ask, ConversationSettings, SetPrivacy, SignOut};
use roost_protocol::wire::{ActivityState, Audience};

impl Simulation {
    pub(crate) fn act_hide(&mut self, index: usize) -> Result<(), Broken> {
        let Some(conversation) = self.some_known_place(index) else { return Ok(()) };
        let held = self.history.kept.get(&(index, conversation));
        let held: Vec<u64> = held.into_iter().flatten().copied().collect();
        if held.is_empty() {
            return Ok(());
        }
        let mut seqs = vec![self.workload.prng.pick(&held), self.workload.prng.pick(&held)];
        seqs.sort_unstable();
        seqs.dedup();
        let user = self.devices[index].user;
        let hidden = self.shadow.hidden.entry((user, conversation)).or_default();
        for seq in &seqs {
            hidden.entry(*seq).or_insert(false);
        }
        let question = Question::Hide { user, conversation, seqs: seqs.clone() };
        let seqs = seqs.into_iter().map(Sequence).collect();
        self.ask(index, Ask::DeleteForMe { conversation, seqs }, question)
    }

    pub(crate) fn act_settings(&mut self, index: usize) -> Result<(), Broken> {
        let Some(conversation) = self.some_known_place(index) else { return Ok(()) };
        let prng = &mut self.workload.prng;
        let value = prng.below(1_000);
        let settings = ConversationSettings {
            muted_until_ms: prng.percent(50).then_some(value * 1_000),
            archived: prng.percent(50).then_some(value % 2 == 1),
            pinned: prng.percent(50).then_some(u32::try_from(value).unwrap_or(0)),
        };
        let asked = [
            (Setting::Muted, settings.muted_until_ms),
            (Setting::Archived, settings.archived.map(u64::from)),
            (Setting::Pinned, settings.pinned.map(u64::from)),
        ];
        let user = self.devices[index].user;
        let mut names = Vec::new();
        for (which, value) in asked {
            if let Some(value) = value {
                let key = (user, conversation, which);
                let register = self.shadow.settings.entry(key).or_default();
                names.push((which, register.ask(value, self.now_ns)));
            }
        }
        let question = Question::Settings { user, conversation, names };
        self.ask(index, Ask::SetConversation { conversation, settings }, question)
    }

    pub(crate) fn act_block(&mut self, index: usize) -> Result<(), Broken> {
        let who = self.devices[index].user;
        let whom = self.some_users(who, 1)[0];
        let unblock = self.workload.prng.percent(30);
        self.block(index, whom, unblock)
    }

    /// A user wants to hear nothing from another any more, or does again.
    pub(crate) fn block(&mut self, index: usize, whom: usize, unblock: bool) -> Result<(), Broken> {
        let who = self.devices[index].user;
        let register = self.shadow.blocks.entry((who, whom)).or_default();
        let name = register.ask(!unblock, self.now_ns);
        let user = self.people.id(whom).clone();
        self.ask(index, Ask::Block { user, unblock }, Question::Block { who, whom, name })
    }

    pub(crate) fn act_privacy(&mut self, index: usize) -> Result<(), Broken> {
        let prng = &mut self.workload.prng;
        let audiences = [Audience::Everyone, Audience::Contacts, Audience::Nobody];
        let (audience, on) = (prng.pick(&audiences), prng.percent(50));
        let mut privacy = SetPrivacy::default();
        let (which, value) = match prng.below(3) {
            0 => {
                privacy.presence = Some(audience);
                (Privacy::Presence, audience as i32)
            }
            1 => {
                privacy.contacts_only = Some(on);
                (Privacy::ContactsOnly, i32::from(on))
            }
            _ => {
                privacy.read_receipts = Some(on);
                (Privacy::ReadReceipts, i32::from(on))
            }
        };
        let user = self.devices[index].user;
        let name = self.shadow.privacy.entry((user, which)).or_default().ask(value, self.now_ns);
        let question = Question::Privacy { user, names: vec![(which, name)] };
        self.ask(index, Ask::SetPrivacy(privacy), question)
    }

    pub(crate) fn act_accept(&mut self, index: usize) -> Result<(), Broken> {
        let session = self.devices[index].session.as_ref();
        let listed = session.into_iter().flat_map(roost_client::Session::conversations);
        let requests: Vec<_> =
            listed.filter(|(_, entry)| entry.request).map(|(id, _)| id).collect();
        let id = match requests.as_slice() {
            [] => self.some_known_place(index),
            some => Some(self.workload.prng.pick(some)),
        };
        let Some(id) = id else { return Ok(()) };
        self.ask(index, Ask::AcceptRequest(id), Question::Other)
    }

    pub(crate) fn act_rename_device(&mut self, index: usize) -> Result<(), Broken> {
        let user = self.devices[index].user;
        let own: Vec<usize> = self.devices_of(user).collect();
        let device = self.devices[self.workload.prng.pick(&own)].id;
        let name = format!("device {}", self.questions.len());
        self.ask(index, Ask::RenameDevice { device, name }, Question::Other)
    }

    pub(crate) fn act_sign_out(&mut self, index: usize) -> Result<(), Broken> {
        let user = self.devices[index].user;
        let session = self.devices[index].session.as_ref();
        // Who signs out time and again has no time for anything else.
        if session.is_none_or(|session| session.unanswered_asks() > 0) {
            return Ok(());
        }
        let own: Vec<usize> = self.devices_of(user).collect();
        let which = if self.workload.prng.percent(30) {
            SignOut::AllOthers
        } else {
            SignOut::Device(self.devices[self.workload.prng.pick(&own)].id)
        };
        self.ask(index, Ask::SignOut(which), Question::Other)
    }

    /// The app has a new token before the old one ends.
    pub(crate) fn act_refresh(&mut self, index: usize) -> Result<(), Broken> {
        let token = self.renew_token(index);
        self.feed(index, Input::Token(token))
    }

    pub(crate) fn act_activity(&mut self, index: usize) -> Result<(), Broken> {
        let state = self.workload.prng.pick(&[
            ActivityState::ActivityForeground,
            ActivityState::ActivityBackground,
            ActivityState::ActivitySuspended,
        ]);
        self.feed(index, Input::Command(Command::SetActivity(state)))
    }
}
