//! Resume tickets: what a device shows instead of a token when it comes back.
//!
//! ```text
//! version 1 | key id 4 | nonce 12 | sealed: device 16, epoch 4, four times 8 each, user | tag 16
//! ```
//!
//! Version and key id are in clear and authenticated; numbers are little-endian. The cipher is
//! AES-256-GCM-SIV: should a nonce ever repeat, it gives away that two tickets are equal and
//! nothing more.

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use roost_protocol::error::Refusal;
use roost_protocol::ids::{DeviceId, USER_ID_MAX_BYTES, UserId};
use roost_protocol::limits::TICKET_MAX_BYTES;
use roost_protocol::time::Timestamp;
use roost_protocol::wire::ErrorCode;
use std::fmt;

/// For how long a ticket is good, unless its token ends earlier.
pub const TICKET_LIFE_MS: u64 = 24 * 60 * 60 * 1_000;
/// How many keys before the current one still open tickets.
pub const OLDER_KEYS_MAX: usize = 2;
/// Bytes of a key.
pub const TICKET_KEY_BYTES: usize = 32;

const VERSION: u8 = 1;
const CLEAR_BYTES: usize = 1 + 4;
const FIXED_BYTES: usize = 16 + 4 + 4 * 8;
const TAG_BYTES: usize = 16;
const LONGEST_BYTES: usize = CLEAR_BYTES + NONCE_LEN + FIXED_BYTES + USER_ID_MAX_BYTES + TAG_BYTES;
const _: () = assert!(LONGEST_BYTES <= TICKET_MAX_BYTES);

/// A key that seals tickets. Its debug text shows its id only.
#[derive(Clone, PartialEq, Eq)]
pub struct TicketKey {
    /// Raised with every new key, never used again.
    pub id: u32,
    /// The secret.
    pub key: [u8; TICKET_KEY_BYTES],
}

impl fmt::Debug for TicketKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ticket key {}", self.id)
    }
}

/// The keys of a data folder; all shards have the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TicketKeys {
    current: TicketKey,
    older: Vec<TicketKey>,
}

impl TicketKeys {
    /// The key that seals, and those that only open, the newest first.
    ///
    /// # Panics
    /// When there are more than two older keys, or ids do not fall: that is a mistake of the
    /// caller, files are checked before.
    #[must_use]
    pub fn new(current: TicketKey, older: Vec<TicketKey>) -> Self {
        assert!(older.len() <= OLDER_KEYS_MAX, "at most two older keys");
        let mut above = current.id;
        for key in &older {
            assert!(key.id < above, "the ids of older keys fall");
            above = key.id;
        }
        Self { current, older }
    }

    /// The id of the key that seals.
    #[must_use]
    pub const fn current_id(&self) -> u32 {
        self.current.id
    }
}

/// What a ticket says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    /// Whose it is.
    pub user: UserId,
    /// Which device.
    pub device: DeviceId,
    /// The mailbox raises a device's epoch to make its tickets worthless.
    pub device_epoch: u32,
    /// When it was made, in milliseconds since 1970.
    pub issued_ms: u64,
    /// From when on it is refused.
    pub expires_ms: u64,
    /// `iat` of the token it descends from, in milliseconds.
    pub token_issued_ms: u64,
    /// `exp` of that token, in milliseconds.
    pub token_expires_ms: u64,
}

impl Ticket {
    /// When a ticket made now ends: after 24 h, or with the token and its grace if that is sooner.
    #[must_use]
    pub fn expiry_ms(now: Timestamp, token_expires_ms: u64, grace_ms: u32) -> u64 {
        let with_token = token_expires_ms.saturating_add(u64::from(grace_ms));
        now.ms.saturating_add(TICKET_LIFE_MS).min(with_token)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.device.0);
        out.extend_from_slice(&self.device_epoch.to_le_bytes());
        for ms in [self.issued_ms, self.expires_ms, self.token_issued_ms, self.token_expires_ms] {
            out.extend_from_slice(&ms.to_le_bytes());
        }
        out.extend_from_slice(self.user.as_str().as_bytes());
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (device, bytes) = bytes.split_first_chunk()?;
        let (device_epoch, mut bytes) = bytes.split_first_chunk()?;
        let mut next_ms = || {
            let (ms, rest) = bytes.split_first_chunk()?;
            bytes = rest;
            Some(u64::from_le_bytes(*ms))
        };
        let (issued_ms, expires_ms) = (next_ms()?, next_ms()?);
        let (token_issued_ms, token_expires_ms) = (next_ms()?, next_ms()?);
        Some(Self {
            user: UserId::new(str::from_utf8(bytes).ok()?).ok()?,
            device: DeviceId(*device),
            device_epoch: u32::from_le_bytes(*device_epoch),
            issued_ms,
            expires_ms,
            token_issued_ms,
            token_expires_ms,
        })
    }
}

struct Cipher {
    id: u32,
    key: LessSafeKey,
}

impl Cipher {
    fn new(key: &TicketKey) -> Self {
        let unbound = UnboundKey::new(&AES_256_GCM_SIV, &key.key).expect("the key has 32 bytes");
        Self { id: key.id, key: LessSafeKey::new(unbound) }
    }
}

/// Seals and opens tickets, one per shard.
pub struct TicketSealer {
    current: Cipher,
    older: Vec<Cipher>,
    nonce_prefix: [u8; 8],
    sealed: u32,
}

impl fmt::Debug for TicketSealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seals with ticket key {}, {} so far", self.current.id, self.sealed)
    }
}

impl TicketSealer {
    /// Begins with keys and a prefix that was never used with them: 8 bytes of the system's
    /// random source, drawn for this shard at this start.
    #[must_use]
    pub fn new(keys: &TicketKeys, nonce_prefix: [u8; 8]) -> Self {
        let older = keys.older.iter().map(Cipher::new).collect();
        Self { current: Cipher::new(&keys.current), older, nonce_prefix, sealed: 0 }
    }

    /// Goes on with newer keys (daily), or with the same ones, and a new prefix.
    ///
    /// # Panics
    /// When the current key is older than the one before.
    pub fn replace_keys(&mut self, keys: &TicketKeys, nonce_prefix: [u8; 8]) {
        assert!(keys.current.id >= self.current.id, "a ticket key never comes back");
        *self = Self::new(keys, nonce_prefix);
    }

    /// Seals a ticket: at most 149 bytes.
    ///
    /// # Panics
    /// After 2^32 tickets with one key and prefix: 49,000 a second for a whole day, by one shard.
    pub fn seal(&mut self, ticket: &Ticket) -> Vec<u8> {
        assert!(self.sealed < u32::MAX, "a nonce must not come twice; rotate the ticket keys");
        let mut nonce = [0; NONCE_LEN];
        nonce[..8].copy_from_slice(&self.nonce_prefix);
        nonce[8..].copy_from_slice(&self.sealed.to_le_bytes());
        self.sealed += 1;

        let mut content = Vec::with_capacity(FIXED_BYTES + USER_ID_MAX_BYTES + TAG_BYTES);
        ticket.encode(&mut content);
        let clear = clear_part(self.current.id);
        let unique = Nonce::assume_unique_for_key(nonce);
        self.current
            .key
            .seal_in_place_append_tag(unique, Aad::from(clear), &mut content)
            .expect("sealing fails only beyond gigabytes");

        let mut bytes = Vec::with_capacity(CLEAR_BYTES + NONCE_LEN + content.len());
        bytes.extend_from_slice(&clear);
        bytes.extend_from_slice(&nonce);
        bytes.extend_from_slice(&content);
        assert!(bytes.len() <= LONGEST_BYTES, "a user id is bounded");
        bytes
    }

    /// Opens a ticket at a time.
    ///
    /// # Errors
    /// `ticket_invalid` when we did not seal it, its key is gone, or it was changed;
    /// `ticket_expired` when it was good and is too old.
    pub fn open(&self, bytes: &[u8], now: Timestamp) -> Result<Ticket, Refusal> {
        let ticket = self.unseal(bytes).ok_or(Refusal::new(
            ErrorCode::ErrorTicketInvalid,
            "the ticket was not sealed here, or too long ago",
        ))?;
        if now.ms >= ticket.expires_ms {
            return Err(Refusal::new(ErrorCode::ErrorTicketExpired, "the ticket has expired"));
        }
        Ok(ticket)
    }

    fn unseal(&self, bytes: &[u8]) -> Option<Ticket> {
        if bytes.len() > LONGEST_BYTES {
            return None;
        }
        let (clear, bytes) = bytes.split_first_chunk::<CLEAR_BYTES>()?;
        let (nonce, content) = bytes.split_first_chunk::<NONCE_LEN>()?;
        let [version, id @ ..] = *clear;
        if version != VERSION {
            return None;
        }
        let id = u32::from_le_bytes(id);
        let mut ciphers = std::iter::once(&self.current).chain(&self.older);
        let cipher = ciphers.find(|cipher| cipher.id == id)?;
        let mut content = content.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let content = cipher.key.open_in_place(nonce, Aad::from(clear), &mut content).ok()?;
        Ticket::decode(content)
    }
}

fn clear_part(id: u32) -> [u8; CLEAR_BYTES] {
    let [a, b, c, d] = id.to_le_bytes();
    [VERSION, a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp { ms: 1_800_000_000_000 };
    const PREFIX: [u8; 8] = *b"a prefix";

    fn key(id: u32) -> TicketKey {
        TicketKey { id, key: [u8::try_from(id).unwrap(); 32] }
    }

    fn sealer(ids: &[u32]) -> TicketSealer {
        let (current, older) = ids.split_first().unwrap();
        let older = older.iter().copied().map(key).collect();
        TicketSealer::new(&TicketKeys::new(key(*current), older), PREFIX)
    }

    fn ticket() -> Ticket {
        let token_expires_ms = NOW.ms + 3_600_000;
        Ticket {
            user: UserId::new("ann").unwrap(),
            device: DeviceId::named("phone"),
            device_epoch: 7,
            issued_ms: NOW.ms,
            expires_ms: Ticket::expiry_ms(NOW, token_expires_ms, 60_000),
            token_issued_ms: NOW.ms - 1_000,
            token_expires_ms,
        }
    }

    fn code(result: Result<Ticket, Refusal>) -> ErrorCode {
        result.unwrap_err().code
    }

    #[test]
    fn what_was_sealed_opens_as_often_as_one_likes() {
        let mut sealer = sealer(&[1]);
        let bytes = sealer.seal(&ticket());
        assert_eq!(sealer.open(&bytes, NOW), Ok(ticket()));
        assert_eq!(sealer.open(&bytes, NOW), Ok(ticket()));
        assert_ne!(sealer.seal(&ticket()), bytes, "each has its own nonce");
    }

    #[test]
    fn the_longest_user_fits() {
        let longest = Ticket { user: UserId::new(&"u".repeat(64)).unwrap(), ..ticket() };
        let mut sealer = sealer(&[1]);
        let bytes = sealer.seal(&longest);
        assert_eq!(bytes.len(), 149);
        assert_eq!(sealer.open(&bytes, NOW), Ok(longest));
    }

    #[test]
    fn a_change_of_any_byte_is_seen() {
        let mut sealer = sealer(&[1, 0]);
        let bytes = sealer.seal(&ticket());
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[at] ^= 1 << bit;
                assert_eq!(code(sealer.open(&changed, NOW)), ErrorCode::ErrorTicketInvalid);
            }
        }
        for length in 0..bytes.len() {
            assert_eq!(code(sealer.open(&bytes[..length], NOW)), ErrorCode::ErrorTicketInvalid);
        }
        let longer = [bytes.as_slice(), &[0]].concat();
        assert_eq!(code(sealer.open(&longer, NOW)), ErrorCode::ErrorTicketInvalid);
    }

    #[test]
    fn a_ticket_ends_with_its_token_or_after_a_day() {
        let mut sealer = sealer(&[1]);
        let bytes = sealer.seal(&ticket());
        let end = NOW.ms + 3_600_000 + 60_000;
        assert!(sealer.open(&bytes, Timestamp { ms: end - 1 }).is_ok());
        let late = sealer.open(&bytes, Timestamp { ms: end });
        assert_eq!(code(late), ErrorCode::ErrorTicketExpired);
        assert_eq!(Ticket::expiry_ms(NOW, u64::MAX, 60_000), NOW.ms + TICKET_LIFE_MS);
    }

    #[test]
    fn two_old_keys_still_open() {
        let bytes = sealer(&[1]).seal(&ticket());
        assert!(sealer(&[3, 2, 1]).open(&bytes, NOW).is_ok());
        let gone = sealer(&[4, 3, 2]).open(&bytes, NOW);
        assert_eq!(code(gone), ErrorCode::ErrorTicketInvalid);
    }

    #[test]
    fn the_same_id_with_another_key_opens_nothing() {
        let bytes = sealer(&[1]).seal(&ticket());
        let other = TicketKeys::new(TicketKey { id: 1, key: [9; 32] }, Vec::new());
        let result = TicketSealer::new(&other, PREFIX).open(&bytes, NOW);
        assert_eq!(code(result), ErrorCode::ErrorTicketInvalid);
    }

    #[test]
    fn shards_open_each_others_tickets() {
        let keys = TicketKeys::new(key(5), vec![key(4)]);
        let bytes = TicketSealer::new(&keys, *b"shard  1").seal(&ticket());
        let other = TicketSealer::new(&keys, *b"shard  2");
        assert_eq!(other.open(&bytes, NOW), Ok(ticket()));
    }

    #[test]
    #[should_panic(expected = "a nonce must not come twice")]
    fn a_nonce_never_comes_twice() {
        let mut sealer = sealer(&[1]);
        sealer.sealed = u32::MAX - 1;
        sealer.seal(&ticket());
        sealer.seal(&ticket());
    }

    #[test]
    #[should_panic(expected = "never comes back")]
    fn keys_are_never_replaced_by_older_ones() {
        let mut sealer = sealer(&[2]);
        sealer.replace_keys(&TicketKeys::new(key(1), Vec::new()), PREFIX);
    }

    #[test]
    fn debug_text_shows_no_key() {
        let keys = TicketKeys::new(key(2), vec![key(1)]);
        let text = format!("{keys:?}");
        assert_eq!(text, "TicketKeys { current: ticket key 2, older: [ticket key 1] }");
    }
}
