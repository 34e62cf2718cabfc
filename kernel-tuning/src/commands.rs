//! The subcommands: each reads facts, asks the core, and writes what it says.

use crate::args::{
    ApplyArgs, CheckArgs, Cli, CollectArgs, Command, FactsArgs, GoalArgs, PlanArgs, ProbeArgs,
    UndoArgs,
};
use crate::change::{self, Changes, Choice, Machine, Real};
use crate::emit::Wanted;
use crate::error::Error;
use crate::facts::{self, Facts};
use crate::goal::Goal;
use crate::probe::{self, Outcome};
use crate::root::Root;
use crate::{check, doctor, netlink, plan, report, settings, watch};
use clap::Parser;
use serde::Serialize;
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

/// It does not fit, or something differs.
const DIFFERS: u8 = 1;
/// It could not be looked at, or done.
const FAILED: u8 = 2;

/// Runs the program.
#[must_use]
pub fn main() -> ExitCode {
    let command = Cli::parse().command;
    match run(command, &mut io::stdout().lock()) {
        Ok(code) => code,
        // Whoever reads us has had enough: head, for instance.
        Err(Error::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::from(FAILED)
        }
    }
}

#[expect(clippy::print_stderr, reason = "the one place where a command says why it failed")]
fn complain(error: &Error) {
    eprintln!("roost-tune: {error}");
}

fn run(command: Command, out: &mut dyn Write) -> Result<ExitCode, Error> {
    match command {
        Command::Check(args) => check_it(&args, out),
        Command::Plan(args) => plan_it(&args, out),
        Command::Apply(args) => apply_it(&args, out),
        Command::Undo(args) => undo_it(&args, out),
        Command::Watch(args) => watch::run(&args, out).map(|()| ExitCode::SUCCESS),
        Command::Doctor(args) => {
            let healthy = doctor::run(&args, out)?;
            Ok(if healthy { ExitCode::SUCCESS } else { ExitCode::from(DIFFERS) })
        }
        Command::Probe(args) => probe_it(&args, out),
        Command::Profiles => say(out, &report::profiles()),
        Command::Explain { setting: None } => say(out, &report::settings()),
        Command::Explain { setting: Some(name) } => match settings::find(&name) {
            Some(setting) => say(out, &report::explain(setting)),
            None => Err(Error::NoSuchSetting { near: settings::near(&name), name }),
        },
        Command::Collect(args) => collect_it(&args, out),
        Command::ProbeChild { role } => probe::child(&role).map(|()| ExitCode::SUCCESS),
    }
}

fn say(out: &mut dyn Write, text: &str) -> Result<ExitCode, Error> {
    out.write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn say_json(out: &mut dyn Write, value: &impl Serialize) -> Result<(), Error> {
    let text = serde_json::to_string_pretty(value).map_err(io::Error::other)?;
    Ok(writeln!(out, "{text}")?)
}

/// Facts of the machine, the tree or the archive, with what a probe measured.
fn facts_of(args: &FactsArgs) -> Result<Facts, Error> {
    check_unit(&args.unit)?;
    let mut facts = match &args.facts {
        Some(path) => facts::load(path)?,
        None => collect(&Root::new(&args.root), &args.unit)?,
    };
    if let Some(path) = &args.measured {
        facts.measured = Some(probe::load(path)?);
    }
    Ok(facts)
}

fn collect(root: &Root, unit: &str) -> Result<Facts, Error> {
    let mut facts = facts::collect(root, unit);
    if facts.kernel.is_empty() {
        let source = io::Error::from(io::ErrorKind::NotFound);
        return Err(Error::Read { path: root.path("/proc/sys/kernel/osrelease"), source });
    }
    if root.is_real() {
        netlink::complete(&mut facts.nics);
    }
    Ok(facts)
}

fn goal_of(args: &GoalArgs) -> Result<Goal, Error> {
    let goal = args.goal();
    goal.check()?;
    Ok(goal)
}

fn check_it(args: &CheckArgs, out: &mut dyn Write) -> Result<ExitCode, Error> {
    let goal = goal_of(&args.goal)?;
    let found = check::check(&facts_of(&args.facts)?, &goal);
    if args.json {
        say_json(out, &found)?;
    } else {
        out.write_all(report::check(&found, args.all).as_bytes())?;
    }
    Ok(if found.fits { ExitCode::SUCCESS } else { ExitCode::from(DIFFERS) })
}

fn plan_it(args: &PlanArgs, out: &mut dyn Write) -> Result<ExitCode, Error> {
    let goal = goal_of(&args.goal)?;
    let mut facts = facts_of(&args.facts)?;
    if args.probe {
        facts.measured = Some(probe::short()?);
    }
    let planned = plan::plan(&facts, &goal);
    if args.json {
        say_json(out, &planned)?;
    } else {
        out.write_all(report::plan(&planned).as_bytes())?;
    }
    let fits = planned.check.fits && planned.nodes <= 1;
    Ok(if fits { ExitCode::SUCCESS } else { ExitCode::from(DIFFERS) })
}

fn apply_it(args: &ApplyArgs, out: &mut dyn Write) -> Result<ExitCode, Error> {
    let goal = goal_of(&args.goal)?;
    let facts = facts_of(&args.facts)?;
    if let Some(name) = args.skip.iter().find(|name| settings::find(name).is_none()) {
        return Err(Error::NoSuchSetting { near: settings::near(name), name: name.clone() });
    }
    let unit = &args.facts.unit;
    let choice = Choice { unit: unit.clone(), skip: args.skip.clone() };
    let found = check::check(&facts, &goal);
    let changes = Changes::of(&facts, &found, &choice);
    if let Some(format) = args.emit {
        let wanted = Wanted { facts: &facts, goal: &goal, changes: &changes, unit };
        return say(out, &wanted.emit(format));
    }
    let root = Root::new(&args.facts.root);
    let mut machine = Real::new(&root, args.stop_after);
    // An archive is not this machine: what is there now is in the archive.
    let is_archive = args.facts.facts.is_some();
    let before = |path: &str| {
        if is_archive { known(&facts, path) } else { machine.read(path).ok().flatten() }
    };
    let diff = changes.diff(before);
    out.write_all(diff.as_bytes())?;
    for finding in &found.findings {
        if let Some(managed) = finding.managed.as_ref().filter(|_| !finding.changes.is_empty()) {
            writeln!(out, "{}: {managed}", finding.setting)?;
        }
    }
    if !args.write {
        writeln!(out, "nothing was changed; --write does it")?;
        return Ok(ExitCode::SUCCESS);
    }
    may_change(&facts, &root, &changes)?;
    let _lock = machine.lock()?.ok_or_else(|| Error::Busy { path: root.path("/") })?;
    let applied = change::apply(&mut machine, &changes)?;
    for (path, now) in &applied.different {
        writeln!(out, "{path}: the kernel made {now} of it")?;
    }
    if applied.written.is_empty() {
        writeln!(out, "nothing to do: all of it is so already")?;
    } else {
        let written = applied.written.len();
        writeln!(
            out,
            "{written} written; roost-tune undo puts them back ({})",
            machine.undo_file()
        )?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The name becomes part of a path.
fn check_unit(unit: &str) -> Result<(), Error> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "@._-:".contains(c);
    if unit.ends_with(".service") && unit.chars().all(plain) && unit.len() < 200 {
        return Ok(());
    }
    Err(Error::Goal(format!("--unit {unit}: name a unit such as roost.service")))
}

/// What an archive says of a path.
fn known(facts: &Facts, path: &str) -> Option<String> {
    let key = path.strip_prefix("/proc/sys/")?.replace('/', ".");
    facts.sysctls.get(&key).cloned()
}

fn may_change(facts: &Facts, root: &Root, changes: &Changes) -> Result<(), Error> {
    if root.is_real() && facts.process.user_id != 0 {
        return Err(Error::NotRoot { what: "apply --write" });
    }
    if facts.sysctls_read_only && !changes.sysctls.is_empty() {
        return Err(Error::ReadOnly);
    }
    Ok(())
}

fn undo_it(args: &UndoArgs, out: &mut dyn Write) -> Result<ExitCode, Error> {
    let root = Root::new(&args.root);
    if root.is_real() && !rustix::process::geteuid().is_root() {
        return Err(Error::NotRoot { what: "undo" });
    }
    let mut machine = Real::new(&root, None);
    let _lock = machine.lock()?.ok_or_else(|| Error::Busy { path: root.path("/") })?;
    let undone = change::undo(&mut machine, args.force)?;
    for path in &undone.restored {
        writeln!(out, "{path} is as before")?;
    }
    for path in &undone.gone {
        writeln!(out, "{path} is not there any more")?;
    }
    let units = undone.restored.iter().any(|path| path.starts_with("/etc/systemd/"));
    if units {
        writeln!(out, "then: systemctl daemon-reload")?;
    }
    writeln!(out, "{} put back, {} were so", undone.restored.len(), undone.untouched.len())?;
    Ok(ExitCode::SUCCESS)
}

fn probe_it(args: &ProbeArgs, out: &mut dyn Write) -> Result<ExitCode, Error> {
    let outcome = probe::run(&probe::Wanted::of(args))?;
    if let Some(path) = &args.out {
        save(path, &outcome)?;
    }
    if args.json {
        say_json(out, &outcome)?;
    } else {
        out.write_all(probe::report(&outcome).as_bytes())?;
    }
    let Outcome { reached, wanted, order, .. } = outcome;
    let fits = reached >= wanted && order.is_none_or(|order| order.as_predicted);
    Ok(if fits { ExitCode::SUCCESS } else { ExitCode::from(DIFFERS) })
}

fn collect_it(args: &CollectArgs, out: &mut dyn Write) -> Result<ExitCode, Error> {
    check_unit(&args.unit)?;
    let mut facts = collect(&Root::new(&args.root), &args.unit)?;
    if args.probe {
        facts.measured = Some(probe::short()?);
    }
    match &args.out {
        Some(path) => save(path, &facts)?,
        None => say_json(out, &facts)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn save(path: &Path, value: &impl Serialize) -> Result<(), Error> {
    let text = serde_json::to_string_pretty(value).map_err(io::Error::other)?;
    fs::write(path, text + "\n").map_err(|source| Error::Write { path: path.to_owned(), source })
}
