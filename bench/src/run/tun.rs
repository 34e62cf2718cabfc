//! `idle` and `storm` whose devices have no sockets.

use super::RunError;
use super::round::{base_36, noted};
use crate::args::{Common, IdleArgs, Scenario as Wanted, StormArgs, Tls};
use crate::floor;
use crate::machine::FlushTime;
use crate::measure::Meter;
use crate::measure::progress::Progress;
use crate::report::rounds::{self, Found};
use crate::result::Document;
use crate::scenario::rooms::{DELIVERED, SENT, STAGES, TICKED};
use crate::scenario::storm;
use crate::scenario::talk::{self, Stages, Talk};
use crate::scenario::talkers;
use crate::server::{self, Server};
use crate::swarm::DeviceIndex;
use crate::tokens;
use crate::tun::{self, HOST, Link, Settings, Signer, Storm};
use roost_event_loop::now;
use roost_protocol::time::Duration;

/// Lets a server listen in plain text elsewhere than at a loopback address.
const PLAINTEXT: &str = "--allow-plaintext";

/// Refuses what devices without sockets do not do, and goes into a network namespace of its own if
/// the run starts the server itself. One that runs already cannot be taken along.
pub(super) fn prepare(wanted: &Wanted) -> Result<(), RunError> {
    if !wanted.is_behind_tun() {
        return Ok(());
    }
    let refused = |why: &str| Err(RunError::NotBehindTun(why.to_owned()));
    let common = wanted.common();
    if !common.target.is_roost() || common.tls != Tls::Off || !common.agents.is_empty() {
        return refused("--peers tun is for Roost, without --tls and without --agents");
    }
    if let Wanted::Idle(args) = wanted {
        if args.ties.conversations > 0 || args.ties.groups > 0 {
            return refused("--peers tun has no --conversations and no --groups; see --rate");
        }
        if args.rate > args.connections / talk::DEVICES_PER_RATE {
            return Err(RunError::NotBehindTun(format!(
                "{} messages a second need {} devices: each waits for its second tick, which \
                 comes once a second",
                args.rate,
                u64::from(args.rate) * u64::from(talk::DEVICES_PER_RATE)
            )));
        }
    }
    if common.spawn {
        tun::enter(wanted.connections())?;
    }
    Ok(())
}

/// What devices do once they are connected.
struct Job {
    settle: Duration,
    hold: Duration,
    storm: Option<Storm>,
    talk: Option<talk::Settings>,
    stages: &'static [&'static str],
    main_stage: usize,
}

impl Job {
    fn of(wanted: &Wanted) -> Result<Self, RunError> {
        let hold = Duration::from_seconds(wanted.seconds().into());
        match wanted {
            Wanted::Idle(args) => Ok(Self {
                settle: Duration::from_seconds(args.settle.into()),
                hold,
                storm: None,
                talk: (args.rate > 0).then(|| of_idle(args)),
                stages: if args.rate > 0 { &STAGES } else { &[] },
                main_stage: DELIVERED,
            }),
            Wanted::Storm(args) => Ok(Self {
                settle: Duration::default(),
                hold,
                storm: Some(Storm {
                    leavers: args.connections,
                    calm: Duration::from_seconds(args.common.warmup.into()),
                    away: Duration::from_seconds(args.away.into()),
                    within: Duration::from_seconds(args.within.into()),
                    at_once: args.at_once,
                }),
                talk: (args.talkers > 1).then(|| of_storm(args)),
                stages: &storm::STAGES,
                main_stage: storm::BACK,
            }),
            Wanted::Pairs(_)
            | Wanted::Fanout(_)
            | Wanted::Hot(_)
            | Wanted::Catchup(_)
            | Wanted::Slow(_)
            | Wanted::Mixed(_)
            | Wanted::Soak(_)
            | Wanted::Capacity(_) => {
                Err(RunError::NotBehindTun("--peers tun is for idle and storm".to_owned()))
            }
        }
    }
}

/// One message of a pair is on its way at a time: a device behind the wire keeps no more than that.
fn of_idle(args: &IdleArgs) -> talk::Settings {
    talk::Settings {
        devices: 0..args.connections,
        per_second: args.rate,
        base: 0,
        at_once: 1,
        flying_max: talk::FLYING_MAX,
        all_first: false,
        stages: Stages { sent: SENT, delivered: DELIVERED, ticked: Some(TICKED) },
        always: false,
    }
}

/// Those who stay.
fn of_storm(args: &StormArgs) -> talk::Settings {
    talk::Settings {
        devices: args.connections..args.connections.saturating_add(args.talkers),
        per_second: args.rate,
        base: 0,
        at_once: talkers::AT_ONCE,
        flying_max: talk::FLYING_MAX,
        all_first: false,
        stages: storm::IN_THE_CALM,
        always: true,
    }
}

/// One round, from the wire to the last FIN.
pub(super) fn round(wanted: &Wanted, document: &mut Document) -> Result<Found, RunError> {
    let (started, job) = (now().wall, Job::of(wanted)?);
    // The wire comes first: a server that listens at its near end needs the address.
    let link = Link::make()?;
    let common = listening(wanted.common());
    let server = Server::of(&common)?;
    if common.spawn {
        document.fdatasync_us = Some(FlushTime::measure(&server.data).map_err(RunError::Disk)?);
    }
    document.environment.versions.driver.clone_from(&server.driver);
    document.environment.versions.shards = server.shards;
    let address = tun::reachable(server.address)?;
    let prefix = base_36(started.ms);
    let name = move |index: DeviceIndex| format!("{prefix}{}", base_36(index.into()));
    let key = tokens::Signer::new(server.secret.as_ref(), &server.data)?;
    server::pin(&common.generator_cpus())?;
    let is_storm = job.storm.is_some();
    let settings = Settings {
        server: address,
        devices: wanted.connections(),
        connect_rate: common.connect_rate,
        connection_number: started.ms,
        settle: job.settle,
        hold: job.hold,
        storm: job.storm,
        observed: server.observed(),
    };
    let floor = floor::slab_bytes_per_pair(wanted.connections());
    let progress = Progress::new(common.output.progress);
    let has_talk = job.talk.is_some();
    let meter = Meter::new(server.observed(), job.stages, job.main_stage, has_talk, progress);
    let signer = signer(key, name.clone());
    let talk = job.talk.map(|settings| Talk::new(settings, Box::new(name)));
    let found = tun::run(&link, settings, signer, meter, talk)?;
    let ending = server.stop();
    let found =
        if is_storm { rounds::of_storm_behind_tun(found) } else { rounds::of_tun(found, floor) };
    Ok(noted(found, ending))
}

/// Tokens are signed when they are needed: those of millions would fill the memory.
fn signer(key: tokens::Signer, name: impl Fn(DeviceIndex) -> String + 'static) -> Signer {
    Box::new(move |index| key.sign_one(&name(index)).map_err(|error| error.to_string()))
}

/// A server of the run listens where devices can come to. Nobody else can: the namespace has no way
/// out.
fn listening(common: &Common) -> Common {
    let mut common = common.clone();
    let given = |name: &str, args: &str| {
        args.split_whitespace().any(|word| word.split('=').next() == Some(name))
    };
    for (name, argument) in [("--tcp", format!("--tcp {HOST}:0")), (PLAINTEXT, PLAINTEXT.into())] {
        if common.spawn && !given(name, &common.server_args) {
            common.server_args = format!("{argument} {}", common.server_args);
        }
    }
    common
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Args, Wanted as Line};
    use clap::Parser;

    fn idle(line: &str) -> Wanted {
        let words = ["roost-bench", "idle", "--peers", "tun"].into_iter();
        let Line::Server(wanted) =
            Args::try_parse_from(words.chain(line.split(' '))).unwrap().wanted
        else {
            panic!("idle")
        };
        *wanted
    }

    #[test]
    fn what_they_do_not_do_is_refused() {
        for line in [
            "--server 198.18.0.1:1 --data d --tls",
            "--server 198.18.0.1:1 --data d --conversations 2",
            "--server 198.18.0.1:1 --target redis",
            "--server 198.18.0.1:1 --data d --rate 5 --connections 39",
        ] {
            assert!(matches!(prepare(&idle(line)), Err(RunError::NotBehindTun(_))), "{line}");
        }
        let line = "--server 198.18.0.1:1 --data d --rate 5 --connections 40";
        assert!(prepare(&idle(line)).is_ok());
    }

    #[test]
    fn a_storm_is_of_those_who_do_not_stay() {
        let words = "roost-bench storm --peers tun --server 198.18.0.1:1 --data d --connections 5 \
                     --talkers 4 --away 7";
        let Line::Server(wanted) = Args::try_parse_from(words.split_whitespace()).unwrap().wanted
        else {
            panic!("storm")
        };
        assert!(wanted.is_behind_tun() && prepare(&wanted).is_ok());
        let job = Job::of(&wanted).unwrap();
        assert_eq!(job.storm.map(|of| (of.leavers, of.away)), Some((5, Duration::from_seconds(7))));
        assert_eq!(job.talk.map(|of| of.devices), Some(5..9));
    }

    #[test]
    fn a_server_of_the_run_listens_at_the_wire_unless_told_otherwise() {
        let args = |line| {
            let common = listening(idle(line).common());
            common.server_args.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(args("--spawn"), [PLAINTEXT, "--tcp", "198.18.0.1:0"]);
        let given = "--spawn --server-args --tcp=0.0.0.0:9";
        assert_eq!(args(given), [PLAINTEXT, "--tcp=0.0.0.0:9"]);
        assert!(args("--server 198.18.0.1:9 --data d").is_empty());
    }
}
