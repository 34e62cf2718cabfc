//! A result as a few lines for a terminal.

use super::arithmetic::{mebibytes, thousands};
use crate::floor::FLOOR_RATIO;
use crate::result::{Document, Figures, ServerFigures};
use serde_json::Value;
use std::fmt::Write as _;

/// A line: its name, then what it says.
pub fn line(lines: &mut String, name: &str, text: &str) {
    writeln!(lines, "{name:<10} {text}").expect("a text grows as needed");
}

/// All of a result, failures last.
#[must_use]
pub fn lines(document: &Document) -> String {
    let mut lines = head(document);
    figures(&mut lines, &document.figures);
    if document.rounds.len() > 1 {
        spread(&mut lines, document);
    }
    for difference in &document.differences {
        line(&mut lines, "note", difference);
    }
    for result in &document.results {
        let name = format!("{} {}", result.target, result.scenario);
        line(&mut lines, "----", &name);
        figures(&mut lines, &result.figures);
        for difference in &result.differences {
            line(&mut lines, "note", difference);
        }
    }
    for failure in &document.failures {
        line(&mut lines, "FAILED", failure);
    }
    lines
}

/// What it ran on.
pub(crate) fn head(document: &Document) -> String {
    let mut lines = String::new();
    let machine = &document.environment.machine;
    line(&mut lines, "machine", &format!("{machine}, {}", document.date));
    line(&mut lines, "placement", &document.environment.placement.text);
    if let Some(flush) = &document.fdatasync_us {
        line(&mut lines, "fdatasync", &flush.to_string());
    }
    lines
}

fn figures(lines: &mut String, figures: &Figures) {
    if let (Some(connections), Some(rate)) = (figures.connections, figures.connect_per_s) {
        line(lines, "connected", &format!("{connections} at {}/s", thousands(rate)));
    }
    let rates = [
        ("sent", figures.sent_per_s),
        ("delivered", figures.delivered_per_s),
        ("ticked", figures.ticked_per_s),
    ];
    let rates: Vec<String> = rates
        .iter()
        .filter_map(|(name, rate)| rate.map(|rate| format!("{} {name}", thousands(rate))))
        .collect();
    if !rates.is_empty() {
        line(lines, "messages", &format!("{} a second", rates.join(", ")));
    }
    for (name, of) in &figures.latency_us {
        let text = format!(
            "p50 {:>7} us   p99 {:>7} us   p99.9 {:>7} us   max {:>7} us",
            of.p50, of.p99, of.p999, of.max
        );
        line(lines, name, &text);
    }
    for (name, value) in figures.more.iter().filter(|(_, value)| !value.is_object()) {
        line(lines, name, &value.to_string());
    }
    if let Some(server) = &figures.server {
        server_lines(lines, server);
    }
    other_lines(lines, figures);
}

fn server_lines(lines: &mut String, server: &ServerFigures) {
    let mut parts = Vec::new();
    if let Some(us) = server.cpu_us_per_message {
        parts.push(format!("{us:.2} us a message"));
    }
    if let Some(share) = server.cpu_share {
        let kernel = server.cpu_share_in_kernel.unwrap_or_default() * 100.0;
        parts.push(format!("{:.1} % of a core, {kernel:.0} % of it in the kernel", share * 100.0));
    }
    for (name, value) in &server.more {
        parts.push(format!("{} {value}", name.replace('_', " ")));
    }
    line(lines, "server", &parts.join(", "));
    let mut parts = Vec::new();
    for (name, bytes) in [
        ("RSS", server.rss_bytes),
        ("PSS", server.pss_bytes),
        ("allocated", server.allocated_bytes),
        ("allocator resident", server.resident_bytes),
        (
            if server.rss_bytes_first_empty.is_some() {
                "empty (started anew: the store, and no session)"
            } else {
                "empty"
            },
            server.rss_bytes_empty,
        ),
    ] {
        parts.extend(bytes.map(|bytes| format!("{name} {:.1} MiB", mebibytes(bytes))));
    }
    if let Some(bytes) = server.user_bytes_per_connection {
        parts.push(format!("{bytes:.0} B a connection"));
    }
    line(lines, "memory", &parts.join(", "));
    if let (Some(empty), Some(filled)) =
        (server.rss_bytes_first_empty, server.rss_bytes_first_filled)
    {
        let [empty, filled] = [empty, filled].map(mebibytes);
        let text = format!(
            "the server that filled the store: RSS {empty:.1} MiB before anybody came, \
             {filled:.1} MiB with everything there; it counts for nothing above"
        );
        line(lines, "before", &text);
    }
    let mut parts = Vec::new();
    for (name, value) in [
        ("flushes/s", server.flushes_per_s),
        ("disk bytes/s", server.disk_bytes_per_s),
        ("involuntary switches/s", server.involuntary_switches_per_s),
    ] {
        parts.extend(value.map(|value| format!("{} {name}", thousands(value))));
    }
    if let Some(each) = server.voluntary_switches_per_message {
        parts.push(format!("{each:.3} voluntary switches a message"));
    }
    match (server.syscalls_per_message, server.syscalls_per_s) {
        (Some(each), _) => parts.push(format!("{each:.3} system calls a message")),
        (None, Some(rate)) => parts.push(format!("{} system calls/s", thousands(rate))),
        (None, None) => {}
    }
    if let Some(why) = &server.syscalls_not_measured {
        parts.push(format!("system calls not measured: {why}"));
    }
    if !parts.is_empty() {
        line(lines, "system", &parts.join(", "));
    }
}

/// Figures as shares of what the machine does without a broker, if that is known: a line for each
/// result that has any.
pub(crate) fn floor_ratios(lines: &mut String, document: &Document) {
    let ratios = document.figures.more.get(FLOOR_RATIO).and_then(Value::as_object);
    let ratios: Vec<String> =
        ratios.into_iter().flatten().map(|(name, ratio)| format!("{name} {ratio}")).collect();
    if !ratios.is_empty() {
        let of = format!("{} {}: ", document.target, document.scenario);
        line(lines, "of floor", &(of + &ratios.join(", ")));
    }
    for result in &document.results {
        floor_ratios(lines, result);
    }
}

fn other_lines(lines: &mut String, figures: &Figures) {
    if let Some(kernel) = &figures.kernel
        && kernel.slab_bytes_per_connection_pair.is_none()
        && let (Some(own), Some(above)) =
            (kernel.bytes_per_connection, kernel.bytes_per_connection_above_floor)
    {
        let text = format!("{own:.0} B of slab a connection, {above:.0} above half a bare pair");
        line(lines, "kernel", &text);
    }
    if let Some(kernel) = &figures.kernel
        && let Some(pair) = kernel.slab_bytes_per_connection_pair
    {
        let mut text = format!("{pair:.0} B of slab for both ends of a connection");
        if let (Some(floor), Some(own), Some(above)) = (
            kernel.floor_bytes_per_pair,
            kernel.bytes_per_connection,
            kernel.bytes_per_connection_above_floor,
        ) {
            write!(text, "; a bare pair takes {floor:.0}: {own:.0} B an end, {above:.0} above it")
                .expect("a text grows as needed");
        }
        line(lines, "kernel", &text);
    }
    let Some(generator) = &figures.generator else { return };
    let mut text = generator.late_us.map_or_else(
        || format!("{:.0} % of a core", generator.cpu_share * 100.0),
        |late| format!("late by p50 {} us, p99 {} us (it spins)", late.p50, late.p99),
    );
    if let Some(bytes) = generator.bytes_per_connection {
        write!(text, ", {bytes:.0} B a device").expect("a text grows as needed");
    }
    if generator.limited {
        text.push_str(": IT IS THE LIMIT, this is no result");
    }
    line(lines, "generator", &text);
    if let Some(beside) = &figures.beside {
        let [others, stolen] =
            [beside.others_cpu_share, beside.stolen_cpu_share].map(|share| share * 100.0);
        let text = format!("others took {others:.0} % of a core, the hypervisor {stolen:.0} %");
        line(lines, "beside", &text);
    }
}

fn spread(lines: &mut String, document: &Document) {
    let names =
        ["sent_per_s", "delivered_per_s", "ticked_per_s", "server.cpu_us_per_message", "took_s"];
    for name in names {
        if let Some(of) = document.spread.get(name).filter(|of| of.max > 0.0) {
            let text = format!(
                "{name}: {:.1} to {:.1}, median {:.1}, deviation {:.1} %",
                of.min,
                of.max,
                of.median,
                of.deviation / of.mean * 100.0
            );
            line(lines, "rounds", &text);
        }
    }
}
