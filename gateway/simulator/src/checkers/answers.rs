//! Answers say what is true: a group asked for twice is one, a page is the log, presence is of who
//! may be seen.

use crate::simulation::Simulation;
use crate::trace::Broken;
use roost_client::Answer;
use roost_protocol::ids::{ConversationId, KeyKind, MessageId};
use roost_protocol::request::HistoryFrom;
use roost_protocol::wire;

impl Simulation {
    /// A group is there.
    pub(crate) fn check_created(
        &mut self,
        index: usize,
        id: ConversationId,
        answer: &Answer,
    ) -> Result<(), Broken> {
        let name = &self.devices[index].name;
        if let Answer::GroupCreated { conversation, head } = answer
            && *conversation == id
            && head.0 > 0
        {
            if let Some(creation) = self.shadow.groups.get_mut(&id) {
                creation.answered = true;
            }
            return Ok(());
        }
        Err(Broken::new(format!("{name} asked for {id} and is told {answer:?}")))
    }

    pub(crate) fn check_presence_answer(
        &mut self,
        index: usize,
        answer: &Answer,
        asked_ns: u64,
    ) -> Result<(), Broken> {
        let Answer::Presence(reply) = answer else {
            return Err(Broken::new("another answer than presence"));
        };
        for presence in &reply.presences {
            let of = self.people.find(&presence.user);
            let of = of.ok_or_else(|| Broken::new("the presence of an unknown user"))?;
            self.check_presence(index, of, presence, asked_ns)?;
        }
        Ok(())
    }

    /// A page: what is in it, its order, its bounds.
    pub(crate) fn check_page(
        &mut self,
        index: usize,
        id: ConversationId,
        from: HistoryFrom,
        answer: &Answer,
    ) -> Result<(), Broken> {
        let Answer::History(page) = answer else {
            return Err(Broken::new("another answer than a page"));
        };
        let (user, name) = (self.devices[index].user, self.devices[index].name.clone());
        let now_ms = self.now().wall.ms;
        let seqs: Vec<u64> = page.messages.iter().map(|message| message.seq).collect();
        let up = matches!(from, HistoryFrom::After(_) | HistoryFrom::AfterTime(_));
        let rises = |(one, other): (&u64, &u64)| if up { one < other } else { one > other };
        let ordered = seqs.iter().zip(seqs.iter().skip(1)).all(rises);
        let inside = |message: &wire::Message| match from {
            HistoryFrom::Newest => true,
            HistoryFrom::Before(seq) => message.seq < seq.0,
            HistoryFrom::After(seq) => message.seq > seq.0,
            HistoryFrom::BeforeTime(0) | HistoryFrom::AfterTime(0) => true,
            HistoryFrom::BeforeTime(ms) => MessageId(message.message_id).wall_ms() < ms,
            // Of a time to come it is not known what will have been said.
            HistoryFrom::AfterTime(ms) if ms > now_ms => true,
            HistoryFrom::AfterTime(ms) => MessageId(message.message_id).wall_ms() >= ms,
        };
        let below = seqs.iter().all(|seq| *seq <= page.head);
        if !ordered || !below || !page.messages.iter().all(inside) {
            let head = page.head;
            return Err(Broken::new(format!("{name} is given {seqs:?} of {head} for {from:?}")));
        }
        // In a direct conversation nothing is left out.
        let holes = seqs.iter().zip(seqs.iter().skip(1)).any(|(a, b)| a.abs_diff(*b) != 1);
        if holes && id.kind() == KeyKind::Direct {
            return Err(Broken::new(format!("{name} is given {seqs:?}, with holes")));
        }
        for message in &page.messages {
            self.check_given(user, &name, id, message)?;
        }
        Ok(())
    }
}
