//! What may go wrong on a connection, and the alert that says so to the peer.

use std::fmt;

/// An alert of RFC 8446, section 6, that this crate itself sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[expect(missing_docs, reason = "the names are those of RFC 8446")]
pub enum Alert {
    CloseNotify = 0,
    UnexpectedMessage = 10,
    BadRecordMac = 20,
    RecordOverflow = 22,
    IllegalParameter = 47,
    DecodeError = 50,
    InternalError = 80,
    NoApplicationProtocol = 120,
}

impl Alert {
    /// The two bytes of its message: level and description.
    pub(crate) const fn encoded(self) -> [u8; 2] {
        let level = if matches!(self, Self::CloseNotify) { 1 } else { 2 };
        [level, self as u8]
    }

    /// Its record without protection, for a peer with whom no keys are agreed on yet.
    #[must_use]
    pub const fn in_plain(self) -> [u8; 7] {
        let [level, description] = self.encoded();
        [21, 3, 3, 0, 2, level, description]
    }
}

/// A rule of RFC 8446 that a peer broke. Each ends the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Violation {
    /// A record of more than 2^14 + 256 bytes, or with more than 2^14 bytes of content.
    RecordTooLong,
    /// A record that does not open: damaged, forged, or too short to be one.
    NotAuthentic,
    /// A record without protection, where all are protected: also a late change of cipher.
    NotProtected,
    /// A record of padding only.
    NoContentType,
    /// A record of a type that nothing has, or that has no place here.
    UnknownContent,
    /// An alert or a handshake message of no bytes.
    Empty,
    /// An alert, or a message of the handshake, whose length is wrong.
    Malformed,
    /// A new key is announced, and the record goes on, or the message in the next one.
    KeyUpdateNotAlone,
    /// `KeyUpdate` asks for something that does not exist.
    KeyUpdateRequest,
    /// Too many new keys without data between.
    TooManyKeyUpdates,
    /// Too many records without data between.
    TooManyEmptyRecords,
    /// A message of the handshake that has no place after it: `ClientHello` would be a
    /// renegotiation.
    UnexpectedHandshake,
}

impl Violation {
    /// What the peer is told.
    #[must_use]
    pub const fn alert(self) -> Alert {
        match self {
            Self::RecordTooLong => Alert::RecordOverflow,
            Self::NotAuthentic => Alert::BadRecordMac,
            Self::Malformed => Alert::DecodeError,
            Self::KeyUpdateRequest => Alert::IllegalParameter,
            Self::NotProtected
            | Self::NoContentType
            | Self::UnknownContent
            | Self::Empty
            | Self::KeyUpdateNotAlone
            | Self::TooManyKeyUpdates
            | Self::TooManyEmptyRecords
            | Self::UnexpectedHandshake => Alert::UnexpectedMessage,
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RecordTooLong => "a record is longer than TLS allows",
            Self::NotAuthentic => "a record does not open",
            Self::NotProtected => "a record is not protected",
            Self::NoContentType => "a record has no content type",
            Self::UnknownContent => "a record is of no known type",
            Self::Empty => "an alert or handshake record is empty",
            Self::Malformed => "an alert or handshake message has the wrong length",
            Self::KeyUpdateNotAlone => "a KeyUpdate is not alone in its record",
            Self::KeyUpdateRequest => "a KeyUpdate asks for what does not exist",
            Self::TooManyKeyUpdates => "too many KeyUpdates without data between",
            Self::TooManyEmptyRecords => "too many records without data",
            Self::UnexpectedHandshake => "a handshake message comes after the handshake",
        })
    }
}

/// Why no more is opened on a connection. It cannot go on; what to tell the peer is in
/// [`OpenError::alert`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenError {
    /// The peer broke a rule.
    Violation(Violation),
    /// The peer ended the connection with this alert.
    Peer(u8),
    /// The cipher library failed, or a counter is used up: neither happens by anybody's doing.
    Internal,
}

impl OpenError {
    /// What the peer is to be told; none when it is the one who said so.
    #[must_use]
    pub const fn alert(self) -> Option<Alert> {
        match self {
            Self::Violation(violation) => Some(violation.alert()),
            Self::Peer(_) => None,
            Self::Internal => Some(Alert::InternalError),
        }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Violation(violation) => violation.fmt(f),
            Self::Peer(description) => write!(f, "the peer sent alert {description}"),
            Self::Internal => f.write_str("the cipher library failed"),
        }
    }
}

impl std::error::Error for OpenError {}

impl From<Violation> for OpenError {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}
