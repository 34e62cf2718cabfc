//! Numbers and paragraphs for people.

/// Adds to a text.
macro_rules! put {
    ($text:expr, $($rest:tt)+) => {
        $text.push_str(&format!($($rest)+))
    };
}

/// Adds a line to a text.
macro_rules! put_line {
    ($text:expr, $($rest:tt)+) => {{
        put!($text, $($rest)+);
        $text.push('\n');
    }};
}

/// `2,000,000`; unlimited is said in a word.
pub(crate) fn count(number: u64) -> String {
    if number == u64::MAX {
        return "unlimited".to_owned();
    }
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `16.4 GiB`; below a MiB in KiB.
pub(crate) fn bytes(number: u64) -> String {
    const UNITS: [(u64, &str); 4] =
        [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match UNITS.iter().find(|(unit, _)| number >= *unit) {
        None => format!("{number} B"),
        Some((unit, name)) => {
            let tenths = u128::from(number) * 10 / u128::from(*unit);
            format!("{}.{} {name}", count(u64::try_from(tenths / 10).unwrap_or(0)), tenths % 10)
        }
    }
}

/// A share in per cent with one digit behind the point: of nothing it is nothing.
pub(crate) fn percent(part: u64, whole: u64) -> String {
    let tenths = u128::from(part) * 1_000 / u128::from(whole.max(1));
    format!("{}.{} %", tenths / 10, tenths % 10)
}

/// Lines of at most `width` columns, each with an indent.
pub(crate) fn wrap(text: &str, width: usize, indent: &str) -> String {
    let mut wrapped = String::new();
    for paragraph in text.split('\n') {
        let mut line = indent.to_owned();
        for word in paragraph.split_whitespace() {
            let is_first = line.len() == indent.len();
            let length = line.chars().count() + word.chars().count();
            if !is_first && length + 1 > width {
                put_line!(wrapped, "{}", line.trim_end());
                line = indent.to_owned();
            } else if !is_first {
                line.push(' ');
            }
            line.push_str(word);
        }
        put_line!(wrapped, "{}", line.trim_end());
    }
    wrapped
}

/// Columns as wide as their widest cell; numbers are not aligned by their digits.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(cell);
            line.push_str(&" ".repeat(width + 2 - cell.chars().count()));
        }
        put_line!(text, "{}", line.trim_end());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!(count(7), "7");
        assert_eq!(count(1_048_576), "1,048,576");
        assert_eq!(count(u64::MAX), "unlimited");
        assert_eq!(bytes(9_728), "9.5 KiB");
        assert_eq!(bytes(24 << 30), "24.0 GiB");
        assert_eq!(percent(1, 8), "12.5 %");
        assert_eq!(percent(1, 0), "100.0 %");
    }

    #[test]
    fn paragraphs_fit() {
        assert_eq!(wrap("one two three\nfour", 9, "  "), "  one two\n  three\n  four\n");
        let rows = [vec!["a".to_owned(), "b".to_owned()], vec!["long".to_owned(), "c".to_owned()]];
        assert_eq!(table(&rows), "a     b\nlong  c\n");
    }
}
