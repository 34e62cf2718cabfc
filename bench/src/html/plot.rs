//! A plot: axes, a grid, lines or bars, as SVG.

use std::fmt::Write as _;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 44.0;
/// Classes `s0` to `s5` have colours in the page's style.
const COLOURS: usize = 6;

/// How values become places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scale {
    /// Equal steps, from zero.
    Linear,
    /// Powers of ten.
    Logarithmic,
}

/// One line of a plot.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) name: String,
    pub(super) points: Vec<(f64, f64)>,
}

/// Lines over a common axis.
#[derive(Debug, Clone)]
pub(super) struct Lines {
    pub(super) x_title: String,
    pub(super) y_title: String,
    pub(super) y_scale: Scale,
    pub(super) lines: Vec<Line>,
    /// Marks on the x axis, instead of round numbers.
    pub(super) x_marks: Option<Vec<(f64, String)>>,
    /// A part of the x axis that is set off: the measured phase.
    pub(super) band: Option<(f64, f64)>,
}

/// One bar, perhaps of several parts.
#[derive(Debug, Clone)]
pub(super) struct Bar {
    pub(super) name: String,
    pub(super) parts: Vec<(String, f64)>,
    /// What stands at its end.
    pub(super) text: String,
}

/// Text as a page may hold it.
pub(super) fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

/// Round numbers from 0 to at least `most`, four to eight of them.
fn round_marks(most: f64) -> Vec<f64> {
    if most.is_nan() || most <= 0.0 {
        return vec![0.0, 1.0];
    }
    let rough = most / 5.0;
    let power = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0].map(|of| of * power);
    let step = step.into_iter().find(|step| *step >= rough).unwrap_or(10.0 * power);
    let mut marks = vec![0.0];
    let mut next = 0.0;
    while next < most - step * 1e-9 {
        next += step;
        marks.push(next);
    }
    marks
}

/// Powers of ten around these values.
fn power_marks(least: f64, most: f64) -> Vec<f64> {
    let (mut mark, mut marks) = (10_f64.powf(least.max(1e-3).log10().floor()), Vec::new());
    while marks.len() < 16 {
        marks.push(mark);
        if mark >= most {
            break;
        }
        mark *= 10.0;
    }
    if marks.len() < 2 {
        marks.push(mark * 10.0);
    }
    marks
}

/// A number as short as it can be: `1.2M`, `340k`, `0.25`.
pub(super) fn short(value: f64) -> String {
    let (scaled, suffix) = match value.abs() {
        big if big >= 1e9 => (value / 1e9, "G"),
        big if big >= 1e6 => (value / 1e6, "M"),
        big if big >= 1e3 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let text = if scaled.abs() >= 100.0 {
        format!("{scaled:.0}")
    } else if scaled.abs() >= 10.0 {
        format!("{scaled:.1}")
    } else {
        format!("{scaled:.2}")
    };
    let text = if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    };
    format!("{text}{suffix}")
}

impl Lines {
    /// Whether there is anything to see.
    pub(super) fn is_empty(&self) -> bool {
        self.lines.iter().all(|line| line.points.len() < 2)
    }

    /// As SVG, with a legend if there are several lines.
    pub(super) fn svg(&self) -> String {
        let all = || self.lines.iter().flat_map(|line| &line.points);
        let x_most = all().map(|(x, _)| *x).fold(0.0_f64, f64::max);
        let x_least = all().map(|(x, _)| *x).fold(x_most, f64::min);
        let y_most = all().map(|(_, y)| *y).fold(0.0_f64, f64::max);
        let positive = all().map(|(_, y)| *y).filter(|y| *y > 0.0);
        let y_least = positive.fold(y_most.max(1.0), f64::min);
        let y_marks = match self.y_scale {
            Scale::Linear => round_marks(y_most),
            Scale::Logarithmic => power_marks(y_least, y_most.max(1.0)),
        };
        let (low, high) = (y_marks[0], y_marks[y_marks.len() - 1]);
        let y_scale = self.y_scale;
        let y_place = |y: f64| {
            let share = match y_scale {
                Scale::Linear => (y - low) / (high - low),
                Scale::Logarithmic => (y.max(low).ln() - low.ln()) / (high.ln() - low.ln()),
            };
            HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)
        };
        let width = (x_most - x_least).max(f64::MIN_POSITIVE);
        let x_place = |x: f64| LEFT + (x - x_least) / width * (WIDTH - LEFT - RIGHT);
        let mut svg = opening(&format!("{} over {}", self.y_title, self.x_title));
        if let Some((from, to)) = self.band {
            let (from, to) = (x_place(from.max(x_least)), x_place(to.min(x_most)));
            add(
                &mut svg,
                &format!(
                    "<rect class=\"band\" x=\"{from:.1}\" y=\"{TOP}\" \
                     width=\"{:.1}\" height=\"{:.1}\"/>",
                    (to - from).max(0.0),
                    HEIGHT - TOP - BOTTOM
                ),
            );
        }
        for mark in &y_marks {
            horizontal(&mut svg, y_place(*mark), &short(*mark));
        }
        let round = || round_marks(x_most).into_iter().map(|x| (x, short(x))).collect();
        for (x, text) in self.x_marks.clone().unwrap_or_else(round) {
            if (x_least..=x_most).contains(&x) {
                vertical(&mut svg, x_place(x), &text);
            }
        }
        for (at, line) in self.lines.iter().enumerate() {
            path(&mut svg, at, line, |(x, y)| (x_place(x), y_place(y)));
        }
        titles(&mut svg, &self.x_title, &self.y_title);
        svg.push_str("</svg>");
        if self.lines.len() > 1 {
            svg.push_str(&legend(self.lines.iter().map(|line| line.name.as_str())));
        }
        svg
    }
}

fn opening(title: &str) -> String {
    format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\"><title>{}</title>", escape(title))
}

fn add(svg: &mut String, element: &str) {
    svg.push_str(element);
}

fn horizontal(svg: &mut String, y: f64, text: &str) {
    write!(
        svg,
        "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
         <text class=\"mark\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>",
        WIDTH - RIGHT,
        LEFT - 8.0,
        y + 4.0
    )
    .expect("a text grows as needed");
}

fn vertical(svg: &mut String, x: f64, text: &str) {
    write!(
        svg,
        "<text class=\"mark\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
        HEIGHT - BOTTOM + 18.0,
        escape(text)
    )
    .expect("a text grows as needed");
}

fn path(svg: &mut String, at: usize, line: &Line, place: impl Fn((f64, f64)) -> (f64, f64)) {
    let mut points = String::new();
    for (number, point) in line.points.iter().enumerate() {
        let (x, y) = place(*point);
        let letter = if number == 0 { 'M' } else { 'L' };
        write!(points, "{letter}{x:.1} {y:.1}").expect("a text grows as needed");
    }
    let name = escape(&line.name);
    let colour = at % COLOURS;
    write!(svg, "<path class=\"line s{colour}\" d=\"{points}\"><title>{name}</title></path>")
        .expect("a text grows as needed");
}

fn titles(svg: &mut String, x_title: &str, y_title: &str) {
    let middle = f64::midpoint(LEFT, WIDTH - RIGHT);
    let height = f64::midpoint(TOP, HEIGHT - BOTTOM);
    write!(
        svg,
        "<text class=\"title\" x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\
         <text class=\"title\" transform=\"translate(14 {height:.1}) rotate(-90)\" \
         text-anchor=\"middle\">{}</text>",
        HEIGHT - 6.0,
        escape(x_title),
        escape(y_title)
    )
    .expect("a text grows as needed");
}

fn legend<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut legend = String::from("<ul class=\"legend\">");
    for (at, name) in names.enumerate() {
        write!(legend, "<li><i class=\"s{}\"></i>{}</li>", at % COLOURS, escape(name))
            .expect("a text grows as needed");
    }
    legend.push_str("</ul>");
    legend
}

/// Bars that lie, the longest as long as there is room. Parts stand one behind the other.
pub(super) fn bars(title: &str, bars: &[Bar]) -> String {
    let most = bars.iter().map(|bar| sum(&bar.parts)).fold(0.0_f64, f64::max);
    if most <= 0.0 {
        return String::new();
    }
    let (row, left, right) = (34.0, 150.0, 110.0);
    let count = f64::from(u32::try_from(bars.len()).unwrap_or(u32::MAX));
    let height = row * count + 8.0;
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\"><title>{}</title>",
        escape(title)
    );
    let mut y = 4.0;
    for bar in bars {
        let mut x = left;
        let middle = y + row / 2.0 + 4.0;
        write!(
            svg,
            "<text class=\"name\" x=\"{:.1}\" y=\"{middle:.1}\" text-anchor=\"end\">{}</text>",
            left - 10.0,
            escape(&bar.name)
        )
        .expect("a text grows as needed");
        for (at, (name, value)) in bar.parts.iter().enumerate() {
            let width = value.max(0.0) / most * (WIDTH - left - right);
            write!(
                svg,
                "<rect class=\"bar s{}\" x=\"{x:.1}\" y=\"{:.1}\" width=\"{width:.1}\" \
                 height=\"{:.1}\" rx=\"2\"><title>{}: {}</title></rect>",
                at % COLOURS,
                y + 5.0,
                row - 10.0,
                escape(name),
                short(*value)
            )
            .expect("a text grows as needed");
            x += width;
        }
        write!(
            svg,
            "<text class=\"value\" x=\"{:.1}\" y=\"{middle:.1}\">{}</text>",
            x + 8.0,
            escape(&bar.text)
        )
        .expect("a text grows as needed");
        y += row;
    }
    svg.push_str("</svg>");
    let parts: Vec<&str> = bars
        .iter()
        .max_by_key(|bar| bar.parts.len())
        .map(|bar| bar.parts.iter().map(|(name, _)| name.as_str()).collect())
        .unwrap_or_default();
    if parts.len() > 1 {
        svg.push_str(&legend(parts.into_iter()));
    }
    svg
}

fn sum(parts: &[(String, f64)]) -> f64 {
    parts.iter().map(|(_, value)| value.max(0.0)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_round_and_cover_everything() {
        assert_eq!(round_marks(9.0), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(round_marks(0.0), [0.0, 1.0]);
        assert_eq!(power_marks(30.0, 2_000.0), [10.0, 100.0, 1_000.0, 10_000.0]);
        assert_eq!(power_marks(10.0, 10.0).len(), 2);
    }

    #[test]
    fn numbers_are_short() {
        let texts = [0.0, 0.25, 12.0, 1_500.0, 340_000.0, 1_234_567.0].map(short);
        assert_eq!(texts, ["0", "0.25", "12", "1.5k", "340k", "1.23M"]);
    }

    #[test]
    fn names_cannot_break_the_page() {
        let bar = Bar {
            name: "<script>".to_owned(),
            parts: vec![("a & b".to_owned(), 1.0)],
            text: "\"1\"".to_owned(),
        };
        let svg = bars("x", &[bar]);
        assert!(svg.contains("&lt;script&gt;") && svg.contains("a &amp; b"), "{svg}");
        assert!(!svg.contains("<script>"));
    }

    #[test]
    fn a_line_goes_from_end_to_end() {
        let lines = Lines {
            x_title: "s".to_owned(),
            y_title: "messages/s".to_owned(),
            y_scale: Scale::Linear,
            lines: vec![Line { name: "x".to_owned(), points: vec![(0.0, 0.0), (10.0, 5.0)] }],
            x_marks: None,
            band: None,
        };
        let svg = lines.svg();
        assert!(svg.contains("M64.0 256.0") && svg.contains("L624.0 14.0"), "{svg}");
        assert!(!lines.is_empty());
    }
}
