//! Who meets whom in what.

use crate::args::{Args, Scenario as Wanted, TargetArgs, TargetName, VersusArgs, Wanted as Any};
use crate::peers::{Peer, Setup};
use clap::Parser;
use std::path::Path;

/// A target with a configuration.
#[derive(Debug, Clone)]
pub(super) struct Contestant {
    pub(super) target: TargetArgs,
    /// How the command line asks for it.
    flags: &'static str,
}

/// A contestant in a scenario.
#[derive(Debug, Clone)]
pub(super) struct Match {
    /// Of the contestant.
    pub(super) label: String,
    /// Of the scenario; the same for all in it.
    pub(super) title: String,
    /// What measures the same alone.
    pub(super) command: Vec<String>,
    pub(super) wanted: Wanted,
}

impl Contestant {
    /// Roost, and each of these twice: as it comes, and durable.
    pub(super) fn of(peers: &[Peer]) -> Vec<Self> {
        let of = |name: TargetName, durable: bool, flags: &'static str| {
            let target = TargetArgs {
                target: Some(name),
                durable,
                mqtt_version: 3,
                qos: 1,
                persistent_sessions: durable && name == TargetName::Mqtt,
                xmpp_domain: "localhost".to_owned(),
            };
            Self { target, flags }
        };
        let mut all = vec![of(TargetName::Roost, false, "")];
        for peer in peers {
            all.extend(match peer {
                Peer::Mosquitto => [
                    of(TargetName::Mqtt, false, "--target mqtt"),
                    of(TargetName::Mqtt, true, "--target mqtt --persistent-sessions --durable"),
                ],
                Peer::Nats => [
                    of(TargetName::Nats, false, "--target nats"),
                    of(TargetName::Jetstream, true, "--target jetstream --durable"),
                ],
                Peer::Redis => [
                    of(TargetName::Redis, false, "--target redis"),
                    of(TargetName::RedisStreams, true, "--target redis-streams --durable"),
                ],
                Peer::Ejabberd => [
                    of(TargetName::Xmpp, false, "--target xmpp"),
                    of(TargetName::Xmpp, true, "--target xmpp --durable"),
                ],
            });
        }
        all
    }

    /// The file that it is started with, but for the port and the folder.
    pub(super) fn configuration(&self) -> Option<String> {
        let setup = Setup::of(&self.target, 0, Path::new("FOLDER"), "USER", false)?;
        Some(setup.text)
    }
}

/// Every contestant in every scenario, scenario by scenario.
pub(super) fn matches(args: &VersusArgs, contestants: &[Contestant]) -> Vec<Match> {
    let scenarios = [
        (
            format!("pairs, closed loop with window {}", args.window),
            format!(
                "pairs --pairs {} --window {} --body-bytes {}",
                args.pairs, args.window, args.body_bytes
            ),
        ),
        (
            format!("pairs, open loop at {}/s", args.rate),
            format!(
                "pairs --pairs {} --rate {} --body-bytes {}",
                args.pairs, args.rate, args.body_bytes
            ),
        ),
        (
            format!("fanout to {}, closed loop with window {}", args.subscribers, args.window),
            format!(
                "fanout --subscribers {} --window {} --body-bytes {}",
                args.subscribers, args.window, args.body_bytes
            ),
        ),
        (
            format!("idle, {} connections", args.connections),
            format!("idle --connections {} --settle 1", args.connections),
        ),
    ];
    let list = |cpus: &[usize]| cpus.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let mut common = format!(
        "--spawn --seconds {} --warmup {} --server-cpus {}",
        args.seconds,
        args.warmup,
        list(&args.server_cpus)
    );
    if !args.cpus.is_empty() {
        common += &format!(" --cpus {}", list(&args.cpus));
    }
    let mut matches = Vec::new();
    for (title, line) in scenarios {
        matches.extend(contestants.iter().filter_map(|of| {
            let line = format!("roost-bench {line} {common} {}", of.flags);
            let command: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            let Any::Server(wanted) = Args::try_parse_from(&command).ok()?.wanted else {
                return None;
            };
            let (label, title) = (of.target.label(), title.clone());
            Some(Match { label, title, command, wanted: *wanted })
        }));
    }
    matches
}

/// Who comes in that place of a round.
pub(super) fn turn(matches: &[Match], place: usize, round: usize) -> usize {
    let title = &matches[place].title;
    let first = matches.iter().position(|of| of.title == *title).unwrap_or(place);
    let count = matches.iter().filter(|of| of.title == *title).count().max(1);
    first + (place - first + round) % count
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn all() -> Vec<Match> {
        let words = ["roost-bench", "versus", "--cpus", "0"];
        let Any::Versus(args) = Args::try_parse_from(words).unwrap().wanted else {
            panic!("versus")
        };
        matches(&args, &Contestant::of(&args.peers))
    }

    #[test]
    fn everybody_meets_in_everything() {
        let all = all();
        assert_eq!(all.len(), 4 * 7, "every line is one that the program takes");
        let labels: BTreeSet<&str> = all.iter().map(|of| &*of.label).collect();
        assert_eq!(labels.len(), 7, "{labels:?}");
        for of in &all {
            assert_eq!(of.wanted.common().target.label(), of.label, "{:?}", of.command);
            assert_eq!(of.wanted.common().generator_cpus(), [0]);
        }
    }

    #[test]
    fn who_begins_changes_from_round_to_round() {
        let all = all();
        for round in 0..9 {
            let order: Vec<usize> = (0..all.len()).map(|place| turn(&all, place, round)).collect();
            assert_eq!(order[0], round % 7);
            assert_eq!(order.iter().collect::<BTreeSet<_>>().len(), all.len(), "each once");
            for (place, at) in order.iter().enumerate() {
                assert_eq!(all[place].title, all[*at].title);
            }
        }
    }

    #[test]
    fn configurations_are_shown() {
        let shown: Vec<_> =
            Contestant::of(&[Peer::Redis]).iter().map(Contestant::configuration).collect();
        assert_eq!(shown[0], None);
        assert!(shown[2].as_ref().unwrap().contains("appendfsync always"));
    }
}
