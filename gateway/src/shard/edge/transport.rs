//! What lies between the socket's bytes and frames: nothing, or TLS.
//!
//! A connection that speaks TLS has one of these in a slab. Idle, it is 144 bytes and owns no
//! buffer: see `roost_detached_tls`.

use roost_detached_tls::{Detached, Handshake, ServerSettings};

/// What is spoken inside TLS.
pub const PROTOCOL: &[u8] = b"roost/1";

/// One connection's TLS state.
#[derive(Debug)]
pub(crate) enum Tls {
    /// No whole record of it came yet: it costs no more than its place.
    Waiting {
        /// There is one now, which waits for its turn.
        queued: bool,
    },
    /// The handshake is under way.
    Handshaking {
        /// Some kilobytes.
        handshake: Box<Handshake>,
        /// Records of it wait for their turn.
        queued: bool,
    },
    /// The handshake is done.
    Open(Detached),
    /// There is nobody to talk to: what is still queued is thrown away.
    Failed,
}

impl Tls {
    /// A connection of which nothing is known.
    pub(crate) const NEW: Self = Self::Waiting { queued: false };

    /// Begins the handshake, if that has not happened.
    pub(crate) fn handshake(&mut self, settings: &ServerSettings) -> Option<&mut Handshake> {
        if matches!(self, Self::Waiting { .. }) {
            let handshake = Box::new(Handshake::server(settings).ok()?);
            *self = Self::Handshaking { handshake, queued: false };
        }
        match self {
            Self::Handshaking { handshake, queued } => {
                *queued = false;
                Some(handshake)
            }
            Self::Waiting { .. } | Self::Open(_) | Self::Failed => None,
        }
    }

    /// Whether a handshake holds memory.
    pub(crate) const fn is_handshaking(&self) -> bool {
        matches!(self, Self::Handshaking { .. })
    }

    /// Whether records wait for their turn.
    pub(crate) const fn is_queued(&self) -> bool {
        matches!(self, Self::Waiting { queued: true } | Self::Handshaking { queued: true, .. })
    }

    /// Notes that records wait for their turn. Says whether that is new.
    pub(crate) const fn queue(&mut self) -> bool {
        match self {
            Self::Waiting { queued } | Self::Handshaking { queued, .. } => {
                !std::mem::replace(queued, true)
            }
            Self::Open(_) | Self::Failed => false,
        }
    }

    /// Whether the peer is still owed a goodbye.
    pub(crate) const fn owes_goodbye(&self) -> bool {
        matches!(self, Self::Open(detached) if !detached.has_ended())
    }
}
