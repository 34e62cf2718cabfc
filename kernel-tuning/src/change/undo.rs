//! The undo file, and putting back what it says.

use super::{Attributes, Machine, Step, is_same, normal};
use crate::error::Error;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::PathBuf;

/// Where it is kept for the machine itself. Its folder goes with it.
pub(super) const UNDO_FILE: &str = "/var/lib/roost-tune/undo.json";
pub(super) const UNDO_FOLDER: &str = "/var/lib/roost-tune";
const UNDO_SCHEMA: u32 = 1;

/// What was before one step, and what the step made of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Recorded {
    pub(super) step: Step,
    /// What was there; none: no such file.
    pub(super) before: Option<String>,
    /// Mode and owner of the file that was there.
    #[serde(default)]
    pub(super) attributes: Option<Attributes>,
}

/// The undo file's content.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Undo {
    schema: u32,
    /// The run that wrote it came to its end. Else it is not known what the kernel made of a value.
    #[serde(default)]
    pub(super) is_complete: bool,
    /// In the order in which they were done.
    pub(super) steps: Vec<Recorded>,
    /// Folders that were made, the outer ones first.
    pub(super) folders: Vec<String>,
}

impl Undo {
    /// The undo file of a machine; empty if there is none.
    pub(super) fn load(machine: &dyn Machine) -> Result<Option<Self>, Error> {
        let file = machine.undo_file();
        let path = || PathBuf::from(&file);
        let text = machine.read(&file).map_err(|source| Error::Read { path: path(), source })?;
        let Some(text) = text else { return Ok(None) };
        let undo: Self = serde_json::from_str(&text)
            .map_err(|source| Error::NotFacts { path: path(), source })?;
        if undo.schema != UNDO_SCHEMA {
            return Err(Error::Schema { path: path(), found: undo.schema, known: UNDO_SCHEMA });
        }
        Ok(Some(undo))
    }

    /// Writes it whole; it is on the disk when this returns.
    pub(super) fn save(&mut self, machine: &mut dyn Machine) -> io::Result<()> {
        self.schema = UNDO_SCHEMA;
        let text = serde_json::to_string_pretty(self).map_err(io::Error::other)?;
        machine.write_file(&machine.undo_file(), &text, None)
    }

    /// Adds a step. What was before the first one on a path is what counts.
    pub(super) fn record(&mut self, recorded: &Recorded) {
        let path = recorded.step.path();
        match self.steps.iter_mut().find(|known| known.step.path() == path) {
            Some(known) => known.step = recorded.step.clone(),
            None => self.steps.push(recorded.clone()),
        }
    }

    /// Notes what the kernel made of a value.
    pub(super) fn correct(&mut self, path: &str, now: &str) {
        if let Some(known) = self.steps.iter_mut().find(|known| known.step.path() == path) {
            known.step = Step::Value { path: path.to_owned(), value: now.to_owned() };
        }
    }
}

/// How it went.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Undone {
    /// Paths that have their old content again.
    pub restored: Vec<String>,
    /// Paths that had it already.
    pub untouched: Vec<String>,
    /// Values that are not there any more, as those of a device that was taken away.
    pub gone: Vec<String>,
}

/// Puts everything back, in reverse order.
///
/// Nothing is changed if somebody else changed one of the values since, unless `force`. A step that
/// fails does not keep the others from being put back; the undo file then stays.
pub(crate) fn undo(machine: &mut dyn Machine, force: bool) -> Result<Undone, Error> {
    let undo_file = machine.undo_file();
    let Some(undo) = Undo::load(machine)? else {
        // What a crash within the first write left: before it was whole, nothing was changed.
        machine.clean(&undo_file);
        machine.remove_folder(UNDO_FOLDER);
        return Err(Error::NothingToUndo { path: undo_file.into() });
    };
    if !force {
        let foreign = foreign(machine, &undo);
        if !foreign.is_empty() {
            return Err(Error::Foreign { what: foreign });
        }
    }
    let mut undone = Undone::default();
    let mut failed = None;
    for recorded in undo.steps.iter().rev() {
        let path = recorded.step.path().to_owned();
        match restore(machine, recorded) {
            Ok(Restored::Now) => undone.restored.push(path),
            Ok(Restored::Already) => undone.untouched.push(path),
            Ok(Restored::Gone) => undone.gone.push(path),
            Err(source) => failed = Some(failed.unwrap_or((path, source))),
        }
    }
    if let Some((path, source)) = failed {
        let what = format!("{path} could not be put back");
        return Err(Error::Change { what, source, restored: false });
    }
    let (own, others): (Vec<&String>, Vec<&String>) =
        undo.folders.iter().rev().partition(|folder| undo_file.starts_with(folder.as_str()));
    others.into_iter().for_each(|folder| machine.remove_folder(folder));
    machine
        .remove_file(&undo_file)
        .map_err(|source| Error::Write { path: undo_file.clone().into(), source })?;
    own.into_iter().for_each(|folder| machine.remove_folder(folder));
    Ok(undone)
}

/// What is neither as it was nor as we made it.
fn foreign(machine: &dyn Machine, undo: &Undo) -> Vec<String> {
    let is_foreign = |recorded: &&Recorded| {
        let now = machine.read(recorded.step.path()).ok().flatten();
        let same = |other: Option<&str>| match (now.as_deref(), other) {
            (Some(now), Some(other)) => match recorded.step {
                Step::Value { .. } => is_same(recorded.step.path(), now, other),
                Step::File { .. } => now == other,
            },
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        let made = match &recorded.step {
            Step::Value { value, .. } => value,
            Step::File { text, .. } => text,
        };
        let is_gone = now.is_none() && matches!(recorded.step, Step::Value { .. });
        let is_unsure = !undo.is_complete && matches!(recorded.step, Step::Value { .. });
        !is_gone && !is_unsure && !same(recorded.before.as_deref()) && !same(Some(made))
    };
    let say = |recorded: &Recorded| match &recorded.step {
        Step::Value { path, value } => {
            let now = machine.read(path).ok().flatten().unwrap_or_default();
            format!("{path} is {}, we wrote {value}", normal(&now))
        }
        Step::File { path, .. } => format!("{path} has another text than ours"),
    };
    undo.steps.iter().filter(is_foreign).map(say).collect()
}

pub(super) enum Restored {
    Now,
    Already,
    Gone,
}

/// Puts one thing back; doing it twice is as doing it once.
pub(super) fn restore(machine: &mut dyn Machine, recorded: &Recorded) -> io::Result<Restored> {
    let path = recorded.step.path();
    let now = machine.read(path)?;
    match (&recorded.step, &recorded.before) {
        (Step::Value { .. }, _) if now.is_none() => Ok(Restored::Gone),
        (Step::Value { .. }, None) => Ok(Restored::Gone),
        (Step::Value { .. }, Some(before)) => {
            if now.as_deref().is_some_and(|now| is_same(path, now, before)) {
                return Ok(Restored::Already);
            }
            machine.write_value(path, &chosen(before)).map(|()| Restored::Now)
        }
        (Step::File { .. }, before) => {
            machine.clean(path);
            let attributes = machine.attributes(path)?;
            let has_them = recorded.attributes.is_none() || attributes == recorded.attributes;
            match before {
                before if now == *before && has_them => Ok(Restored::Already),
                Some(before) => {
                    let wanted = recorded.attributes;
                    machine.write_file(path, before, wanted).map(|()| Restored::Now)
                }
                None => machine.remove_file(path).map(|()| Restored::Now),
            }
        }
    }
}

/// Some values show all choices and mark the one that is taken: `always [madvise] never`.
pub(super) fn chosen(value: &str) -> String {
    let marked = value.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
    marked.map_or(value, |(chosen, _)| chosen).to_owned()
}
