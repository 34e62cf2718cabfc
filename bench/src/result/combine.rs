//! Several rounds as one result.

use super::{Figures, Round};
use crate::report::arithmetic::middle;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// How far the rounds are apart in one figure.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// The least.
    pub min: f64,
    /// The middle one.
    pub median: f64,
    /// The greatest.
    pub max: f64,
    /// The mean.
    pub mean: f64,
    /// Standard deviation between rounds; 0 with one round.
    pub deviation: f64,
}

/// What must not be is added up over rounds; everything else is a median.
const SUMS: [&str; 11] = [
    "lost",
    "duplicated",
    "disconnected",
    "unanswered",
    "unsent",
    "late",
    "heartbeats",
    "heartbeats_answered",
    "out_of_order",
    "pulls",
    "repeated",
];

impl Spread {
    /// Of these values; none of none.
    #[must_use]
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let count = f64::from(u32::try_from(sorted.len()).ok()?);
        let mean = sorted.iter().sum::<f64>() / count;
        let squares: f64 = sorted.iter().map(|value| (value - mean).powi(2)).sum();
        let deviation = if sorted.len() > 1 { (squares / (count - 1.0)).sqrt() } else { 0.0 };
        Some(Self { min, median: middle(&sorted)?, max, mean, deviation })
    }
}

/// Every number in figures, by its dotted name.
#[must_use]
pub fn numbers(figures: &Figures) -> BTreeMap<String, f64> {
    let value = serde_json::to_value(figures).expect("figures are numbers and texts");
    let mut found = BTreeMap::new();
    walk("", &value, &mut found);
    found
}

fn walk(name: &str, value: &Value, found: &mut BTreeMap<String, f64>) {
    match value {
        Value::Object(fields) => {
            for (field, value) in fields {
                let name = if name.is_empty() { field.clone() } else { format!("{name}.{field}") };
                walk(&name, value, found);
            }
        }
        Value::Number(number) => {
            found.extend(number.as_f64().map(|number| (name.to_owned(), number)));
        }
        Value::Null | Value::Bool(_) | Value::String(_) | Value::Array(_) => {}
    }
}

impl Figures {
    /// Of several rounds, with how far they are apart.
    ///
    /// # Panics
    /// There is no round.
    #[must_use]
    pub fn combine(rounds: &[Round]) -> (Self, BTreeMap<String, Spread>) {
        let all: Vec<BTreeMap<String, f64>> =
            rounds.iter().map(|round| numbers(&round.figures)).collect();
        let mut spread = BTreeMap::new();
        for name in all.iter().flat_map(BTreeMap::keys) {
            let values: Vec<f64> = all.iter().filter_map(|of| of.get(name)).copied().collect();
            spread.extend(Spread::of(&values).map(|of| (name.clone(), of)));
        }
        let figures = rounds.iter().map(|round| &round.figures);
        let values: Vec<Value> = figures
            .map(|figures| serde_json::to_value(figures).expect("figures are numbers and texts"))
            .collect();
        let whole = merge("", &values);
        let figures = serde_json::from_value(whole).expect("the fields are those of the rounds");
        (figures, spread)
    }
}

/// One value of the same place in all rounds.
fn merge(name: &str, values: &[Value]) -> Value {
    let first = values.first().cloned().unwrap_or_default();
    match first {
        Value::Object(_) => {
            let maps: Vec<&Map<String, Value>> =
                values.iter().filter_map(Value::as_object).collect();
            let mut merged = Map::new();
            for field in maps.iter().flat_map(|map| map.keys()) {
                if !merged.contains_key(field) {
                    let at = |map: &&Map<String, Value>| map.get(field).cloned();
                    let values: Vec<Value> = maps.iter().filter_map(at).collect();
                    merged.insert(field.clone(), merge(field, &values));
                }
            }
            Value::Object(merged)
        }
        Value::Number(_) => number(name, values),
        Value::Bool(_) => Value::Bool(values.iter().any(|value| value.as_bool() == Some(true))),
        Value::Null | Value::String(_) | Value::Array(_) => first,
    }
}

fn number(name: &str, values: &[Value]) -> Value {
    let whole: Vec<u64> = values.iter().filter_map(Value::as_u64).collect();
    if whole.len() == values.len() {
        if SUMS.contains(&name) {
            return whole.iter().sum::<u64>().into();
        }
        let mut sorted = whole;
        sorted.sort_unstable();
        return sorted[sorted.len() / 2].into();
    }
    let all: Vec<f64> = values.iter().filter_map(Value::as_f64).collect();
    Spread::of(&all).map_or(Value::Null, |spread| spread.median.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::latency::Latency;
    use crate::result::GeneratorFigures;

    fn round(ticked: f64, lost: u64, limited: bool) -> Round {
        let generator = GeneratorFigures { limited, ..GeneratorFigures::default() };
        let latency = Latency { p50: 10 + lost, ..Latency::default() };
        Round {
            figures: Figures {
                ticked_per_s: Some(ticked),
                lost: Some(lost),
                generator: Some(generator),
                latency_us: [("sent".to_owned(), latency)].into(),
                ..Figures::default()
            },
            ..Round::default()
        }
    }

    #[test]
    fn rates_are_medians_and_losses_are_added_up() {
        let rounds = [round(10.0, 0, false), round(40.0, 2, true), round(20.0, 1, false)];
        let (figures, spread) = Figures::combine(&rounds);
        assert_eq!((figures.ticked_per_s, figures.lost), (Some(20.0), Some(3)));
        assert_eq!(figures.latency_us["sent"].p50, 11);
        assert!(figures.generator.unwrap().limited, "one limited round spoils the run");
        let of = spread["ticked_per_s"];
        assert_eq!((of.min, of.median, of.max), (10.0, 20.0, 40.0));
        assert!((of.deviation - 15.275).abs() < 0.001, "{of:?}");
    }

    #[test]
    fn a_median_of_two_lies_between() {
        assert_eq!(Spread::of(&[1.0, 2.0]).map(|of| of.median), Some(1.5));
        assert_eq!(Spread::of(&[]), None);
    }
}
