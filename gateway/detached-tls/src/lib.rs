//! TLS 1.3 for very many mostly idle connections, both sides of it.
//!
//! rustls does the handshake ([`Handshake`]); then all its objects are dropped, and what stays is a
//! [`Detached`]: traffic secrets, keys, IVs and sequence numbers, 144 bytes without a heap. It
//! seals and opens records with the AEAD of aws-lc-rs, which rustls uses too. Buffers are the
//! caller's.
//!
//! ```text
//!   bytes in ─▶ Handshake ─▶ bytes out         one record at a time, through adapter.rs
//!                  │ finish: compares the keys it derives with those rustls has
//!                  ▼
//!   bytes in ─▶ Detached ─▶ plain text         open: from the receive buffer into the caller's
//!   plain ────▶          ─▶ bytes out          seal: from the caller's into the send buffer
//! ```
//!
//! What must hold, and where it is seen to:
//!
//! 1. A nonce is used once: the sequence number is used up before a record exists, never goes back,
//!    and a [`Detached`] is not `Clone`. What was sealed is sent as it is, or never; a failed write
//!    sends the same bytes again. (`detached.rs`)
//! 2. Records are sent in the order they were sealed in, and opened in the order they come in. The
//!    first that does not open ends the connection. (`opening.rs`)
//! 3. AES-GCM keys seal at most 2^24 records; then they are replaced. A peer that has sealed as
//!    many is asked to. (`detached.rs`)
//! 4. Secrets are overwritten when they are replaced and when a connection ends. (`secrets.rs`)
//! 5. TLS 1.3 with SHA-256 only, no early data, no client certificates after the handshake.
//!    (`settings.rs`)
//!
//! It must never know: sockets, clocks, threads. Randomness is rustls' own. `tests/it` lets rustls
//! and this crate talk to each other in both roles; the gateway's tests do that with OpenSSL and
//! Python.

mod adapter;
mod alert;
mod capture;
mod certificates;
mod detached;
mod handshake;
mod opening;
mod record;
mod secrets;
mod session;
mod settings;
mod tickets;

pub use alert::{Alert, OpenError, Violation};
pub use certificates::Certificate;
pub use detached::{Detached, SealError};
pub use handshake::{Established, Handshake, HandshakeError, Progress, TicketTaker};
pub use record::{OVERHEAD_BYTES, PLAINTEXT_MAX_BYTES, RECORD_MAX_BYTES, has_whole_record};
pub use secrets::Suite;
pub use session::Session;
pub use settings::{ClientCertificates, ClientSettings, ServerSettings, SettingsError};
pub use tickets::{TICKET_KEY_BYTES, TicketKey, TicketKeys, Tickets};
