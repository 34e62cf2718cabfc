//! Two builds of the server by turns, so that what the machine does meanwhile meets both alike: a
//! round of each, then the next, and the other one begins. Rounds that stand side by side are
//! compared with each other.

use super::{Comparison, Incomparable};
use crate::args::{Args, CompareArgs, Scenario as Wanted, Wanted as Any};
use crate::result::Document;
use crate::run::{self, Gathered, RunError};
use crate::server::{self, ServerError};
use crate::stop;
use clap::Parser;
use std::fmt;
use std::io::IsTerminal;
use std::path::Path;

/// Measures both builds and compares them. `line`: the scenario and its arguments.
///
/// # Errors
/// There is no such scenario or build, or the run cannot begin. What fails later is said in the
/// comparison.
pub fn measured(args: &CompareArgs, line: &str) -> Result<Comparison, TurnsError> {
    let programs = [&args.before, &args.after];
    for program in programs {
        server::program(Some(program)).map_err(TurnsError::Program)?;
    }
    let wanted = [scenario(line, &args.before)?, scenario(line, &args.after)?];
    // Both differ in the program only: what can be known before is the same.
    run::prepare(&wanted[0].0).map_err(TurnsError::Run)?;
    let mut gathered = wanted.each_ref().map(|of| Gathered::new(&of.0, of.1.clone()));
    let shows = args.output.progress || std::io::stderr().is_terminal();
    for place in 0..args.rounds as usize * 2 {
        let (round, which) = turn(place);
        if shows {
            let program = programs[which].display();
            say(&format!("round {} of {}: {program}", round + 1, args.rounds));
        }
        gathered[which].round(&wanted[which].0);
        if gathered[which].has_failed_to_begin {
            break;
        }
        if stop::is_wanted() {
            gathered[which].fail("ended by a signal: this is what there was".to_owned());
            break;
        }
    }
    let [before, after] = gathered.map(Gathered::finish);
    compare(args, before, after)
}

fn compare(
    args: &CompareArgs,
    before: Document,
    after: Document,
) -> Result<Comparison, TurnsError> {
    let comparison = Comparison::by_turns(&before, &after, args.threshold);
    let mut comparison = comparison.map_err(|error| {
        let failures = [&before, &after].map(|of| of.failures.join("; "));
        TurnsError::Nothing(error, failures.join("; "))
    })?;
    comparison.results = vec![before, after];
    Ok(comparison)
}

/// Which round, and of which build: 0 1, 1 0, 0 1 and so on.
const fn turn(place: usize) -> (usize, usize) {
    let round = place / 2;
    (round, (place + round) % 2)
}

/// What is measured of a build, and the command that measures it alone.
fn scenario(line: &str, program: &Path) -> Result<(Wanted, Vec<String>), TurnsError> {
    let mut words = vec!["roost-bench".to_owned()];
    words.extend(line.split_whitespace().map(str::to_owned));
    if !words.iter().any(|word| word == "--spawn") {
        words.push("--spawn".to_owned());
    }
    if !words.iter().any(|word| word == "--yardstick") {
        words.push("--yardstick".to_owned());
    }
    words.extend(["--server-program".to_owned(), program.display().to_string()]);
    let wanted = match Args::try_parse_from(&words).map_err(TurnsError::Line)?.wanted {
        Any::Server(wanted) => *wanted,
        Any::Store(_)
        | Any::Compare(_)
        | Any::Versus(_)
        | Any::Floor(_)
        | Any::Cold(_)
        | Any::Echo(_)
        | Any::Agent(_) => return Err(TurnsError::NoScenario),
    };
    if matches!(wanted, Wanted::Capacity(_)) || !wanted.common().target.is_roost() {
        return Err(TurnsError::NoScenario);
    }
    Ok((wanted, words))
}

#[expect(clippy::print_stderr, reason = "who waits for minutes wants to see what goes on")]
fn say(text: &str) {
    eprintln!("{text}");
}

/// Why two builds were not compared.
#[derive(Debug)]
pub enum TurnsError {
    /// A build is not there.
    Program(ServerError),
    /// The command line of the scenario is wrong.
    Line(clap::Error),
    /// It is not that of a scenario of a server that is started.
    NoScenario,
    /// The run cannot begin.
    Run(RunError),
    /// Nothing was measured that could be compared; and what failed.
    Nothing(Incomparable, String),
}

impl fmt::Display for TurnsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Program(error) => error.fmt(f),
            Self::Line(error) => write!(f, "--measure: {error}"),
            Self::NoScenario => write!(
                f,
                "--measure takes a scenario of Roost and its arguments, such as 'pairs --window 8'"
            ),
            Self::Run(error) => error.fmt(f),
            Self::Nothing(error, failures) => write!(f, "{error}; {failures}"),
        }
    }
}

impl std::error::Error for TurnsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Program(error) => Some(error),
            Self::Line(error) => Some(error),
            Self::Run(error) => Some(error),
            Self::Nothing(error, _) => Some(error),
            Self::NoScenario => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_begins_changes_from_round_to_round() {
        let turns: Vec<(usize, usize)> = (0..6).map(turn).collect();
        assert_eq!(turns, [(0, 0), (0, 1), (1, 1), (1, 0), (2, 0), (2, 1)]);
    }

    #[test]
    fn a_scenario_is_measured_with_the_build() {
        let (wanted, command) = scenario("pairs --window 8", Path::new("old build/roost")).unwrap();
        let common = wanted.common();
        assert!(common.spawn && common.yardstick && wanted.load().unwrap().window == Some(8));
        assert_eq!(common.server_program.as_deref(), Some(Path::new("old build/roost")));
        assert_eq!(command.len(), 8);
        assert!(scenario("idle --spawn", Path::new("r")).is_ok());
    }

    #[test]
    fn what_is_no_scenario_of_a_started_roost_is_refused() {
        for line in ["floor", "capacity", "pairs --target redis", "compare a b"] {
            let error = scenario(line, Path::new("r")).unwrap_err();
            assert!(matches!(error, TurnsError::NoScenario | TurnsError::Line(_)), "{error}");
        }
        let line = "pairs --server 127.0.0.1:1 --data d";
        assert!(matches!(scenario(line, Path::new("r")), Err(TurnsError::Line(_))));
    }
}
