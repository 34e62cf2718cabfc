//! `versus`: Roost and other brokers by turns, in the same scenarios, with the same generator and
//! the same checks. One round of everything, then the next, so that what the machine does meanwhile
//! meets all alike; who begins a round changes.

mod contestant;
mod table;

use crate::args::VersusArgs;
use crate::machine;
use crate::peers::{self, Peer};
use crate::report::Report;
use crate::report::arithmetic::seconds;
use crate::result::{Document, SCHEMA};
use crate::run::{Gathered, RunError};
use crate::{preflight, stop};
use contestant::{Contestant, Match};
use roost_event_loop::now;
use serde_json::{Map, Value, json};
use std::io::IsTerminal;

/// How long all of it took, in seconds.
pub(crate) const TOOK: &str = "whole_run_s";
/// About how long a round takes besides what is measured: a broker starts, its devices come, what
/// is on its way arrives, it stops.
const BESIDE_S: u32 = 2;

/// Measures all by turns.
///
/// # Errors
/// No broker that was asked for is installed, or the machine lacks what a scenario needs. What
/// fails later fails that contestant's result.
pub fn run(args: &VersusArgs) -> Result<Report, RunError> {
    let (there, missing): (Vec<Peer>, Vec<Peer>) =
        args.peers.iter().copied().partition(|peer| peers::installed(peer.program()).is_some());
    if there.is_empty() {
        return Err(RunError::NoPeers(missing));
    }
    stop::watch().map_err(RunError::Loop)?;
    let shows = args.output.progress || std::io::stderr().is_terminal();
    let missing = left_out(&missing);
    let began = now().monotonic;
    let contestants = Contestant::of(&there);
    let matches = contestant::matches(args, &contestants);
    for of in &matches {
        preflight::check(&of.wanted)?;
    }
    let mut gathered: Vec<Gathered> =
        matches.iter().map(|of| Gathered::new(&of.wanted, of.command.clone())).collect();
    if shows {
        missing.iter().for_each(|text| say(text));
        say(&announcement(args, matches.len()));
    }
    let mut document = document(args, &contestants);
    play(args, &matches, &mut gathered, shows);
    document.differences.extend(missing);
    for (of, gathered) in matches.iter().zip(gathered) {
        let result = gathered.finish();
        let name = format!("{}, {}", result.target, of.title);
        document.failures.extend(result.failures.iter().map(|why| format!("{name}: {why}")));
        document.results.push(result);
    }
    if let Some(first) = document.results.first() {
        document.environment.clone_from(&first.environment);
        document.fdatasync_us.clone_from(&first.fdatasync_us);
    }
    let took_s = seconds(began, now().monotonic).round();
    document.figures.more.insert(TOOK.to_owned(), json!(took_s));
    let lines = table::lines(&document, &matches);
    Ok(Report::with_lines(document, lines))
}

/// What is said of brokers that are not installed; the others are measured nevertheless.
fn left_out(missing: &[Peer]) -> Option<String> {
    (!missing.is_empty()).then(|| {
        format!(
            "left out, because it is not installed: {}; install with: {}",
            missing.iter().map(|peer| peer.program()).collect::<Vec<_>>().join(", "),
            peers::install_command(missing)
        )
    })
}

/// What is to come, and about how long it takes.
fn announcement(args: &VersusArgs, matches: usize) -> String {
    let runs = u32::try_from(matches).unwrap_or(u32::MAX).saturating_mul(args.rounds);
    let each_s = args.seconds + args.warmup + BESIDE_S;
    let minutes = runs.saturating_mul(each_s).div_ceil(60);
    let rounds = args.rounds;
    format!("{matches} matches, {rounds} rounds of each: about {minutes} min")
}

fn play(args: &VersusArgs, matches: &[Match], gathered: &mut [Gathered], shows: bool) {
    for round in 0..args.rounds as usize {
        for place in 0..matches.len() {
            // Those of one scenario stand side by side; the first of a round is another each time.
            let at = contestant::turn(matches, place, round);
            let (of, gathered) = (&matches[at], &mut gathered[at]);
            if shows {
                let (number, rounds) = (round + 1, args.rounds);
                say(&format!("round {number} of {rounds}: {}, {}", of.label, of.title));
            }
            if !gathered.has_failed_to_begin {
                gathered.round(&of.wanted);
            }
            if stop::is_wanted() {
                return gathered.fail("ended by a signal: this is what there was".to_owned());
            }
        }
    }
}

fn document(args: &VersusArgs, contestants: &[Contestant]) -> Document {
    let configurations: Map<String, Value> = contestants
        .iter()
        .filter_map(|of| Some((of.target.label(), json!(of.configuration()?))))
        .collect();
    let settings = json!({
        "rounds": args.rounds,
        "seconds": args.seconds,
        "warmup": args.warmup,
        "pairs": args.pairs,
        "window": args.window,
        "rate": args.rate,
        "subscribers": args.subscribers,
        "connections": args.connections,
        "body_bytes": args.body_bytes,
        "configurations": configurations,
    });
    Document {
        schema: SCHEMA,
        scenario: "versus".to_owned(),
        target: "roost and others".to_owned(),
        date: machine::date(now().wall),
        command: std::env::args().collect(),
        settings: settings.as_object().cloned().unwrap_or_default(),
        ..Document::default()
    }
}

#[expect(clippy::print_stderr, reason = "who waits for minutes wants to see what goes on")]
fn say(text: &str) {
    eprintln!("{text}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Args, Wanted};
    use clap::Parser;

    #[test]
    fn who_is_not_installed_is_named_with_what_installs_it() {
        assert_eq!(left_out(&[]), None);
        let text = left_out(&[Peer::Nats, Peer::Redis]).unwrap();
        for word in ["nats-server, redis-server;", "apt-get install -y nats-server redis-server"] {
            assert!(text.contains(word), "{text}");
        }
    }

    #[test]
    fn the_default_run_is_meant_to_end_within_a_quarter_of_an_hour() {
        let Wanted::Versus(args) = Args::try_parse_from(["roost-bench", "versus"]).unwrap().wanted
        else {
            panic!("versus")
        };
        let matches = contestant::matches(&args, &Contestant::of(&args.peers)).len();
        assert_eq!(announcement(&args, matches), "28 matches, 3 rounds of each: about 9 min");
    }
}
