//! The program: what was asked for, measured and printed.
#![forbid(unsafe_code)]

use clap::Parser;
use roost_bench::args::{AgentArgs, Args, CompareArgs, EchoArgs, MEASURED_FIRST, Output, Wanted};
use roost_bench::compare::{self, Comparison, Overall};
use roost_bench::report::Report;
use roost_bench::result::Document;
use roost_bench::{agents, cold, floor, html, preflight, run, server, store, versus};
use std::fs;
use std::path::Path;
use std::process::ExitCode;

/// Gives back what hundreds of thousands of tokens took, which the system's allocator does not.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The exit code of what could not be done at all, as for a wrong command line.
const CANNOT: u8 = 2;

fn main() -> ExitCode {
    let wanted = Args::parse().wanted;
    if let Some(output) = wanted.output()
        && let Err(refused) = preflight::output(output)
    {
        return complain(&refused.to_string());
    }
    let floor = match floor_of(&wanted) {
        Ok(floor) => floor,
        Err(error) => return complain(&error),
    };
    let report = match &wanted {
        Wanted::Server(scenario) => run::run(scenario).map_err(|error| error.to_string()),
        Wanted::Versus(args) => versus::run(args).map_err(|error| error.to_string()),
        Wanted::Floor(args) => floor::run(args).map_err(|error| error.to_string()),
        Wanted::Store(args) => store::run(&args.part).map_err(|error| error.to_string()),
        Wanted::Cold(args) => cold::run(args).map_err(|error| error.to_string()),
        Wanted::Compare(args) => return compared(args),
        Wanted::Echo(args) => return echo(args),
        Wanted::Agent(args) => return agent(args),
    };
    let mut report = match report {
        Ok(report) => report,
        Err(error) => return complain(&error),
    };
    if let Some(floor) = &floor {
        report.hold_against(floor);
    }
    print(report.lines());
    match write(&report, wanted.output()) {
        Err(error) => complain(&error),
        Ok(()) if report.document.is_good() => ExitCode::SUCCESS,
        Ok(()) => ExitCode::FAILURE,
    }
}

/// What figures are held against, read or measured before anything else.
fn floor_of(wanted: &Wanted) -> Result<Option<Document>, String> {
    let Some(file) = wanted.output().and_then(|output| output.floor.as_deref()) else {
        return Ok(None);
    };
    if file != Path::new(MEASURED_FIRST) {
        return floor::read(file).map(Some).map_err(|error| error.to_string());
    }
    let report = floor::run(&wanted.floor()).map_err(|error| error.to_string())?;
    print(report.lines());
    Ok(Some(report.document))
}

/// Says where it listens, then takes orders.
fn agent(args: &AgentArgs) -> ExitCode {
    if !args.cpus.is_empty()
        && let Err(error) = server::pin(&args.cpus)
    {
        return complain(&error.to_string());
    }
    let say = |address| print(&format!("listening at {address}\n"));
    match agents::serve(args.listen, args.once, say) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&format!("cannot take orders at {}: {error}", args.listen)),
    }
}

/// Says where it listens, then echoes until it is told to end.
fn echo(args: &EchoArgs) -> ExitCode {
    match cold::serve(args, print) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&format!("cannot echo at {}: {error}", args.listen)),
    }
}

fn write(report: &Report, output: Option<&Output>) -> Result<(), String> {
    let Some(output) = output else { return Ok(()) };
    if let Some(path) = &output.json {
        write_file(path, &report.document.to_json())?;
    }
    if let Some(path) = &output.html {
        write_file(path, &html::page(&report.document))?;
    }
    Ok(())
}

fn write_file(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))
}

/// Exit code 0: no change or better; 1: worse, or a run for it failed; 2: cannot be compared.
fn compared(args: &CompareArgs) -> ExitCode {
    let compared = match &args.measure {
        Some(line) => compare::measured(args, line).map_err(|error| error.to_string()),
        None => read(&args.before).and_then(|before| {
            let after = read(&args.after)?;
            Comparison::of(&before, &after, args.threshold).map_err(|error| error.to_string())
        }),
    };
    let comparison = match compared {
        Ok(comparison) => comparison,
        Err(error) => {
            complain(&error);
            return ExitCode::from(CANNOT);
        }
    };
    print(&comparison.lines());
    let written = [
        args.output.json.as_ref().map(|path| write_file(path, &comparison.to_json())),
        args.output.html.as_ref().map(|path| write_file(path, &html::comparison(&comparison))),
    ];
    if let Some(error) = written.into_iter().flatten().find_map(Result::err) {
        complain(&error);
        return ExitCode::from(CANNOT);
    }
    let has_failed = comparison.results.iter().any(|of| !of.is_good());
    if has_failed || comparison.overall == Overall::Worse {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

fn read(path: &Path) -> Result<Document, String> {
    let text = fs::read_to_string(path);
    let text = text.map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    Document::parse(&text).map_err(|error| format!("{}: {error}", path.display()))
}

#[expect(clippy::print_stdout, reason = "the summary is what the command is for")]
fn print(text: &str) {
    print!("{text}");
}

#[expect(clippy::print_stderr, reason = "the one place where the command says why it failed")]
fn complain(error: &str) -> ExitCode {
    eprintln!("roost-bench: {error}");
    ExitCode::FAILURE
}
