//! Who may come in. What is refused here costs a look at an address and a close: no place in the
//! table, no answer, no handshake.
//!
//! A listener for proxies takes connections of the networks it trusts only. Each begins with a
//! header of the PROXY protocol; from there on the connection is that of whom the header names.

mod pace;
mod prefixes;
mod proxy_header;

use super::Edges;
use super::partials::Partial;
use super::table::State;
use crate::ids::EdgeId;
use crate::prefix::Prefix;
use crate::shard::context::Context;
use crate::shard::output::{Outbox, Output};
use crate::shard::report::{Refused, Report};
use pace::Pace;
use prefixes::{Prefixes, TooMany};
use roost_protocol::error::Refusal;
use roost_protocol::time::Instant;
use roost_protocol::wire::ErrorCode;
use std::net::IpAddr;

/// What holds for the connections of a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerRules {
    /// They speak TLS.
    pub secure: bool,
    /// They begin with a PROXY header, and come from there only.
    pub proxy: Option<Trust>,
}

impl ListenerRules {
    /// Devices themselves, without TLS.
    pub const PLAIN: Self = Self { secure: false, proxy: None };
    /// Devices themselves, with TLS.
    pub const SECURE: Self = Self { secure: true, proxy: None };
}

/// Whose PROXY header is believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// Of whoever may open the listener's file.
    Local,
    /// Of addresses in these networks.
    Networks(Vec<Prefix>),
}

impl Trust {
    fn covers(&self, peer: Option<IpAddr>) -> bool {
        match self {
            Self::Local => true,
            Self::Networks(networks) => {
                peer.is_some_and(|peer| networks.iter().any(|network| network.contains(peer)))
            }
        }
    }
}

/// See the module's comment.
#[derive(Debug, Default)]
pub(crate) struct Entrance {
    pub(crate) prefixes: Prefixes,
    /// Of each listener that had connections: a crowd at one slows nobody at another.
    paces: Vec<Pace>,
}

impl Entrance {
    /// A connection came. Says whether its listener is to take no further one for now.
    fn paces(&mut self, listener: u16, per_second: u32, now: Instant) -> bool {
        let listener = usize::from(listener);
        if per_second > 0 && self.paces.len() <= listener {
            self.paces.resize_with(listener + 1, Pace::default);
        }
        self.paces.get_mut(listener).is_some_and(|pace| pace.take(per_second, now))
    }
}

impl Entrance {
    /// Whether a listener stopped for its rate.
    pub(super) fn is_paced(&self, listener: u16) -> bool {
        self.paces.get(usize::from(listener)).is_some_and(Pace::is_paused)
    }
}

impl From<TooMany> for Refused {
    fn from(why: TooMany) -> Self {
        match why {
            TooMany::Connections => Self::PrefixFull,
            TooMany::Beginning => Self::PrefixBusy,
        }
    }
}

impl Edges {
    /// A connection came by this listener.
    pub(crate) fn opened(
        &mut self,
        ctx: &mut Context,
        outbox: &mut Outbox,
        id: EdgeId,
        listener: u16,
        peer: Option<IpAddr>,
    ) {
        let (shards, now) = (ctx.links.shards(), ctx.now.monotonic);
        if self.entrance.paces(listener, per_shard(ctx), now) {
            ctx.stats.accept_pauses_total += 1;
            outbox.push(Output::PauseAccepting { listener });
        }
        let rules = self.config.listeners.get(usize::from(listener));
        let ListenerRules { secure, proxy } = rules.expect("a listener has rules");
        let entered = match (proxy, peer) {
            (Some(trust), _) if !trust.covers(peer) => Err(Refused::Untrusted),
            // It is counted as whom the header names.
            (Some(_), _) | (None, None) => Ok(()),
            (None, Some(peer)) => {
                let prefixes = &mut self.entrance.prefixes;
                prefixes.enter(&ctx.limits, shards, id.slot, peer).map_err(Refused::from)
            }
        };
        if let Err(why) = entered {
            return self.turn_away(ctx, outbox, id, why, peer);
        }
        let tick = self.tick;
        let edge = self.table.insert(id);
        edge.heard_tick = tick;
        ctx.stats.connections += 1;
        ctx.stats.connections_total += 1;
        if proxy.is_some() {
            edge.state = State::Proxy;
        }
        if *secure {
            self.table.seal(id);
        }
        self.newcomer_came(ctx, outbox);
        if self.draining {
            self.refuse(ctx, outbox, id, &Refusal::new(ErrorCode::ErrorGoingAway, "shutting down"));
        }
    }

    /// Ends a connection that may not come in, without a word.
    pub(super) fn turn_away(
        &mut self,
        ctx: &mut Context,
        outbox: &mut Outbox,
        id: EdgeId,
        why: Refused,
        peer: Option<IpAddr>,
    ) {
        let stats = &mut ctx.stats;
        *match why {
            Refused::Untrusted => &mut stats.refused_untrusted_total,
            Refused::BadProxyHeader => &mut stats.refused_proxy_header_total,
            Refused::NoProxyHeader => &mut stats.refused_no_proxy_header_total,
            Refused::PrefixFull => &mut stats.refused_prefix_total,
            Refused::PrefixBusy => &mut stats.refused_prefix_unauthenticated_total,
        } += 1;
        ctx.reports.push(Report::Refused { why, peer });
        self.table.leaves(id, State::Aborting);
        outbox.push(Output::Abort { edge: id });
    }

    /// Bytes of a connection whose PROXY header is not whole yet.
    pub(super) fn received_proxy(
        &mut self,
        ctx: &mut Context,
        outbox: &mut Outbox,
        id: EdgeId,
        bytes: &[u8],
    ) {
        let Some(mut held) = self.partials.take(id) else {
            if self.take_proxy(ctx, outbox, id, bytes) {
                let since = ctx.now.monotonic;
                self.partials.put(id, Partial::new(bytes.to_vec(), since));
            }
            return;
        };
        held.bytes.extend_from_slice(bytes);
        if self.take_proxy(ctx, outbox, id, &held.bytes) {
            self.partials.put(id, held);
        }
    }

    /// Takes the header at the start of a stream, and then what follows. Says whether it is not
    /// whole.
    fn take_proxy(
        &mut self,
        ctx: &mut Context,
        outbox: &mut Outbox,
        id: EdgeId,
        stream: &[u8],
    ) -> bool {
        let header = match proxy_header::read(stream) {
            Ok(None) => return true,
            Ok(Some(header)) => header,
            Err(proxy_header::NoProxyHeader) => {
                self.turn_away(ctx, outbox, id, Refused::BadProxyHeader, None);
                return false;
            }
        };
        if let Some(source) = header.source {
            let shards = ctx.links.shards();
            let entered = self.entrance.prefixes.enter(&ctx.limits, shards, id.slot, source);
            if let Err(why) = entered {
                self.turn_away(ctx, outbox, id, why.into(), Some(source));
                return false;
            }
        }
        ctx.stats.proxied_total += 1;
        if let Some(edge) = self.table.get(id) {
            edge.state = State::Preface;
        }
        if let Some(rest) = stream.get(header.bytes..).filter(|rest| !rest.is_empty()) {
            self.take_bytes(ctx, outbox, id, rest);
        }
        false
    }

    /// Networks that have connections, if they are counted.
    pub(crate) fn address_prefixes(&self) -> usize {
        self.entrance.prefixes.len()
    }

    /// Time passed: connections may be taken again.
    pub(super) fn reopen(&mut self, ctx: &Context, outbox: &mut Outbox) {
        let (per_second, now) = (per_shard(ctx), ctx.now.monotonic);
        let is_full = self.places.is_full();
        for (listener, pace) in (0..).zip(&mut self.entrance.paces) {
            if pace.goes_on(per_second, now) && !is_full {
                outbox.push(Output::ResumeAccepting { listener });
            }
        }
    }
}

/// How many connections this shard takes in a second of a listener; 0: as many as come.
fn per_shard(ctx: &Context) -> u32 {
    ctx.limits.connections_per_second.div_ceil(ctx.links.shards().into())
}
