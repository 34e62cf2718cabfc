//! Bytes to frames, frames to whoever waits for them.

use crate::connection::class;
use crate::event::{DisconnectReason, Event};
use crate::limits;
use crate::requests::Asked;
use crate::session::{Link, Session};
use prost::Message;
use roost_protocol::ids::ConversationId;
use roost_protocol::limits::FRAME_MAX_BYTES;
use roost_protocol::wire::{self, ErrorClass, ErrorCode, server_frame::Body};

impl Session {
    pub(crate) fn received(&mut self, bytes: &[u8]) {
        if !matches!(self.link, Link::Greeting | Link::Welcomed) {
            return;
        }
        self.connection.last_heard = self.now.monotonic;
        self.connection.reader.push(bytes);
        // A frame may end the connection; the rest of the bytes then means nothing.
        while matches!(self.link, Link::Greeting | Link::Welcomed) {
            let frame = match self.connection.reader.next_frame(FRAME_MAX_BYTES) {
                Ok(None) => return,
                Ok(Some(&[])) => continue,
                Ok(Some(content)) => wire::ServerFrame::decode(content).ok(),
                Err(_) => None,
            };
            match frame {
                Some(frame) => self.frame(frame),
                None => return self.broken(),
            }
        }
    }

    fn frame(&mut self, frame: wire::ServerFrame) {
        // What a newer server says beyond this version is ignored.
        let Some(body) = frame.body else { return };
        if frame.request_id == 0 {
            return self.push(body);
        }
        let Some(asked) = self.connection.answered(frame.request_id) else { return };
        match (asked, body) {
            (Asked::Hello, Body::Welcome(welcome)) => self.welcome(&welcome),
            (Asked::Hello, Body::Error(error)) => self.refused(&error),
            (Asked::Refresh, Body::Refreshed(done)) => {
                self.keep_ticket(&done.ticket, done.ticket_expires_ms);
            }
            (Asked::Refresh, Body::Error(error)) => self.refresh_refused(&error),
            (Asked::Sync { barrier }, Body::Sync(reply)) => self.synced(barrier, reply),
            (Asked::Sync { .. }, Body::Error(error)) => self.sync_refused(&error),
            (Asked::Pull(pull), Body::History(reply)) => self.page(&pull, reply),
            (Asked::Pull(pull), Body::Error(error)) => self.page_refused(&pull, &error),
            (Asked::Question { name }, body) => self.question_answered(name, body),
            (Asked::Send { peer, id }, Body::Send(reply)) => {
                self.send_answered(&peer, id, &reply);
            }
            (Asked::Send { peer, id }, Body::Error(error)) => {
                self.send_refused(&peer, id, &error);
            }
            (Asked::Check { conversation }, Body::History(reply)) => {
                self.checked(conversation, reply.head);
            }
            (Asked::Check { conversation }, Body::Error(error)) => {
                self.check_refused(conversation, &error);
            }
            (_, _) => self.broken(),
        }
    }

    /// What nobody asked for.
    fn push(&mut self, body: Body) {
        match (self.link, body) {
            (Link::Welcomed, Body::Error(error)) if is_about_a_notice(&error) => {
                self.notice_refused(&error);
            }
            (_, Body::Error(error)) => self.refused(&error),
            (Link::Greeting, Body::Welcome(welcome)) => {
                self.connection.requests.clear();
                self.welcome(&welcome);
            }
            (Link::Greeting, Body::GoAway(go_away)) => {
                let delay = limits::BACKOFF_MIN.max(roost_protocol::time::Duration::from_ms(
                    go_away.reconnect_after_ms.into(),
                ));
                let alternative = go_away.alternative;
                self.leave(DisconnectReason::GoAway { alternative }, Some(delay));
            }
            (Link::Welcomed, Body::Message(message)) => self.pushed(message),
            (Link::Welcomed, Body::Receipts(receipts)) => self.receipts(receipts),
            (Link::Welcomed, Body::EntryChanged(changed)) => {
                for entry in changed.entries {
                    self.entry(entry);
                }
            }
            (Link::Welcomed, Body::News(news)) => self.news(&news),
            (Link::Welcomed, Body::Typing(typing)) => self.typing_pushed(&typing),
            (Link::Welcomed, Body::Presence(push)) => {
                self.tell_now(Event::Presence(push.presences));
            }
            (Link::Welcomed, Body::DevicesChanged(changed)) => {
                self.tell_now(Event::DevicesChanged { version: changed.version });
            }
            (Link::Welcomed, Body::Behind(_)) => self.sync.wanted = true,
            (Link::Welcomed, Body::GoAway(go_away)) => self.go_away(go_away),
            (Link::Welcomed, Body::TokenExpiring(_)) => self.need_token(),
            (_, _) => {}
        }
    }

    fn typing_pushed(&mut self, typing: &wire::TypingPush) {
        if let Some(conversation) = ConversationId::from_slice(&typing.conversation) {
            let (member, stopped) = (typing.member, typing.stopped);
            self.tell_now(Event::Typing { conversation, member, stopped });
        }
    }

    /// A notice had no effect. Marks are said again until a Sync proves them; a watch is not proven
    /// by anything, so it is said again soon if that may help.
    fn notice_refused(&mut self, error: &wire::Error) {
        if class(error) == ErrorClass::ClassRetry {
            let after = self.backoff.retry(error.retry_after_ms);
            self.watches.refused(self.now.monotonic, after);
        }
    }
}

/// Codes below this one end the connection.
const FIRST_OF_REQUESTS: i32 = ErrorCode::ErrorUnimplemented as i32;

const fn is_about_a_notice(error: &wire::Error) -> bool {
    error.code >= FIRST_OF_REQUESTS
}
