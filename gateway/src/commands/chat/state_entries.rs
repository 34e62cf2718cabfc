//! What a state file holds, as bytes.

use super::names::Name;
use aws_lc_rs::digest::{SHA256, digest};
use roost_protocol::ids::{ConversationId, Sequence};

/// Bytes of a batch's checksum.
pub(super) const CHECKSUM_BYTES: usize = 8;
/// Bytes of a length.
const LENGTH_BYTES: usize = 4;

// The kinds of entries. Never reused.
const OWNER: u8 = 1;
const SESSION: u8 = 2;
const LINES: u8 = 3;
const PRINTED: u8 = 4;
const NAME: u8 = 5;

/// Whose state it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owner {
    /// The id this device made up at its first start; it counts when the device has no name.
    pub(super) device: [u8; 16],
    pub(super) user: String,
    /// The name of the device; empty when it has none.
    pub(super) name: String,
}

/// What a state file holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Contents {
    /// Nobody's, when it is new.
    pub(super) owner: Option<Owner>,
    /// What the session persisted, in order.
    pub(super) records: Vec<Vec<u8>>,
    /// The newest lines that were to be printed, and how far that went.
    pub(super) unprinted: Option<Unprinted>,
    /// Names of groups and their members; a later one replaces an earlier one.
    pub(super) names: Vec<Name>,
}

/// Lines that are shown once this is durable. Only one of them is on its way at a time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Unprinted {
    /// The lines.
    pub(super) text: Vec<u8>,
    /// So many of its bytes are known to be out.
    pub(super) printed: usize,
    /// Where they go, if that can be looked at again.
    pub(super) place: Option<Place>,
    /// What the person has seen when they are out.
    pub(super) seen: Vec<Seen>,
}

/// A place in a regular file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) device: u64,
    pub(super) inode: u64,
    pub(super) position: u64,
}

/// A message the person has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) conversation: ConversationId,
    pub(super) seq: Sequence,
}

/// Entries that count together.
#[derive(Debug, Default)]
pub(super) struct Batch {
    bytes: Vec<u8>,
}

impl Batch {
    pub(super) const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Whose state it is.
    pub(super) fn owner(&mut self, owner: &Owner) {
        // Neither name has control characters, or the server would refuse it.
        self.entry(OWNER, &[&owner.device, owner.user.as_bytes(), b"\0", owner.name.as_bytes()]);
    }

    /// What the session persists.
    pub(super) fn session(&mut self, record: &[u8]) {
        self.entry(SESSION, &[record]);
    }

    /// Lines that will be printed.
    pub(super) fn lines(&mut self, lines: &Unprinted) {
        let mut head = Vec::new();
        let place = lines.place.unwrap_or(Place { device: 0, inode: 0, position: 0 });
        for number in [place.device, place.inode, place.position] {
            head.extend_from_slice(&number.to_le_bytes());
        }
        head.extend_from_slice(&length(lines.seen.len()));
        for seen in &lines.seen {
            head.extend_from_slice(&seen.conversation.to_bytes());
            head.extend_from_slice(&seen.seq.0.to_le_bytes());
        }
        self.entry(LINES, &[&head, &lines.text]);
    }

    /// Somebody is called so.
    pub(super) fn name(&mut self, name: &Name) {
        let (id, member) = (name.conversation.to_bytes(), name.member.to_le_bytes());
        self.entry(NAME, &[&id, &member, name.text.as_bytes()]);
    }

    /// So many bytes of the newest lines are out.
    pub(super) fn printed(&mut self, bytes: usize) {
        self.entry(PRINTED, &[&length(bytes)]);
    }

    fn entry(&mut self, kind: u8, parts: &[&[u8]]) {
        self.bytes.push(kind);
        self.bytes.extend_from_slice(&length(parts.iter().map(|part| part.len()).sum()));
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
    }
}

/// A batch as it stands in the file.
pub(super) fn frame(batch: &Batch) -> Vec<u8> {
    let mut bytes = length(batch.bytes.len()).to_vec();
    bytes.extend_from_slice(&checksum(&batch.bytes));
    bytes.extend_from_slice(&batch.bytes);
    bytes
}

/// Reads batches; gives what they hold, and how many bytes are whole.
pub(super) fn read(bytes: &[u8]) -> Result<(Contents, usize), String> {
    let mut contents = Contents::default();
    let mut rest = bytes;
    while let Some((entries, behind)) = unframe(rest) {
        read_entries(entries, &mut contents)?;
        rest = behind;
    }
    Ok((contents, bytes.len().saturating_sub(rest.len())))
}

/// The entries of the first batch and what is behind it; nothing when it is not whole.
fn unframe(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = take_length(bytes)?;
    let (expected, rest) = rest.split_at_checked(CHECKSUM_BYTES)?;
    let (entries, behind) = rest.split_at_checked(length)?;
    (length > 0 && checksum(entries) == expected).then_some((entries, behind))
}

fn read_entries(mut rest: &[u8], contents: &mut Contents) -> Result<(), String> {
    while let Some((kind, behind)) = rest.split_first() {
        let short = || format!("an entry of kind {kind} is too short");
        let (length, behind) = take_length(behind).ok_or_else(short)?;
        let (payload, behind) = behind.split_at_checked(length).ok_or_else(short)?;
        rest = behind;
        match *kind {
            OWNER => contents.owner = Some(read_owner(payload).ok_or_else(short)?),
            SESSION => contents.records.push(payload.to_vec()),
            LINES => contents.unprinted = Some(read_lines(payload).ok_or_else(short)?),
            NAME => contents.names.push(read_name(payload).ok_or_else(short)?),
            PRINTED => {
                let (printed, _) = take_length(payload).ok_or_else(short)?;
                if let Some(lines) = &mut contents.unprinted {
                    lines.printed = printed;
                }
            }
            _ => return Err(format!("it holds an entry of the unknown kind {kind}")),
        }
    }
    Ok(())
}

fn read_owner(payload: &[u8]) -> Option<Owner> {
    let (device, names) = payload.split_first_chunk::<16>()?;
    let (user, name) = std::str::from_utf8(names).ok()?.split_once('\0')?;
    Some(Owner { device: *device, user: user.to_owned(), name: name.to_owned() })
}

fn read_name(payload: &[u8]) -> Option<Name> {
    let (conversation, rest) = payload.split_first_chunk::<16>()?;
    let (member, text) = rest.split_first_chunk::<4>()?;
    let conversation = ConversationId::from_bytes(*conversation);
    let (member, text) = (u32::from_le_bytes(*member), std::str::from_utf8(text).ok()?);
    Some(Name { conversation, member, text: text.to_owned() })
}

fn read_lines(payload: &[u8]) -> Option<Unprinted> {
    let (device, rest) = take_number(payload)?;
    let (inode, rest) = take_number(rest)?;
    let (position, rest) = take_number(rest)?;
    let (count, mut rest) = take_length(rest)?;
    let mut seen = Vec::new();
    for _ in 0..count {
        let (conversation, behind) = rest.split_first_chunk::<16>()?;
        let (seq, behind) = take_number(behind)?;
        let conversation = ConversationId::from_bytes(*conversation);
        seen.push(Seen { conversation, seq: Sequence(seq) });
        rest = behind;
    }
    let place = (inode != 0).then_some(Place { device, inode, position });
    Some(Unprinted { text: rest.to_vec(), printed: 0, place, seen })
}

fn take_length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<LENGTH_BYTES>()?;
    Some((usize::try_from(u32::from_le_bytes(*length)).ok()?, rest))
}

fn take_number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<8>()?;
    Some((u64::from_le_bytes(*number), rest))
}

fn length(bytes: usize) -> [u8; LENGTH_BYTES] {
    u32::try_from(bytes).expect("a batch is far below 4 GiB: turns are bounded").to_le_bytes()
}

fn checksum(entries: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let hash = digest(&SHA256, entries);
    *hash.as_ref().first_chunk().expect("a SHA-256 has 32 bytes")
}
