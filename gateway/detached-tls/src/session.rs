//! A client's session, which the caller stores until the next connection.
//!
//! rustls wants a store for all connections of a configuration. Ours holds one session, for the
//! connection that is being made on this thread at that moment.

use rustls::NamedGroup;
use rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::ServerName;
use std::cell::RefCell;
use std::fmt;

/// What resumes an earlier connection. It is good for one, with the settings it came from.
pub struct Session(Box<Tls13ClientSessionValue>);

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}

thread_local! {
    static SLOT: RefCell<Option<Session>> = const { RefCell::new(None) };
}

/// Lets rustls take a session while it makes a connection.
pub(crate) fn offering<T>(session: Option<Session>, make: impl FnOnce() -> T) -> T {
    SLOT.set(session);
    let made = make();
    SLOT.take();
    made
}

/// Lets rustls leave a session while it looks at a ticket.
pub(crate) fn taking(look: impl FnOnce() -> Option<()>) -> Option<Session> {
    SLOT.set(None);
    let outcome = look();
    let session = SLOT.take();
    outcome.and(session)
}

/// See the module's comment.
#[derive(Debug)]
pub(crate) struct OneSession;

impl ClientSessionStore for OneSession {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        SLOT.set(Some(Session(Box::new(value))));
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        SLOT.take().map(|Session(value)| *value)
    }
}
