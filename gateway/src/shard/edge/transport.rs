//! What lies between the socket's bytes and frames: nothing, or TLS.
//!
//! The record layer is behind this seam, so that it can be replaced by one that keeps only keys
//! and counters once the handshake is done.

use rustls::{ServerConfig, ServerConnection};
use std::io::{Read, Write};
use std::sync::Arc;

/// Records that cannot be opened; the connection ends after the alert is out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TlsFailed;

/// One connection's TLS state.
#[derive(Debug)]
pub(crate) struct Tls {
    connection: ServerConnection,
}

impl Tls {
    /// A connection that waits for the `ClientHello`.
    pub(crate) fn new(config: Arc<ServerConfig>) -> Option<Self> {
        ServerConnection::new(config).ok().map(|connection| Self { connection })
    }

    /// Takes bytes of the socket; appends what they say to `plain`.
    pub(crate) fn open(&mut self, mut bytes: &[u8], plain: &mut Vec<u8>) -> Result<(), TlsFailed> {
        while !bytes.is_empty() {
            if self.connection.read_tls(&mut bytes).map_err(|_| TlsFailed)? == 0 {
                return Err(TlsFailed);
            }
            let state = self.connection.process_new_packets().map_err(|_| TlsFailed)?;
            let wanted = state.plaintext_bytes_to_read();
            if wanted > 0 {
                let start = plain.len();
                plain.resize(start + wanted, 0);
                self.connection.reader().read_exact(&mut plain[start..]).map_err(|_| TlsFailed)?;
            }
            if state.peer_has_closed() {
                return Err(TlsFailed);
            }
        }
        Ok(())
    }

    /// Seals what is to be sent, and whatever the handshake has to say; appends it to `sealed`.
    pub(crate) fn seal(&mut self, plain: &[u8], sealed: &mut Vec<u8>) -> Result<(), TlsFailed> {
        for part in plain.chunks(16 * 1024) {
            self.connection.writer().write_all(part).map_err(|_| TlsFailed)?;
            self.drain(sealed)?;
        }
        self.drain(sealed)
    }

    /// Says goodbye inside TLS.
    pub(crate) fn close_notify(&mut self, sealed: &mut Vec<u8>) {
        self.connection.send_close_notify();
        if self.drain(sealed).is_err() {
            // Nothing more is owed to a peer that is being left.
            sealed.clear();
        }
    }

    fn drain(&mut self, sealed: &mut Vec<u8>) -> Result<(), TlsFailed> {
        while self.connection.wants_write() {
            self.connection.write_tls(sealed).map_err(|_| TlsFailed)?;
        }
        Ok(())
    }

    /// Whether the handshake has something to say.
    pub(crate) fn wants_write(&self) -> bool {
        self.connection.wants_write()
    }
}
