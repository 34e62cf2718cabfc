//! Where lines for the person go.

use super::state_entries::{Place, Unprinted};
use rustix::fs::{OFlags, fcntl_getfl};
use rustyline::ExternalPrinter;
use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{FileExt, MetadataExt};

/// A write of so much to a pipe happens as a whole or not at all (`PIPE_BUF`).
const ATOMIC_BYTES: usize = 4096;

/// Prints lines.
pub(super) enum Printer {
    /// To stdout. The standard library's buffer is not used: when a write returns, it is out.
    Stdout { file: File, is_regular: bool },
    /// Above the line that is being edited.
    Terminal(Box<dyn ExternalPrinter + Send>),
}

impl Printer {
    /// To stdout, whatever it is.
    pub(super) fn stdout() -> io::Result<Self> {
        let file = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        let is_regular = file.metadata()?.is_file();
        Ok(Self::Stdout { file, is_regular })
    }

    /// Where the next line goes, if it can be looked at again.
    pub(super) fn place(&self) -> Option<Place> {
        let Self::Stdout { file, is_regular: true } = self else { return None };
        let facts = file.metadata().ok()?;
        let appends = fcntl_getfl(file).ok()?.contains(OFlags::APPEND);
        let position = if appends { facts.len() } else { (&*file).stream_position().ok()? };
        Some(Place { device: facts.dev(), inode: facts.ino(), position })
    }

    /// How many bytes of these lines are out, of a run that was killed before it could say so.
    pub(super) fn already_out(&self, lines: &Unprinted) -> usize {
        self.matching(lines).unwrap_or(0).max(lines.printed)
    }

    fn matching(&self, lines: &Unprinted) -> Option<usize> {
        let Self::Stdout { file, is_regular: true } = self else { return None };
        let (place, facts) = (lines.place?, file.metadata().ok()?);
        if (place.device, place.inode) != (facts.dev(), facts.ino()) {
            return None;
        }
        // Stdout itself is for writing only.
        let readable = File::open(format!("/proc/self/fd/{}", file.as_raw_fd())).ok()?;
        let mut there = vec![0; lines.text.len()];
        let mut length = 0;
        while let Some(rest) = there.get_mut(length..).filter(|rest| !rest.is_empty()) {
            let at = place.position.checked_add(u64::try_from(length).ok()?)?;
            match readable.read_at(rest, at).ok()? {
                0 => break,
                read => length = length.saturating_add(read),
            }
        }
        let same = there.iter().take(length).zip(&lines.text).take_while(|(a, b)| a == b);
        Some(same.count())
    }

    /// Prints what is not out yet; `progress` hears, as soon as possible, how much is.
    pub(super) fn print<E: From<io::Error>>(
        &mut self,
        lines: &Unprinted,
        mut progress: impl FnMut(usize) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut printed = lines.printed;
        while let Some(rest) = lines.text.get(printed..).filter(|rest| !rest.is_empty()) {
            printed = printed.saturating_add(match self {
                Self::Stdout { file, is_regular } => {
                    let chunk = if *is_regular { rest } else { chunk(rest) };
                    match file.write(chunk) {
                        Ok(0) => return Err(io::Error::from(io::ErrorKind::WriteZero).into()),
                        Ok(written) => written,
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
                        Err(error) => return Err(error.into()),
                    }
                }
                Self::Terminal(printer) => {
                    let text = String::from_utf8_lossy(rest).into_owned();
                    printer.print(text).map_err(io::Error::other)?;
                    rest.len()
                }
            });
            progress(printed)?;
        }
        Ok(())
    }
}

/// As many whole lines as one atomic write takes; a longer line alone.
fn chunk(rest: &[u8]) -> &[u8] {
    if rest.len() <= ATOMIC_BYTES {
        return rest;
    }
    let ends = || rest.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
    let fitting = ends().take_while(|end| *end <= ATOMIC_BYTES).last();
    let end = fitting.or_else(|| ends().next()).unwrap_or(rest.len());
    rest.get(..end).unwrap_or(rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::NamedTempFile;

    fn text(lines: &[u8]) -> Unprinted {
        Unprinted { text: lines.to_vec(), ..Unprinted::default() }
    }

    #[test]
    fn pipes_get_whole_lines() {
        let long = [b"x".repeat(5000), b"\n".to_vec()].concat();
        let short = [b"y".repeat(3000), b"\n".to_vec()].concat();
        let all = [short.clone(), short.clone(), long.clone(), b"end\n".to_vec()].concat();
        assert_eq!(chunk(&all), short);
        assert_eq!(chunk(&all[2 * short.len()..]), long);
        assert_eq!(chunk(b"a\nb\n"), b"a\nb\n");
    }

    #[test]
    fn a_file_tells_how_far_a_killed_run_came() {
        let file = NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "before\n").unwrap();
        let out = File::options().append(true).open(file.path()).unwrap();
        let mut printer = Printer::Stdout { file: out, is_regular: true };
        let place = printer.place().unwrap();
        assert_eq!(place.position, 7);
        let lines = Unprinted { place: Some(place), ..text(b"one\ntwo\n") };
        let mut told = Vec::new();
        printer
            .print(&lines, |printed| {
                told.push(printed);
                Ok::<(), io::Error>(())
            })
            .unwrap();
        assert_eq!(told, [8]);
        assert_eq!(std::fs::read(file.path()).unwrap(), b"before\none\ntwo\n");
        assert_eq!(printer.place().unwrap().position, 15);
        assert_eq!(printer.already_out(&lines), 8);
        std::fs::write(file.path(), "before\none\ntw").unwrap();
        assert_eq!(printer.already_out(&lines), 6);
        std::fs::write(file.path(), "").unwrap();
        assert_eq!(printer.already_out(&lines), 0);
    }

    #[test]
    fn what_is_out_is_not_printed_again() {
        let file = NamedTempFile::new().unwrap();
        let out = File::options().append(true).open(file.path()).unwrap();
        let mut printer = Printer::Stdout { file: out, is_regular: true };
        let lines = Unprinted { printed: 4, ..text(b"one\ntwo\n") };
        printer.print(&lines, |_| Ok::<(), io::Error>(())).unwrap();
        assert_eq!(std::fs::read(file.path()).unwrap(), b"two\n");
    }
}
