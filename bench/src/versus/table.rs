//! The comparison for a terminal.

use super::TOOK;
use super::contestant::Match;
use crate::report::arithmetic::{mebibytes, thousands};
use crate::report::summary;
use crate::result::Document;
use std::fmt::Write as _;

/// Everything: what it ran on, a table for each scenario, what differs in meaning, how brokers were
/// configured.
pub(super) fn lines(document: &Document, matches: &[Match]) -> String {
    let mut lines = summary::head(document);
    let rows: Vec<(&Match, &Document)> = matches.iter().zip(&document.results).collect();
    for scenario in rows.chunk_by(|one, other| one.0.title == other.0.title) {
        let title = scenario.first().map_or("", |(of, _)| &of.title);
        writeln!(lines, "\n{title}").expect("a text grows as needed");
        let is_idle = scenario.iter().any(|(_, result)| result.scenario == "idle");
        table(&mut lines, scenario, is_idle);
    }
    lines.push('\n');
    let mut told = std::collections::BTreeSet::new();
    for (of, result) in rows {
        for difference in &result.differences {
            if told.insert((&of.label, difference)) {
                summary::line(&mut lines, "note", &format!("{}: {difference}", of.label));
            }
        }
    }
    for difference in &document.differences {
        summary::line(&mut lines, "note", difference);
    }
    let configurations = document.settings.get("configurations").and_then(|of| of.as_object());
    for (name, text) in configurations.into_iter().flatten() {
        let text = text.as_str().unwrap_or_default().trim_end().replace('\n', "\n           ");
        let text = format!("{name}:\n           {text}");
        summary::line(&mut lines, "configured", &text);
    }
    if let Some(took_s) = document.figures.more.get(TOOK).and_then(serde_json::Value::as_f64) {
        let rounds: usize = document.results.iter().map(|of| of.rounds.len()).sum();
        let text = format!("{:.1} min, for {rounds} runs of a server each", took_s / 60.0);
        summary::line(&mut lines, "took", &text);
    }
    for failure in &document.failures {
        summary::line(&mut lines, "FAILED", failure);
    }
    lines
}

fn table(lines: &mut String, scenario: &[(&Match, &Document)], is_idle: bool) {
    let heads: [&str; 6] = if is_idle {
        ["connect/s", "bytes each", "kernel each", "server MiB", "CPU share", "spread"]
    } else {
        ["accepted/s", "delivered/s", "p50 us", "p99 us", "server us", "spread"]
    };
    row(lines, "", &heads.map(str::to_owned), "");
    for (of, result) in scenario {
        let figures = &result.figures;
        let server = figures.server.clone().unwrap_or_default();
        let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), thousands);
        let delivered = figures.latency_us.get("delivered");
        let of_latency = |us: Option<u64>| us.map_or_else(|| "-".to_owned(), |us| us.to_string());
        let accepted = figures.sent_per_s.filter(|rate| *rate > 0.0);
        let kernel = figures.kernel.clone().unwrap_or_default();
        let cells = if is_idle {
            [
                number(figures.connect_per_s),
                number(server.user_bytes_per_connection),
                number(kernel.bytes_per_connection),
                server
                    .rss_bytes
                    .map_or_else(|| "-".to_owned(), |of| format!("{:.1}", mebibytes(of))),
                server.cpu_share.map_or_else(|| "-".to_owned(), |of| format!("{of:.3}")),
                spread(result, "connect_per_s"),
            ]
        } else {
            [
                number(accepted),
                number(figures.delivered_per_s),
                of_latency(delivered.map(|of| of.p50)),
                of_latency(delivered.map(|of| of.p99)),
                server.cpu_us_per_message.map_or_else(|| "-".to_owned(), |us| format!("{us:.2}")),
                spread(result, "delivered_per_s"),
            ]
        };
        let limited = figures.generator.as_ref().is_some_and(|generator| generator.limited);
        let mark = match (result.is_good(), limited) {
            (false, _) => "  FAILED",
            (true, true) => "  the generator was the limit",
            (true, false) => "",
        };
        row(lines, &of.label, &cells, mark);
    }
}

/// How far the rounds are apart, in percent of the median, each way.
fn spread(result: &Document, name: &str) -> String {
    let of = result.spread.get(name).filter(|of| of.median > 0.0 && result.rounds.len() > 1);
    of.map_or_else(String::new, |of| {
        let percent = |value: f64| (value / of.median - 1.0) * 100.0;
        format!("{:+.0} {:+.0} %", percent(of.min), percent(of.max))
    })
}

fn row(lines: &mut String, label: &str, cells: &[String; 6], mark: &str) {
    write!(lines, "  {label:<36}").expect("a text grows as needed");
    for cell in cells {
        write!(lines, " {cell:>12}").expect("a text grows as needed");
    }
    writeln!(lines, "{mark}").expect("a text grows as needed");
}
