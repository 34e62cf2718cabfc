//! What scenarios found, as the figures of one round.

use super::arithmetic::{ratio, round, seconds, whole};
use crate::latency::Latency;
use crate::measure::{Look, Metered};
use crate::result::{
    BesideFigures, Curve, Figures, GeneratorFigures, KernelFigures, Round, ServerFigures,
};
use crate::scenario::{anew, catchup, idle, rooms, storm, talkers};
use crate::swarm::Counts;
use crate::tun;
use hdrhistogram::Histogram;
use roost_protocol::time::Instant;
use serde_json::json;
use std::collections::BTreeMap;

/// A generator that is this busy may be what is measured.
const BUSY: f64 = 0.95;
/// Open loop: a generator that is so late itself, in microseconds at p99, spoils latencies.
const LATE_US: u64 = 1_000;

/// A round as a scenario leaves it, with what is combined over rounds.
#[derive(Debug, Default)]
pub struct Found {
    /// The round.
    pub round: Round,
    /// Its latencies.
    pub histograms: BTreeMap<String, Histogram<u64>>,
    /// Its latencies by share of messages.
    pub percentiles: BTreeMap<String, Curve>,
}

/// How devices came.
#[derive(Debug, Clone, Copy)]
pub struct Came {
    /// What was counted of connections.
    pub counts: Counts,
    /// When the first began to connect.
    pub started: Option<Instant>,
    /// When the last was welcomed.
    pub connected: Option<Instant>,
}

impl Found {
    fn connections(&mut self, came: Came) {
        let Came { counts, started, connected } = came;
        let figures = &mut self.round.figures;
        figures.connections = Some(counts.welcomed.into());
        figures.disconnected = Some(counts.disconnected.into());
        if let (Some(started), Some(connected)) = (started, connected) {
            let took = seconds(started, connected);
            figures.connect_per_s = Some(round(ratio(counts.welcomed.into(), took)));
        }
        if counts.handshakes > 0 {
            self.more("tls_handshakes", counts.handshakes);
            self.more("tls_resumed", counts.resumed);
        }
        if counts.disconnected > 0 {
            self.fail(format!("{} devices lost their connection", counts.disconnected));
        }
    }

    fn more(&mut self, name: &str, value: impl Into<serde_json::Value>) {
        self.round.figures.more.insert(name.to_owned(), value.into());
    }

    fn fail(&mut self, why: String) {
        self.round.failures.push(why);
    }

    fn must_be_zero(&mut self, counts: &[(u64, &str)]) {
        for (count, what) in counts.iter().filter(|(count, _)| *count > 0) {
            self.fail(format!("{count} {what}"));
        }
    }

    /// What messages must not be, of whatever scenario.
    fn losses(&mut self, lost: u64, duplicated: u64, unanswered: u64) {
        let figures = &mut self.round.figures;
        (figures.lost, figures.duplicated) = (Some(lost), Some(duplicated));
        self.must_be_zero(&[
            (lost, "deliveries of accepted messages never came"),
            (duplicated, "messages arrived twice"),
            (unanswered, "messages were never answered"),
        ]);
    }

    /// What was found of a restart, and of the messages after it.
    fn restarted(&mut self, anew: &anew::Findings) {
        self.more("restarted", anew.returned.is_some());
        self.more("calm", anew.is_calm);
        self.more("calm_after_s", round(whole(anew.calm_after.as_ms()) / 1e3));
        self.more("received", anew.received);
        self.more("acknowledged", anew.acknowledged);
        self.more("repeated_on_return", anew.repeated);
        self.must_be_zero(&[(anew.duplicated, "messages after the restart came twice")]);
    }

    /// What a meter found.
    fn metered(&mut self, metered: Metered) {
        let us = whole(metered.length.ns / 1_000);
        let figures = &mut self.round.figures;
        figures.server = server(&metered, us);
        figures.kernel = metered.looks[1].map(|look| KernelFigures {
            slab_bytes: Some(look.slab_bytes),
            tcp_sockets: look.tcp.map(|tcp| tcp.0),
            tcp_buffer_bytes: look.tcp.map(|tcp| tcp.1),
            ..KernelFigures::default()
        });
        figures.generator = Some(generator(&metered, us));
        figures.beside = beside(&metered.looks, us);
        figures.latency_us = metered.latency_us;
        self.round.samples = metered.samples;
        self.histograms = metered.histograms;
        self.percentiles = metered.percentiles;
    }
}

/// Processor time and the like divide by deliveries: what a message costs is what it costs to have
/// it at a reader, and a reader more is a delivery more.
#[must_use]
pub fn server(metered: &Metered, us: f64) -> Option<ServerFigures> {
    let [Some(before), Some(after)] = metered.looks else { return None };
    let (first, last) = (before.server?, after.server?);
    let messages = whole(metered.counts.delivered);
    let each = |total: f64| (messages > 0.0).then(|| round(ratio(total, messages)));
    let a_second = |total: f64| round(ratio(total * 1e6, us));
    let cpu_us = whole(last.cpu_us.saturating_sub(first.cpu_us));
    let system_us = whole(last.system_us.saturating_sub(first.system_us));
    let detail = before.detail.zip(after.detail);
    let grown = |name: &str| {
        let [begin, end] = [0, 1].map(|at: usize| metered.said[at].get(name).copied());
        Some(end? - begin?)
    };
    let said = |name: &str| metered.said[1].get(name).copied().and_then(bytes);
    let counted = metered.syscalls.as_ref();
    let syscalls = counted.and_then(|counted| counted.as_ref().ok()).map(|count| whole(*count));
    Some(ServerFigures {
        cpu_us_per_message: each(cpu_us),
        cpu_share: Some(round(ratio(cpu_us, us))),
        cpu_share_in_kernel: Some(round(ratio(system_us, cpu_us))),
        rss_bytes: Some(last.rss_bytes),
        pss_bytes: metered.pss_bytes,
        allocated_bytes: said("roost_allocator_allocated_bytes"),
        resident_bytes: said("roost_allocator_resident_bytes"),
        voluntary_switches_per_message: detail.and_then(|(first, last)| {
            each(whole(last.voluntary_switches.saturating_sub(first.voluntary_switches)))
        }),
        involuntary_switches_per_s: detail.map(|(first, last)| {
            a_second(whole(last.involuntary_switches.saturating_sub(first.involuntary_switches)))
        }),
        disk_bytes_per_s: detail.and_then(|(first, last)| {
            Some(a_second(whole(last.disk_bytes?.saturating_sub(first.disk_bytes?))))
        }),
        flushes_per_s: grown("roost_flushes_total").map(a_second),
        syscalls_per_message: syscalls.and_then(each),
        syscalls_per_s: syscalls.map(a_second),
        yardstick_us: metered.yardstick_us.map(round),
        syscalls_not_measured: counted.and_then(|counted| counted.as_ref().err().cloned()),
        ..ServerFigures::default()
    })
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a count of bytes that was checked to be one"
)]
fn bytes(value: f64) -> Option<u64> {
    (0.0..1e18).contains(&value).then_some(value as u64)
}

fn beside(looks: &[Option<Look>; 2], us: f64) -> Option<BesideFigures> {
    let [Some(before), Some(after)] = looks else { return None };
    let between = |of: &dyn Fn(&Look) -> u64| of(after).saturating_sub(of(before));
    let server = between(&|look| look.server.map_or(0, |server| server.cpu_us));
    let ours = server.saturating_add(between(&|look| look.own_cpu_us));
    let others = between(&|look| look.processors.busy_us).saturating_sub(ours);
    let stolen = between(&|look| look.processors.stolen_us);
    Some(BesideFigures {
        others_cpu_share: round(ratio(whole(others), us)),
        stolen_cpu_share: round(ratio(whole(stolen), us)),
    })
}

fn generator(metered: &Metered, us: f64) -> GeneratorFigures {
    let cpu_us = match metered.looks {
        [Some(before), Some(after)] => {
            whole(after.generator_cpu_us.saturating_sub(before.generator_cpu_us))
        }
        _ => 0.0,
    };
    let messages = whole(metered.counts.delivered);
    let share = ratio(cpu_us, us);
    let late = metered.lateness.as_ref().map(Latency::of);
    GeneratorFigures {
        limited: late.map_or(share > BUSY, |late| late.p99 > LATE_US),
        cpu_share: round(share),
        cpu_us_per_message: (messages > 0.0).then(|| round(ratio(cpu_us, messages))),
        late_us: late,
        ..GeneratorFigures::default()
    }
}

/// Of a run over rooms.
#[must_use]
pub fn of_rooms(found: rooms::Findings, came: Came, ticks: bool) -> Found {
    let mut of = Found::default();
    of.connections(came);
    let (counts, us) = (found.metered.counts, whole(found.metered.length.ns / 1_000));
    let per_second = |count: u64| Some(round(ratio(whole(count) * 1e6, us)));
    let figures = &mut of.round.figures;
    figures.sent_per_s = per_second(counts.sent);
    figures.delivered_per_s = per_second(counts.delivered);
    figures.ticked_per_s = ticks.then(|| per_second(counts.ticked)).flatten();
    of.metered(found.metered);
    for (name, count) in [
        ("unanswered", found.unanswered),
        ("unsent", found.unsent),
        ("pulls", found.pulls),
        ("repeated", found.repeated),
    ] {
        of.more(name, count);
    }
    if !found.acts.is_empty() {
        of.more("acts", json!(found.acts));
        of.more("acts_answered", found.answered);
    }
    if let Some(generator) = &mut of.round.figures.generator {
        for (name, count) in ["sends_per_message", "receives_per_message"].iter().zip(found.buffers)
        {
            let each = round(ratio(whole(count), whole(counts.delivered)));
            generator.more.insert((*name).to_owned(), json!(each));
        }
    }
    of.losses(found.lost, found.duplicated, found.unanswered);
    of.round.failures.extend(found.failure);
    of
}

/// Of a run that holds connections. `floor_bytes_per_pair`: the slab of a bare pair of sockets.
#[must_use]
pub fn of_idle(found: idle::Findings, mut came: Came, floor_bytes_per_pair: Option<f64>) -> Found {
    let mut of = Found::default();
    if let Some(anew) = &found.anew {
        // Who came to the server before is not of the one that is measured.
        came.counts.welcomed -= anew.welcomed_before;
        came.started = anew.returned.or(came.started);
    }
    of.connections(came);
    let counts = came.counts;
    let heartbeats = found.heartbeats;
    let metered = found.metered;
    let us = whole(metered.length.ns / 1_000);
    let [hold_begin, hold_end] = metered.looks;
    if found.has_messages {
        let per_second = |count: u64| Some(round(ratio(whole(count) * 1e6, us)));
        let figures = &mut of.round.figures;
        figures.sent_per_s = per_second(metered.counts.sent);
        figures.delivered_per_s = per_second(metered.counts.delivered);
        of.more("unanswered", found.unanswered);
        of.more("repeated", found.repeated);
        of.losses(found.lost, found.duplicated, found.unanswered);
    }
    of.metered(metered);
    of.more("heartbeats", counts.heartbeats);
    of.more("heartbeats_answered", counts.echoes);
    of.more("heartbeats_per_s", round(ratio(whole(heartbeats) * 1e6, us)));
    let each = |total: u64| round(ratio(whole(total), counts.welcomed.into()));
    if let (Some(empty), Some(begin), Some(end)) = (found.empty, hold_begin, hold_end) {
        idle_memory(&mut of, empty, end, each, floor_bytes_per_pair);
        if let Some(server) = &mut of.round.figures.server
            && let (Some(empty), Some(connected), Some(begin), Some(end)) = (
                empty.server,
                found.connected.and_then(|look| look.server),
                begin.server,
                end.server,
            )
        {
            server.rss_bytes_empty = Some(empty.rss_bytes);
            server.rss_bytes_first_empty = found.first_rss_bytes;
            server.rss_bytes_first_filled =
                found.anew.as_ref().and_then(|anew| anew.filled_rss_bytes);
            let connecting = connected.cpu_us.saturating_sub(empty.cpu_us);
            let holding = end.cpu_us.saturating_sub(begin.cpu_us);
            let a_heartbeat = round(ratio(whole(holding), whole(heartbeats)));
            server.more.insert("cpu_us_per_connect".to_owned(), json!(each(connecting)));
            server.more.insert("cpu_us_per_heartbeat".to_owned(), json!(a_heartbeat));
        }
    }
    if let Some(anew) = found.anew {
        of.restarted(&anew);
    }
    if counts.echoes != counts.heartbeats {
        let missing = counts.heartbeats.abs_diff(counts.echoes);
        of.fail(format!("{missing} heartbeats were not answered"));
    }
    of.round.failures.extend(found.failure);
    of
}

/// Of a run that holds connections whose other ends are no sockets.
#[must_use]
pub fn of_tun(found: tun::Findings, floor_bytes_per_pair: Option<f64>) -> Found {
    let wire = WirePackets::of(&found);
    let connected = found.idle.connected.map(|look| look.at);
    let came = Came { counts: found.counts, started: found.started, connected };
    let (tally, us) = (found.idle.metered.counts, whole(found.idle.metered.length.ns / 1_000));
    let mut of = of_idle(found.idle, came, None);
    let figures = &mut of.round.figures;
    if let Some(kernel) = &mut figures.kernel {
        // There is no other end, so this is the server's alone.
        kernel.bytes_per_connection = kernel.slab_bytes_per_connection_pair.take();
        kernel.floor_bytes_per_pair = floor_bytes_per_pair.map(round);
        kernel.bytes_per_connection_above_floor = kernel
            .bytes_per_connection
            .zip(floor_bytes_per_pair)
            .map(|(each, floor)| round(each - floor / 2.0));
    }
    if let (Some(server), Some(left)) = (&mut figures.server, found.rss_bytes_left) {
        server.more.insert("rss_bytes_left".to_owned(), json!(left));
    }
    packets(figures, &wire);
    if let Some(talk) = found.talk {
        let per_second = |count: u64| Some(round(ratio(whole(count) * 1e6, us)));
        figures.sent_per_s = per_second(tally.sent);
        figures.delivered_per_s = per_second(tally.delivered);
        figures.ticked_per_s = per_second(tally.ticked);
        of.more("unanswered", talk.unanswered);
        of.more("repeated", talk.repeated);
        of.losses(talk.lost, talk.duplicated, talk.unanswered);
        of.round.failures.extend(talk.complaints);
    }
    of
}

/// Of a run whose devices all leave and return, and are no sockets.
#[must_use]
pub fn of_storm_behind_tun(found: tun::Findings) -> Found {
    let wire = WirePackets::of(&found);
    let talk = found.talk.unwrap_or_default();
    let connected = found.idle.connected.map(|look| look.at);
    let came = Came { counts: found.counts, started: found.started, connected };
    let storm = storm::Findings {
        left: found.storm.left,
        back: found.storm.back,
        repeated: found.storm.repeated,
        took: found.storm.took,
        connected,
        looks: found.storm.looks,
        metered: found.idle.metered,
        failure: found.idle.failure,
    };
    let mut of = of_storm(storm, None, came);
    of.losses(talk.lost, talk.duplicated, talk.unanswered);
    packets(&mut of.round.figures, &wire);
    of.round.failures.extend(talk.complaints);
    of
}

/// What was counted of packets.
struct WirePackets([(&'static str, u64); 5]);

impl WirePackets {
    const fn of(found: &tun::Findings) -> Self {
        let [received, sent] = found.packets;
        Self([
            ("packets_received", received),
            ("packets_sent", sent),
            ("packets_dropped", found.dropped),
            ("segments_sent_again", found.retried),
            ("segments_came_again", found.repeated),
        ])
    }
}

fn packets(figures: &mut Figures, wire: &WirePackets) {
    if let Some(generator) = &mut figures.generator {
        for (name, count) in wire.0 {
            generator.more.insert(name.to_owned(), json!(count));
        }
    }
}

fn idle_memory(
    of: &mut Found,
    empty: Look,
    end: Look,
    each: impl Fn(u64) -> f64,
    floor: Option<f64>,
) {
    let figures = &mut of.round.figures;
    let own = end.generator_rss_bytes.saturating_sub(empty.generator_rss_bytes);
    if let Some(generator) = &mut figures.generator {
        generator.bytes_per_connection = Some(each(own));
    }
    if let (Some(server), Some(first), Some(last)) = (&mut figures.server, empty.server, end.server)
    {
        let grown = last.rss_bytes.saturating_sub(first.rss_bytes);
        server.user_bytes_per_connection = Some(each(grown));
    }
    if let Some(kernel) = &mut figures.kernel {
        let pair = each(end.slab_bytes.saturating_sub(empty.slab_bytes));
        kernel.slab_bytes_per_connection_pair = Some(pair);
        if let Some(floor) = floor {
            kernel.floor_bytes_per_pair = Some(round(floor));
            kernel.bytes_per_connection = Some(round((pair - floor / 2.0).max(0.0)));
            kernel.bytes_per_connection_above_floor = Some(round(pair - floor));
        }
    }
}

/// Of a run whose users return.
#[must_use]
pub fn of_catchup(found: catchup::Findings, came: Came) -> Found {
    let mut of = Found::default();
    of.connections(came);
    of.round.figures.lost = Some(found.lost);
    of.round.figures.duplicated = Some(found.duplicated);
    for (name, count) in [
        ("returned", found.returned),
        ("caught_up", found.caught_up),
        ("found", found.found),
        ("late", found.late),
        ("repeated", found.repeated),
    ] {
        of.more(name, count);
    }
    of.more("took_s", round(whole(found.took.ns / 1_000) / 1e6));
    for (name, times) in [("welcomed", found.welcomed_us), ("caught_up", found.caught_up_us)] {
        of.round.figures.latency_us.insert(name.to_owned(), Latency::of(&times));
        of.percentiles.insert(name.to_owned(), crate::latency::curve(&times));
        of.histograms.insert(name.to_owned(), times);
    }
    if let [Some(before), Some(after)] = found.server {
        let cpu_us = whole(after.cpu_us.saturating_sub(before.cpu_us));
        let mut server =
            ServerFigures { rss_bytes: Some(after.rss_bytes), ..ServerFigures::default() };
        let each = round(ratio(cpu_us, whole(found.returned)));
        server.more.insert("cpu_us_per_return".to_owned(), json!(each));
        let sends = round(ratio(whole(found.received), whole(found.returned)));
        server.more.insert("sends_per_return".to_owned(), json!(sends));
        of.round.figures.server = Some(server);
    }
    of.must_be_zero(&[
        (found.lost, "messages were not found"),
        (found.duplicated, "messages were found twice"),
        (found.returned - found.caught_up, "devices are not up to date"),
    ]);
    of.round.failures.extend(found.failure);
    of
}

/// Of a run whose devices all leave and return, but for those who stay.
#[must_use]
pub fn of_storm(
    mut found: storm::Findings,
    stayed: Option<talkers::Findings>,
    mut came: Came,
) -> Found {
    let mut of = Found::default();
    // Everybody was welcomed twice; the rate is that of the first time.
    let all = came.counts.welcomed;
    came.counts.welcomed = all.saturating_sub(u32::try_from(found.back).unwrap_or(all));
    of.connections(came);
    let took_s = whole(found.took.ns / 1_000) / 1e6;
    if let Some(stayed) = stayed {
        let times = stayed.metered;
        found.metered.latency_us.extend(times.latency_us);
        found.metered.percentiles.extend(times.percentiles);
        found.metered.histograms.extend(times.histograms);
        found.metered.lateness = times.lateness;
        let talk = stayed.talk;
        of.losses(talk.lost, talk.duplicated, talk.unanswered);
        of.more("talkers_come_first", stayed.comes_first);
        of.round.failures.extend(talk.complaints);
        of.round.failures.extend(stayed.failure);
    }
    of.metered(found.metered);
    of.more("left", found.left);
    of.more("returned", found.back);
    of.more("repeated", found.repeated);
    of.more("took_s", round(took_s));
    of.more("returned_per_s", round(ratio(whole(found.back), took_s)));
    if let [Some(before), Some(after)] = found.looks
        && let (Some(before), Some(after), Some(server)) =
            (before.server, after.server, &mut of.round.figures.server)
    {
        let cpu_us = whole(after.cpu_us.saturating_sub(before.cpu_us));
        server.cpu_us_per_message = None;
        let each = round(ratio(cpu_us, whole(found.back)));
        server.more.insert("cpu_us_per_return".to_owned(), json!(each));
    }
    of.must_be_zero(&[(found.left.saturating_sub(found.back), "devices did not come back")]);
    of.round.failures.extend(found.failure);
    of
}

/// Looks whether the server's memory grows, and fails the round if it surely grows too fast.
#[must_use]
pub fn leak(mut found: Found, mib_per_hour_max: u32) -> Found {
    let measured = found.round.samples.iter().filter(|sample| sample.measured);
    let points: Vec<(f64, f64)> =
        measured.map(|sample| (sample.at_s / 3_600.0, whole(sample.server_rss_bytes))).collect();
    // What the start still brings is no leak.
    let later = points.get(points.len() / 4..).unwrap_or_default();
    let Some([low, slope, high]) = crate::compare::slope(later, 0.99) else { return found };
    let mib = f64::from(1 << 20);
    let growth = json!({
        "mib_per_hour": round(slope / mib),
        "at_least": round(low / mib),
        "at_most": round(high / mib),
    });
    found.more("server_memory_growth", growth);
    if low / mib > f64::from(mib_per_hour_max) {
        found.fail(format!(
            "the server's memory grows by {:.1} MiB an hour, surely by {:.1}; allowed are {}",
            slope / mib,
            low / mib,
            mib_per_hour_max
        ));
    }
    found
}
