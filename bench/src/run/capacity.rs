//! The search for what a server can carry: twice as much until it is too much, then by halves.

use super::{RunError, round};
use crate::args::{CapacityArgs, LoadArgs, Of, PairsArgs, Scenario as Wanted};
use crate::result::{Document, Figures};
use crate::stop;
use serde_json::json;

/// The search is over when what is too much is no more than this above what is not.
const PRECISE: f64 = 1.05;
/// More than this of a server's processors is all of them.
const FULL: f64 = 0.95;

/// Searches.
///
/// # Errors
/// A try could not begin.
pub(super) fn search(args: &CapacityArgs, mut whole: Document) -> Result<Document, RunError> {
    let mut search = Search::new(match args.of {
        Of::Rate => args.rate,
        Of::Connections => args.pairs,
    });
    let mut saturated = None;
    for _ in 0..args.tries {
        let Some(size) = search.next() else { break };
        let mut document = one(args, size)?;
        let why = too_much(&document, args);
        search.tell(size, why.is_none());
        document.figures.more.insert("tried".to_owned(), json!(size));
        if let Some(why) = &why {
            document.differences = vec![format!("too much: {why}")];
            saturated = Some(why.clone());
        } else {
            whole.figures = document.figures.clone();
            whole.percentiles.clone_from(&document.percentiles);
            whole.rounds.clone_from(&document.rounds);
        }
        // What was too much lost its latency, perhaps more; that is what was searched for.
        document.failures.clear();
        document.rounds.clear();
        whole.results.push(document);
        if stop::is_wanted() {
            whole.failures.push("ended by a signal: this is what there was".to_owned());
            break;
        }
    }
    let (name, factor) = match args.of {
        Of::Rate => ("capacity_per_s", 1),
        Of::Connections => ("capacity_connections", 2),
    };
    whole.figures.more.insert(name.to_owned(), json!(search.good * factor));
    let saturated = saturated.unwrap_or_else(|| "nothing within these tries".to_owned());
    whole.figures.more.insert("saturated".to_owned(), json!(saturated));
    if search.good == 0 {
        whole.failures.push(format!("not even the first try kept the latency: {saturated}"));
    }
    Ok(whole)
}

/// What is known so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Search {
    first: u32,
    good: u32,
    bad: Option<u32>,
}

impl Search {
    const fn new(first: u32) -> Self {
        Self { first, good: 0, bad: None }
    }

    /// What to try next; none: it is known well enough.
    fn next(self) -> Option<u32> {
        match self.bad {
            None if self.good == 0 => Some(self.first),
            None => self.good.checked_mul(2),
            Some(bad) if bad <= 1 => None,
            Some(bad) if f64::from(bad) <= f64::from(self.good) * PRECISE => None,
            Some(bad) => {
                let next = self.good.midpoint(bad);
                (next > self.good && next < bad).then_some(next)
            }
        }
    }

    fn tell(&mut self, size: u32, is_good: bool) {
        if is_good {
            self.good = self.good.max(size);
        } else {
            self.bad = Some(self.bad.map_or(size, |bad| bad.min(size)));
        }
    }
}

fn one(args: &CapacityArgs, size: u32) -> Result<Document, RunError> {
    let (pairs, rate) = match args.of {
        Of::Rate => (args.pairs, size),
        Of::Connections => (size, args.rate),
    };
    let load = LoadArgs { rate: Some(rate), window: None, body_bytes: args.body_bytes };
    let wanted = Wanted::Pairs(PairsArgs { common: args.common.clone(), pairs, load });
    let mut document = super::document(&wanted);
    let found = round::round(&wanted, &mut document)?;
    document.figures = found.round.figures.clone();
    document.percentiles = found.percentiles;
    document.failures.clone_from(&found.round.failures);
    document.rounds.push(found.round);
    Ok(document)
}

/// Why that was too much, if it was.
fn too_much(document: &Document, args: &CapacityArgs) -> Option<String> {
    let figures = &document.figures;
    if let Some(failure) = document.failures.first() {
        return Some(format!("it failed: {failure}"));
    }
    let goal_us = u64::from(args.goal_ms) * 1_000;
    let delivered = figures.latency_us.get("delivered").copied().unwrap_or_default();
    let unsent = figures.more.get("unsent").and_then(serde_json::Value::as_u64);
    let is_late = delivered.p99 > goal_us || delivered.max == 0 || unsent.unwrap_or(0) > 0;
    let limited = figures.generator.as_ref().is_some_and(|of| of.limited);
    (is_late || limited).then(|| {
        let p99 = format!("p99 {:.1} ms", crate::report::arithmetic::whole(delivered.p99) / 1e3);
        let cpus = document.environment.placement.server_cpus.as_ref().map_or(1, Vec::len);
        format!("{}, {p99}", saturated(figures, cpus))
    })
}

/// What was used up.
fn saturated(figures: &Figures, cpus: usize) -> &'static str {
    let cpus = f64::from(u32::try_from(cpus).unwrap_or(1));
    let share = figures.server.as_ref().and_then(|of| of.cpu_share).unwrap_or_default();
    let p99 =
        |stage| figures.latency_us.get(stage).map_or(0, |of: &crate::latency::Latency| of.p99);
    if share >= FULL * cpus {
        "the server's processors are full"
    } else if figures.generator.as_ref().is_some_and(|of| of.limited) {
        "the generator was the limit"
    } else if p99("sent") * 10 >= p99("delivered") * 8 {
        "waiting for the disk: most of the latency is before the first tick"
    } else {
        "latency, with processors to spare"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::latency::Latency;
    use crate::result::ServerFigures;

    #[test]
    fn a_search_ends_just_below_the_limit() {
        for limit in [1, 6, 999, 5_000, 123_456] {
            let (mut search, mut tries) = (Search::new(100), 0);
            while let Some(size) = search.next() {
                search.tell(size, size <= limit);
                tries += 1;
                assert!(tries < 40, "{limit}: {search:?}");
            }
            assert!(search.good <= limit, "{limit}: {search:?}");
            assert!(f64::from(search.good) * PRECISE + 1.0 >= f64::from(limit), "{search:?}");
        }
        let mut search = Search::new(100);
        search.tell(100, false);
        search.tell(1, false);
        assert_eq!((search.next(), search.good), (None, 0));
    }

    #[test]
    fn it_is_said_what_was_used_up() {
        let latency = |p99| Latency { p99, ..Latency::default() };
        let of = |share, sent| Figures {
            server: Some(ServerFigures { cpu_share: Some(share), ..ServerFigures::default() }),
            latency_us: [
                ("sent".to_owned(), latency(sent)),
                ("delivered".to_owned(), latency(10_000)),
            ]
            .into(),
            ..Figures::default()
        };
        assert!(saturated(&of(0.97, 1), 1).contains("processors are full"));
        assert!(saturated(&of(0.97, 9_000), 2).contains("disk"));
        assert!(saturated(&of(0.5, 100), 1).contains("latency"));
    }
}
