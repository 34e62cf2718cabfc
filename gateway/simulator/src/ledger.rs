//! A conversation as its log says it is, read again from the beginning by the rules of PROTOCOL.md
//! alone: who is in it, with which rights, who wrote what, what counts. A record that had no right
//! to be there is found here.

use crate::history::Fact;
use crate::people::People;
use crate::record::{Record, Seen};
use crate::trace::Broken;
use roost_protocol::ids::{ConversationId, KeyKind};
use roost_protocol::wire::{self, MemberRole, group_change::Change};

/// Somebody who is or was in it.
#[derive(Debug, Clone)]
pub(crate) struct Person {
    pub(crate) user: usize,
    /// Gone, without one.
    pub(crate) role: Option<MemberRole>,
    /// From joining to going, both included; 0: still in.
    pub(crate) stretches: Vec<(u64, u64)>,
}

impl Person {
    /// Whether they may read a record.
    pub(crate) fn may_read(&self, seq: u64) -> bool {
        self.stretches.iter().any(|(from, to)| seq >= *from && (*to == 0 || seq <= *to))
    }

    /// Whether they have been in it from one record to the end.
    pub(crate) fn is_in_since(&self, seq: u64) -> bool {
        self.stretches.last().is_some_and(|(from, to)| *to == 0 && *from <= seq)
    }

    /// The newest record they may read, if the last is this.
    pub(crate) fn head(&self, head: u64) -> u64 {
        self.stretches.last().map_or(0, |(_, to)| if *to == 0 { head } else { *to })
    }
}

/// One record.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) author: usize,
    message: bool,
    /// Its text may be changed.
    plain: bool,
    /// Records up to here that count as nothing.
    pub(crate) uncounted: u64,
}

/// See the module's comment.
#[derive(Debug)]
pub(crate) struct Ledger {
    pub(crate) kind: KeyKind,
    pub(crate) name: String,
    /// By member number.
    pub(crate) people: Vec<Person>,
    pub(crate) dissolved: bool,
    pub(crate) lines: Vec<Line>,
    /// Records of which is not known yet whether they count.
    doubts: u64,
}

type Told<T> = Result<T, String>;

impl Ledger {
    /// Reads a log; `None` while something in it is not known yet.
    pub(crate) fn read<'a>(
        id: ConversationId,
        people: &People,
        facts: impl Iterator<Item = (u64, &'a Fact)>,
    ) -> Result<Option<Self>, Broken> {
        let mut ledger = Self {
            kind: id.kind(),
            name: String::new(),
            people: Vec::new(),
            dissolved: false,
            lines: Vec::new(),
            doubts: 0,
        };
        if let Some(pair) = people.pair(id) {
            let (role, stretches) = (Some(MemberRole::Member), vec![(1, 0)]);
            let person = |user| Person { user, role, stretches: stretches.clone() };
            ledger.people = pair.map(person).to_vec();
        }
        for ((seq, fact), expected) in facts.zip(1..) {
            let (Some(record), true) = (&fact.record, seq == expected) else { return Ok(None) };
            let taken = ledger.take(people, seq, fact, record);
            taken.map_err(|why| Broken::new(format!("{id}, record {seq}: {why}: {record:?}")))?;
        }
        Ok(Some(ledger))
    }

    pub(crate) fn head(&self) -> u64 {
        u64::try_from(self.lines.len()).unwrap_or(u64::MAX)
    }

    /// Records up to one that count as nothing.
    pub(crate) fn uncounted(&self, seq: u64) -> u64 {
        self.line(seq).map_or(0, |line| line.uncounted)
    }

    pub(crate) fn line(&self, seq: u64) -> Option<&Line> {
        self.lines.get(usize::try_from(seq.checked_sub(1)?).ok()?)
    }

    pub(crate) fn person(&self, user: usize) -> Option<&Person> {
        self.people.iter().find(|person| person.user == user)
    }

    /// The newest record that a user wrote.
    pub(crate) fn newest_of(&self, user: usize) -> u64 {
        let newest = self.lines.iter().rposition(|line| line.author == user);
        newest.map_or(0, |place| u64::try_from(place + 1).unwrap_or(u64::MAX))
    }

    /// The newest message that a user wrote.
    pub(crate) fn newest_message_of(&self, user: usize) -> u64 {
        let newest = self.lines.iter().rposition(|line| line.author == user && line.message);
        newest.map_or(0, |place| u64::try_from(place + 1).unwrap_or(u64::MAX))
    }

    fn take(&mut self, people: &People, seq: u64, fact: &Fact, record: &Record) -> Told<()> {
        let author = self.author(people, seq, fact, record)?;
        if let Seen::System(system) = &record.content {
            self.take_system(people, seq, author, system)?;
        } else {
            self.may_write(author)?;
            self.may_say(author, seq, &record.content)?;
        }
        let uncounted = self.count(record)?;
        let plain = matches!(record.content, Seen::Body(_) | Seen::Forward(_));
        self.lines.push(Line { author, message: record.is_message(), plain, uncounted });
        Ok(())
    }

    /// Records up to this one that count as nothing. Key messages do not count, but only an
    /// observer is told which are.
    fn count(&mut self, record: &Record) -> Told<u64> {
        let before = self.lines.last().map_or(0, |line| line.uncounted);
        let sealed = record.content == Seen::Sealed;
        self.doubts += u64::from(sealed && record.uncounted.is_none());
        let least = before + u64::from(!record.is_message());
        let most = least + self.doubts + u64::from(sealed);
        match record.uncounted {
            None => Ok(least),
            Some(told) if (least..=most).contains(&told) => Ok(told),
            Some(_) => Err(format!("{least} up to there count as nothing")),
        }
    }

    fn author(&self, people: &People, seq: u64, fact: &Fact, record: &Record) -> Told<usize> {
        if self.kind == KeyKind::Direct {
            return fact.author.ok_or_else(|| "nobody wrote it".to_owned());
        }
        let author = match (seq, &record.content) {
            (1, Seen::System(system)) if system.created => {
                let first = system.members.first().map(|member| member.user.as_str());
                first.and_then(|name| people.find(name)).ok_or("a group of nobody")?
            }
            (_, _) => {
                let place = usize::try_from(record.sender).unwrap_or(0).checked_sub(1);
                let person = place.and_then(|place| self.people.get(place));
                person.ok_or("its sender is no member")?.user
            }
        };
        if fact.author.is_some_and(|known| known != author) {
            return Err("somebody else wrote it".to_owned());
        }
        Ok(author)
    }

    fn role(&self, user: usize) -> Option<MemberRole> {
        self.person(user).and_then(|person| person.role)
    }

    fn may_write(&self, author: usize) -> Told<()> {
        match self.role(author) {
            None => Err("its writer was not in it".to_owned()),
            Some(MemberRole::Member) if self.kind == KeyKind::Channel => {
                Err("its writer is not staff".to_owned())
            }
            Some(_) => Ok(()),
        }
    }

    fn may_say(&self, author: usize, seq: u64, content: &Seen) -> Told<()> {
        let target = match content {
            Seen::Edit(edit) => edit.seq,
            Seen::Delete(seq) => *seq,
            Seen::Reaction(reaction) => reaction.seq,
            Seen::Body(_) | Seen::Forward(_) | Seen::Sealed | Seen::System(_) => return Ok(()),
        };
        let line = self.line(target).filter(|line| line.message && target < seq);
        let line = line.ok_or("it is about no message")?;
        if self.person(author).is_some_and(|person| !person.may_read(target))
            && self.kind != KeyKind::Channel
        {
            return Err("it is about what its writer may not read".to_owned());
        }
        let own = line.author == author;
        if matches!(content, Seen::Edit(_)) && !(own && line.plain) {
            return Err("it edits what it may not".to_owned());
        }
        if matches!(content, Seen::Delete(_)) && !own && !self.rules(author) {
            return Err("it takes back what another wrote".to_owned());
        }
        Ok(())
    }

    /// Whether a user is an admin or the owner of a group.
    fn rules(&self, user: usize) -> bool {
        let role = self.role(user);
        let rules = matches!(role, Some(MemberRole::Admin | MemberRole::Owner));
        rules && self.kind != KeyKind::Direct
    }

    fn take_system(
        &mut self,
        people: &People,
        seq: u64,
        author: usize,
        system: &wire::SystemMessage,
    ) -> Told<()> {
        let mut changed = Vec::new();
        if system.created {
            if seq != 1 || self.kind == KeyKind::Direct {
                return Err("it begins what had begun".to_owned());
            }
            for member in &system.members {
                let user = people.find(&member.user).ok_or("an unknown user")?;
                let first = self.people.is_empty();
                let role = if first { MemberRole::Owner } else { MemberRole::Member };
                self.join(user, seq, role, &mut changed);
            }
        } else {
            let change = system.change.as_ref().and_then(|change| change.change.as_ref());
            let change = change.ok_or("it changes nothing")?;
            self.change(people, seq, author, change, &mut changed)?;
        }
        self.check_told(people, &system.members, &changed)
    }

    /// What is told of the members is how they are now, and none is left out.
    fn check_told(&self, people: &People, told: &[wire::Member], changed: &[usize]) -> Told<()> {
        for member in told {
            let place = usize::try_from(member.member).unwrap_or(0).checked_sub(1);
            let person = place.and_then(|place| self.people.get(place)).ok_or("a wrong number")?;
            let (from, to) = person.stretches.last().copied().unwrap_or_default();
            let role = person.role.unwrap_or(MemberRole::Member);
            let same = people.id(person.user).as_str() == member.user
                && member.role() == role
                && (member.joined_seq, member.left_seq) == (from, to);
            if !same {
                return Err(format!("it tells {member:?}, true is {person:?}"));
            }
        }
        let names = |user: &usize| {
            let number = self.people.iter().position(|person| person.user == *user);
            told.iter().any(|t| usize::try_from(t.member).ok() == number.map(|n| n + 1))
        };
        match changed.iter().find(|user| !names(user)) {
            Some(user) => Err(format!("it does not tell of {}", people.id(*user))),
            None => Ok(()),
        }
    }

    fn join(&mut self, user: usize, seq: u64, role: MemberRole, changed: &mut Vec<usize>) {
        changed.push(user);
        match self.people.iter_mut().find(|person| person.user == user) {
            Some(person) => {
                person.role = Some(role);
                person.stretches.push((seq, 0));
            }
            None => {
                self.people.push(Person { user, role: Some(role), stretches: vec![(seq, 0)] });
            }
        }
    }

    fn go(&mut self, user: usize, seq: u64, changed: &mut Vec<usize>) {
        changed.push(user);
        if let Some(person) = self.people.iter_mut().find(|person| person.user == user) {
            person.role = None;
            if let Some(last) = person.stretches.last_mut() {
                last.1 = seq;
            }
        }
    }

    fn set_role(&mut self, user: usize, role: MemberRole, changed: &mut Vec<usize>) {
        changed.push(user);
        if let Some(person) = self.people.iter_mut().find(|person| person.user == user) {
            person.role = Some(role);
        }
    }

    fn change(
        &mut self,
        people: &People,
        seq: u64,
        author: usize,
        change: &Change,
        changed: &mut Vec<usize>,
    ) -> Told<()> {
        let channel = self.kind == KeyKind::Channel;
        let role = self.role(author).ok_or("its writer was not in it")?;
        let least = match change {
            Change::Leave(_) => MemberRole::Member,
            Change::Rename(_)
            | Change::Picture(_)
            | Change::Add(_)
            | Change::Remove(_)
            | Change::Promote(_) => MemberRole::Admin,
            Change::Demote(_) | Change::Transfer(_) | Change::Dissolve(_) => MemberRole::Owner,
        };
        if (role as i32) < (least as i32) {
            return Err("its writer had no right to it".to_owned());
        }
        let users = match change {
            Change::Add(of)
            | Change::Remove(of)
            | Change::Promote(of)
            | Change::Demote(of)
            | Change::Transfer(of) => of.users.iter().map(|name| people.find(name)).collect(),
            Change::Rename(_) | Change::Picture(_) | Change::Leave(_) | Change::Dissolve(_) => {
                Some(Vec::new())
            }
        };
        let users: Vec<usize> = users.ok_or("an unknown user")?;
        match change {
            Change::Rename(name) if *name == self.name => return Err("it changes nothing".into()),
            Change::Rename(name) => self.name.clone_from(name),
            Change::Picture(_) => {}
            Change::Leave(_) => self.leave(author, seq, changed),
            Change::Dissolve(_) => self.dissolve(seq, changed),
            Change::Add(_) | Change::Remove(_) if channel => return Err("in a channel".into()),
            Change::Transfer(_) => {
                let [user] = users[..] else { return Err("not one new owner".into()) };
                if self.role(user).is_none() || user == author {
                    return Err("the new owner is none of them".into());
                }
                self.set_role(author, MemberRole::Admin, &mut Vec::new());
                self.set_role(user, MemberRole::Owner, changed);
            }
            Change::Add(_) | Change::Remove(_) | Change::Promote(_) | Change::Demote(_) => {
                for user in users {
                    self.change_one(seq, role, change, user, changed)?;
                }
            }
        }
        Ok(())
    }

    fn change_one(
        &mut self,
        seq: u64,
        by: MemberRole,
        change: &Change,
        user: usize,
        changed: &mut Vec<usize>,
    ) -> Told<()> {
        let channel = self.kind == KeyKind::Channel;
        match (change, self.role(user)) {
            (Change::Add(_), None) => self.join(user, seq, MemberRole::Member, changed),
            (Change::Remove(_), Some(MemberRole::Member)) => self.go(user, seq, changed),
            (Change::Remove(_), Some(MemberRole::Admin)) if by == MemberRole::Owner => {
                self.go(user, seq, changed);
            }
            (Change::Promote(_), Some(MemberRole::Member)) => {
                self.set_role(user, MemberRole::Admin, changed);
            }
            (Change::Promote(_), None) if channel => {
                self.join(user, seq, MemberRole::Admin, changed);
            }
            (Change::Demote(_), Some(MemberRole::Admin)) if channel => self.go(user, seq, changed),
            (Change::Demote(_), Some(MemberRole::Admin)) => {
                self.set_role(user, MemberRole::Member, changed);
            }
            (_, is) => return Err(format!("it may not be done to somebody who is {is:?}")),
        }
        Ok(())
    }

    fn leave(&mut self, author: usize, seq: u64, changed: &mut Vec<usize>) {
        let owned = self.role(author) == Some(MemberRole::Owner);
        self.go(author, seq, changed);
        let heir = |role| self.people.iter().find(|person| person.role == Some(role));
        let heir = heir(MemberRole::Admin).or_else(|| heir(MemberRole::Member));
        match heir.map(|person| person.user) {
            Some(user) if owned => self.set_role(user, MemberRole::Owner, changed),
            Some(_) => {}
            None => self.dissolved = owned || self.people.iter().all(|p| p.role.is_none()),
        }
    }

    fn dissolve(&mut self, seq: u64, changed: &mut Vec<usize>) {
        let all: Vec<usize> =
            self.people.iter().filter(|p| p.role.is_some()).map(|p| p.user).collect();
        for user in all {
            self.go(user, seq, changed);
        }
        self.dissolved = true;
    }
}
