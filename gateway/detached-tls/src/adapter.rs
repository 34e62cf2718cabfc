//! The part of rustls' API that moves in 0.24: driving an unbuffered connection, and taking it
//! apart. Everything else of this crate knows rustls by its configurations only.

use crate::handshake::HandshakeError;
use rustls::client::UnbufferedClientConnection;
use rustls::crypto::cipher::{AeadKey, Iv};
use rustls::kernel::KernelConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, UnbufferedStatus};
use rustls::{ClientConfig, ConnectionTrafficSecrets, HandshakeKind, ServerConfig};
use std::sync::Arc;

pub(crate) type ClientKernel = KernelConnection<rustls::client::ClientConnectionData>;

/// A connection of rustls, either side.
pub(crate) enum Connection {
    Server(UnbufferedServerConnection),
    Client(UnbufferedClientConnection),
}

/// What a step came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// There is more to do with the same bytes.
    Again,
    /// The next record is needed.
    NeedsMore,
    /// The handshake is done and all of it was said.
    Ready,
}

/// Keys of one direction as rustls has them.
pub(crate) struct Direction {
    pub(crate) sequence: u64,
    pub(crate) key: AeadKey,
    pub(crate) iv: Iv,
    /// Whether it is AES-128-GCM; else it is ChaCha20-Poly1305.
    pub(crate) is_aes: bool,
}

/// A connection taken apart.
pub(crate) struct Parts {
    pub(crate) send: Direction,
    pub(crate) receive: Direction,
    /// Of a client: what understands session tickets.
    pub(crate) kernel: Option<Box<ClientKernel>>,
}

macro_rules! step {
    ($connection:expr, $input:expr, $output:expr) => {{
        let UnbufferedStatus { discard, state } = $connection.process_tls_records($input);
        let step = match state {
            Err(error) => Err(HandshakeError::Tls(error)),
            Ok(ConnectionState::EncodeTlsData(data)) => encode(data, $output).map(|()| Step::Again),
            Ok(ConnectionState::TransmitTlsData(transmitted)) => {
                transmitted.done();
                Ok(Step::Again)
            }
            Ok(ConnectionState::BlockedHandshake) => Ok(Step::NeedsMore),
            Ok(ConnectionState::WriteTraffic(_)) => Ok(Step::Ready),
            Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => {
                Err(HandshakeError::PeerClosed)
            }
            // Early data is refused, and data is never shown to rustls.
            Ok(ConnectionState::ReadEarlyData(_) | ConnectionState::ReadTraffic(_)) | Ok(_) => {
                Err(HandshakeError::Internal("rustls is in a state that cannot be"))
            }
        };
        (discard, step)
    }};
}

impl Connection {
    pub(crate) fn server(config: &Arc<ServerConfig>) -> Result<Self, HandshakeError> {
        UnbufferedServerConnection::new(Arc::clone(config))
            .map(Self::Server)
            .map_err(HandshakeError::Tls)
    }

    pub(crate) fn client(
        config: &Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<Self, HandshakeError> {
        UnbufferedClientConnection::new(Arc::clone(config), name)
            .map(Self::Client)
            .map_err(HandshakeError::Tls)
    }

    /// One step of the handshake. Gives how many bytes of the input are not needed any more.
    pub(crate) fn step(
        &mut self,
        input: &mut [u8],
        output: &mut Vec<u8>,
    ) -> (usize, Result<Step, HandshakeError>) {
        match self {
            Self::Server(connection) => step!(connection, input, output),
            Self::Client(connection) => step!(connection, input, output),
        }
    }

    /// Whether there is something to send that [`Connection::step`] gives next.
    pub(crate) fn has_output(&self) -> bool {
        match self {
            Self::Server(connection) => connection.wants_write(),
            Self::Client(connection) => connection.wants_write(),
        }
    }

    /// The name of the protocol that was agreed on.
    pub(crate) fn protocol(&self) -> Option<Box<[u8]>> {
        let name = match self {
            Self::Server(connection) => connection.alpn_protocol(),
            Self::Client(connection) => connection.alpn_protocol(),
        };
        name.map(Box::from)
    }

    pub(crate) fn is_resumed(&self) -> bool {
        let kind = match self {
            Self::Server(connection) => connection.handshake_kind(),
            Self::Client(connection) => connection.handshake_kind(),
        };
        kind == Some(HandshakeKind::Resumed)
    }

    /// Takes a connection apart whose handshake is done.
    pub(crate) fn into_parts(self) -> Result<Parts, HandshakeError> {
        let (secrets, kernel) = match self {
            Self::Server(connection) => {
                let (secrets, _) =
                    connection.dangerous_into_kernel_connection().map_err(HandshakeError::Tls)?;
                (secrets, None)
            }
            Self::Client(connection) => {
                let (secrets, kernel) =
                    connection.dangerous_into_kernel_connection().map_err(HandshakeError::Tls)?;
                (secrets, Some(Box::new(kernel)))
            }
        };
        Ok(Parts { send: direction(secrets.tx)?, receive: direction(secrets.rx)?, kernel })
    }
}

fn direction(
    (sequence, secrets): (u64, ConnectionTrafficSecrets),
) -> Result<Direction, HandshakeError> {
    match secrets {
        ConnectionTrafficSecrets::Aes128Gcm { key, iv } => {
            Ok(Direction { sequence, key, iv, is_aes: true })
        }
        ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => {
            Ok(Direction { sequence, key, iv, is_aes: false })
        }
        ConnectionTrafficSecrets::Aes256Gcm { .. } | _ => {
            Err(HandshakeError::Internal("a cipher was agreed on that was not offered"))
        }
    }
}

/// Appends a record of the handshake.
fn encode<D>(mut data: EncodeTlsData<'_, D>, output: &mut Vec<u8>) -> Result<(), HandshakeError> {
    let needed = match data.encode(&mut []) {
        Ok(_) => return Ok(()),
        Err(EncodeError::InsufficientSize(needed)) => needed.required_size,
        Err(EncodeError::AlreadyEncoded) => {
            return Err(HandshakeError::Internal("rustls says the same twice"));
        }
    };
    let start = output.len();
    output.resize(start + needed, 0);
    match data.encode(output.get_mut(start..).unwrap_or_default()) {
        Ok(written) => {
            output.truncate(start + written);
            Ok(())
        }
        Err(_) => Err(HandshakeError::Internal("rustls needs more room than it said")),
    }
}
