//! Intervals for how far two means are apart.

use crate::report::arithmetic::{median, middle, ratio};

/// How many values a row of seconds becomes: each second resembles the one before, so neighbours
/// are averaged into a few values that do not (batch means).
const BATCHES: usize = 10;

/// A relative change with its interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Change {
    /// 0.1: a tenth more.
    pub(super) by: f64,
    /// The least it may be.
    pub(super) low: f64,
    /// The most it may be.
    pub(super) high: f64,
}

/// Averages of neighbours; as they are if there are few.
pub(super) fn batches(values: &[f64]) -> Vec<f64> {
    let size = values.len().div_ceil(BATCHES).max(1);
    let size = if values.len() >= 6 { size.max(2) } else { size };
    // A last batch that is not full would weigh too much.
    values.chunks_exact(size).map(mean).collect()
}

fn mean(values: &[f64]) -> f64 {
    ratio(values.iter().sum(), count(values.len()))
}

fn count(values: usize) -> f64 {
    f64::from(u32::try_from(values).unwrap_or(u32::MAX))
}

/// Mean and its squared standard error.
fn moments(values: &[f64]) -> (f64, f64) {
    let (mean, count) = (mean(values), count(values.len()));
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (mean, squares / (count - 1.0) / count)
}

/// How far the second mean is from the first, in shares of it: Welch's interval over logarithms,
/// so that twice and half are equally far. None: too few values, or one is not positive.
pub(super) fn change(before: &[f64], after: &[f64], confidence: f64) -> Option<Change> {
    if before.len() < 2 || after.len() < 2 || before.iter().chain(after).any(|value| *value <= 0.0)
    {
        return None;
    }
    let logarithms = |values: &[f64]| values.iter().map(|value| value.ln()).collect::<Vec<_>>();
    let (first, first_error) = moments(&logarithms(before));
    let (second, second_error) = moments(&logarithms(after));
    let error = first_error + second_error;
    // Welch and Satterthwaite: as if there were so many independent differences.
    let parts = first_error.powi(2) / (count(before.len()) - 1.0)
        + second_error.powi(2) / (count(after.len()) - 1.0);
    let freedom = if parts > 0.0 { (error.powi(2) / parts).max(1.0) } else { 1e3 };
    let half = quantile(confidence, freedom) * error.sqrt();
    let by = second - first;
    Some(Change { by: by.exp_m1(), low: (by - half).exp_m1(), high: (by + half).exp_m1() })
}

/// How far values are from their neighbours in time, in shares of those: the median of all averages
/// of two differences of logarithms (Hodges and Lehmann), with the interval of Wilcoxon's signed
/// ranks; so a few differences that something else disturbed do no harm. Of so few pairs that no
/// such interval is wide enough, Student's interval. None: too few values, or one is not positive.
pub(super) fn change_of_pairs(before: &[f64], after: &[f64], confidence: f64) -> Option<Change> {
    let pairs = || before.iter().zip(after);
    if before.len() != after.len() || before.len() < 2 || pairs().any(|(a, b)| a.min(*b) <= 0.0) {
        return None;
    }
    let differences: Vec<f64> = pairs().map(|(before, after)| (after / before).ln()).collect();
    let [low, by, high] = signed_ranks(&differences, confidence).unwrap_or_else(|| {
        let (mean, error) = moments(&differences);
        let half = quantile(confidence, count(differences.len()) - 1.0) * error.sqrt();
        [mean - half, mean, mean + half]
    });
    Some(Change { by: by.exp_m1(), low: low.exp_m1(), high: high.exp_m1() })
}

/// The same for values that go with how fast the machine was just then: what the difference of
/// their yardsticks explains of the difference of each pair is taken away (the median of the slopes
/// between all pairs, Theil and Sen). Builds take turns in beginning, so yardsticks differ as often
/// one way as the other, and a slope that is not quite right does not shift the middle.
pub(super) fn change_of_pairs_beside(
    before: &[(f64, f64)],
    after: &[(f64, f64)],
    confidence: f64,
) -> Option<Change> {
    let is_positive = |of: &(f64, f64)| of.0 > 0.0 && of.1 > 0.0;
    if before.len() != after.len() || !before.iter().chain(after).all(is_positive) {
        return None;
    }
    let apart =
        |(one, other): (&(f64, f64), &(f64, f64))| ((other.0 / one.0).ln(), (other.1 / one.1).ln());
    let pairs: Vec<(f64, f64)> = before.iter().zip(after).map(apart).collect();
    let slope = median_slope(&pairs).unwrap_or(0.0);
    let (ones, others): (Vec<f64>, Vec<f64>) =
        pairs.iter().map(|(value, yard)| (1.0, (value - slope * yard).exp())).unzip();
    change_of_pairs(&ones, &others, confidence)
}

/// How first parts grow with second parts. None: those are all the same.
fn median_slope(points: &[(f64, f64)]) -> Option<f64> {
    let mut slopes: Vec<f64> = Vec::new();
    for (at, one) in points.iter().enumerate() {
        let others = points[at + 1..].iter().filter(|other| other.1 != one.1);
        slopes.extend(others.map(|other| (other.0 - one.0) / (other.1 - one.1)));
    }
    median(slopes)
}

/// The least, the best and the most that the middle of symmetric values may be. None: they are too
/// few.
fn signed_ranks(values: &[f64], confidence: f64) -> Option<[f64; 3]> {
    let mut averages: Vec<f64> = Vec::new();
    for (at, one) in values.iter().enumerate() {
        averages.extend(values[at..].iter().map(|other| f64::midpoint(*one, *other)));
    }
    averages.sort_by(f64::total_cmp);
    let outside = ranks_outside((1.0 - confidence) / 2.0, values.len())?;
    let (low, high) = (averages[outside], averages[averages.len() - 1 - outside]);
    Some([low, middle(&averages)?, high])
}

/// How many averages may be left out on each side: the largest rank sum whose probability, with all
/// smaller ones, is no more than `share`. None: not even that of 0 is.
fn ranks_outside(share: f64, values: usize) -> Option<usize> {
    // Each rank counts or does not, with the same probability.
    let sums = values * (values + 1) / 2;
    let mut chances = vec![0.0; sums + 1];
    chances[0] = 1.0;
    for rank in 1..=values {
        for sum in (0..=sums).rev() {
            let with = if sum >= rank { chances[sum - rank] } else { 0.0 };
            chances[sum] = f64::midpoint(chances[sum], with);
        }
    }
    let mut total = 0.0;
    let within = |chance: &&f64| {
        total += **chance;
        total <= share
    };
    chances.iter().take_while(within).count().checked_sub(1)
}

/// How fast y grows with x: the least, the best and the most it may be. Neighbours resemble each
/// other, so the line is laid through averages of them. None: too few points.
#[must_use]
pub fn slope(points: &[(f64, f64)], confidence: f64) -> Option<[f64; 3]> {
    let size = points.len().div_ceil(2 * BATCHES).max(1);
    let middle = |chunk: &[(f64, f64)]| {
        let (xs, ys): (Vec<f64>, Vec<f64>) = chunk.iter().copied().unzip();
        (mean(&xs), mean(&ys))
    };
    let points: Vec<(f64, f64)> = points.chunks_exact(size).map(middle).collect();
    if points.len() < 4 {
        return None;
    }
    let (xs, ys): (Vec<f64>, Vec<f64>) = points.iter().copied().unzip();
    let (x_mean, y_mean) = (mean(&xs), mean(&ys));
    let width: f64 = xs.iter().map(|x| (x - x_mean).powi(2)).sum();
    let common: f64 = points.iter().map(|(x, y)| (x - x_mean) * (y - y_mean)).sum();
    let slope = ratio(common, width);
    let off = |(x, y): &(f64, f64)| (y - y_mean - slope * (x - x_mean)).powi(2);
    let freedom = count(points.len()) - 2.0;
    let error = ratio(points.iter().map(off).sum::<f64>() / freedom, width).sqrt();
    let half = quantile(confidence, freedom) * error;
    Some([slope - half, slope, slope + half])
}

/// Student's t: so many standard errors to both sides hold that share of all cases. With
/// t = sqrt(n) tan(a) the density becomes cos(a) to the power of n - 1, which is easy to sum up.
fn quantile(share: f64, freedom: f64) -> f64 {
    let whole = area(std::f64::consts::FRAC_PI_2, freedom);
    let (mut low, mut high) = (0.0, std::f64::consts::FRAC_PI_2);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if area(middle, freedom) < share * whole {
            low = middle;
        } else {
            high = middle;
        }
    }
    freedom.sqrt() * low.tan()
}

/// The integral of cos(a)^(n - 1) from 0, by Simpson's rule.
fn area(to: f64, freedom: f64) -> f64 {
    const STEPS: u32 = 2_000;
    let step = to / f64::from(STEPS);
    let at = |number: u32| (step * f64::from(number)).cos().max(0.0).powf(freedom - 1.0);
    let weight = |number: u32| match number {
        0 | STEPS => 1.0,
        odd if odd % 2 == 1 => 4.0,
        _ => 2.0,
    };
    (0..=STEPS).map(|number| weight(number) * at(number)).sum::<f64>() * step / 3.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_tables() {
        for (share, freedom, known) in [
            (0.95, 1.0, 12.706),
            (0.95, 4.0, 2.776),
            (0.99, 4.0, 4.604),
            (0.95, 10.0, 2.228),
            (0.99, 30.0, 2.750),
            (0.95, 1_000.0, 1.962),
        ] {
            let found = quantile(share, freedom);
            assert!((found - known).abs() < known * 1e-3, "{share} {freedom}: {found}");
        }
    }

    #[test]
    fn growth_is_told_from_wobble() {
        let wobble = |x: f64| (x * 12.9).sin();
        let points = |growth: f64| {
            (0..200_u32)
                .map(|at| (f64::from(at), f64::from(at).mul_add(growth, 1e3 + wobble(at.into()))))
                .collect::<Vec<_>>()
        };
        let [low, _, high] = slope(&points(0.0), 0.99).unwrap();
        assert!(low < 0.0 && high > 0.0, "{low} {high}");
        let [low, growth, high] = slope(&points(0.5), 0.99).unwrap();
        assert!(low > 0.45 && (growth - 0.5).abs() < 0.01 && high < 0.55, "{low} {high}");
        assert!(slope(&points(1.0)[..3], 0.99).is_none());
    }

    #[test]
    fn a_tenth_less_is_seen_through_a_little_noise() {
        let before = [100.0, 101.0, 99.0, 100.5, 99.5];
        let after = before.map(|value| value * 0.9);
        let change = change(&before, &after, 0.95).unwrap();
        assert!((change.by + 0.1).abs() < 1e-9, "{change:?}");
        assert!(change.high < -0.08 && change.low > -0.12, "{change:?}");
    }

    #[test]
    fn noise_alone_is_no_change() {
        let before = [100.0, 108.0, 94.0];
        let after = [103.0, 97.0, 105.0];
        let change = change(&before, &after, 0.95).unwrap();
        assert!(change.low < 0.0 && change.high > 0.0, "{change:?}");
        assert!(super::change(&[1.0], &[1.0, 2.0], 0.95).is_none());
        assert!(super::change(&[0.0, 1.0], &[1.0, 2.0], 0.95).is_none());
    }

    #[test]
    fn rank_sums_are_those_of_the_tables() {
        // Two-sided 5 % and 1 %; a sum of that much or less is rare.
        for (values, five, one) in
            [(6, Some(0), None), (8, Some(3), Some(0)), (12, Some(13), Some(7))]
        {
            assert_eq!(ranks_outside(0.025, values), five, "{values}");
            assert_eq!(ranks_outside(0.005, values), one, "{values}");
        }
        assert_eq!(ranks_outside(0.025, 20), Some(52));
        assert_eq!(ranks_outside(0.025, 5), None);
    }

    #[test]
    fn drift_that_meets_both_is_not_taken_for_a_change() {
        let before: Vec<f64> = (0..10).map(|at| 100.0 * 1.08_f64.powi(at)).collect();
        let wobble = [1.01, 0.99, 1.0, 1.02, 0.98, 1.01, 0.99, 1.0, 1.005, 0.995];
        let with = |factor: f64| -> Vec<f64> {
            before.iter().zip(wobble).map(|(value, wobble)| value * wobble * factor).collect()
        };
        let same = change_of_pairs(&before, &with(1.0), 0.975).unwrap();
        assert!(same.low < 0.0 && same.high > 0.0 && same.high < 0.03, "{same:?}");
        let slower = change_of_pairs(&before, &with(0.9), 0.975).unwrap();
        assert!(slower.high < -0.07 && slower.low > -0.13, "{slower:?}");
        let unpaired = change(&before, &with(0.9), 0.975).unwrap();
        assert!(unpaired.high > 0.0, "drift hides it: {unpaired:?}");
    }

    #[test]
    fn what_the_yardstick_explains_is_no_change() {
        // The machine is up to a half slower in some rounds, the server more than the yardstick.
        let slow = [1.0, 1.4, 1.1, 1.5, 1.0, 1.3, 1.2, 1.0, 1.5, 1.1, 1.4, 1.2_f64];
        let later = [1.3, 1.0, 1.5, 1.1, 1.2, 1.0, 1.4, 1.5, 1.0, 1.3, 1.1, 1.0_f64];
        let wobble = [1.01, 0.99, 1.02, 0.98, 1.0, 1.01, 0.99, 1.0, 1.02, 0.98, 1.01, 0.99];
        let round = |(slow, wobble): (&f64, f64)| (slow.powi(2) * wobble, 100.0 * slow);
        let before: Vec<(f64, f64)> = slow.iter().zip(wobble).map(round).collect();
        let after = |factor: f64| -> Vec<(f64, f64)> {
            let rounds = later.iter().zip(wobble.into_iter().rev()).map(round);
            rounds.map(|(value, yard)| (value * factor, yard)).collect()
        };
        let same = change_of_pairs_beside(&before, &after(1.0), 0.975).unwrap();
        assert!(same.low < 0.0 && same.high > 0.0 && same.high < 0.05, "{same:?}");
        let slower = change_of_pairs_beside(&before, &after(1.1), 0.975).unwrap();
        assert!(slower.low > 0.05 && slower.high < 0.15, "{slower:?}");
        let values = |of: &[(f64, f64)]| of.iter().map(|of| of.0).collect::<Vec<_>>();
        let alone = change_of_pairs(&values(&before), &values(&after(1.1)), 0.975).unwrap();
        assert!(alone.low < 0.0, "without it nothing is seen: {alone:?}");
        assert!(change_of_pairs_beside(&before, &after(1.0)[1..], 0.9).is_none());
        assert_eq!(median_slope(&[(1.0, 2.0), (3.0, 2.0)]), None);
    }

    #[test]
    fn one_disturbed_pair_does_not_hide_a_change() {
        let before = [100.0; 12];
        let mut after = [90.0, 91.0, 89.0, 90.5, 89.5, 90.2, 89.9, 90.7, 89.1, 90.3, 89.6, 90.1];
        after[5] = 30.0;
        let change = change_of_pairs(&before, &after, 0.975).unwrap();
        assert!(change.high < -0.08 && change.by > -0.13, "{change:?}");
        assert!(change_of_pairs(&before, &after[..11], 0.95).is_none());
        assert!(change_of_pairs(&[0.0; 3], &[1.0; 3], 0.95).is_none());
        let few = change_of_pairs(&[100.0; 3], &[90.0, 91.0, 89.0], 0.95).unwrap();
        assert!(few.high < 0.0, "{few:?}");
    }

    #[test]
    fn seconds_that_follow_each_other_are_averaged() {
        let values: Vec<f64> = (0..25).map(f64::from).collect();
        let batches = batches(&values);
        assert_eq!(batches.len(), 8);
        assert_eq!(batches[0], 1.0);
        assert_eq!(super::batches(&[3.0, 4.0]), [3.0, 4.0]);
    }
}
