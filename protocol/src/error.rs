//! What a peer did wrong, and what it is told.

use crate::wire::{self, ErrorClass, ErrorCode};
use std::fmt;

/// The class of a code: what the device should do. One table for server, client and PROTOCOL.md.
#[must_use]
pub const fn class(code: ErrorCode) -> ErrorClass {
    use ErrorCode as C;
    match code {
        C::ErrorTooSlow
        | C::ErrorIdleTimeout
        | C::ErrorOverloaded
        | C::ErrorConnectionSuperseded
        | C::ErrorGoingAway
        | C::ErrorInternal
        | C::ErrorStaleConnection => ErrorClass::ClassReconnect,
        C::ErrorTokenExpired
        | C::ErrorTokenNotYetValid
        | C::ErrorTicketInvalid
        | C::ErrorTicketExpired
        | C::ErrorSignedOut => ErrorClass::ClassNewToken,
        C::ErrorSequenceConflict
        | C::ErrorGap
        | C::ErrorBusy
        | C::ErrorRateLimited
        | C::ErrorStorageFull
        | C::ErrorTooManyInFlight
        | C::ErrorDevicesChanged => ErrorClass::ClassRetry,
        C::ErrorUnspecified
        | C::ErrorBadPreface
        | C::ErrorUnsupportedVersion
        | C::ErrorFrameTooLarge
        | C::ErrorMalformedFrame
        | C::ErrorHelloExpected
        | C::ErrorHelloRepeated
        | C::ErrorReplaced
        | C::ErrorTokenMalformed
        | C::ErrorTokenTooLong
        | C::ErrorTokenAlgorithm
        | C::ErrorTokenKeyUnknown
        | C::ErrorTokenSignature
        | C::ErrorTokenAudience
        | C::ErrorTokenIssuer
        | C::ErrorTokenClaims
        | C::ErrorTokenOtherUser
        | C::ErrorUserIdCollision
        | C::ErrorUnimplemented
        | C::ErrorInvalidRequest
        | C::ErrorTooLarge
        | C::ErrorUnknownConversation
        | C::ErrorForbidden
        | C::ErrorTrimmed
        | C::ErrorGroupFull
        | C::ErrorNotFound
        | C::ErrorStorageCorrupt => ErrorClass::ClassNever,
    }
}

/// The name of a code as documents and JSON write it: `sequence_conflict`.
#[must_use]
pub fn name(code: ErrorCode) -> String {
    code.as_str_name().trim_start_matches("ERROR_").to_ascii_lowercase()
}

/// A refusal on its way to the peer: a code, a text for the developer, and what the code carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Which rule said no.
    pub code: ErrorCode,
    /// For a developer's eyes.
    pub text: &'static str,
    /// For [`ErrorClass::ClassRetry`].
    pub retry_after_ms: u32,
}

impl Refusal {
    /// A refusal without a delay.
    #[must_use]
    pub const fn new(code: ErrorCode, text: &'static str) -> Self {
        Self { code, text, retry_after_ms: 0 }
    }

    /// The frame's content.
    #[must_use]
    pub fn to_wire(&self) -> wire::Error {
        wire::Error {
            code: self.code.into(),
            class: class(self.code).into(),
            text: self.text.to_owned(),
            retry_after_ms: self.retry_after_ms,
            ..wire::Error::default()
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", name(self.code), self.text)
    }
}

impl std::error::Error for Refusal {}
