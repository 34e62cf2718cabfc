//! Two results of the same scenario: change, or noise?
//!
//! Values of a figure are those of rounds, if both results have three or more of them: rounds start
//! anew, so they differ by everything that two runs differ by. With fewer rounds they are averages
//! over neighbouring seconds, which show less of it. A figure has changed when the interval for the
//! relative difference of the means (Welch, 95 % over all figures together) does not hold zero and
//! the difference is at least a threshold.
//!
//! Minutes of one machine differ more than builds do. Two builds that were measured by turns
//! ([`measured`]) are compared round by round instead: each difference is one of neighbours in
//! time, and a few that something else disturbed do not count for more than others (Wilcoxon's
//! signed ranks).

mod statistics;
mod turns;

pub use statistics::slope;
pub use turns::{TurnsError, measured};

use crate::report::arithmetic::{ratio, whole};
use crate::report::summary::line;
use crate::result::{Document, Round, Sample, numbers};
use serde::Serialize;
use statistics::{Change, batches, change, change_of_pairs, change_of_pairs_beside};
use std::collections::BTreeSet;
use std::fmt;

/// Rounds that are enough to compare by rounds.
const ROUNDS: usize = 3;
/// Of all figures together.
const CONFIDENCE: f64 = 0.95;
/// An interval that reaches further to both sides would not show a change that matters.
const BLIND: f64 = 0.1;

/// A figure that is compared.
struct Measure {
    name: &'static str,
    more_is_better: bool,
    /// In a closed loop it is only the window divided by the throughput.
    open_loop: bool,
    /// It follows from how fast the processors are.
    by_speed: bool,
    /// Of a second, where seconds have it.
    of_second: Option<fn(&Sample) -> f64>,
}

impl Measure {
    const fn of(name: &'static str, more_is_better: bool) -> Self {
        Self { name, more_is_better, open_loop: false, by_speed: false, of_second: None }
    }

    const fn by_seconds(self, of_second: fn(&Sample) -> f64) -> Self {
        Self { of_second: Some(of_second), ..self }
    }

    const fn by_speed(self) -> Self {
        Self { by_speed: true, ..self }
    }

    const fn in_open_loops(self) -> Self {
        Self { open_loop: true, ..self }
    }
}

const MEASURES: [Measure; 10] = [
    Measure::of("delivered_per_s", true).by_speed().by_seconds(|of| of.delivered_per_s),
    Measure::of("latency_us.delivered.p50", false)
        .in_open_loops()
        .by_seconds(|of| whole(of.p50_us)),
    Measure::of("latency_us.delivered.p99", false)
        .in_open_loops()
        .by_seconds(|of| whole(of.p99_us)),
    Measure::of("server.cpu_us_per_message", false)
        .by_speed()
        .by_seconds(|of| ratio(of.server_cpu_share * 1e6, of.delivered_per_s)),
    Measure::of("connect_per_s", true),
    Measure::of("server.user_bytes_per_connection", false),
    Measure::of("kernel.bytes_per_connection", false),
    Measure::of("server.cpu_us_per_connect", false).by_speed(),
    Measure::of("took_s", false),
    Measure::of("latency_us.caught_up.p99", false),
];

/// What became of a figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It changed for the better.
    Better,
    /// It changed for the worse.
    Worse,
    /// Nothing that is more than noise, or too small to matter.
    NoChange,
    /// One value on a side: noise is unknown.
    CannotTell,
}

/// One figure.
#[derive(Debug, Clone, Serialize)]
pub struct Compared {
    /// Its dotted name.
    pub name: &'static str,
    /// In the first result.
    pub before: f64,
    /// In the second.
    pub after: f64,
    /// The difference of the means in percent of the first.
    pub change_percent: f64,
    /// The interval of it; none with one value on a side.
    pub interval_percent: Option<[f64; 2]>,
    /// How many values there were on each side.
    pub values: [usize; 2],
    /// What that means.
    pub verdict: Verdict,
}

/// The sum of all verdicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Overall {
    /// Something is worse.
    Worse,
    /// Something is better and nothing is worse.
    Better,
    /// No figure changed.
    NoChange,
}

/// A comparison.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    /// As in a result.
    pub schema: u32,
    /// Of which scenario.
    pub scenario: String,
    /// When the results began.
    pub dates: [String; 2],
    /// The sum of it.
    pub overall: Overall,
    /// Changes below it are none.
    pub threshold_percent: f64,
    /// Whether values are rounds; otherwise they are stretches of seconds.
    pub by_rounds: bool,
    /// Whether the rounds of both were measured by turns, and compared one by one.
    pub by_turns: bool,
    /// Every figure that both have.
    pub figures: Vec<Compared>,
    /// What makes the two less comparable than they should be.
    pub warnings: Vec<String>,
    /// Both results, if they were measured for this.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub results: Vec<Document>,
}

impl Comparison {
    /// Of two results.
    ///
    /// # Errors
    /// They are of different scenarios, or have no figure in common.
    pub fn of(
        before: &Document,
        after: &Document,
        threshold_percent: Option<u32>,
    ) -> Result<Self, Incomparable> {
        Self::new(before, after, threshold_percent, false)
    }

    /// Of two results whose rounds were measured by turns: each is compared with its neighbour.
    ///
    /// # Errors
    /// As [`Comparison::of`].
    pub fn by_turns(
        before: &Document,
        after: &Document,
        threshold_percent: Option<u32>,
    ) -> Result<Self, Incomparable> {
        // A run that ended in the middle of a pair: what has a neighbour still has it.
        let pairs = before.rounds.len().min(after.rounds.len());
        let paired = |of: &Document| {
            let mut paired = of.clone();
            paired.rounds.truncate(pairs);
            paired
        };
        Self::new(&paired(before), &paired(after), threshold_percent, pairs > 0)
    }

    fn new(
        before: &Document,
        after: &Document,
        threshold_percent: Option<u32>,
        by_turns: bool,
    ) -> Result<Self, Incomparable> {
        if before.scenario != after.scenario {
            let scenarios = [before.scenario.clone(), after.scenario.clone()];
            return Err(Incomparable::Scenarios(scenarios));
        }
        let by_rounds = by_turns || before.rounds.len().min(after.rounds.len()) >= ROUNDS;
        let threshold = threshold_percent.unwrap_or(if by_rounds { 2 } else { 5 });
        let threshold = f64::from(threshold) / 100.0;
        let [first, second] = [before, after].map(|of| numbers(&of.figures));
        let is_closed = [before, after].iter().any(|of| of.settings.contains_key("window"));
        let both: Vec<&Measure> = MEASURES
            .iter()
            .filter(|of| first.contains_key(of.name) && second.contains_key(of.name))
            .filter(|of| !(of.open_loop && is_closed))
            .collect();
        if both.is_empty() {
            return Err(Incomparable::NothingInCommon);
        }
        let confidence = 1.0 - (1.0 - CONFIDENCE) / whole(both.len() as u64);
        let figures: Vec<Compared> = both
            .iter()
            .map(|measure| {
                let values = [before, after].map(|of| values(of, measure, by_rounds));
                let change = if by_turns && values[0].len() == values[1].len() {
                    of_pairs(measure, [before, after], &values, confidence)
                } else {
                    change(&values[0], &values[1], confidence)
                };
                let whole = [first[measure.name], second[measure.name]];
                judge(measure, whole, values.map(|of| of.len()), change, threshold)
            })
            .collect();
        let mut warnings = warnings(before, after, by_rounds);
        warnings.extend(figures.iter().filter_map(blind));
        Ok(Self {
            schema: before.schema,
            scenario: before.scenario.clone(),
            dates: [before.date.clone(), after.date.clone()],
            overall: overall(&figures),
            threshold_percent: threshold * 100.0,
            by_rounds,
            by_turns,
            figures,
            warnings,
            results: Vec::new(),
        })
    }

    /// As a file holds it.
    #[must_use]
    pub fn to_json(&self) -> String {
        let text = serde_json::to_string_pretty(self);
        text.expect("numbers and texts can be written") + "\n"
    }

    /// For a terminal.
    #[must_use]
    pub fn lines(&self) -> String {
        let mut lines = String::new();
        let how = match (self.by_turns, self.by_rounds) {
            (true, _) => "by turns, round by round",
            (false, true) => "by rounds",
            (false, false) => "by seconds",
        };
        let text = format!("{}: {} and {}, {how}", self.scenario, self.dates[0], self.dates[1]);
        line(&mut lines, "compared", &text);
        for figure in &self.figures {
            line(&mut lines, figure.verdict.words(), &figure.text());
        }
        for warning in &self.warnings {
            line(&mut lines, "beware", warning);
        }
        line(&mut lines, "verdict", self.overall.words());
        lines
    }
}

impl Verdict {
    /// In words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Better => "better",
            Self::Worse => "WORSE",
            Self::NoChange => "no change",
            Self::CannotTell => "unclear",
        }
    }
}

impl Overall {
    /// In words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Worse => "WORSE",
            Self::Better => "better",
            Self::NoChange => "no change",
        }
    }
}

impl Compared {
    /// The figure in words.
    #[must_use]
    pub fn text(&self) -> String {
        let interval = self.interval_percent.map_or_else(
            || "one value on a side, so noise is unknown".to_owned(),
            |[low, high]| format!("between {low:+.1} and {high:+.1} %"),
        );
        format!(
            "{}: {:.1} -> {:.1}, {:+.1} % ({interval}; {} and {} values)",
            self.name, self.before, self.after, self.change_percent, self.values[0], self.values[1]
        )
    }
}

/// What is said of a figure whose noise would hide what is looked for.
fn blind(figure: &Compared) -> Option<String> {
    let [low, high] = figure.interval_percent?;
    let reach = (high - low) / 2.0;
    (figure.verdict == Verdict::NoChange && reach > BLIND * 100.0).then(|| {
        format!(
            "{}: noise hides changes below about {reach:.0} %; measure builds by turns \
             (--measure), or more rounds",
            figure.name
        )
    })
}

fn judge(
    measure: &Measure,
    [before, after]: [f64; 2],
    counts: [usize; 2],
    change: Option<Change>,
    threshold: f64,
) -> Compared {
    let verdict = change.map_or(Verdict::CannotTell, |change| {
        let holds_zero = change.low <= 0.0 && change.high >= 0.0;
        if holds_zero || change.by.abs() < threshold {
            Verdict::NoChange
        } else if (change.by > 0.0) == measure.more_is_better {
            Verdict::Better
        } else {
            Verdict::Worse
        }
    });
    let plain = ratio(after - before, before);
    Compared {
        name: measure.name,
        before,
        after,
        change_percent: change.map_or(plain, |change| change.by) * 100.0,
        interval_percent: change.map(|change| [change.low * 100.0, change.high * 100.0]),
        values: counts,
        verdict,
    }
}

/// The change of a figure over rounds side by side, without what the machine's speed explains of it
/// where that is known and matters.
fn of_pairs(
    measure: &Measure,
    documents: [&Document; 2],
    values: &[Vec<f64>; 2],
    confidence: f64,
) -> Option<Change> {
    let yards = documents.map(yardsticks);
    let known = yards.iter().zip(values).all(|(yards, values)| yards.len() == values.len());
    if !measure.by_speed || !known {
        return change_of_pairs(&values[0], &values[1], confidence);
    }
    let [before, after] = [0, 1].map(|at: usize| {
        values[at].iter().copied().zip(yards[at].iter().copied()).collect::<Vec<_>>()
    });
    change_of_pairs_beside(&before, &after, confidence)
}

/// How fast the server's processors were in each round that knows it.
fn yardsticks(document: &Document) -> Vec<f64> {
    let of_round = |round: &Round| round.figures.server.as_ref()?.yardstick_us;
    document.rounds.iter().filter_map(of_round).collect()
}

/// The values of a figure in a result.
fn values(document: &Document, measure: &Measure, by_rounds: bool) -> Vec<f64> {
    let of_round = |round: &Round| numbers(&round.figures).get(measure.name).copied();
    match measure.of_second {
        Some(of_second) if !by_rounds => document
            .rounds
            .iter()
            .flat_map(|round| {
                let seconds = round.samples.iter().filter(|sample| sample.measured);
                batches(&seconds.map(of_second).collect::<Vec<_>>())
            })
            .collect(),
        _ => document.rounds.iter().filter_map(of_round).collect(),
    }
}

fn overall(figures: &[Compared]) -> Overall {
    let any = |verdict| figures.iter().any(|figure| figure.verdict == verdict);
    if any(Verdict::Worse) {
        Overall::Worse
    } else if any(Verdict::Better) {
        Overall::Better
    } else {
        Overall::NoChange
    }
}

fn warnings(before: &Document, after: &Document, by_rounds: bool) -> Vec<String> {
    let mut warnings = Vec::new();
    if !by_rounds {
        warnings.push(format!(
            "fewer than {ROUNDS} rounds on a side: what differs from run to run is not in the \
             intervals; measure with --rounds {ROUNDS} or more, or builds by turns (--measure)"
        ));
    }
    let [first, second] = [before, after].map(|of| &of.environment);
    for (what, one, other) in [
        ("processor", &first.machine.cpu, &second.machine.cpu),
        ("kernel", &first.machine.kernel, &second.machine.kernel),
        ("placement", &first.placement.text, &second.placement.text),
        ("target", &before.target, &after.target),
    ] {
        if one != other {
            warnings.push(format!("another {what}: {one:?} and {other:?}"));
        }
    }
    let names: BTreeSet<&String> = before.settings.keys().chain(after.settings.keys()).collect();
    let of_runs = ["rounds", "server_program"];
    for name in names.into_iter().filter(|name| !of_runs.contains(&name.as_str())) {
        let [one, other] = [before, after].map(|of| of.settings.get(name));
        if one != other {
            let text = |value: Option<&serde_json::Value>| {
                value.map_or_else(|| "nothing".to_owned(), ToString::to_string)
            };
            warnings.push(format!("another {name}: {} and {}", text(one), text(other)));
        }
    }
    for (which, of) in [("first", before), ("second", after)] {
        if of.figures.generator.as_ref().is_some_and(|generator| generator.limited) {
            warnings.push(format!("the generator was the limit of the {which}: it is no result"));
        }
        if !of.is_good() {
            warnings.push(format!("the {which} failed: {}", of.failures.join("; ")));
        }
    }
    warnings
}

/// Why two results cannot be compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incomparable {
    /// They are of different scenarios.
    Scenarios([String; 2]),
    /// No figure that could be compared is in both.
    NothingInCommon,
}

impl fmt::Display for Incomparable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scenarios([one, other]) => {
                write!(f, "one is of {one}, the other of {other}: compare like with like")
            }
            Self::NothingInCommon => write!(f, "they have no figure in common to compare"),
        }
    }
}

impl std::error::Error for Incomparable {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::latency::Latency;
    use crate::result::{Figures, ServerFigures};
    use crate::target::scramble;

    /// Noise between -1 and 1, the same each time.
    fn noise(seed: u64) -> f64 {
        whole(scramble(seed) >> 11) / whole(1 << 52) - 1.0
    }

    /// A run whose rounds and seconds are a few per cent apart. `speed`: 0.9 is a tenth slower.
    fn run(seed: u64, rounds: u64, speed: f64) -> Document {
        let mut document = Document { scenario: "pairs".to_owned(), ..Document::default() };
        for round in 0..rounds {
            let this_round = speed * 0.015f64.mul_add(noise(seed * 100 + round), 1.0);
            let second = |at: u64| {
                let speed =
                    this_round * 0.05f64.mul_add(noise(seed * 7_919 + round * 61 + at), 1.0);
                Sample {
                    measured: true,
                    delivered_per_s: 100_000.0 * speed,
                    p50_us: 500,
                    p99_us: 2_000,
                    server_cpu_share: 1.0,
                    ..Sample::default()
                }
            };
            let server = ServerFigures {
                cpu_us_per_message: Some(10.0 / this_round),
                ..ServerFigures::default()
            };
            let figures = Figures {
                delivered_per_s: Some(100_000.0 * this_round),
                server: Some(server),
                latency_us: [("delivered".to_owned(), Latency::default())].into(),
                ..Figures::default()
            };
            let samples = (0..20).map(second).collect();
            document.rounds.push(Round { figures, samples, ..Round::default() });
        }
        (document.figures, document.spread) = Figures::combine(&document.rounds);
        document
    }

    #[test]
    fn the_same_build_twice_is_no_change() {
        for seed in 0..40 {
            for rounds in [1, 3, 5] {
                let (one, other) = (run(seed, rounds, 1.0), run(seed + 1_000, rounds, 1.0));
                let comparison = Comparison::of(&one, &other, None).unwrap();
                let text = comparison.lines();
                assert_eq!(comparison.overall, Overall::NoChange, "{seed} {rounds}\n{text}");
            }
        }
    }

    #[test]
    fn a_tenth_slower_is_worse_and_a_tenth_faster_better() {
        for seed in 0..40 {
            for rounds in [1, 3, 5] {
                let (one, other) = (run(seed, rounds, 1.0), run(seed + 1_000, rounds, 0.9));
                let comparison = Comparison::of(&one, &other, None).unwrap();
                let text = comparison.lines();
                assert_eq!(comparison.overall, Overall::Worse, "{seed} {rounds}\n{text}");
                let back = Comparison::of(&other, &one, None).unwrap();
                assert_eq!(back.overall, Overall::Better, "{seed} {rounds}");
            }
        }
    }

    /// The machine gets slower by the round, and both builds with it.
    fn drifting(seed: u64, rounds: u64, speed: f64) -> Document {
        let mut document = run(seed, rounds, speed);
        for (round, drift) in document.rounds.iter_mut().zip(0_u32..) {
            let slower = 0.95_f64.powi(i32::try_from(drift).unwrap());
            if let Some(rate) = &mut round.figures.delivered_per_s {
                *rate *= slower;
            }
            if let Some(us) = round.figures.server.as_mut().unwrap().cpu_us_per_message.as_mut() {
                *us /= slower;
            }
        }
        (document.figures, document.spread) = Figures::combine(&document.rounds);
        document
    }

    #[test]
    fn builds_by_turns_are_told_apart_while_the_machine_drifts() {
        for seed in 0..40 {
            let one = drifting(seed, 12, 1.0);
            let same = drifting(seed + 1_000, 12, 1.0);
            let comparison = Comparison::by_turns(&one, &same, None).unwrap();
            assert_eq!(comparison.overall, Overall::NoChange, "{seed}\n{}", comparison.lines());
            let slower = drifting(seed + 2_000, 12, 0.9);
            let comparison = Comparison::by_turns(&one, &slower, None).unwrap();
            assert_eq!(comparison.overall, Overall::Worse, "{seed}\n{}", comparison.lines());
            let apart = Comparison::of(&one, &slower, None).unwrap();
            assert_eq!(apart.overall, Overall::NoChange, "{seed}\n{}", apart.lines());
            assert!(apart.warnings.iter().any(|of| of.contains("noise hides")), "it says so");
        }
    }

    #[test]
    fn latency_is_no_figure_of_its_own_in_a_closed_loop() {
        let (mut one, other) = (run(1, 3, 1.0), run(2, 3, 1.0));
        let names = |one: &Document| {
            let comparison = Comparison::of(one, &other, None).unwrap();
            comparison.figures.iter().map(|of| of.name).collect::<Vec<_>>()
        };
        assert!(names(&one).contains(&"latency_us.delivered.p99"));
        one.settings.insert("window".to_owned(), 8.into());
        assert_eq!(names(&one), ["delivered_per_s", "server.cpu_us_per_message"]);
    }

    #[test]
    fn what_makes_results_unlike_is_said() {
        let (mut one, mut other) = (run(1, 1, 1.0), run(2, 1, 1.0));
        one.settings.insert("rate".to_owned(), 100.into());
        other.settings.insert("rate".to_owned(), 200.into());
        other.failures.push("lost".to_owned());
        let warnings = Comparison::of(&one, &other, None).unwrap().warnings.join("\n");
        for word in ["--rounds", "another rate: 100 and 200", "second failed: lost"] {
            assert!(warnings.contains(word), "{word}: {warnings}");
        }
    }

    #[test]
    fn different_scenarios_are_not_compared() {
        let (one, mut other) = (run(1, 1, 1.0), run(2, 1, 1.0));
        other.scenario = "fanout".to_owned();
        assert!(matches!(Comparison::of(&one, &other, None), Err(Incomparable::Scenarios(_))));
    }
}
