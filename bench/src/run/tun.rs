//! `idle` whose devices have no sockets.

use super::RunError;
use super::round::{base_36, noted};
use crate::args::{Common, IdleArgs, Peers, Scenario as Wanted, Tls};
use crate::floor;
use crate::machine::FlushTime;
use crate::measure::Meter;
use crate::measure::progress::Progress;
use crate::report::rounds::{self, Found};
use crate::result::Document;
use crate::scenario::rooms::{DELIVERED, SENT, STAGES, TICKED};
use crate::scenario::talk::{self, Names, Stages, Talk};
use crate::server::{self, Server};
use crate::swarm::DeviceIndex;
use crate::tokens;
use crate::tun::{self, HOST, Link, Settings, Signer};
use roost_event_loop::now;
use roost_protocol::time::Duration;

/// Lets a server listen in plain text elsewhere than at a loopback address.
const PLAINTEXT: &str = "--allow-plaintext";

/// Refuses what devices without sockets do not do, and goes into a network namespace of its own if
/// the run starts the server itself. One that runs already cannot be taken along.
pub(super) fn prepare(wanted: &Wanted) -> Result<(), RunError> {
    let Wanted::Idle(args) = wanted else { return Ok(()) };
    if args.peers != Peers::Tun {
        return Ok(());
    }
    let refused = |why: &str| Err(RunError::NotBehindTun(why.to_owned()));
    let common = &args.common;
    if !common.target.is_roost() || common.tls != Tls::Off || !common.agents.is_empty() {
        return refused("--peers tun is for Roost, without --tls and without --agents");
    }
    if args.ties.conversations > 0 || args.ties.groups > 0 {
        return refused("--peers tun has no --conversations and no --groups; see --rate");
    }
    if args.rate > args.connections / talk::DEVICES_PER_RATE {
        return Err(RunError::NotBehindTun(format!(
            "{} messages a second need {} devices: each waits for its second tick, which comes \
             once a second",
            args.rate,
            u64::from(args.rate) * u64::from(talk::DEVICES_PER_RATE)
        )));
    }
    if common.spawn {
        tun::enter(args.connections)?;
    }
    Ok(())
}

/// One round, from the wire to the last FIN.
pub(super) fn round(
    args: &IdleArgs,
    seconds: u32,
    document: &mut Document,
) -> Result<Found, RunError> {
    let started = now().wall;
    // The wire comes first: a server that listens at its near end needs the address.
    let link = Link::make()?;
    let common = listening(&args.common);
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
    let settings = Settings {
        server: address,
        devices: args.connections,
        connect_rate: common.connect_rate,
        connection_number: started.ms,
        settle: Duration::from_seconds(args.settle.into()),
        hold: Duration::from_seconds(seconds.into()),
        observed: server.observed(),
    };
    let floor = floor::slab_bytes_per_pair(args.connections);
    let signer = signer(key, name.clone());
    let talk = (args.rate > 0).then(|| talk(args, Box::new(name)));
    let found = tun::run(&link, settings, signer, meter(args, &server), talk)?;
    let ending = server.stop();
    Ok(noted(rounds::of_tun(found, floor), ending))
}

/// Tokens are signed when they are needed: those of millions would fill the memory.
fn signer(key: tokens::Signer, name: impl Fn(DeviceIndex) -> String + 'static) -> Signer {
    Box::new(move |index| key.sign_one(&name(index)).map_err(|error| error.to_string()))
}

fn meter(args: &IdleArgs, server: &Server) -> Meter {
    let progress = Progress::new(args.common.output.progress);
    let stages = if args.rate > 0 { &STAGES[..] } else { &[] };
    Meter::new(server.observed(), stages, DELIVERED, args.rate > 0, progress)
}

/// One message of a pair is on its way at a time: a device behind the wire keeps no more than that.
fn talk(args: &IdleArgs, names: Names) -> Talk {
    let settings = talk::Settings {
        devices: 0..args.connections,
        per_second: args.rate,
        base: 0,
        at_once: 1,
        stages: Stages { sent: SENT, delivered: DELIVERED, ticked: Some(TICKED) },
        always: false,
    };
    Talk::new(settings, names)
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
