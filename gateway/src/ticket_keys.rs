//! The keys that tickets are sealed with: in files of a data folder's `keys/`, replaced daily, the
//! same for all shards, and there again after a restart.
//!
//! There are two kinds, each with a file of its own: resume tickets, which a device shows instead
//! of a token, and session tickets of TLS, which make its next handshake cheaper.

use crate::keys::{self, KeysError, PRIVATE};
use crate::shard::auth::ticket::{OLDER_KEYS_MAX, TICKET_KEY_BYTES, TicketKey, TicketKeys};
use roost_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::path::Path;

const RESUME_FILE: &str = "tickets.json";
const TLS_FILE: &str = "tls-tickets.json";
const VERSION: u32 = 1;

/// After so long the ticket keys are replaced.
pub const ROTATION_MS: u64 = 24 * 60 * 60 * 1_000;
/// For how long a client may keep a session ticket of TLS: one that was sealed right before its
/// key was replaced opens for twice as long.
pub const TLS_TICKET_LIFE_S: u32 = 24 * 60 * 60;
// They are no longer kept than their keys are.
const _: () = assert!(TLS_TICKET_LIFE_S as u64 * 1_000 <= OLDER_KEYS_MAX as u64 * ROTATION_MS);
const _: () = assert!(TICKET_KEY_BYTES == roost_detached_tls::TICKET_KEY_BYTES);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeysFile {
    version: u32,
    /// The newest first.
    keys: Vec<StoredKey>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredKey {
    id: u32,
    created_ms: u64,
    key: [u8; TICKET_KEY_BYTES],
}

impl KeysFile {
    fn parse(text: &[u8]) -> Option<Self> {
        let file: Self = serde_json::from_slice(text).ok()?;
        let falls = file.keys.windows(2).all(|pair| matches!(pair, [a, b] if a.id > b.id));
        let count_is_good = (1..=OLDER_KEYS_MAX + 1).contains(&file.keys.len());
        (file.version == VERSION && falls && count_is_good).then_some(file)
    }

    /// A day from now in either direction: the clock may have been wrong when it was made.
    fn is_due(&self, now: Timestamp) -> bool {
        self.keys.first().is_none_or(|key| now.ms.abs_diff(key.created_ms) >= ROTATION_MS)
    }

    fn rotate(&mut self, now: Timestamp) -> Result<(), KeysError> {
        let last_id = self.keys.first().map_or(0, |key| key.id);
        let id = last_id.checked_add(1).expect("a key a day fills 32 bits in millions of years");
        self.keys.insert(0, StoredKey { id, created_ms: now.ms, key: keys::random()? });
        self.keys.truncate(OLDER_KEYS_MAX + 1);
        Ok(())
    }
}

/// Reads a file of keys. Makes the first key at the first start, and a new one when the last is a
/// day old; two old ones remain.
fn read(
    data: &Path,
    name: &str,
    remedy: &'static str,
    now: Timestamp,
) -> Result<Vec<StoredKey>, KeysError> {
    let path = keys::make_folder(data)?.join(name);
    let is_new = !keys::exists(&path)?;
    let mut file = if is_new {
        KeysFile { version: VERSION, keys: Vec::new() }
    } else {
        KeysFile::parse(&keys::read_private(&path)?).ok_or_else(|| KeysError::Damaged {
            path: path.clone(),
            what: "does not hold ticket keys",
            remedy,
        })?
    };
    if file.is_due(now) {
        file.rotate(now)?;
        let text = serde_json::to_vec_pretty(&file).expect("numbers are always JSON");
        if is_new {
            keys::create(&path, &text, PRIVATE)?;
        } else {
            keys::replace(&path, &text, PRIVATE)?;
        }
    }
    Ok(file.keys)
}

/// Reads the keys of resume tickets, rotated if that is due. Call it at every start and every hour
/// or so, from one process and not from a shard's thread: it writes and flushes.
///
/// # Errors
/// The file or folder cannot be written or read, or is not what it should be.
pub fn load_or_rotate(data: &Path, now: Timestamp) -> Result<TicketKeys, KeysError> {
    let remedy = "remove it: devices then come back with a token instead of a ticket";
    let keys = read(data, RESUME_FILE, remedy, now)?;
    let mut keys = keys.into_iter().map(|key| TicketKey { id: key.id, key: key.key });
    let current = keys.next().expect("at least one key was read or made");
    Ok(TicketKeys::new(current, keys.collect()))
}

/// The same for session tickets of TLS.
///
/// # Errors
/// As [`load_or_rotate`].
pub fn load_or_rotate_tls(
    data: &Path,
    now: Timestamp,
) -> Result<roost_detached_tls::TicketKeys, KeysError> {
    let remedy = "remove it: devices then shake hands in full once";
    let keys = read(data, TLS_FILE, remedy, now)?;
    let of = |key: StoredKey| roost_detached_tls::TicketKey { id: key.id, key: key.key };
    let mut keys = keys.into_iter().map(of);
    let current = keys.next().expect("at least one key was read or made");
    Ok(roost_detached_tls::TicketKeys::new(current, keys.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::auth::ticket::{Ticket, TicketSealer};
    use expect_test::expect;
    use roost_detached_tls::Tickets;
    use roost_protocol::ids::{DeviceId, UserId};
    use rustls::server::ProducesTickets;
    use std::fs;
    use std::os::unix::fs::MetadataExt;
    use tempfile::TempDir;

    const NOW: Timestamp = Timestamp { ms: 1_800_000_000_000 };

    fn later(ms: u64) -> Timestamp {
        Timestamp { ms: NOW.ms + ms }
    }

    fn mode(folder: &TempDir, name: &str) -> u32 {
        fs::metadata(folder.path().join("keys").join(name)).unwrap().mode() & 0o777
    }

    #[test]
    fn ticket_keys_last_a_day_and_open_for_two_more() {
        let folder = TempDir::new().unwrap();
        let first = load_or_rotate(folder.path(), NOW).unwrap();
        assert_eq!(first.current_id(), 1);
        assert_eq!(mode(&folder, RESUME_FILE), 0o600);
        assert_eq!(load_or_rotate(folder.path(), later(ROTATION_MS - 1)).unwrap(), first);
        let earlier = Timestamp { ms: NOW.ms - 1 };
        assert_eq!(load_or_rotate(folder.path(), earlier).unwrap(), first);

        let ticket = Ticket {
            user: UserId::new("ann").unwrap(),
            device: DeviceId::named("phone"),
            device_epoch: 0,
            issued_ms: NOW.ms,
            expires_ms: u64::MAX,
            token_issued_ms: NOW.ms,
            token_expires_ms: u64::MAX,
        };
        let sealed = TicketSealer::new(&first, [0; 8]).seal(&ticket);
        for day in 1..=3 {
            let now = later(day * ROTATION_MS);
            let keys = load_or_rotate(folder.path(), now).unwrap();
            assert_eq!(u64::from(keys.current_id()), day + 1);
            let opened = TicketSealer::new(&keys, [0; 8]).open(&sealed, now);
            assert_eq!(opened.is_ok(), day <= 2);
        }
        assert_eq!(fs::read_dir(folder.path().join("keys")).unwrap().count(), 1);
    }

    #[test]
    fn session_tickets_open_after_a_restart_and_for_two_more_days() {
        let folder = TempDir::new().unwrap();
        let load = |now| load_or_rotate_tls(folder.path(), now).unwrap();
        let tickets = Tickets::new(load(NOW), TLS_TICKET_LIFE_S);
        let ticket = tickets.encrypt(b"session").unwrap();
        assert_eq!(mode(&folder, TLS_FILE), 0o600);
        for day in 0..=3 {
            let restarted = Tickets::new(load(later(day * ROTATION_MS)), TLS_TICKET_LIFE_S);
            assert_eq!(restarted.decrypt(&ticket).is_some(), day <= 2, "day {day}");
        }
        // The two kinds have keys of their own.
        load_or_rotate(folder.path(), NOW).unwrap();
        assert_eq!(fs::read_dir(folder.path().join("keys")).unwrap().count(), 2);
    }

    #[test]
    fn damaged_files_are_named_and_kept() {
        let folder = TempDir::new().unwrap();
        load_or_rotate(folder.path(), NOW).unwrap();
        load_or_rotate_tls(folder.path(), NOW).unwrap();
        let mut texts = Vec::new();
        for text in ["{}", r#"{"version":1,"keys":[]}"#, r#"{"version":2,"keys":[]}"#] {
            let told = |error: KeysError| {
                error.to_string().replace(folder.path().to_str().unwrap(), "DATA")
            };
            let write = |name| fs::write(folder.path().join("keys").join(name), text).unwrap();
            write(RESUME_FILE);
            texts.push(told(load_or_rotate(folder.path(), NOW).unwrap_err()));
            write(TLS_FILE);
            texts.push(told(load_or_rotate_tls(folder.path(), NOW).unwrap_err()));
            let kept = fs::read_to_string(folder.path().join("keys").join(TLS_FILE)).unwrap();
            assert_eq!(kept, text);
        }
        texts.sort();
        texts.dedup();
        expect![[r#"
            DATA/keys/tickets.json does not hold ticket keys;
            remove it: devices then come back with a token instead of a ticket
            DATA/keys/tls-tickets.json does not hold ticket keys;
            remove it: devices then shake hands in full once"#]]
        .assert_eq(&texts.join("\n").replace("; ", ";\n"));
    }
}
