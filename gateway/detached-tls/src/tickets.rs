//! Session tickets: sealed with keys that the caller keeps and replaces, so that they are good on
//! every shard and after a restart.
//!
//! | bytes | what |
//! |---|---|
//! | 4 | the number of the key |
//! | 32 | random: the ticket's own key and nonce follow from it and the key |
//! | n | the session, sealed with AES-256-GCM |
//! | 16 | its tag |
//!
//! No two tickets share a key, so their number does not wear the long-lived one.

use crate::record::TAG_BYTES;
use crate::secrets::{IV_BYTES, expand};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::server::ProducesTickets;
use std::fmt;
use std::sync::{Arc, RwLock};
use zeroize::Zeroize;

/// Bytes of a ticket key.
pub const TICKET_KEY_BYTES: usize = 32;
/// Keys with which tickets are opened, though none is sealed with them any more, at most.
const OLDER_KEYS_MAX: usize = 4;
const ID_BYTES: usize = 4;
const SALT_BYTES: usize = 32;
/// A ticket that a client brings, at most: sessions without client certificates are small.
const TICKET_MAX_BYTES: usize = 4096;
const LABEL: &[u8] = b"roost tls ticket 1";

/// What tickets are sealed with.
#[derive(Clone)]
pub struct TicketKey {
    /// Which it is; a later one has a larger number.
    pub id: u32,
    /// The secret.
    pub key: [u8; TICKET_KEY_BYTES],
}

impl Drop for TicketKey {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

impl fmt::Debug for TicketKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TicketKey({})", self.id)
    }
}

/// The key that seals, and those that still open.
#[derive(Debug, Clone)]
pub struct TicketKeys {
    current: TicketKey,
    older: Vec<TicketKey>,
}

impl TicketKeys {
    /// Only the first few older ones count.
    #[must_use]
    pub fn new(current: TicketKey, mut older: Vec<TicketKey>) -> Self {
        older.truncate(OLDER_KEYS_MAX);
        Self { current, older }
    }

    fn find(&self, id: u32) -> Option<&TicketKey> {
        std::iter::once(&self.current).chain(&self.older).find(|key| key.id == id)
    }
}

/// Seals and opens tickets; shared by all shards of a process.
#[derive(Debug)]
pub struct Tickets {
    keys: RwLock<Arc<TicketKeys>>,
    lifetime_s: u32,
}

impl Tickets {
    /// `lifetime_s` is how long clients keep a ticket: no longer than a key opens after it was
    /// replaced.
    #[must_use]
    pub fn new(keys: TicketKeys, lifetime_s: u32) -> Self {
        Self { keys: RwLock::new(Arc::new(keys)), lifetime_s }
    }

    /// Seals with other keys from now on; those that are not among them open nothing any more.
    pub fn replace_keys(&self, keys: TicketKeys) {
        match self.keys.write() {
            Ok(mut held) => *held = Arc::new(keys),
            // Nobody panics while holding it; if they did, it still holds whole keys.
            Err(poisoned) => *poisoned.into_inner() = Arc::new(keys),
        }
    }

    fn keys(&self) -> Arc<TicketKeys> {
        match self.keys.read() {
            Ok(keys) => Arc::clone(&keys),
            Err(poisoned) => Arc::clone(&poisoned.into_inner()),
        }
    }
}

fn key_and_nonce(key: &TicketKey, salt: &[u8]) -> Option<(LessSafeKey, Nonce)> {
    let mut derived = [0; TICKET_KEY_BYTES + IV_BYTES];
    let outcome = expand(&key.key, &[LABEL, salt], &mut derived);
    let (own, nonce) = derived.split_at(TICKET_KEY_BYTES);
    let made = UnboundKey::new(&AES_256_GCM, own).map(LessSafeKey::new).ok();
    let nonce: Option<[u8; NONCE_LEN]> = nonce.try_into().ok();
    derived.zeroize();
    outcome?;
    // The key is this ticket's alone, so any nonce is used once.
    Some((made?, Nonce::assume_unique_for_key(nonce?)))
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        self.lifetime_s
    }

    fn encrypt(&self, session: &[u8]) -> Option<Vec<u8>> {
        let keys = self.keys();
        let key = &keys.current;
        let bytes = ID_BYTES + SALT_BYTES + session.len() + TAG_BYTES;
        if bytes > TICKET_MAX_BYTES {
            return None;
        }
        let mut ticket = Vec::with_capacity(bytes);
        ticket.extend_from_slice(&key.id.to_be_bytes());
        ticket.resize(ID_BYTES + SALT_BYTES, 0);
        let salt = ticket.get_mut(ID_BYTES..)?;
        default_provider().secure_random.fill(salt).ok()?;
        let (own, nonce) = key_and_nonce(key, salt)?;
        ticket.extend_from_slice(session);
        let (front, sealed) = ticket.split_at_mut(ID_BYTES + SALT_BYTES);
        let tag = own.seal_in_place_separate_tag(nonce, Aad::from(front), sealed).ok()?;
        ticket.extend_from_slice(tag.as_ref());
        Some(ticket)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        if ticket.len() > TICKET_MAX_BYTES {
            return None;
        }
        let (front, sealed) = ticket.split_at_checked(ID_BYTES + SALT_BYTES)?;
        let (id, salt) = front.split_first_chunk::<ID_BYTES>()?;
        let keys = self.keys();
        let key = keys.find(u32::from_be_bytes(*id))?;
        let (own, nonce) = key_and_nonce(key, salt)?;
        let mut session = sealed.to_vec();
        let length = own.open_in_place(nonce, Aad::from(front), &mut session).ok()?.len();
        session.truncate(length);
        Some(session)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: u32) -> TicketKey {
        TicketKey { id, key: [u8::try_from(id).unwrap(); TICKET_KEY_BYTES] }
    }

    #[test]
    fn a_ticket_opens_as_long_as_its_key_is_kept() {
        let tickets = Tickets::new(TicketKeys::new(key(1), vec![]), 60);
        let ticket = tickets.encrypt(b"session").unwrap();
        assert_eq!(tickets.decrypt(&ticket).unwrap(), b"session");
        tickets.replace_keys(TicketKeys::new(key(2), vec![key(1)]));
        assert_eq!(tickets.decrypt(&ticket).unwrap(), b"session");
        let newer = tickets.encrypt(b"session").unwrap();
        tickets.replace_keys(TicketKeys::new(key(3), vec![key(2)]));
        assert!(tickets.decrypt(&ticket).is_none());
        assert_eq!(tickets.decrypt(&newer).unwrap(), b"session");
        // Another process with the same keys opens it, one with others does not.
        let elsewhere = Tickets::new(TicketKeys::new(key(2), vec![]), 60);
        assert_eq!(elsewhere.decrypt(&newer).unwrap(), b"session");
        let stranger = TicketKey { id: 2, key: [9; TICKET_KEY_BYTES] };
        assert!(Tickets::new(TicketKeys::new(stranger, vec![]), 60).decrypt(&newer).is_none());
    }

    #[test]
    fn a_damaged_ticket_is_none() {
        let tickets = Tickets::new(TicketKeys::new(key(1), vec![]), 60);
        let ticket = tickets.encrypt(b"session").unwrap();
        for at in 0..ticket.len() {
            let mut damaged = ticket.clone();
            damaged[at] ^= 0x40;
            assert!(tickets.decrypt(&damaged).is_none(), "byte {at}");
            assert!(tickets.decrypt(&ticket[..at]).is_none(), "cut at {at}");
        }
        assert!(tickets.decrypt(&[0; TICKET_MAX_BYTES + 1]).is_none());
        assert!(tickets.encrypt(&[0; TICKET_MAX_BYTES]).is_none());
        assert_ne!(tickets.encrypt(b"session"), tickets.encrypt(b"session"));
    }
}
