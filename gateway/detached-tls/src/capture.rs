//! The one hook through which rustls tells traffic secrets, which `KeyUpdate` needs.
//!
//! rustls gives keys and IVs of a finished handshake, but not the secrets that the next ones follow
//! from; it tells those to a `KeyLog` only. Ours keeps them for the handshake that is being driven
//! on the same thread at that moment, and for nobody else: it writes nothing anywhere.

use crate::secrets::Secret;
use rustls::KeyLog;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::cell::RefCell;
use std::sync::Arc;

const OF_SERVER: &str = "SERVER_TRAFFIC_SECRET_0";
const OF_CLIENT: &str = "CLIENT_TRAFFIC_SECRET_0";

/// What a handshake said so far that is needed after it.
#[derive(Default)]
pub(crate) struct Captured {
    pub(crate) server: Option<Secret>,
    pub(crate) client: Option<Secret>,
    /// The name that the client asked for.
    pub(crate) server_name: Option<Box<str>>,
}

thread_local! {
    static CAPTURED: RefCell<Option<Captured>> = const { RefCell::new(None) };
}

/// Lets rustls work on a handshake, and keeps what it tells meanwhile.
pub(crate) fn during<T>(captured: &mut Captured, work: impl FnOnce() -> T) -> T {
    CAPTURED.set(Some(std::mem::take(captured)));
    let outcome = work();
    *captured = CAPTURED.take().unwrap_or_default();
    outcome
}

/// See the module's comment.
#[derive(Debug)]
pub(crate) struct Hook;

impl KeyLog for Hook {
    fn log(&self, label: &str, _client_random: &[u8], secret: &[u8]) {
        let Ok(secret) = secret.try_into().map(Secret) else { return };
        CAPTURED.with_borrow_mut(|captured| {
            let Some(captured) = captured else { return };
            match label {
                OF_SERVER => captured.server = Some(secret),
                OF_CLIENT => captured.client = Some(secret),
                _ => {}
            }
        });
    }

    fn will_log(&self, label: &str) -> bool {
        matches!(label, OF_SERVER | OF_CLIENT)
    }
}

/// A certificate resolver that lets the name that was asked for be kept: the unbuffered connection
/// of rustls does not tell it.
#[derive(Debug)]
pub(crate) struct Named(pub(crate) Arc<dyn ResolvesServerCert>);

impl ResolvesServerCert for Named {
    fn resolve(&self, client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        CAPTURED.with_borrow_mut(|captured| {
            if let Some(captured) = captured {
                captured.server_name = client_hello.server_name().map(Box::from);
            }
        });
        self.0.resolve(client_hello)
    }
}
