//! What people ask for on their devices, and what becomes of it when the answer comes.

use crate::shadow::{Privacy, Setting};
use crate::simulation::Simulation;
use crate::trace::Broken;
use roost_client::{Answer, Command, Input, RefusedAsk};
use roost_protocol::ids::{ClientMessageId, ConversationId};
use roost_protocol::request::{Ask, History, HistoryFrom};
use roost_protocol::wire::ErrorCode;

/// A question, and what its answer means. `name`s are places in registers.
#[derive(Debug, Clone)]
pub(crate) enum Question {
    Create(ConversationId),
    Block {
        who: usize,
        whom: usize,
        name: usize,
    },
    Privacy {
        user: usize,
        names: Vec<(Privacy, usize)>,
    },
    Settings {
        user: usize,
        conversation: ConversationId,
        names: Vec<(Setting, usize)>,
    },
    Hide {
        user: usize,
        conversation: ConversationId,
        seqs: Vec<u64>,
    },
    Follow {
        user: usize,
        conversation: ConversationId,
        name: usize,
    },
    Lists {
        conversation: ConversationId,
        again: Option<(u64, ClientMessageId)>,
    },
    Presence {
        asked_ns: u64,
    },
    LookUp {
        conversation: ConversationId,
        from: HistoryFrom,
    },
    /// The answer is only held against the protocol.
    Other,
}

/// A question of a device.
#[derive(Debug, Clone)]
pub(crate) struct Put {
    pub(crate) device: usize,
    pub(crate) question: Question,
    answered: bool,
}

impl Simulation {
    /// A device asks.
    pub(crate) fn ask(&mut self, index: usize, ask: Ask, question: Question) -> Result<(), Broken> {
        let tag = self.put(index, question, &format!("{ask:?}"));
        self.feed(index, Input::Command(Command::Ask { ask, tag }))
    }

    /// Whether a device waits for no answer.
    pub(crate) fn is_answered(&self, index: usize) -> bool {
        self.questions.iter().all(|put| put.device != index || put.answered)
    }

    /// A device looks at a page.
    pub(crate) fn look_up(
        &mut self,
        index: usize,
        history: History,
        question: Question,
    ) -> Result<(), Broken> {
        let tag = self.put(index, question, &format!("{history:?}"));
        self.feed(index, Input::Command(Command::LookUp { history, tag }))
    }

    fn put(&mut self, device: usize, question: Question, words: &str) -> u64 {
        let tag = self.questions.len();
        let name = self.devices[device].name.clone();
        self.tell(|| format!("{name} asks ?{tag}: {words}"));
        self.questions.push(Put { device, question, answered: false });
        u64::try_from(tag).unwrap_or(u64::MAX)
    }

    /// An answer came.
    pub(crate) fn answered(
        &mut self,
        index: usize,
        tag: u64,
        answer: Result<Answer, RefusedAsk>,
    ) -> Result<(), Broken> {
        let name = self.devices[index].name.clone();
        self.tell(|| format!("{name} is answered ?{tag}: {answer:?}"));
        let place = usize::try_from(tag).unwrap_or(usize::MAX);
        let put = self.questions.get_mut(place).filter(|put| put.device == index);
        let put = put.ok_or_else(|| Broken::new(format!("{name} never asked ?{tag}")))?;
        let again = std::mem::replace(&mut put.answered, true);
        let question = put.question.clone();
        // A new group is asked for again by an app that died before it noted the answer.
        if again && !matches!(question, Question::Create(_)) {
            return Err(Broken::new(format!("{name} is answered ?{tag} twice")));
        }
        match answer {
            Ok(answer) => self.granted(index, question, &answer),
            Err(refused) => self.denied(index, question, &refused),
        }
    }

    fn granted(&mut self, index: usize, question: Question, answer: &Answer) -> Result<(), Broken> {
        let now = self.now_ns;
        match question {
            Question::Create(id) => return self.check_created(index, id, answer),
            Question::Block { who, whom, name } => {
                self.shadow.blocks.entry((who, whom)).or_default().done(name, now);
            }
            Question::Privacy { user, names } => {
                for (which, name) in names {
                    self.shadow.privacy.entry((user, which)).or_default().done(name, now);
                }
            }
            Question::Settings { user, conversation, names } => {
                for (which, name) in names {
                    let key = (user, conversation, which);
                    self.shadow.settings.entry(key).or_default().done(name, now);
                }
            }
            Question::Hide { user, conversation, seqs } => {
                let hidden = self.shadow.hidden.entry((user, conversation)).or_default();
                for seq in seqs {
                    hidden.insert(seq, true);
                }
            }
            Question::Follow { user, conversation, name } => {
                let follows = self.shadow.follows.entry((user, conversation)).or_default();
                follows.done(name, now);
            }
            Question::Lists { conversation, again } => {
                let Answer::UserDevices(lists) = answer else {
                    return Err(Broken::new("another answer than device lists"));
                };
                return self.take_lists(index, conversation, again, Some(lists));
            }
            Question::Presence { asked_ns } => {
                return self.check_presence_answer(index, answer, asked_ns);
            }
            Question::LookUp { conversation, from } => {
                return self.check_page(index, conversation, from, answer);
            }
            Question::Other => {}
        }
        Ok(())
    }

    fn denied(
        &mut self,
        index: usize,
        question: Question,
        refused: &RefusedAsk,
    ) -> Result<(), Broken> {
        use ErrorCode as E;
        let full = refused.code == E::ErrorTooManyInFlight;
        let unknown = refused.code == E::ErrorUnknownConversation;
        let fits = match &question {
            // While it is being created it is not asked for again.
            Question::Create(_) => refused.code == E::ErrorInvalidRequest,
            Question::Block { .. } | Question::Privacy { .. } | Question::Presence { .. } => false,
            Question::Settings { .. } | Question::Hide { .. } => unknown,
            Question::Follow { .. } => unknown || refused.code == E::ErrorForbidden,
            Question::Lists { .. } => unknown || refused.code == E::ErrorForbidden,
            Question::LookUp { .. } => unknown,
            Question::Other => matches!(
                refused.code,
                E::ErrorUnknownConversation
                    | E::ErrorForbidden
                    | E::ErrorNotFound
                    | E::ErrorInvalidRequest
            ),
        };
        if !fits && !full {
            let name = &self.devices[index].name;
            return Err(Broken::new(format!("{name} is refused {question:?}: {refused:?}")));
        }
        match question {
            Question::Block { who, whom, name } => {
                self.shadow.blocks.entry((who, whom)).or_default().refused(name);
            }
            Question::Privacy { user, names } => {
                for (which, name) in names {
                    self.shadow.privacy.entry((user, which)).or_default().refused(name);
                }
            }
            Question::Settings { user, conversation, names } => {
                for (which, name) in names {
                    let key = (user, conversation, which);
                    self.shadow.settings.entry(key).or_default().refused(name);
                }
            }
            Question::Hide { user, conversation, seqs } => {
                let hidden = self.shadow.hidden.entry((user, conversation)).or_default();
                hidden.retain(|seq, done| *done || !seqs.contains(seq));
            }
            Question::Follow { user, conversation, name } => {
                self.shadow.follows.entry((user, conversation)).or_default().refused(name);
            }
            Question::Lists { conversation, again } => {
                return self.take_lists(index, conversation, again, None);
            }
            Question::Create(_)
            | Question::Presence { .. }
            | Question::LookUp { .. }
            | Question::Other => {}
        }
        Ok(())
    }
}
