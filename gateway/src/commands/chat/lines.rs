//! What the person types, or what a script writes to stdin, line by line, read by a thread.

use super::wake::Wake;
use roost_protocol::limits::BODY_MAX_BYTES;
use rustyline::error::ReadlineError;
use rustyline::{DefaultEditor, ExternalPrinter};
use std::io::{self, BufRead, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

/// Lines read ahead of what the session takes.
const AHEAD_MAX: usize = 64;
/// What invites to type.
const PROMPT: &str = "> ";

/// What was typed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Typed {
    /// A line without its end.
    Line(Vec<u8>),
    /// A line longer than any message.
    TooLong,
    /// There is no more.
    End,
    /// Leave at once.
    Leave,
}

/// Reads stdin to its end. Every line counts, empty ones too, and a last one without an end.
pub(super) fn from_stdin(wake: Wake) -> io::Result<Receiver<Typed>> {
    let (sender, receiver) = sync_channel(AHEAD_MAX);
    let thread = thread::Builder::new().name("stdin".to_owned()).spawn(move || {
        let mut stdin = io::stdin().lock();
        loop {
            // A pipe that breaks has ended.
            let typed = read_line(&mut stdin).unwrap_or(Typed::End);
            let is_end = typed == Typed::End;
            if !tell(&sender, &wake, typed) || is_end {
                return;
            }
        }
    })?;
    drop(thread);
    Ok(receiver)
}

/// A terminal with a line editor: what is typed, and a printer that does not garble it.
pub(super) struct Terminal {
    pub(super) typed: Receiver<Typed>,
    pub(super) printer: Box<dyn ExternalPrinter + Send>,
    /// Ends after [`Typed::End`] and [`Typed::Leave`], or when nobody listens.
    pub(super) thread: thread::JoinHandle<()>,
}

/// Edits lines. Empty ones say nothing; `/quit` and the end of input finish, Ctrl-C leaves.
pub(super) fn from_terminal(wake: Wake) -> Result<Terminal, ReadlineError> {
    let mut editor = DefaultEditor::new()?;
    let printer = Box::new(editor.create_external_printer()?);
    let (sender, typed) = sync_channel(AHEAD_MAX);
    let thread = thread::Builder::new().name("terminal".to_owned()).spawn(move || {
        loop {
            let typed = match editor.readline(PROMPT) {
                Ok(line) if line == "/quit" => Typed::End,
                Ok(line) if line.is_empty() => continue,
                Ok(line) if line.len() > BODY_MAX_BYTES => Typed::TooLong,
                Ok(line) => {
                    // Without a history the arrow keys do nothing; the line is sent all the same.
                    let _added = editor.add_history_entry(&line);
                    Typed::Line(line.into_bytes())
                }
                Err(ReadlineError::Interrupted) => Typed::Leave,
                Err(_) => Typed::End,
            };
            let is_last = matches!(typed, Typed::End | Typed::Leave);
            if !tell(&sender, &wake, typed) || is_last {
                return;
            }
        }
    });
    Ok(Terminal { typed, printer, thread: thread? })
}

/// Whether somebody listens.
fn tell(sender: &SyncSender<Typed>, wake: &Wake, typed: Typed) -> bool {
    let told = sender.send(typed).is_ok();
    wake.ring();
    told
}

fn read_line(input: &mut impl BufRead) -> io::Result<Typed> {
    let mut line = Vec::new();
    let limit = u64::try_from(BODY_MAX_BYTES + 1).unwrap_or(u64::MAX);
    let read = input.by_ref().take(limit).read_until(b'\n', &mut line)?;
    if read == 0 {
        return Ok(Typed::End);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    } else if line.len() > BODY_MAX_BYTES {
        input.skip_until(b'\n')?;
        return Ok(Typed::TooLong);
    }
    Ok(Typed::Line(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(mut input: &[u8]) -> Vec<Typed> {
        std::iter::from_fn(|| Some(read_line(&mut input).unwrap()))
            .take_while(|typed| *typed != Typed::End)
            .collect()
    }

    fn line(text: &str) -> Typed {
        Typed::Line(text.as_bytes().to_vec())
    }

    #[test]
    fn every_line_counts() {
        assert_eq!(all(b""), []);
        assert_eq!(all(b"\n"), [line("")]);
        assert_eq!(all(b"a\n\n b \r\nlast"), [line("a"), line(""), line(" b \r"), line("last")]);
        assert_eq!(all(b"\xff\n"), [Typed::Line(vec![0xff])]);
    }

    #[test]
    fn an_endless_line_is_skipped() {
        let full = "x".repeat(BODY_MAX_BYTES);
        let text = format!("{full}\n{full}y\n{full}yy\n{full}{full}{full}\nnext\n{full}{full}");
        let expected = [
            line(&full),
            Typed::TooLong,
            Typed::TooLong,
            Typed::TooLong,
            line("next"),
            Typed::TooLong,
        ];
        assert_eq!(all(text.as_bytes()), expected);
    }
}
