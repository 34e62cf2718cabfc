//! What was found, as figures and as lines.

use super::scenario::{Findings, Measured};
use super::script::Who;
use crate::report::arithmetic::{median, ratio, round, seconds, thousands, whole};
use crate::report::summary;
use crate::result::Document;
use serde_json::{Map, Value, json};

/// Two steps of which one is held against the other.
struct Held {
    name: &'static str,
    of: (Who, &'static str),
    against: (Who, &'static str),
}

const HELD: [Held; 5] = [
    Held {
        name: "heartbeat_to_bare_echo",
        of: (Who::Roost, "heartbeats"),
        against: (Who::Bare, "heartbeats"),
    },
    Held {
        name: "message_with_idle_to_without",
        of: (Who::Roost, "few_among_many"),
        against: (Who::Roost, "few_alone"),
    },
    Held {
        name: "bare_echo_with_idle_to_without",
        of: (Who::Bare, "few_among_many"),
        against: (Who::Bare, "few_alone"),
    },
    Held {
        name: "message_of_all_to_of_few",
        of: (Who::Roost, "all"),
        against: (Who::Roost, "few_among_many"),
    },
    Held {
        name: "bare_echo_of_all_to_of_few",
        of: (Who::Bare, "all"),
        against: (Who::Bare, "few_among_many"),
    },
];
/// What the server pays for coldness as a multiple of what the bare echo pays.
const COLDNESS: &str = "coldness_to_bare_echo";

/// Processor time of each thing that came back, in every turn of a step.
fn each_us(found: &Findings, who: Who, name: &str) -> Vec<f64> {
    let of = found.measured.iter().filter(|of| of.who == who && of.name == name && of.count > 0);
    of.map(|of| ratio(whole(cpu_us(of)), whole(of.count))).collect()
}

fn cpu_us(of: &Measured) -> u64 {
    let [begin, end] = of.looks.map(|look| look.server.unwrap_or_default());
    end.cpu_us.saturating_sub(begin.cpu_us)
}

/// The ratio of medians, and the least and the largest of single turns.
fn held(found: &Findings, of: &Held) -> Option<[f64; 3]> {
    let values = each_us(found, of.of.0, of.of.1);
    let against = each_us(found, of.against.0, of.against.1);
    let turns: Vec<f64> = values.iter().zip(&against).map(|(of, by)| ratio(*of, *by)).collect();
    let middle = ratio(median(values)?, median(against)?);
    let least = turns.iter().copied().fold(f64::INFINITY, f64::min);
    let most = turns.iter().copied().fold(0.0, f64::max);
    Some([middle, least, most])
}

/// Puts everything into the result.
pub(super) fn fill(document: &mut Document, found: &Findings) {
    let more = &mut document.figures.more;
    for who in Who::BOTH {
        let mut of_side = Map::new();
        for name in names(found, who) {
            of_side.insert(name.to_owned(), step(found, who, name));
        }
        more.insert(who.name().to_owned(), of_side.into());
    }
    let ratios = ratios(found).into_iter().map(|(name, [middle, least, most])| {
        let of = json!({ "median": round(middle), "min": round(least), "max": round(most) });
        (name.to_owned(), of)
    });
    more.insert("ratios".to_owned(), Value::Object(ratios.collect()));
    document.failures.extend(found.failures.iter().cloned());
}

fn ratios(found: &Findings) -> Vec<(&'static str, [f64; 3])> {
    let mut ratios: Vec<(&'static str, [f64; 3])> =
        HELD.iter().filter_map(|of| Some((of.name, held(found, of)?))).collect();
    let of = |name| ratios.iter().find(|(of, _)| *of == name).map(|(_, [middle, ..])| *middle);
    let both = (of("message_of_all_to_of_few"), of("bare_echo_of_all_to_of_few"));
    if let (Some(of), Some(against)) = both {
        let coldness = ratio(of, against);
        ratios.push((COLDNESS, [coldness; 3]));
    }
    ratios
}

/// The steps of a server, in the order in which they came first.
fn names(found: &Findings, who: Who) -> Vec<&'static str> {
    let mut names = Vec::new();
    for of in found.measured.iter().filter(|of| of.who == who) {
        if !names.contains(&of.name) {
            names.push(of.name);
        }
    }
    names
}

/// A step over all turns.
fn step(found: &Findings, who: Who, name: &str) -> Value {
    let turns: Vec<&Measured> =
        found.measured.iter().filter(|of| of.who == who && of.name == name).collect();
    let over = |figure: fn(&Measured) -> f64| {
        json!(median(turns.iter().map(|of| figure(of)).collect()).map(round))
    };
    let mut fields = json!({
        "per_s": over(|of| ratio(whole(of.count), length_s(of))),
        "cpu_share": over(|of| ratio(whole(cpu_us(of)) / 1e6, length_s(of))),
        "cpu_share_in_kernel": over(in_kernel),
        "generator_cpu_share": over(generator_share),
        "stolen_cpu_share": over(stolen_share),
    });
    let each = each_us(found, who, name);
    if let (Some(fields), Some(middle)) = (fields.as_object_mut(), median(each.clone())) {
        let all: Vec<f64> = each.into_iter().map(round).collect();
        fields.insert("cpu_us_each".to_owned(), json!(round(middle)));
        fields.insert("cpu_us_each_of_turns".to_owned(), json!(all));
        fields.insert("voluntary_switches_each".to_owned(), over(switches_each));
    }
    fields
}

fn length_s(of: &Measured) -> f64 {
    let [begin, end] = of.looks.map(|look| look.at);
    seconds(begin, end)
}

fn in_kernel(of: &Measured) -> f64 {
    let [begin, end] = of.looks.map(|look| look.server.unwrap_or_default());
    ratio(whole(end.system_us.saturating_sub(begin.system_us)), whole(cpu_us(of)))
}

fn generator_share(of: &Measured) -> f64 {
    let [begin, end] = of.looks.map(|look| look.generator_cpu_us);
    ratio(whole(end.saturating_sub(begin)) / 1e6, length_s(of))
}

fn stolen_share(of: &Measured) -> f64 {
    let [begin, end] = of.looks.map(|look| look.processors.stolen_us);
    ratio(whole(end.saturating_sub(begin)) / 1e6, length_s(of))
}

/// How often the server slept for each thing that came back: with few of them a turn answers many
/// at once, and such turns are only to be held against like ones.
fn switches_each(of: &Measured) -> f64 {
    let [begin, end] = of.looks.map(|look| look.detail.unwrap_or_default().voluntary_switches);
    ratio(whole(end.saturating_sub(begin)), whole(of.count))
}

/// The same for a terminal.
pub(super) fn lines(document: &Document, found: &Findings) -> String {
    let mut lines = summary::head(document);
    for who in Who::BOTH {
        for name in names(found, who) {
            let step = &document.figures.more[who.name()][name];
            let number = |field: &str| step[field].as_f64().unwrap_or(0.0);
            let kernel = 100.0 * number("cpu_share_in_kernel");
            let share = 100.0 * number("cpu_share");
            let text = if step["cpu_us_each"].is_null() {
                format!("{share:.2} % of a core")
            } else {
                format!(
                    "{:.2} us each {}, {kernel:.0} % of it in the kernel; {} a second, \
                     {share:.1} % of a core; slept {:.2} times each; generator {:.0} %",
                    number("cpu_us_each"),
                    step["cpu_us_each_of_turns"],
                    thousands(number("per_s")),
                    number("voluntary_switches_each"),
                    100.0 * number("generator_cpu_share"),
                )
            };
            summary::line(&mut lines, who.name(), &format!("{}: {text}", spoken(name)));
        }
    }
    for (name, [middle, least, most]) in ratios(found) {
        let text = if name == COLDNESS {
            format!("{}: {middle:.2}", spoken(name))
        } else {
            format!("{}: {middle:.2} (turns {least:.2} to {most:.2})", spoken(name))
        };
        summary::line(&mut lines, "ratio", &text);
    }
    for failure in &document.failures {
        summary::line(&mut lines, "FAILED", failure);
    }
    lines
}

fn spoken(name: &str) -> String {
    name.replace('_', " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Look;
    use crate::process::Usage;
    use roost_protocol::time::Instant;

    fn measured(name: &'static str, who: Who, cpu_us: u64) -> Measured {
        let look = |cpu_us, ms: u64| Look {
            server: Some(Usage { cpu_us, ..Usage::default() }),
            at: Instant { ns: ms * 1_000_000 },
            ..Look::default()
        };
        Measured { name, who, count: 1_000, looks: [look(500, 0), look(500 + cpu_us, 2_000)] }
    }

    #[test]
    fn ratios_are_of_medians_and_turns_show_how_far_they_are_apart() {
        let turns = [(5_000, 6_000), (4_000, 8_000), (5_000, 7_000)];
        let measured = turns.into_iter().flat_map(|(bare, roost)| {
            [measured("heartbeats", Who::Bare, bare), measured("heartbeats", Who::Roost, roost)]
        });
        let found = Findings { measured: measured.collect(), failures: Vec::new() };
        let mut document = Document::default();
        fill(&mut document, &found);
        let more = &document.figures.more;
        assert_eq!(more["bare"]["heartbeats"]["cpu_us_each"], 5.0);
        assert_eq!(more["roost"]["heartbeats"]["cpu_us_each_of_turns"], json!([6.0, 8.0, 7.0]));
        assert_eq!(more["roost"]["heartbeats"]["per_s"], 500.0);
        let expected = json!({ "median": 1.4, "min": 1.2, "max": 2.0 });
        assert_eq!(more["ratios"], json!({ "heartbeat_to_bare_echo": expected }));
        assert!(lines(&document, &found).contains("1.40 (turns 1.20 to 2.00)"));
    }

    #[test]
    fn coldness_is_held_against_what_the_bare_echo_pays_for_it() {
        let steps = [
            ("few_alone", Who::Bare, 3_000),
            ("few_alone", Who::Roost, 10_000),
            ("few_among_many", Who::Bare, 3_000),
            ("few_among_many", Who::Roost, 11_000),
            ("all", Who::Bare, 6_000),
            ("all", Who::Roost, 16_500),
        ];
        let measured = steps.map(|(name, who, us)| measured(name, who, us)).to_vec();
        let ratios = ratios(&Findings { measured, failures: Vec::new() });
        let of = |wanted| ratios.iter().find(|(name, _)| *name == wanted).map(|(_, of)| of[0]);
        assert_eq!(of("message_with_idle_to_without"), Some(1.1));
        assert_eq!(of("bare_echo_with_idle_to_without"), Some(1.0));
        assert_eq!(
            (of("bare_echo_of_all_to_of_few"), of("message_of_all_to_of_few")),
            (Some(2.0), Some(1.5))
        );
        assert_eq!(of(COLDNESS), Some(0.75));
        assert_eq!(of("heartbeat_to_bare_echo"), None);
    }
}
