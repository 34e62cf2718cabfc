//! The arithmetic of figures for people.

use roost_protocol::time::Instant;

/// 0 when there is nothing to divide by.
#[must_use]
pub fn ratio(total: f64, count: f64) -> f64 {
    if count > 0.0 { total / count } else { 0.0 }
}

/// Three digits behind the point are plenty.
#[must_use]
pub fn round(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

/// For dividing.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "figures for people: 53 bits are enough")]
pub const fn whole(count: u64) -> f64 {
    count as f64
}

/// For reading.
#[must_use]
pub fn mebibytes(bytes: u64) -> f64 {
    whole(bytes) / f64::from(1 << 20)
}

/// Between two moments.
#[must_use]
pub fn seconds(from: Instant, to: Instant) -> f64 {
    whole(to.since(from).ns) / 1e9
}

/// With a mark between thousands: `1,234,567`.
#[must_use]
pub fn thousands(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::from(if value < 0.0 { "-" } else { "" });
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The middle one of these values, or the mean of the two in the middle.
#[must_use]
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    middle(&values)
}

/// The same of values that are in order.
#[must_use]
pub fn middle(sorted: &[f64]) -> Option<f64> {
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    let is_odd = sorted.len() % 2 == 1;
    Some(if is_odd { upper } else { f64::midpoint(sorted[middle - 1], upper) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_marked() {
        let texts = [0.4, 999.6, 1_234_567.0, -20_000.0].map(thousands);
        assert_eq!(texts, ["0", "1,000", "1,234,567", "-20,000"]);
    }

    #[test]
    fn nothing_is_divided_by_nothing() {
        assert_eq!((ratio(1.0, 0.0), round(1.234_56)), (0.0, 1.235));
    }
}
