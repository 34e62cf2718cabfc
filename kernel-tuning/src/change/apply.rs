//! Doing it: the undo file first, then each step, then a look whether it took.

use super::undo::{Recorded, Undo, chosen, restore};
use super::{Changes, Machine, Step, is_same, normal};
use crate::error::Error;
use std::io;

/// How it went.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Applied {
    /// Paths that were written.
    pub written: Vec<String>,
    /// Paths that were right already.
    pub untouched: Vec<String>,
    /// Values of which the kernel made something else.
    pub different: Vec<(String, String)>,
}

/// Writes what is announced, and nothing else.
///
/// A machine on which this ends early, in whatever way, is as before or can be undone: by itself
/// when a step fails, by `undo` when the process or the machine ends between two steps.
pub(crate) fn apply(machine: &mut dyn Machine, changes: &Changes) -> Result<Applied, Error> {
    let mut applied = Applied::default();
    let mut open = Vec::new();
    for step in &changes.steps {
        let before = read(machine, step.path())?;
        if is_done(step, before.as_deref()) {
            applied.untouched.push(step.path().to_owned());
        } else {
            open.push(Recorded { step: step.clone(), before, attributes: None });
        }
    }
    if open.is_empty() {
        return Ok(applied);
    }
    for recorded in &mut open {
        possible(machine, recorded)?;
    }
    let earlier = Undo::load(machine)?;
    let mut undo = earlier.clone().unwrap_or_default();
    undo.is_complete = false;
    for recorded in &open {
        undo.record(recorded);
    }
    let folders = folders_to_make(machine, &open);
    let own = missing_above(machine, &machine.undo_file());
    for folder in own.iter().chain(&folders) {
        if !undo.folders.contains(folder) {
            undo.folders.push(folder.clone());
        }
    }
    undo.folders.sort_by_key(|folder| folder.matches('/').count());
    // The undo file's own folder must be there before it, and goes again if that fails.
    let made = own.iter().try_for_each(|folder| machine.make_folder(folder));
    if let Err(source) = made.and_then(|()| undo.save(machine)) {
        own.iter().rev().for_each(|folder| machine.remove_folder(folder));
        return Err(Error::Write { path: machine.undo_file().into(), source });
    }
    let made: Vec<String> = own.into_iter().chain(folders.iter().cloned()).collect();
    for folder in &folders {
        if let Err(source) = machine.make_folder(folder) {
            return Err(give_up(machine, &[], &made, earlier, folder, source));
        }
    }
    for (at, recorded) in open.iter().enumerate() {
        if let Err(source) = perform(machine, &recorded.step) {
            let path = recorded.step.path();
            return Err(give_up(machine, &open[..=at], &made, earlier, path, source));
        }
        applied.written.push(recorded.step.path().to_owned());
    }
    look_again(machine, &open, &mut undo, &mut applied)?;
    Ok(applied)
}

fn read(machine: &dyn Machine, path: &str) -> Result<Option<String>, Error> {
    machine.read(path).map_err(|source| Error::Read { path: path.into(), source })
}

fn is_done(step: &Step, before: Option<&str>) -> bool {
    match (step, before) {
        (Step::Value { path, value }, Some(before)) => is_same(path, before, value),
        (Step::File { text, .. }, Some(before)) => before == text,
        (_, None) => false,
    }
}

/// Refuses before anything is changed what would fail anyway, and notes what a file has besides its
/// text.
fn possible(machine: &dyn Machine, recorded: &mut Recorded) -> Result<(), Error> {
    match &recorded.step {
        Step::File { path, .. } => {
            recorded.attributes = machine.attributes(path).map_err(|source| {
                let what = format!("{path} cannot be replaced");
                Error::Change { what, source, restored: true }
            })?;
            Ok(())
        }
        Step::Value { path, .. } => machine.may_write(path).map_err(|source| {
            if source.raw_os_error() == Some(rustix::io::Errno::ROFS.raw_os_error()) {
                return Error::ReadOnly;
            }
            Error::Change { what: format!("{path} cannot be written"), source, restored: true }
        }),
    }
}

/// Folders of files that are not there yet, the outer ones first.
fn folders_to_make(machine: &dyn Machine, open: &[Recorded]) -> Vec<String> {
    let mut folders: Vec<String> = Vec::new();
    for recorded in open {
        if let Step::File { path, .. } = &recorded.step {
            let missing = missing_above(machine, path);
            folders
                .extend(missing.into_iter().filter(|f| !folders.contains(f)).collect::<Vec<_>>());
        }
    }
    folders
}

fn missing_above(machine: &dyn Machine, path: &str) -> Vec<String> {
    let mut missing = Vec::new();
    let mut rest = path;
    while let Some((folder, _)) = rest.rsplit_once('/') {
        if folder.is_empty() || machine.folder_exists(folder) {
            break;
        }
        missing.insert(0, folder.to_owned());
        rest = folder;
    }
    missing
}

fn perform(machine: &mut dyn Machine, step: &Step) -> io::Result<()> {
    match step {
        Step::Value { path, value } => machine.write_value(path, value),
        Step::File { path, text } => machine.write_file(path, text, None),
    }
}

/// Puts back what this run did, and the undo file of before it.
fn give_up(
    machine: &mut dyn Machine,
    done: &[Recorded],
    made: &[String],
    earlier: Option<Undo>,
    path: &str,
    source: io::Error,
) -> Error {
    let mut restored = true;
    for recorded in done.iter().rev() {
        restored &= restore(machine, recorded).is_ok();
    }
    if restored {
        restored = match earlier {
            Some(mut undo) => undo.save(machine).is_ok(),
            None => machine.remove_file(&machine.undo_file()).is_ok(),
        };
    }
    made.iter().rev().for_each(|folder| machine.remove_folder(folder));
    Error::Change { what: format!("{path} could not be changed"), source, restored }
}

/// Reads every value back: the kernel may have made another number of it, and only what it made is
/// known as ours when it is undone.
fn look_again(
    machine: &mut dyn Machine,
    open: &[Recorded],
    undo: &mut Undo,
    applied: &mut Applied,
) -> Result<(), Error> {
    for recorded in open {
        let Step::Value { path, value } = &recorded.step else { continue };
        let now = read(machine, path)?.unwrap_or_default();
        if !is_same(path, &now, value) {
            let now = normal(&chosen(&now));
            undo.correct(path, &now);
            applied.different.push((path.clone(), now));
        }
    }
    undo.is_complete = true;
    undo.save(machine).map_err(|source| Error::Change {
        what: format!("all is changed, but {} could not be completed", machine.undo_file()),
        source,
        restored: false,
    })
}

#[cfg(test)]
mod tests {
    use super::super::Attributes;
    use super::super::undo::{UNDO_FILE, undo};
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};

    /// A machine in memory that refuses one call, or every call from one on: then the process is
    /// dead, and another one goes on with what is there.
    #[derive(Debug, Clone, Default, PartialEq, Eq)]
    struct Fake {
        files: BTreeMap<String, String>,
        attributes: BTreeMap<String, Attributes>,
        folders: BTreeSet<String>,
        calls: u32,
        fails_at: Option<u32>,
        is_dead: bool,
    }

    const NEW: Attributes = Attributes { mode: 0o644, user_id: 0, group_id: 0 };

    impl Fake {
        fn new() -> Self {
            let files = [("/proc/sys/a", "1"), ("/proc/sys/b", "4096\t131072"), ("/etc/old", "x")];
            Self {
                files: files.map(|(path, text)| (path.to_owned(), text.to_owned())).into(),
                folders: ["/etc", "/var", "/var/lib"].map(str::to_owned).into(),
                ..Self::default()
            }
        }

        fn call(&mut self) -> io::Result<()> {
            self.calls += 1;
            let fails =
                self.fails_at.is_some_and(|at| self.calls == at || self.is_dead && self.calls > at);
            if fails { Err(io::ErrorKind::Other.into()) } else { Ok(()) }
        }

        /// What is there, without what counts calls.
        fn state(&self) -> (BTreeMap<String, String>, BTreeSet<String>) {
            let normal = |(path, text): (&String, &String)| (path.clone(), normal(text));
            (self.files.iter().map(normal).collect(), self.folders.clone())
        }
    }

    impl Machine for Fake {
        fn undo_file(&self) -> String {
            UNDO_FILE.to_owned()
        }

        fn read(&self, path: &str) -> io::Result<Option<String>> {
            Ok(self.files.get(path).cloned())
        }

        fn may_write(&self, _path: &str) -> io::Result<()> {
            Ok(())
        }

        fn write_value(&mut self, path: &str, value: &str) -> io::Result<()> {
            self.call()?;
            // As the kernel does with some: it takes no more than 1,000.
            let most = value
                .parse::<u64>()
                .map_or_else(|_| value.to_owned(), |n| n.min(1_000).to_string());
            self.files.insert(path.to_owned(), most);
            Ok(())
        }

        fn attributes(&self, path: &str) -> io::Result<Option<Attributes>> {
            let known = self.attributes.get(path).copied();
            Ok(self.files.get(path).map(|_| known.unwrap_or(NEW)))
        }

        fn clean(&mut self, _path: &str) {}

        fn write_file(
            &mut self,
            path: &str,
            text: &str,
            attributes: Option<Attributes>,
        ) -> io::Result<()> {
            self.call()?;
            if let Some(attributes) = attributes {
                self.attributes.insert(path.to_owned(), attributes);
            }
            let folder = path.rsplit_once('/').unwrap().0;
            assert!(self.folders.contains(folder), "{folder} is not there");
            self.files.insert(path.to_owned(), text.to_owned());
            Ok(())
        }

        fn remove_file(&mut self, path: &str) -> io::Result<()> {
            self.call()?;
            self.files.remove(path);
            Ok(())
        }

        fn folder_exists(&self, path: &str) -> bool {
            self.folders.contains(path)
        }

        fn make_folder(&mut self, path: &str) -> io::Result<()> {
            self.call()?;
            self.folders.insert(path.to_owned());
            Ok(())
        }

        fn remove_folder(&mut self, path: &str) {
            let below = format!("{path}/");
            let is_used = self.files.keys().chain(&self.folders).any(|p| p.starts_with(&below));
            if !is_used {
                self.folders.remove(path);
            }
        }
    }

    fn changes() -> Changes {
        let value = |path: &str, value: &str| Step::Value {
            path: path.to_owned(),
            value: value.to_owned(),
        };
        let file = |path: &str| Step::File { path: path.to_owned(), text: "new\n".to_owned() };
        Changes {
            steps: vec![
                file("/etc/d/new"),
                file("/etc/old"),
                value("/proc/sys/a", "5000"),
                value("/proc/sys/b", "1 2"),
            ],
            ..Changes::default()
        }
    }

    #[test]
    fn every_call_may_fail_and_nothing_stays_half_done() {
        let before = Fake::new().state();
        let mut machine = Fake::new();
        apply(&mut machine, &changes()).unwrap();
        let (calls, after) = (machine.calls, machine.state());
        assert!(calls > 6);
        for at in 1..=calls {
            let mut machine = Fake { fails_at: Some(at), ..Fake::new() };
            match apply(&mut machine, &changes()) {
                Err(Error::Change { restored: true, .. } | Error::Write { .. }) => {}
                Err(Error::Change { restored: false, .. }) if at == calls => {}
                other => panic!("call {at}: {other:?}"),
            }
            let (files, folders) = machine.state();
            if files.contains_key(UNDO_FILE) {
                // The last write only notes that it is complete.
                assert_eq!((at, &folders), (calls, &after.1));
                undo(&mut machine, false).unwrap();
                assert_eq!(machine.state(), before);
            } else {
                assert_eq!((files, folders), before, "call {at}");
            }
        }
    }

    #[test]
    fn the_process_may_end_at_any_call_and_all_can_be_undone() {
        let before = Fake::new().state();
        let mut whole = Fake::new();
        apply(&mut whole, &changes()).unwrap();
        for at in 1..=whole.calls {
            let mut machine = Fake { fails_at: Some(at), is_dead: true, ..Fake::new() };
            assert!(apply(&mut machine, &changes()).is_err());
            // Another process, later.
            let mut machine = Fake { fails_at: None, ..machine };
            match undo(&mut machine, false) {
                Ok(_) => assert_eq!(machine.state(), before, "call {at}"),
                Err(Error::NothingToUndo { .. }) => assert_eq!(machine.state().0, before.0),
                Err(other) => panic!("call {at}: {other}"),
            }
        }
    }

    #[test]
    fn what_the_kernel_made_of_a_value_is_known_as_ours() {
        let before = Fake::new().state();
        let mut machine = Fake::new();
        let applied = apply(&mut machine, &changes()).unwrap();
        assert_eq!(applied.different, [("/proc/sys/a".to_owned(), "1000".to_owned())]);
        undo(&mut machine, false).unwrap();
        assert_eq!(machine.state(), before);
    }
}
