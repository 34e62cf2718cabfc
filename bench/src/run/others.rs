//! A round on another broker.

use super::{RunError, round};
use crate::args::{IdleArgs, Scenario as Wanted, TargetArgs, TargetName};
use crate::floor;
use crate::report::rounds::Found;
use crate::scenario::held::Held;
use crate::scenario::rooms::Extra;
use crate::server::Server;
use crate::swarm::Plan;
use crate::target::mqtt::Mqtt;
use crate::target::nats::{Nats, Store};
use crate::target::redis::Redis;
use crate::target::redis_streams::RedisStreams;
use crate::target::roost::Roost;
use crate::target::websocket::WebSocket;
use crate::target::xmpp::{self, Xmpp};
use crate::target::{Layout, Target};
use std::rc::Rc;

/// Whether another broker has a meaning for a scenario.
pub(super) fn can(wanted: &Wanted) -> bool {
    let args = &wanted.common().target;
    match wanted {
        Wanted::Idle(_) | Wanted::Pairs(_) | Wanted::Capacity(_) => true,
        Wanted::Fanout(_) | Wanted::Hot(_) => args.name() != TargetName::Websocket,
        Wanted::Catchup(_)
        | Wanted::Storm(_)
        | Wanted::Slow(_)
        | Wanted::Mixed(_)
        | Wanted::Soak(_) => false,
    }
}

/// What is said beside the figures of a target. `server`: where it can be asked what it can do.
pub(super) fn differences(args: &TargetArgs, server: &Server) -> Vec<String> {
    match args.name() {
        TargetName::Roost => Roost::DIFFERENCES.map(str::to_owned).into(),
        TargetName::Redis => Redis::DIFFERENCES.map(str::to_owned).into(),
        TargetName::RedisStreams => RedisStreams::differences(args.durable),
        TargetName::Mqtt => Mqtt::differences(args.speech()),
        TargetName::Nats | TargetName::Jetstream => Nats::differences(store(args, server)),
        TargetName::Websocket => WebSocket::DIFFERENCES.map(str::to_owned).into(),
        TargetName::Xmpp => Xmpp::differences(args.durable),
    }
}

fn store(args: &TargetArgs, server: &Server) -> Store {
    match (args.name(), args.durable) {
        (TargetName::Jetstream, true) => Store::File { flushes: server.flushes },
        (TargetName::Jetstream, false) => Store::Memory,
        _ => Store::None,
    }
}

/// Drives the devices, then stops the broker. `number`: names that no earlier run used.
pub(super) fn generate(
    wanted: &Wanted,
    plan: Plan,
    server: Server,
    number: u64,
) -> Result<Found, RunError> {
    let args = &wanted.common().target;
    let (layout, extra) = if let Wanted::Idle(of) = wanted {
        (Layout::new(of.connections, []), Extra::None)
    } else {
        round::layout(wanted)?
    };
    let (layout, devices) = (Rc::new(layout), plan.devices);
    let run = format!("{number:x}");
    let of = Round { wanted, plan, layout: Rc::clone(&layout), extra, server };
    match args.name() {
        // One connection is enough for those who only say that they are there.
        TargetName::RedisStreams if !matches!(wanted, Wanted::Idle(_)) => {
            of.with(RedisStreams::new(layout, devices, run, args.durable))
        }
        TargetName::Redis | TargetName::RedisStreams => of.with(Redis::new(layout, devices, run)),
        TargetName::Mqtt => of.with(Mqtt::new(layout, devices, run, args.speech())),
        TargetName::Nats | TargetName::Jetstream => {
            let store = store(args, &of.server);
            of.with(Nats::new(layout, devices, run, store))
        }
        TargetName::Websocket => of.with(WebSocket::new(layout, devices)),
        TargetName::Xmpp => {
            let domain = args.xmpp_domain.clone();
            let users = Xmpp::users(&run, devices);
            xmpp::register(of.server.address, &domain, users).map_err(RunError::Accounts)?;
            of.with(Xmpp::new(layout, devices, run, domain, args.durable))
        }
        TargetName::Roost => Err(RunError::NoMeaning),
    }
}

struct Round<'a> {
    wanted: &'a Wanted,
    plan: Plan,
    layout: Rc<Layout>,
    extra: Extra,
    server: Server,
}

impl Round<'_> {
    fn with<T: Target>(self, target: T) -> Result<Found, RunError> {
        let Round { wanted, mut plan, layout, extra, server } = self;
        if let Wanted::Idle(args) = wanted {
            return held(args, wanted.seconds(), plan, server, target);
        }
        plan.devices *= target.connections_per_device();
        let found = round::of_rooms(wanted, plan, (layout, extra), target, &server)?;
        Ok(round::ended(found, server))
    }
}

fn held<T: Target>(
    args: &IdleArgs,
    seconds: u32,
    plan: Plan,
    server: Server,
    target: T,
) -> Result<Found, RunError> {
    let floor = floor::slab_bytes_per_pair(args.connections);
    let server = round::shared(server);
    let idle = round::idle(args, seconds, Vec::new(), round::own_rss_bytes(), &server);
    let driven = round::drive(plan, Held::new(idle, target))?;
    Ok(round::idle_ended(driven.swarm, driven.scenario.idle, server, floor))
}
