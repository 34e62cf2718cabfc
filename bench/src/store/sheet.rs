//! The result while it grows, and what several values of it come to.

use super::args::StoreCommon;
use super::contestant::Contestant;
use super::device::Device;
use super::engine::Failure;
use super::place::Place;
use crate::machine::{self, FlushTime, Machine};
use crate::process::Beside;
use crate::report::Report;
use crate::report::arithmetic::round;
use roost_event_loop::now;
use serde_json::{Map, Value, json};
use std::fmt::Write as _;

/// Changes when a field changes its meaning.
const SCHEMA: u32 = 1;

/// More than this of a processor used by others is noise in the figures.
const QUIET_CORES: f64 = 0.1;

/// Lines for the terminal, fields for JSON, and what must not be.
#[derive(Debug, Default)]
pub struct Sheet {
    fields: Map<String, Value>,
    lines: String,
    failures: Vec<String>,
    begun: Option<Beside>,
}

impl Sheet {
    /// What stands above all figures: the machine, the disk, who is measured and how they are set.
    ///
    /// # Errors
    /// The disk cannot be timed.
    pub fn begin(
        &mut self,
        part: &str,
        common: &StoreCommon,
        place: &Place,
    ) -> Result<(), Failure> {
        let (machine, date) = (Machine::this(), machine::date(now().wall));
        let flush = FlushTime::measure(place.folder())?;
        let disk = Device::of(place.folder())?.describe();
        self.line("machine", &format!("{machine}, {date}"));
        self.line("disk", &disk);
        self.begun = Some(Beside::now());
        self.line("fdatasync", &flush.to_string());
        let mut contestants = Map::new();
        for contestant in [Contestant::Roost].iter().chain(common.peers()) {
            let (version, settings) = (contestant.version(), contestant.settings());
            self.line(contestant.name(), &format!("{version}: {settings}"));
            let value = json!({ "version": version, "settings": settings });
            contestants.insert(contestant.name().to_owned(), value);
        }
        if common.peers().is_empty() {
            self.line("peers", "none: build with --features peers to compare");
        } else {
            self.line("cache", &format!("{} MiB for each peer", common.cache_mib));
        }
        let fields = [
            ("schema", json!(SCHEMA)),
            ("scenario", json!(format!("store {part}"))),
            ("date", json!(date)),
            ("machine", json!(machine)),
            ("disk", json!(disk)),
            ("fdatasync_us", json!(flush)),
            ("engines", Value::Object(contestants)),
            ("peer_cache_bytes", json!(common.cache_bytes())),
        ];
        self.fields.extend(fields.map(|(name, value)| (name.to_owned(), value)));
        Ok(())
    }

    /// Adds a line.
    pub fn line(&mut self, name: &str, text: &str) {
        writeln!(self.lines, "{name:<10} {text}").expect("a text grows as needed");
    }

    /// Adds a field of the whole run.
    pub fn setting(&mut self, name: &str, value: Value) {
        self.fields.insert(name.to_owned(), value);
    }

    /// Adds what was found with somebody.
    pub fn field(&mut self, name: &str, contestant: Contestant, value: Value) {
        let all = self.fields.entry(name).or_insert_with(|| json!({}));
        all[contestant.name()] = value;
    }

    /// Notes what must not be.
    pub fn fail(&mut self, what: String) {
        self.failures.push(what);
    }

    /// The report. What ran beside is known now: other work on the same processors and the same
    /// disk spoils every figure.
    #[must_use]
    pub fn into_report(mut self) -> Report {
        if let Some(begun) = self.begun {
            let cores = Beside::now().cores_since(begun);
            let warning = if cores > QUIET_CORES { ": NOT QUIET, do not trust these" } else { "" };
            let text = format!("others used {cores:.2} processors during the run{warning}");
            self.line("beside", &text);
            self.setting("processors_used_by_others", json!(round(cores)));
        }
        Report::of_parts(self.fields, self.lines, self.failures)
    }
}

/// The one with the median value.
///
/// # Panics
/// There is none.
#[must_use]
pub fn median_by<T>(all: &[T], value: impl Fn(&T) -> f64) -> &T {
    let mut sorted: Vec<&T> = all.iter().collect();
    sorted.sort_by(|some, other| value(some).total_cmp(&value(other)));
    sorted[sorted.len() / 2]
}

/// The best value of a peer, `better` of two.
#[must_use]
pub fn best(values: &[(Contestant, f64)], better: fn(f64, f64) -> f64) -> Option<f64> {
    let peers = values.iter().filter(|(contestant, _)| contestant.is_peer());
    peers.map(|(_, value)| *value).reduce(better)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_and_the_bare_file_are_no_peers() {
        let values = [(Contestant::Bare, 9.0), (Contestant::Fjall, 2.0), (Contestant::Roost, 8.0)];
        assert_eq!(best(&values, f64::max), Some(2.0));
        assert_eq!(best(&values[2..], f64::max), None);
    }

    #[test]
    fn a_median_is_one_of_the_values() {
        assert_eq!(*median_by(&[5.0, 1.0, 3.0], |value| *value), 3.0);
        assert_eq!(*median_by(&[2.0, 1.0], |value| *value), 2.0);
    }
}
