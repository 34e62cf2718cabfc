//! The state file of one device: what its session persists, and the lines it is about to print.
//!
//! ```text
//! magic       8 bytes  "RSTCHAT1"
//! batch       length (u32), checksum (first 8 bytes of SHA-256 of the entries), entries
//!   entry     kind (u8), length (u32), payload
//! batch …
//! ```
//!
//! Numbers have their low byte first. A batch counts as a whole or not at all: what follows the
//! last whole one was torn by a crash and is cut off at the next start, before anything is
//! appended. `<file>.lock` is locked while the file is in use (the file itself is replaced when it
//! is compacted).

use super::state_entries::{self, Contents};
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

pub(super) use super::state_entries::Batch;

/// What the file begins with.
const MAGIC: &[u8; 8] = b"RSTCHAT1";
/// A file is compacted when it is this much larger than what it would be compacted to.
const SLACK_BYTES: u64 = 4 * 1024 * 1024;
/// At a start already this much is enough.
const SLACK_AT_START_BYTES: u64 = 64 * 1024;
/// For the owner alone: the file holds messages and tickets.
const FILE_MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o700;

/// The open, locked file.
#[derive(Debug)]
pub(super) struct StateFile {
    path: PathBuf,
    file: File,
    /// Held, never looked at again.
    _lock: File,
    bytes: u64,
    /// Its size when it was compacted last.
    compact_bytes: u64,
}

impl StateFile {
    /// Opens and locks the file, or makes it, and reads what it holds.
    pub(super) fn open(path: &Path) -> Result<(Self, Contents), StateError> {
        let at = |action| StateError::file(action, path);
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            let made = DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder);
            made.map_err(StateError::file("make the folder of", path))?;
        }
        let lock = lock(path)?;
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true).mode(FILE_MODE);
        let mut file = options.open(path).map_err(at("open"))?;
        let mut all = Vec::new();
        file.read_to_end(&mut all).map_err(at("read"))?;
        let Some(batches) = all.strip_prefix(MAGIC) else {
            if !MAGIC.starts_with(&all) {
                return Err(StateError::NotOurs { path: path.to_owned() });
            }
            // New, or torn while it was made.
            file.set_len(0).and_then(|()| file.write_all(MAGIC)).map_err(at("write"))?;
            file.sync_all().and_then(|()| sync_folder(path)).map_err(at("flush"))?;
            let bytes = length(MAGIC.len());
            let state =
                Self { path: path.to_owned(), file, _lock: lock, bytes, compact_bytes: bytes };
            return Ok((state, Contents::default()));
        };
        let (contents, whole) = state_entries::read(batches)
            .map_err(|what| StateError::Damaged { path: path.to_owned(), what })?;
        let bytes = length(MAGIC.len() + whole);
        if bytes < length(all.len()) {
            file.set_len(bytes).and_then(|()| file.sync_all()).map_err(at("cut"))?;
        }
        let compact_bytes = bytes;
        Ok((Self { path: path.to_owned(), file, _lock: lock, bytes, compact_bytes }, contents))
    }

    /// Appends a batch. A kill of this process cannot take it back any more; a power cut can, until
    /// [`Self::flush`].
    pub(super) fn append(&mut self, batch: &Batch) -> Result<(), StateError> {
        let framed = state_entries::frame(batch);
        self.file.write_all(&framed).map_err(StateError::file("write", &self.path))?;
        self.bytes = self.bytes.saturating_add(length(framed.len()));
        Ok(())
    }

    /// Makes everything appended durable.
    pub(super) fn flush(&self) -> Result<(), StateError> {
        self.file.sync_data().map_err(StateError::file("flush", &self.path))
    }

    /// Whether the file is worth compacting.
    pub(super) const fn is_bloated(&self, at_start: bool) -> bool {
        let slack = if at_start { SLACK_AT_START_BYTES } else { SLACK_BYTES };
        self.bytes.saturating_sub(self.compact_bytes) > slack
            || (at_start && self.bytes > SLACK_AT_START_BYTES)
    }

    /// Replaces the file by one that holds only this batch.
    pub(super) fn compact(&mut self, batch: &Batch) -> Result<(), StateError> {
        let draft = self.path.with_added_extension("new");
        let mut options = OpenOptions::new();
        // Left over from a crash: nobody else writes here, the lock is ours.
        options.write(true).create(true).truncate(true).mode(FILE_MODE);
        let mut file = options.open(&draft).map_err(StateError::file("create", &draft))?;
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&state_entries::frame(batch));
        let written = file.write_all(&bytes).and_then(|()| file.sync_all());
        written.map_err(StateError::file("write", &draft))?;
        let replaced = fs::rename(&draft, &self.path).and_then(|()| sync_folder(&self.path));
        replaced.map_err(StateError::file("replace", &self.path))?;
        // The draft was not opened for appending, but it is at its end and only we write.
        self.file = file;
        self.bytes = length(bytes.len());
        self.compact_bytes = self.bytes;
        Ok(())
    }
}

fn lock(path: &Path) -> Result<File, StateError> {
    let path = path.with_added_extension("lock");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(FILE_MODE);
    let file = options.open(&path).map_err(StateError::file("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StateError::InUse { path }),
        Err(TryLockError::Error(error)) => Err(StateError::file("lock", &path)(error)),
    }
}

/// Makes the file's name durable.
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or_else(|| Path::new("."))).and_then(|folder| folder.sync_all())
}

fn length(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// Why the state of the device cannot be kept. The text names the file and the remedy.
#[derive(Debug)]
pub enum StateError {
    /// The system refuses.
    File {
        /// What was tried, as a verb.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another chat uses it.
    InUse {
        /// The file that is locked.
        path: PathBuf,
    },
    /// The file is something else.
    NotOurs {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be understood.
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The file is of another device.
    OtherOwner {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        user: String,
        /// The name of that device; empty when it has none.
        device: String,
    },
    /// There is no folder to keep it in.
    NoFolder,
}

impl StateError {
    pub(super) fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File { action, path: path.to_owned(), source }
    }
}

impl std::fmt::Display for StateError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File { action, path, source } => write!(
                f,
                "cannot {action} {}: {source}; free the place, or name another file with --state",
                path.display()
            ),
            Self::InUse { path } => write!(
                f,
                "another `roost chat` runs as this device ({} is locked); end it, or choose \
                 another --device or --state",
                path.display()
            ),
            Self::NotOurs { path } => write!(
                f,
                "{} is not a state file of `roost chat`; name another one with --state",
                path.display()
            ),
            Self::Damaged { path, what } => write!(
                f,
                "{} cannot be read: {what}; use the version of roost that wrote it, or move it \
                 away to begin as a new device",
                path.display()
            ),
            Self::OtherOwner { path, user, device } => write!(
                f,
                "{} is the state of {user:?} (device {device:?}); name another file with --state",
                path.display()
            ),
            Self::NoFolder => f.write_str(
                "there is no place to keep the device's state: neither --data nor XDG_STATE_HOME \
                 nor HOME is set; name a file with --state",
            ),
        }
    }
}

impl std::error::Error for StateError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::File { source, .. } => Some(source),
            Self::InUse { .. }
            | Self::NotOurs { .. }
            | Self::Damaged { .. }
            | Self::OtherOwner { .. }
            | Self::NoFolder => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::state_entries::{Owner, Place, Seen, Unprinted};
    use super::*;
    use roost_protocol::ids::{ConversationId, Sequence};
    use tempfile::TempDir;

    fn a_batch(text: &str) -> Batch {
        let mut batch = Batch::default();
        batch.session(text.as_bytes());
        batch
    }

    fn records(path: &Path) -> Vec<Vec<u8>> {
        StateFile::open(path).unwrap().1.records
    }

    #[test]
    fn what_was_appended_is_read_again_up_to_any_cut() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("deep/er/state");
        let (mut state, contents) = StateFile::open(&path).unwrap();
        assert!(contents.records.is_empty());
        state.append(&a_batch("one")).unwrap();
        let first = fs::metadata(&path).unwrap().len();
        state.append(&a_batch("two")).unwrap();
        state.flush().unwrap();
        drop(state);
        let all = fs::read(&path).unwrap();
        for cut in 0..all.len() {
            fs::write(&path, &all[..cut]).unwrap();
            let expected: &[&[u8]] = if length(cut) < first { &[] } else { &[b"one"] };
            assert_eq!(records(&path), expected, "cut at {cut}");
            // What is appended behind the cut is found again.
            StateFile::open(&path).unwrap().0.append(&a_batch("three")).unwrap();
            assert_eq!(records(&path).last().unwrap(), b"three");
        }
        fs::write(&path, &all).unwrap();
        assert_eq!(records(&path), [b"one", b"two"]);
        let mut damaged = all;
        *damaged.last_mut().unwrap() ^= 1;
        fs::write(&path, &damaged).unwrap();
        assert_eq!(records(&path), [b"one"]);
    }

    #[test]
    fn a_second_user_is_turned_away() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("state");
        let first = StateFile::open(&path).unwrap();
        let error = StateFile::open(&path).unwrap_err();
        assert!(matches!(error, StateError::InUse { .. }), "{error}");
        drop(first);
        assert!(StateFile::open(&path).is_ok());
    }

    #[test]
    fn another_file_is_left_alone() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("state");
        fs::write(&path, "a letter to my mother").unwrap();
        let error = StateFile::open(&path).unwrap_err();
        assert!(matches!(error, StateError::NotOurs { .. }), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"a letter to my mother");
    }

    #[test]
    fn compacting_leaves_only_the_snapshot_and_appending_goes_on() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("state");
        let (mut state, _) = StateFile::open(&path).unwrap();
        state.append(&a_batch("old")).unwrap();
        let mut snapshot = a_batch("snapshot");
        let owner = Owner { device: [7; 16], user: "ann".to_owned(), name: String::new() };
        snapshot.owner(&owner);
        state.compact(&snapshot).unwrap();
        state.append(&a_batch("new")).unwrap();
        let error = StateFile::open(&path).unwrap_err();
        assert!(matches!(error, StateError::InUse { .. }), "{error}");
        drop(state);
        let (_, contents) = StateFile::open(&path).unwrap();
        assert_eq!(contents.owner, Some(owner));
        assert_eq!(contents.records, [b"snapshot".to_vec(), b"new".to_vec()]);
    }

    #[test]
    fn lines_are_kept_until_they_are_printed() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("state");
        let (mut state, _) = StateFile::open(&path).unwrap();
        let conversation = ConversationId::from_bytes([5; 16]);
        let unprinted = Unprinted {
            text: b"first\nsecond\n".to_vec(),
            printed: 0,
            place: Some(Place { device: 1, inode: 2, position: 3 }),
            seen: vec![Seen { conversation, seq: Sequence(9) }],
        };
        let mut batch = Batch::default();
        batch.lines(&unprinted);
        state.append(&batch).unwrap();
        let mut batch = Batch::default();
        batch.printed(6);
        state.append(&batch).unwrap();
        drop(state);
        let (mut state, contents) = StateFile::open(&path).unwrap();
        assert_eq!(contents.unprinted, Some(Unprinted { printed: 6, ..unprinted }));
        let mut batch = Batch::default();
        batch.printed(13);
        state.append(&batch).unwrap();
        drop(state);
        assert_eq!(StateFile::open(&path).unwrap().1.unprinted.unwrap().printed, 13);
    }
}
