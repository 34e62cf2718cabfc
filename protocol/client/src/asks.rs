//! Questions: asked in order, repeated until they are answered. What only reads is pipelined; what
//! changes something goes one at a time, so that a later value never lands before an earlier one.

use crate::answer::Answer;
use crate::connection::{class, code};
use crate::event::{Event, RefusedAsk};
use crate::interface::PersistId;
use crate::limits::{ASKS_IN_FLIGHT_MAX, ASKS_MAX, CREATIONS_MAX};
use crate::question;
use crate::record::Change;
use crate::requests::Asked;
use crate::session::Session;
use roost_protocol::ids::Sequence;
use roost_protocol::request::{Ask, History};
use roost_protocol::time::Instant;
use roost_protocol::wire::{
    self, ErrorClass, ErrorCode, client_frame::Body, server_frame::Body as Told,
};
use std::collections::VecDeque;

/// A question without an answer.
#[derive(Debug)]
struct Question {
    /// Ours, while the app runs.
    name: u64,
    /// The app's.
    tag: u64,
    body: Body,
    /// It may leave once this record is confirmed.
    persist: PersistId,
    /// Asked on this connection.
    flying: bool,
    /// Asked on some connection of this run.
    asked: bool,
    not_before: Option<Instant>,
}

/// All of them, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Questions {
    queue: VecDeque<Question>,
    named: u64,
}

impl Questions {
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    /// The connection is gone: all are asked again.
    pub(crate) fn disconnected(&mut self) {
        for question in &mut self.queue {
            question.flying = false;
            question.not_before = None;
        }
    }

    /// When one that has to wait may be asked again.
    pub(crate) fn deadline(&self, now: Instant) -> Option<Instant> {
        let waiting = self.queue.iter().filter(|question| !question.flying);
        waiting.filter_map(|question| question.not_before).filter(|at| *at > now).min()
    }

    fn place(&self, name: u64) -> Option<usize> {
        self.queue.iter().position(|question| question.name == name)
    }

    /// The next one that may leave; it counts as asked from here on.
    fn next(&mut self, now: Instant, confirmed: PersistId) -> Option<(u64, Body)> {
        if self.queue.iter().filter(|question| question.flying).count() >= ASKS_IN_FLIGHT_MAX {
            return None;
        }
        let mut changing = false;
        let ready = self.queue.iter_mut().find(|question| {
            let waits_for_one = changing && question::changes(&question.body);
            changing |= question::changes(&question.body);
            let early = question.not_before.is_some_and(|at| at > now);
            !(question.flying || waits_for_one || early || question.persist > confirmed)
        })?;
        (ready.flying, ready.asked) = (true, true);
        ready.not_before = None;
        Some((ready.name, ready.body.clone()))
    }
}

impl Session {
    pub(crate) fn queue_ask(&mut self, ask: Ask, tag: u64) {
        self.queue_question(question::ask(ask), tag);
    }

    pub(crate) fn queue_look_up(&mut self, history: History, tag: u64) {
        self.queue_question(Body::History(question::history(history)), tag);
    }

    fn queue_question(&mut self, body: Body, tag: u64) {
        if let Some(refused) = self.cannot_queue_question(&body) {
            return self.tell_now(Event::Answer { tag, answer: Box::new(Err(refused)) });
        }
        let mut persist = PersistId::default();
        if let Body::CreateGroup(group) = &body {
            persist = self.current_record();
            self.change(Change::Creating { tag, group: group.clone() });
        }
        self.add_question(body, tag, persist);
    }

    fn add_question(&mut self, body: Body, tag: u64, persist: PersistId) {
        self.questions.named = self.questions.named.saturating_add(1);
        let name = self.questions.named;
        let (flying, asked, not_before) = (false, false, None);
        let question = Question { name, tag, body, persist, flying, asked, not_before };
        self.questions.queue.push_back(question);
    }

    /// New groups that an earlier run of the app asked for.
    pub(crate) fn restore_questions(&mut self) {
        for (tag, group) in self.state.creating.values().cloned().collect::<Vec<_>>() {
            self.add_question(Body::CreateGroup(group), tag, PersistId::default());
        }
    }

    fn cannot_queue_question(&self, body: &Body) -> Option<RefusedAsk> {
        let no = |code, text| Some(RefusedAsk::new(code, text));
        let reads = matches!(body, Body::History(_));
        if self.config.role == wire::Role::Extension && !reads {
            return no(ErrorCode::ErrorForbidden, "an extension only fetches and acknowledges");
        }
        if let Body::CreateGroup(group) = body {
            if self.state.creating.contains_key(&group.nonce) {
                return no(ErrorCode::ErrorInvalidRequest, "this group is being created");
            }
            if self.state.creating.len() >= CREATIONS_MAX {
                return no(ErrorCode::ErrorTooManyInFlight, "too many new groups wait");
            }
        }
        if self.questions.len() >= ASKS_MAX {
            return no(ErrorCode::ErrorTooManyInFlight, "too many questions of this device wait");
        }
        self.cannot_ask(body.clone())
    }

    pub(crate) fn pump_questions(&mut self) {
        while self.connection.leaving.is_none() {
            let next = self.questions.next(self.now.monotonic, self.persist.confirmed);
            let Some((name, body)) = next else { return };
            self.ask(Asked::Question { name }, body);
        }
    }

    /// A question was answered.
    pub(crate) fn question_answered(&mut self, name: u64, told: Told) {
        let Some(place) = self.questions.place(name) else { return };
        if let Told::Error(error) = told {
            return self.question_refused(place, &error);
        }
        let asked = self.questions.queue.get(place).map(|question| &question.body);
        match asked.and_then(|asked| Answer::to(asked, told)) {
            Some(answer) => self.finish_question(place, Ok(answer)),
            None => self.broken(),
        }
    }

    fn question_refused(&mut self, place: usize, error: &wire::Error) {
        match class(error) {
            ErrorClass::ClassRetry => {
                let until = self.now.monotonic + self.backoff.retry(error.retry_after_ms);
                if let Some(question) = self.questions.queue.get_mut(place) {
                    question.flying = false;
                    question.not_before = Some(until);
                }
            }
            ErrorClass::ClassNever => {
                let first_seq = Sequence(error.first_seq);
                let refused = RefusedAsk { first_seq, ..RefusedAsk::new(code(error), &error.text) };
                self.finish_question(place, Err(refused));
            }
            ErrorClass::ClassReconnect | ErrorClass::ClassNewToken => self.refused(error),
        }
    }

    fn finish_question(&mut self, place: usize, answer: Result<Answer, RefusedAsk>) {
        let Some(Question { tag, body, .. }) = self.questions.queue.remove(place) else { return };
        if let Body::CreateGroup(group) = &body {
            self.change(Change::Created { nonce: group.nonce.clone() });
        }
        if let Ok(answer) = &answer {
            self.learn(&body, answer);
        }
        self.tell(Event::Answer { tag, answer: Box::new(answer) });
    }

    /// Another store: what was changed in the old one, perhaps, is not changed again unasked.
    pub(crate) fn drop_changes(&mut self) {
        let done = |question: &Question| {
            let creates = matches!(question.body, Body::CreateGroup(_));
            question.asked && question::changes(&question.body) && !creates
        };
        while let Some(place) = self.questions.queue.iter().position(done) {
            let text = "the server's store is another one: look, and ask again";
            self.finish_question(place, Err(RefusedAsk::new(ErrorCode::ErrorUnspecified, text)));
        }
    }
}
