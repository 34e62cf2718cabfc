//! Why a device cannot be brought back from its records.

use std::fmt;

/// A record that cannot be restored. The device must start anew (and sync from the beginning).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestoreError {
    /// The record has no byte at all.
    Empty,
    /// Written by a newer version of this crate.
    UnknownVersion(u8),
    /// A change with a tag this version does not know.
    UnknownTag(u8),
    /// The record ends inside a change.
    Truncated,
    /// A value that no session writes.
    Invalid(&'static str),
}

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("an empty record of device state"),
            Self::UnknownVersion(version) => write!(
                f,
                "a record of device state has version {version}, this client reads version {}; it \
                 was written by a newer client",
                crate::record::VERSION
            ),
            Self::UnknownTag(tag) => write!(
                f,
                "a record of device state holds a change with the unknown tag {tag}; it was \
                 written by a newer client, or damaged"
            ),
            Self::Truncated => f.write_str("a record of device state ends inside a change"),
            Self::Invalid(what) => write!(f, "a record of device state holds {what}"),
        }
    }
}

impl std::error::Error for RestoreError {}
