//! The program: what was asked for, measured and printed.
#![forbid(unsafe_code)]

use clap::Parser;
use roost_bench::args::{Args, Wanted};
use roost_bench::{run, store};
use std::fs;
use std::process::ExitCode;

fn main() -> ExitCode {
    let wanted = Args::parse().wanted;
    let report = match &wanted {
        Wanted::Server(scenario) => run::run(scenario).map_err(|error| error.to_string()),
        Wanted::Store(args) => store::run(&args.part).map_err(|error| error.to_string()),
    };
    let report = match report {
        Ok(report) => report,
        Err(error) => return complain(&error),
    };
    print(&report.lines());
    if let Some(path) = wanted.json()
        && let Err(error) = fs::write(path, report.to_json() + "\n")
    {
        return complain(&format!("cannot write {}: {error}", path.display()));
    }
    if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
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
