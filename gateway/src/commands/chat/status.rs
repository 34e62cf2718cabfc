//! How a chat stands with its server, and when it is over.

use super::ChatError;
use roost_protocol::time::{Duration, Instant};

/// A chat with nothing to do but without a connection waits so much longer before it leaves.
const OFFLINE_GRACE: Duration = Duration::from_seconds(60);

/// Whether there is a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    /// Not yet in this run.
    Never,
    /// Welcomed.
    Connected,
    /// Not any more.
    Lost,
}

/// Whether the person wants to leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// No.
    No,
    /// Once everything is answered.
    WhenAnswered,
    /// At once.
    Now,
}

/// How a chat stands.
#[derive(Debug)]
pub(super) struct Status {
    presence: Presence,
    last_activity: Instant,
    pub(super) ending: Ending,
    /// The session has given up the connection; nothing of it may be fed any more.
    pub(super) abandoned: bool,
    /// Something may be left to read, or to write, though the socket is quiet.
    pub(super) more: bool,
    /// In a row.
    pub(super) tokens_refused: u32,
    pub(super) lines_refused: u64,
    /// What the server said when it refused us: code and text.
    pub(super) last_refusal: Option<(String, String)>,
    pub(super) last_failure: Option<std::io::Error>,
    /// Why it has to end.
    pub(super) failure: Option<ChatError>,
}

impl Status {
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            presence: Presence::Never,
            last_activity: now,
            ending: Ending::No,
            abandoned: false,
            more: false,
            tokens_refused: 0,
            lines_refused: 0,
            last_refusal: None,
            last_failure: None,
            failure: None,
        }
    }

    pub(super) fn is_connected(&self) -> bool {
        self.presence == Presence::Connected
    }

    pub(super) fn was_connected(&self) -> bool {
        self.presence != Presence::Never
    }

    /// The server has welcomed us.
    pub(super) const fn connected(&mut self, now: Instant) {
        self.presence = Presence::Connected;
        self.tokens_refused = 0;
        self.last_activity = now;
    }

    /// There is no connection, or still none.
    pub(super) fn disconnected(&mut self, now: Instant) {
        if self.is_connected() {
            self.presence = Presence::Lost;
            self.last_activity = now;
        }
    }

    /// Something happened.
    pub(super) const fn active(&mut self, now: Instant) {
        self.last_activity = now;
    }

    /// Whether the person wanted to leave and may.
    pub(super) const fn is_over(&self, unanswered: usize) -> bool {
        match self.ending {
            Ending::No => false,
            Ending::WhenAnswered => unanswered == 0,
            Ending::Now => true,
        }
    }

    /// When it is time to leave after being idle for so long, if nothing happens until then.
    pub(super) fn leaves_at(
        &self,
        idle: Duration,
        unanswered: usize,
        session_is_idle: bool,
    ) -> Option<Instant> {
        if unanswered > 0 {
            return None;
        }
        if !self.is_connected() {
            return Some(self.last_activity + idle + OFFLINE_GRACE);
        }
        session_is_idle.then_some(self.last_activity + idle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Duration = Duration::from_seconds(5);

    fn at(seconds: u64) -> Instant {
        Instant::default() + Duration::from_seconds(seconds)
    }

    #[test]
    fn idle_counts_while_the_server_is_reached() {
        let mut status = Status::new(at(0));
        assert_eq!(status.leaves_at(IDLE, 0, true), Some(at(65)));
        assert!(!status.was_connected());
        status.disconnected(at(3));
        assert_eq!(status.leaves_at(IDLE, 0, true), Some(at(65)), "an attempt is no activity");
        status.connected(at(10));
        assert_eq!(status.leaves_at(IDLE, 0, true), Some(at(15)));
        assert_eq!(status.leaves_at(IDLE, 0, false), None);
        status.active(at(12));
        assert_eq!(status.leaves_at(IDLE, 0, true), Some(at(17)));
        status.disconnected(at(13));
        assert_eq!(status.leaves_at(IDLE, 0, true), Some(at(78)));
        assert!(status.was_connected() && !status.is_connected());
    }

    #[test]
    fn what_is_unanswered_keeps_it() {
        let mut status = Status::new(at(0));
        assert_eq!(status.leaves_at(IDLE, 1, false), None);
        status.connected(at(1));
        assert_eq!(status.leaves_at(IDLE, 1, true), None);
        status.ending = Ending::WhenAnswered;
        assert!(!status.is_over(1) && status.is_over(0));
        status.ending = Ending::Now;
        assert!(status.is_over(1));
    }
}
