//! Names: of users, devices, conversations, messages and places in a conversation.
//!
//! A *key* is what the server addresses an actor by: 128 bits, of which the first 126 are the
//! start of a SHA-256 and the last two say the kind. How keys are derived is fixed for ever
//! (PROTOCOL.md, "Keys"; vectors/keys.json).

use bytes::Bytes;
use ecow::EcoString;
use sha2::{Digest, Sha256};
use std::fmt;
use std::hash::{Hash, Hasher};

/// Most bytes of a user id.
pub const USER_ID_MAX_BYTES: usize = 64;

/// The last two bits of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyKind {
    /// A user; the key of the user's mailbox.
    User,
    /// A conversation of two users.
    Direct,
    /// A conversation whose members are pushed to.
    Group,
    /// A conversation whose members pull.
    Channel,
}

impl KeyKind {
    const fn bits(self) -> u128 {
        match self {
            Self::User => 0,
            Self::Direct => 1,
            Self::Group => 2,
            Self::Channel => 3,
        }
    }

    const fn of(key: u128) -> Self {
        match key & 3 {
            0 => Self::User,
            1 => Self::Direct,
            2 => Self::Group,
            _ => Self::Channel,
        }
    }
}

/// A user's id as the app knows it: the token's `sub`. 1 to 64 bytes, no control characters. Up to
/// 15 bytes need no memory elsewhere, and a longer one is shared by its clones.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserId(EcoString);

impl UserId {
    /// Checks and keeps an id.
    ///
    /// # Errors
    /// [`InvalidUserId`] when it is empty, longer than 64 bytes or holds a control character.
    pub fn new(text: &str) -> Result<Self, InvalidUserId> {
        if text.is_empty() || text.len() > USER_ID_MAX_BYTES || text.chars().any(char::is_control) {
            return Err(InvalidUserId);
        }
        Ok(Self(text.into()))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The key of this user in a tenant (empty by default).
    #[must_use]
    pub fn key(&self, tenant: &str) -> UserKey {
        user_key(tenant, &self.0)
    }
}

impl fmt::Debug for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A user's id, or none, in the size of an id.
#[derive(Debug, Clone)]
pub struct OptionalUserId(EcoString);

impl OptionalUserId {
    /// No id.
    pub const NONE: Self = Self(EcoString::new());

    /// The id, if there is one.
    #[must_use]
    pub fn get(&self) -> Option<UserId> {
        self.is_some().then(|| UserId(self.0.clone()))
    }

    /// The key of the user, if there is one: see [`UserId::key`].
    #[must_use]
    pub fn key(&self, tenant: &str) -> Option<UserKey> {
        self.is_some().then(|| user_key(tenant, &self.0))
    }

    /// Whether there is one.
    #[must_use]
    pub fn is_some(&self) -> bool {
        !self.0.is_empty()
    }
}

impl From<UserId> for OptionalUserId {
    fn from(user: UserId) -> Self {
        Self(user.0)
    }
}

/// A user id that is empty, over 64 bytes, or holds a control character.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidUserId;

impl fmt::Display for InvalidUserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a user id is 1 to 64 bytes of UTF-8 without control characters")
    }
}

impl std::error::Error for InvalidUserId {}

macro_rules! key_type {
    ($name:ident, $doc:literal) => {
        #[doc = $doc]
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        // Bytes, not a number: a number would align everything that holds a key to 16 bytes.
        pub struct $name([u8; 16]);

        impl Hash for $name {
            fn hash<H: Hasher>(&self, state: &mut H) {
                state.write_u128(self.as_u128());
            }
        }

        impl $name {
            /// The key from its 16 bytes, big end first.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// The key from a slice, if it has 16 bytes.
            #[must_use]
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(Self::from_bytes)
            }

            /// The 16 bytes of the key.
            #[must_use]
            pub const fn to_bytes(self) -> [u8; 16] {
                self.0
            }

            /// The 16 bytes of the key as they stand in a field of a frame.
            #[must_use]
            pub fn to_wire(self) -> Bytes {
                Bytes::copy_from_slice(&self.to_bytes())
            }

            /// The key as a number; its order is the order of the bytes.
            #[must_use]
            pub const fn as_u128(self) -> u128 {
                u128::from_be_bytes(self.0)
            }

            /// The key from its number.
            #[must_use]
            pub const fn from_u128(number: u128) -> Self {
                Self(number.to_be_bytes())
            }

            /// What the key names.
            #[must_use]
            pub const fn kind(self) -> KeyKind {
                KeyKind::of(self.as_u128())
            }

            /// The first 10 bits: which of the 1,024 partitions the actor lives in.
            #[must_use]
            pub const fn partition(self) -> u16 {
                (self.as_u128() >> 118) as u16
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", self.as_u128())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", self.as_u128())
            }
        }
    };
}

key_type!(UserKey, "The key of a user, and of the user's mailbox.");
key_type!(ConversationId, "The id of a conversation, and the key of its actor.");

impl ConversationId {
    /// The conversation of two users; the same whichever is named first.
    #[must_use]
    pub fn direct(one: UserKey, other: UserKey) -> Self {
        let (low, high) = if one <= other { (one, other) } else { (other, one) };
        Self::from_u128(derive(KeyKind::Direct, &[b"direct", &low.to_bytes(), &high.to_bytes()]))
    }

    /// A group or channel from its creator and the creator's nonce, so that creating can be
    /// repeated.
    #[must_use]
    pub fn group(creator: UserKey, nonce: [u8; 16], channel: bool) -> Self {
        let kind = if channel { KeyKind::Channel } else { KeyKind::Group };
        Self::from_u128(derive(kind, &[b"group", &creator.to_bytes(), &nonce]))
    }
}

fn user_key(tenant: &str, user: &str) -> UserKey {
    UserKey::from_u128(derive(KeyKind::User, &[tenant.as_bytes(), &[0], user.as_bytes()]))
}

fn derive(kind: KeyKind, parts: &[&[u8]]) -> u128 {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    let digest: [u8; 32] = hash.finalize().into();
    let (first, _) = digest.split_first_chunk::<16>().expect("a SHA-256 has 32 bytes");
    (u128::from_be_bytes(*first) & !3) | kind.bits()
}

/// A device of a user: 16 bytes, unique among that user's devices.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceId(pub [u8; 16]);

impl DeviceId {
    /// The id of a device that the token names: the start of the SHA-256 of "device" and the name.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self(derive(KeyKind::User, &[b"device", name.as_bytes()]).to_be_bytes())
    }
}

impl fmt::Debug for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

macro_rules! number_type {
    ($name:ident, $doc:literal) => {
        #[doc = $doc]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

number_type!(
    Sequence,
    "The place of a record in its conversation as people see it: dense, from 1. 0 is none."
);
number_type!(
    ClientSequence,
    "The number of a write, per device and conversation: dense, from 1. 0 is none."
);
number_type!(ClientMessageId, "64 random bits that name one write for ever. Never 0.");
number_type!(
    ConnectionNumber,
    "The number of a device's connection, counted by the device: an older one loses."
);
number_type!(ChangeNumber, "A number of one user's mailbox, raised whenever an entry changes.");

impl Sequence {
    /// The seq after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// A unique, time-ordered number of a message: 41 bits of milliseconds since
/// [`MESSAGE_ID_EPOCH_MS`], 10 bits of generator, 12 bits of sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MessageId(pub u64);

/// 2026-01-01T00:00:00Z, where message ids begin to count.
pub const MESSAGE_ID_EPOCH_MS: u64 = 1_767_225_600_000;

impl MessageId {
    /// Puts an id together; parts that are too large are cut to their bits.
    #[must_use]
    pub const fn from_parts(wall_ms: u64, generator: u16, sequence: u16) -> Self {
        let ms = wall_ms.saturating_sub(MESSAGE_ID_EPOCH_MS) & ((1 << 41) - 1);
        Self((ms << 22) | (((generator & 0x3ff) as u64) << 12) | ((sequence & 0xfff) as u64))
    }

    /// When it was made, in milliseconds since 1970.
    #[must_use]
    pub const fn wall_ms(self) -> u64 {
        (self.0 >> 22).saturating_add(MESSAGE_ID_EPOCH_MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_direct_conversation_does_not_depend_on_who_is_named_first() {
        let ann = UserId::new("ann").unwrap().key("");
        let bob = UserId::new("bob").unwrap().key("");
        assert_eq!(ConversationId::direct(ann, bob), ConversationId::direct(bob, ann));
        assert_eq!(ConversationId::direct(ann, bob).kind(), KeyKind::Direct);
        assert_eq!(ann.kind(), KeyKind::User);
    }

    #[test]
    fn tenants_separate_users() {
        let ann = UserId::new("ann").unwrap();
        assert_ne!(ann.key(""), ann.key("b"));
    }

    #[test]
    fn the_partition_is_the_first_ten_bits() {
        let mut bytes = [0; 16];
        bytes[0] = 0xff;
        bytes[1] = 0xc0;
        assert_eq!(UserKey::from_bytes(bytes).partition(), 1023);
        bytes[1] = 0x3f;
        assert_eq!(UserKey::from_bytes(bytes).partition(), 1020);
    }

    #[test]
    fn user_ids_are_bounded_text() {
        assert!(UserId::new("").is_err());
        assert!(UserId::new(&"a".repeat(64)).is_ok());
        assert!(UserId::new(&"a".repeat(65)).is_err());
        assert!(UserId::new("a\nb").is_err());
        assert!(UserId::new("زوي").is_ok());
    }

    #[test]
    fn message_ids_order_by_time() {
        let early = MessageId::from_parts(MESSAGE_ID_EPOCH_MS, 1023, 4095);
        let late = MessageId::from_parts(MESSAGE_ID_EPOCH_MS.saturating_add(1), 0, 0);
        assert!(early < late);
        assert_eq!(late.wall_ms(), MESSAGE_ID_EPOCH_MS.saturating_add(1));
    }
}
