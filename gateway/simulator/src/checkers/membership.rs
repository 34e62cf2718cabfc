//! The log decides who is in a conversation: nobody is ever given a record they have no right to,
//! everybody comes to hold all that they may read, and who always was in it is never sent away.

use crate::ledger::{Ledger, Person};
use crate::shadow::{Privacy, Said};
use crate::simulation::Simulation;
use crate::trace::Broken;
use roost_protocol::ids::{ConversationId, KeyKind};
use roost_protocol::request::Content;
use roost_protocol::wire::ErrorCode;
use std::collections::BTreeSet;

impl Simulation {
    /// Nobody was given what they may not read.
    pub(crate) fn judge_rights(&self, id: ConversationId, ledger: &Ledger) -> Result<(), Broken> {
        for user in 0..self.people.len() {
            let shown = self.devices_of(user).filter_map(|d| self.history.shown.get(&(d, id)));
            let given = self.history.given.get(&(user, id)).into_iter();
            for seqs in shown.chain(given) {
                if let Some(seq) = seqs.iter().find(|seq| !self.may_read(user, id, ledger, **seq)) {
                    let name = self.people.id(user);
                    let what = format!("{name} was given record {seq} of {id} without a right");
                    return Err(Broken::new(what));
                }
            }
        }
        Ok(())
    }

    fn may_read(&self, user: usize, id: ConversationId, ledger: &Ledger, seq: u64) -> bool {
        let person = ledger.person(user);
        let follows = || {
            let follows = self.shadow.follows.get(&(user, id));
            follows.is_some_and(|register| register.was_asked(true))
        };
        if ledger.kind == KeyKind::Channel {
            return person.is_some() || follows();
        }
        person.is_some_and(|person| person.may_read(seq))
    }

    /// The first device that lacks something it may read.
    pub(crate) fn lacking(&self, id: ConversationId, ledger: &Ledger) -> Option<String> {
        if ledger.kind == KeyKind::Channel {
            return None;
        }
        let none = BTreeSet::new();
        for person in &ledger.people {
            // What strangers say is not pushed: it is found by Sync, perhaps in ten minutes.
            if self.shadow.ever_private(person.user, Privacy::ContactsOnly, 1) {
                continue;
            }
            for device in self.devices_of(person.user) {
                let shown = self.history.shown.get(&(device, id)).unwrap_or(&none);
                let lacks = |seq: &u64| {
                    !shown.contains(seq)
                        && person.may_read(*seq)
                        && !self.shadow.may_hide(person.user, id, *seq)
                };
                if let Some(seq) = (1..=ledger.head()).find(lacks) {
                    let name = &self.devices[device].name;
                    return Some(format!("{name} lacks {seq} of {} in {id}", ledger.head()));
                }
            }
        }
        None
    }

    /// What was refused for good could not be done.
    pub(crate) fn check_refused(
        &mut self,
        tag: u64,
        code: ErrorCode,
        text: &str,
    ) -> Result<(), Broken> {
        let Some(said) = self.shadow.find_mut(tag) else {
            return Err(Broken::new(format!("#{tag} was never said, and is refused")));
        };
        said.refused = Some(code);
        let said = said.clone();
        if self.may_be_refused(&said, code) {
            return Ok(());
        }
        Err(Broken::new(format!("#{tag} is refused for good: {code:?} {text}: {said:?}")))
    }

    fn may_be_refused(&self, said: &Said, code: ErrorCode) -> bool {
        let direct = said.to.kind() == KeyKind::Direct;
        let points = matches!(
            said.content,
            Content::Edit { .. } | Content::Delete { .. } | Content::Reaction { .. }
        );
        let change = matches!(said.content, Content::Group(_));
        let channel = said.to.kind() == KeyKind::Channel;
        let blocked = || {
            let owned = matches!(said.content, Content::Edit { .. } | Content::Delete { .. });
            owned || self.may_be_blocked(said)
        };
        let fits = [
            // In groups it is judged again when the log is known.
            (ErrorCode::ErrorForbidden, !direct || blocked()),
            (ErrorCode::ErrorNotFound, points || change),
            // A device that was restored from a backup may reply to what it never saw.
            (ErrorCode::ErrorInvalidRequest, change || said.reply_to.0 > 0),
            (ErrorCode::ErrorUnknownConversation, !said.listed || channel || (direct && points)),
            (ErrorCode::ErrorDevicesChanged, matches!(said.content, Content::ToDevices { .. })),
        ];
        fits.contains(&(code, true))
    }

    /// Who always was in a group may always write there.
    pub(crate) fn judge_refusals(&self, id: ConversationId, ledger: &Ledger) -> Result<(), Broken> {
        let stays = |person: &Person| {
            matches!(person.stretches.as_slice(), [(1, 0)]) && ledger.kind == KeyKind::Group
        };
        for (tag, said) in self.shadow.said.iter().enumerate() {
            let message = matches!(said.content, Content::Body(_) | Content::Forward { .. });
            let forbidden = said.refused == Some(ErrorCode::ErrorForbidden);
            let refused = said.to == id && forbidden && message;
            if refused && ledger.person(said.user).is_some_and(stays) {
                let name = &self.devices[said.device].name;
                let what = format!("#{tag} of {name}, who never left {id}, is forbidden");
                return Err(Broken::new(what));
            }
        }
        Ok(())
    }
}
