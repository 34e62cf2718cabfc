//! Ours as a server drives it: many writers that wait for one record each, commits that follow each
//! other while the next records gather; and the time of the call alone.

use super::append::{self, Names};
use super::contestant::Contestant;
use super::engine::{Failure, Record};
use super::hold::Held;
use super::roost::Roost;
use super::sheet::{Sheet, best, median_by};
use super::step::Order;
use super::workload::fill_body;
use crate::latency::{Latency, histogram};
use crate::report::arithmetic::{ratio, round, whole};
use hdrhistogram::Histogram;
use roost_event_loop::now;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::VecDeque;
use std::fs;

/// What is to be done.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Settings {
    /// Appends that are under way at any time.
    pub writers: usize,
    /// Streams, bodies and times; a batch is how many calls are timed together.
    pub append: append::Settings,
}

/// What many writers found.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NaturalFound {
    /// Records that became durable a second.
    pub records_per_s: f64,
    /// Records of a commit.
    pub records_per_commit: f64,
    /// Time of an append, from the call until it is durable.
    pub append_us: Latency,
    /// How long the store held the thread.
    pub held: Held,
}

/// What timing the call found.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CallFound {
    /// Nanoseconds of a call, mean of each thousand, half of them below.
    pub p50_ns: f64,
    /// 99 in a hundred below.
    pub p99_ns: f64,
}

/// Bodies that take turns: so many that those of one stream which lie side by side when sealed are
/// different, and nothing is gained by compressing them.
const BODIES: usize = 8_192;

/// Random bodies, made before the clock runs.
struct Bodies {
    body_bytes: usize,
    bytes: Vec<u8>,
    next: usize,
}

impl Bodies {
    fn new(body_bytes: usize) -> Self {
        let mut bytes = vec![0; BODIES * body_bytes];
        for (seq, body) in (0..).zip(bytes.chunks_exact_mut(body_bytes)) {
            fill_body(1, seq, body);
        }
        Self { body_bytes, bytes, next: 0 }
    }

    fn next(&mut self) -> &[u8] {
        self.next = (self.next + 1) % BODIES;
        &self.bytes[self.next * self.body_bytes..][..self.body_bytes]
    }
}

/// A body that is appended over and over: the call copies and sums it all the same.
fn some_body(settings: &append::Settings) -> Vec<u8> {
    let mut body = vec![0; settings.body_bytes];
    fill_body(1, 1, &mut body);
    body
}

/// The step of many writers.
///
/// # Errors
/// The store's.
pub fn measure(order: &Order, settings: &Settings) -> Result<NaturalFound, Failure> {
    fs::create_dir_all(&order.folder)?;
    let mut roost = Roost::open(&order.folder)?;
    let mut names = Names::new(settings.append.streams);
    let mut bodies = Bodies::new(settings.append.body_bytes);
    let mut waiting = VecDeque::with_capacity(settings.writers);
    let warm = now().monotonic.ns + settings.append.warmup_ns;
    let mut unused = histogram();
    while now().monotonic.ns < warm {
        turn(&mut roost, &mut names, &mut bodies, settings.writers, &mut waiting, &mut unused)?;
    }
    let mut times = histogram();
    let commits = roost.commits();
    let begin = now().monotonic.ns;
    let mut end = begin;
    let mut records = 0;
    while end - begin < settings.append.measure_ns {
        let writers = settings.writers;
        records += turn(&mut roost, &mut names, &mut bodies, writers, &mut waiting, &mut times)?;
        end = now().monotonic.ns;
    }
    let commits = roost.commits() - commits;
    while !waiting.is_empty() {
        roost.end_batch();
        roost.wait()?;
        take_durable(&roost, &mut waiting, &mut unused);
    }
    Ok(NaturalFound {
        records_per_s: ratio(whole(records) * 1e9, whole(end - begin)),
        records_per_commit: ratio(whole(records), whole(commits)),
        append_us: Latency::of(&times),
        held: roost.holds(),
    })
}

/// All writers that wait for nothing append; then the disk is waited for. Gives the records that
/// became durable.
fn turn(
    roost: &mut Roost,
    names: &mut Names,
    bodies: &mut Bodies,
    writers: usize,
    waiting: &mut VecDeque<(u64, u64)>,
    times: &mut Histogram<u64>,
) -> Result<u64, Failure> {
    let at = now().monotonic.ns;
    while waiting.len() < writers {
        let (stream, seq) = names.draw();
        let body = bodies.next();
        let Some(position) = roost.append(Record { stream, seq, body })? else { break };
        waiting.push_back((position, at));
    }
    roost.end_batch();
    roost.wait()?;
    Ok(take_durable(roost, waiting, times))
}

fn take_durable(
    roost: &Roost,
    waiting: &mut VecDeque<(u64, u64)>,
    times: &mut Histogram<u64>,
) -> u64 {
    let at = now().monotonic.ns;
    let mut records = 0;
    while let Some(&(position, since)) = waiting.front()
        && position <= roost.durable()
    {
        waiting.pop_front();
        times.saturating_record((at - since) / 1_000);
        records += 1;
    }
    records
}

/// The step of the call alone: so many calls are timed together, then the disk does its work
/// unseen.
///
/// # Errors
/// The store's.
pub fn measure_call(order: &Order, settings: &Settings) -> Result<CallFound, Failure> {
    fs::create_dir_all(&order.folder)?;
    let mut roost = Roost::open(&order.folder)?;
    let mut names = Names::new(settings.append.streams);
    let body = some_body(&settings.append);
    let calls = settings.append.batch;
    let mut named = Vec::with_capacity(calls);
    let mut means = histogram();
    let start = now().monotonic.ns;
    let warm = start + settings.append.warmup_ns;
    let over = warm + settings.append.measure_ns;
    while now().monotonic.ns < over {
        named.clear();
        named.extend((0..calls).map(|_| names.draw()));
        let begin = now().monotonic.ns;
        let (mut last, mut waited) = (0, false);
        for &(stream, seq) in &named {
            last = loop {
                if let Some(position) = roost.append(Record { stream, seq, body: &body })? {
                    break position;
                }
                // Sealing lags behind: what is timed now is not the call.
                waited = true;
                roost.end_batch();
                roost.wait()?;
            };
        }
        let end = now().monotonic.ns;
        if begin >= warm && !waited {
            // In tenths of a nanosecond, which the histogram does not mind.
            means.saturating_record((end - begin) * 10 / u64::try_from(calls)?);
        }
        while roost.durable() < last {
            roost.end_batch();
            roost.wait()?;
        }
    }
    let at = |quantile| whole(means.value_at_quantile(quantile)) / 10.0;
    Ok(CallFound { p50_ns: at(0.5), p99_ns: at(0.99) })
}

/// Adds what all rounds found. `medians` are the rates in batches of `batch`.
pub fn report(
    sheet: &mut Sheet,
    natural: &[NaturalFound],
    calls: &[CallFound],
    medians: &[(Contestant, f64)],
    batch: u32,
) {
    let found = median_by(natural, |found| found.records_per_s);
    let bare = medians.iter().find(|(contestant, _)| *contestant == Contestant::Bare);
    let of_bare = ratio(found.records_per_s, bare.map_or(0.0, |(_, rate)| *rate));
    let best = best(medians, f64::max);
    let of_best = best.map(|best| ratio(found.records_per_s, best));
    let versus = of_best.map_or_else(String::new, |of_best| format!(", {of_best:.2} x peer"));
    let text = format!(
        "roost    {:>9.0}/s  {of_bare:.2} x bare{versus} (by {batch}); {:.0} records a commit; \
         an append p50 {} us, p99 {} us",
        found.records_per_s, found.records_per_commit, found.append_us.p50, found.append_us.p99,
    );
    sheet.line("1000 ask", &text);
    let longest = |held: &Held| whole(held.answer.wall_ns.max);
    let worst =
        natural.iter().max_by(|one, other| longest(&one.held).total_cmp(&longest(&other.held)));
    if let Some(NaturalFound { held, .. }) = worst {
        for (what, found) in held.parts() {
            sheet.line("held", &format!("roost    by {what} {}", found.text()));
        }
    }
    let rates: Vec<f64> = natural.iter().map(|found| round(found.records_per_s)).collect();
    let value = json!({
        "median": found, "records_per_s": rates,
        "of_bare": round(of_bare), "of_best_peer": of_best.map(round),
    });
    sheet.field("append_natural", Contestant::Roost, value);
    let call = median_by(calls, |found| found.p50_ns);
    let text = format!("roost    p50 {:.0} ns, p99 {:.0} ns, without IO", call.p50_ns, call.p99_ns);
    sheet.line("a call", &text);
    sheet.field("append_call", Contestant::Roost, json!(call));
}
