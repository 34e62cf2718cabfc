//! What people look at: messages they read, pages, members, devices, who is there, who types.

use crate::questions::Question;
use crate::simulation::Simulation;
use crate::trace::Broken;
use roost_client::{Command, Input};
use roost_protocol::ids::{KeyKind, MessageId, Sequence};
use roost_protocol::request::{Ask, History, HistoryFrom, PresenceOf, Target};

impl Simulation {
    pub(crate) fn act_read(&mut self, index: usize) -> Result<(), Broken> {
        let through = self.history.read_through(index);
        if through.is_empty() {
            return Ok(());
        }
        let (conversation, seq) = self.workload.prng.pick(&through);
        self.read(index, conversation, seq)
    }

    pub(crate) fn act_typing(&mut self, index: usize) -> Result<(), Broken> {
        let Some(conversation) = self.some_known_place(index) else { return Ok(()) };
        let stopped = self.workload.prng.percent(20);
        let user = self.devices[index].user;
        self.shadow.typed.insert((conversation, user), self.now_ns);
        self.feed(index, Input::Command(Command::Typing { conversation, stopped }))
    }

    pub(crate) fn act_older(&mut self, index: usize) -> Result<(), Broken> {
        let Some(conversation) = self.some_known_place(index) else { return Ok(()) };
        let limit = self.workload.prng.below_u32(5) + 1;
        self.feed(index, Input::Command(Command::FetchOlder { conversation, limit }))
    }

    pub(crate) fn act_look_up(&mut self, index: usize) -> Result<(), Broken> {
        let Some(conversation) = self.some_known_place(index) else { return Ok(()) };
        let head = self.history.head(conversation);
        let seq = self.workload.prng.below(head + 3);
        let now_ms = self.now().wall.ms;
        let time = self.history.facts.get(&(conversation, seq));
        let time = time.map_or(now_ms, |fact| MessageId(fact.message_id).wall_ms());
        let time = time + self.workload.prng.below(3) - 1;
        let from = match self.workload.prng.below(5) {
            0 => HistoryFrom::Newest,
            1 => HistoryFrom::Before(Sequence(seq)),
            2 => HistoryFrom::After(Sequence(seq)),
            3 => HistoryFrom::BeforeTime(time),
            _ => HistoryFrom::AfterTime(time),
        };
        let limit = self.workload.prng.place(10) + 1;
        let history = History { target: Target::Conversation(conversation), from, limit };
        self.look_up(index, history, Question::LookUp { conversation, from })
    }

    /// Devices, members, receipts, the list, whom one blocked, what a group is called.
    pub(crate) fn act_lists(&mut self, index: usize) -> Result<(), Broken> {
        let place = self.some_known_place(index);
        let limit = self.workload.prng.place(5) + 1;
        let ask = match (self.workload.prng.below(6), place) {
            (0, _) | (_, None) => Ask::ListDevices,
            (1, _) => Ask::ListBlocks { after: None, limit },
            (2, _) => Ask::ListConversations { before: MessageId(0), limit },
            (3, Some(id)) => Ask::Describe(id),
            (4, Some(conversation)) => Ask::ListMembers { conversation, after_member: 0, limit },
            (_, Some(conversation)) => {
                let seq = Sequence(self.history.head(conversation).max(1));
                Ask::ReceiptDetails { conversation, seq, after_member: 0 }
            }
        };
        self.ask(index, ask, Question::Other)
    }

    fn some_presence(&mut self, index: usize) -> PresenceOf {
        let user = self.devices[index].user;
        let from = self.workload.prng.percent(50);
        let conversation = if from { self.some_of_kind(index, KeyKind::Group) } else { None };
        let users = self.some_users(user, 4);
        let users = users.into_iter().map(|user| self.people.id(user).clone()).collect();
        PresenceOf { users, conversation }
    }

    pub(crate) fn act_query_presence(&mut self, index: usize) -> Result<(), Broken> {
        let of = self.some_presence(index);
        let question = Question::Presence { asked_ns: self.now_ns };
        self.ask(index, Ask::QueryPresence(of), question)
    }

    pub(crate) fn act_watch_presence(&mut self, index: usize) -> Result<(), Broken> {
        let of = self.some_presence(index);
        let stop = self.workload.prng.percent(30);
        for user in &of.users {
            let Some(user) = self.people.find(user.as_str()) else { continue };
            let watched = self.devices[index].watched.entry((of.conversation, user));
            if stop {
                watched.and_modify(|stopped| *stopped = true);
            } else {
                watched.insert_entry(false);
            }
        }
        let name = self.devices[index].name.clone();
        self.tell(|| format!("{name} watches {of:?}, stop {stop}"));
        self.feed(index, Input::Command(Command::WatchPresence { of, stop }))
    }
}
