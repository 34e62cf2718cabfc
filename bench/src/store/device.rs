//! The disk below a folder, as the kernel counts it, and how its cache is emptied.

use super::engine::Failure;
use rustix::fs::{Advice, fadvise};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The kernel counts sectors of this size on every device.
const SECTOR_BYTES: u64 = 512;
const DROP: &str = "/proc/sys/vm/drop_caches";

/// The block device that holds a folder.
#[derive(Debug, Clone)]
pub struct Device {
    folder: PathBuf,
    stat: Option<PathBuf>,
}

/// What a device did since the machine started, for everybody on it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceCounts {
    /// Requests to read that it completed, after the kernel merged what lay side by side.
    pub reads: u64,
    /// Bytes it read.
    pub read_bytes: u64,
    /// Bytes it wrote.
    pub written_bytes: u64,
}

/// What this process made the disk do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnCounts {
    /// Bytes fetched from the device for it, what the kernel read ahead included.
    pub read_bytes: u64,
    /// Bytes that it made dirty and that were not taken back before they were written. The kernel
    /// counts whole folios: one byte into a file that was written in large pieces counts as much
    /// as a piece, although the file system writes one block. So this is no measure of writing,
    /// only a hint when the device has other users.
    pub written_bytes: u64,
}

impl Device {
    /// Of a folder. A file system that is on no block device has no counters.
    ///
    /// # Errors
    /// There is no such folder.
    pub fn of(folder: &Path) -> Result<Self, Failure> {
        let number = fs::metadata(folder)?.dev();
        let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
        let stat = PathBuf::from(format!("/sys/dev/block/{major}:{minor}/stat"));
        Ok(Self { folder: folder.to_owned(), stat: stat.exists().then_some(stat) })
    }

    /// The counters now; zeros if there are none.
    #[must_use]
    pub fn counts(&self) -> DeviceCounts {
        let text = self.stat.as_ref().and_then(|path| fs::read_to_string(path).ok());
        text.map_or_else(DeviceCounts::default, |text| parse_stat(&text))
    }

    /// What the figures were measured on: device, file system and its options, write cache.
    #[must_use]
    pub fn describe(&self) -> String {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let Some(stat) = &self.stat else {
            return "no block device: NOT A DISK".to_owned();
        };
        let folder = stat.parent().and_then(|link| fs::canonicalize(link).ok());
        let Some(device) = folder else { return "unknown".to_owned() };
        let number = fs::read_to_string(device.join("dev")).unwrap_or_default();
        let mounted = mounts.lines().find(|line| line.split(' ').nth(2) == Some(number.trim()));
        let mounted = mounted.and_then(|line| line.split_once(" - "));
        let system = mounted.map_or("unknown", |(_, rest)| rest);
        let queue = [device.join("queue"), device.join("../queue")];
        let asked = |name: &str| {
            let found = queue.iter().find_map(|queue| fs::read_to_string(queue.join(name)).ok());
            found.unwrap_or_default().trim().to_owned()
        };
        let name = device.file_name().unwrap_or_default().to_string_lossy();
        format!(
            "{name}: {system}; {}, scheduler {}, read-ahead {} KiB",
            asked("write_cache"),
            asked("scheduler"),
            asked("read_ahead_kb")
        )
    }

    /// Empties the page cache; for lack of the right to, or if nothing else is wanted, of the files
    /// in this folder. Says which.
    ///
    /// # Errors
    /// The files cannot be read.
    pub fn drop_caches(&self, own_files_only: bool) -> Result<Dropped, Failure> {
        rustix::fs::sync();
        if !own_files_only && fs::write(DROP, "3").is_ok() {
            return Ok(Dropped::All);
        }
        for path in files(&self.folder)? {
            let file = File::open(path)?;
            fadvise(&file, 0, None, Advice::DontNeed)?;
        }
        Ok(Dropped::Files)
    }

    /// The largest file of the folder, which a bare read is of.
    ///
    /// # Errors
    /// The folder cannot be read, or is empty.
    pub fn largest_file(&self) -> Result<(File, u64), Failure> {
        let mut largest: Option<(u64, PathBuf)> = None;
        for path in files(&self.folder)? {
            let bytes = fs::metadata(&path)?.len();
            if largest.as_ref().is_none_or(|(most, _)| bytes > *most) {
                largest = Some((bytes, path));
            }
        }
        let (bytes, path) = largest.ok_or("an empty folder")?;
        Ok((File::open(path)?, bytes))
    }

    /// Bytes that the folder's files take on the device.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn used_bytes(&self) -> Result<u64, Failure> {
        let mut blocks = 0;
        for path in files(&self.folder)? {
            blocks += fs::metadata(path)?.blocks();
        }
        Ok(blocks * SECTOR_BYTES)
    }
}

/// What was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dropped {
    /// The machine's page cache, and what it knew of folders and files.
    All,
    /// The folder's files only; what the file system knows of them stayed in memory.
    Files,
}

impl DeviceCounts {
    /// What was added since.
    #[must_use]
    pub const fn since(self, before: Self) -> Self {
        Self {
            reads: self.reads.saturating_sub(before.reads),
            read_bytes: self.read_bytes.saturating_sub(before.read_bytes),
            written_bytes: self.written_bytes.saturating_sub(before.written_bytes),
        }
    }
}

impl OwnCounts {
    /// Of this process, now.
    #[must_use]
    pub fn now() -> Self {
        parse_io(&fs::read_to_string("/proc/self/io").unwrap_or_default())
    }

    /// What was added since.
    #[must_use]
    pub const fn since(self, before: Self) -> Self {
        Self {
            read_bytes: self.read_bytes.saturating_sub(before.read_bytes),
            written_bytes: self.written_bytes.saturating_sub(before.written_bytes),
        }
    }
}

fn parse_stat(text: &str) -> DeviceCounts {
    let mut fields = text.split_ascii_whitespace().map(|field| field.parse().unwrap_or(0));
    let mut skip_to = |place: usize| fields.nth(place).unwrap_or(0);
    let reads = skip_to(0);
    let read_sectors: u64 = skip_to(1);
    let written_sectors: u64 = skip_to(3);
    DeviceCounts {
        reads,
        read_bytes: read_sectors * SECTOR_BYTES,
        written_bytes: written_sectors * SECTOR_BYTES,
    }
}

fn parse_io(text: &str) -> OwnCounts {
    let field = |name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name));
        value.and_then(|value| value.trim().parse::<u64>().ok()).unwrap_or(0)
    };
    let taken_back = field("cancelled_write_bytes:");
    OwnCounts {
        read_bytes: field("read_bytes:"),
        written_bytes: field("write_bytes:").saturating_sub(taken_back),
    }
}

/// All files below a folder. A file may vanish meanwhile, a folder may not.
fn files(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else {
                found.push(entry.path());
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_the_kernel_are_found_at_their_places() {
        let stat = "  11 12 13 14 15 16 17 18 19 20 21\n";
        let counts = parse_stat(stat);
        assert_eq!(counts, DeviceCounts { reads: 11, read_bytes: 6_656, written_bytes: 8_704 });
        let io = "rchar: 1\nwchar: 2\nsyscr: 3\nsyscw: 4\nread_bytes: 5\nwrite_bytes: 60\n\
                  cancelled_write_bytes: 7\n";
        assert_eq!(parse_io(io), OwnCounts { read_bytes: 5, written_bytes: 53 });
    }
}
