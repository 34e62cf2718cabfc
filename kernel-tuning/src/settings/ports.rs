//! Ports and the table of tracked connections.

use super::judgement::at_least;
use super::{Bite, Context, Judgement, Page, Scope, Setting, State};
use crate::text::count;

/// As wide as it can be without the ports that services listen on.
const WIDEST: (u64, u64) = (1_024, 65_535);

pub(super) static PORT_RANGE: Setting = Setting {
    key: "net.ipv4.ip_local_port_range",
    reads: &["net.ipv4.ip_local_port_range"],
    scope: Scope::NetworkNamespace,
    symptom: "EADDRNOTAVAIL (Cannot assign requested address) from connect(); past half of the \
              range connect() already becomes slow",
    cost: "none; services that listen on a port within it should be in ip_local_reserved_ports",
    reference: "Documentation/networking/ip-sysctl.rst, ip_local_port_range",
    page: Page {
        what: "Ports that a side which connects may use. Each pair of addresses (and port of the \
               server) has the whole range once.",
        when: "Load generators, and balancers that connect to a server from few addresses: with \
               the default 28,232 connections a pair. A server uses one port for all. More pairs \
               of addresses help without bound; a wider range only up to 64,512.",
        high: "A service that starts late may find its port taken by a connection.",
        measured: "connect() failed with EADDRNOTAVAIL at 28,232. The first 14,000 were made at \
                   109,000 a second, the next 14,232 at 849: even and odd ports are tried apart, \
                   and a range more than half full is searched. 10,000 a pair stayed fast. \
                   roost-tune probe --raise shows both ends of the range.",
    },
    wishes: &[],
    judge: judge_ports,
};

fn judge_ports(context: &Context<'_>) -> Judgement {
    let (key, goal) = ("net.ipv4.ip_local_port_range", context.goal);
    let &[low, high] = context.facts.numbers(key).as_slice() else {
        return Judgement::hidden(context, key, Scope::NetworkNamespace);
    };
    let now = format!("{low}-{high}");
    if !goal.loopback {
        return Judgement::fits(now, "any: a server uses one port");
    }
    let range = (high + 1).saturating_sub(low);
    let pairs = goal.address_pairs;
    let room = range.saturating_mul(pairs);
    let widest = WIDEST.1 + 1 - WIDEST.0;
    let pairs_needed = goal.connections.div_ceil(widest / 2);
    let needed = format!(
        "{}-{} and {} pairs of addresses",
        WIDEST.0,
        WIDEST.1,
        count(pairs_needed.max(pairs))
    );
    let (bites, state) = if goal.connections > room {
        (Bite::At(room), State::Stops)
    } else if goal.connections > room / 2 {
        (Bite::SlowAt(room / 2), State::Slows)
    } else {
        return Judgement::fits(now, "half of it").bites(Bite::SlowAt(room / 2));
    };
    let now = format!("{now}, {} pair{}", count(pairs), if pairs == 1 { "" } else { "s" });
    // Before it stops anything it is slow, and that may be before other limits.
    let slow = if state == State::Stops {
        format!(", slow from {}", count(room / 2))
    } else {
        String::new()
    };
    let judged = Judgement::new(state, format!("{now}{slow}"), needed);
    let judged = judged.bites(bites).remedy(format!(
        "connect to {} addresses (127.0.0.1, 127.0.0.2, … are all this machine), so that none has \
         more than half of its ports in use; the wider range helps up to {} a pair",
        count(pairs_needed),
        count(widest)
    ));
    if range < widest { judged.sysctl(key, format!("{} {}", WIDEST.0, WIDEST.1)) } else { judged }
}

pub(super) static CONNTRACK: Setting = Setting {
    key: "net.netfilter.nf_conntrack_max",
    reads: &["net.netfilter.nf_conntrack_max", "net.netfilter.nf_conntrack_count"],
    scope: Scope::Machine,
    symptom: "new connections hang; kernel log: nf_conntrack: table full, dropping packet",
    cost: "about 320 bytes a tracked connection, and 8 a bucket",
    reference: "Documentation/networking/nf_conntrack-sysctl.rst, nf_conntrack_max",
    page: Page {
        what: "Connections that the firewall remembers. It remembers none until a rule needs it \
               (state, NAT, Docker's and Kubernetes' rules do).",
        when: "Wherever there is a stateful rule, then each session is one entry, for five days \
               after the last packet of a peer that vanished.",
        high: "Memory, and long chains unless the buckets grow, too.",
        measured: "nf_conntrack_count beside the number of sockets. It was 0 with 20,000 sockets \
                   open: nothing tracked them. Better than a large table is none: rules with \
                   notrack for the server's port.",
    },
    wishes: &[],
    judge: |context| {
        let (facts, goal) = (context.facts, context.goal);
        let key = "net.netfilter.nf_conntrack_max";
        let Some(max) = facts.number(key) else {
            return Judgement::fits("not loaded", "-");
        };
        let tracked = facts.number("net.netfilter.nf_conntrack_count").unwrap_or(0);
        let needed = goal.connections.saturating_add(goal.connections / 8);
        // Some sockets and none tracked: no rule asks for it. Without sockets nobody can tell.
        if tracked == 0 && (max >= needed || facts.tcp_sockets > 0) {
            return Judgement::fits(format!("{}, none tracked", count(max)), count(needed))
                .remedy("should a stateful rule be added, this would be the limit")
                .bites(Bite::Never);
        }
        let at = |now: u64| Bite::At(now.saturating_sub(tracked));
        let judged = at_least(context, (key, Scope::Machine), needed, State::Stops, at);
        if judged.state == State::Fits {
            return judged;
        }
        judged.remedy(
            "leave the server's port out of tracking (nft: tcp dport 4443 notrack, both ways), or \
             raise it and nf_conntrack_buckets with it",
        )
    },
};
