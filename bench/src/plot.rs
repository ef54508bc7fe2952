//! Draws line charts as SVG: one style for all, readable on light and on dark pages.

use std::fmt::Write as _;

/// How an axis maps values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    Linear,
    /// Values at or below 0 are not drawn.
    Log,
}

/// One line.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    pub(crate) name: String,
    /// In ascending order of x.
    pub(crate) points: Vec<(f64, f64)>,
}

/// A chart with a legend below.
#[derive(Clone, Debug)]
pub(crate) struct Chart {
    pub(crate) title: String,
    pub(crate) x_label: String,
    pub(crate) y_label: String,
    pub(crate) x_scale: Scale,
    pub(crate) y_scale: Scale,
    /// A stretch of x that is shaded, such as a flood.
    pub(crate) shaded: Option<(f64, f64)>,
    pub(crate) series: Vec<Series>,
}

const WIDTH: f64 = 720.0;
/// Of the plotted area; the legend comes below it.
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 40.0;
const BELOW_AXIS: f64 = 48.0;
const LEGEND_ROW: f64 = 20.0;
const LEGEND_COLUMNS: usize = 3;

/// Okabe and Ito's colours, which the colour-blind can tell apart; the second of each pair is for
/// dark pages. tenfold is always the first series.
const COLOURS: [(&str, &str); 8] = [
    ("#d55e00", "#ff8c3a"),
    ("#0072b2", "#56b4e9"),
    ("#009e73", "#2fd6a4"),
    ("#cc79a7", "#e7a5c8"),
    ("#8a6d00", "#f0e442"),
    ("#56606b", "#aab4be"),
    ("#7b4fb5", "#b795ea"),
    ("#8c2d19", "#e0735c"),
];

/// Dashes tell lines apart in print, and where two colours look alike.
const DASHES: [&str; 4] = ["none", "7 3", "2 3", "9 3 2 3"];

/// A range of values and where it lies on the page.
struct Axis {
    scale: Scale,
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Axis {
    fn over(values: impl Iterator<Item = f64>, scale: Scale, from: f64, to: f64) -> Self {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.filter(|value| value.is_finite() && scale.shows(*value)) {
            low = low.min(value);
            high = high.max(value);
        }
        if low > high {
            (low, high) = (1.0, 10.0);
        }
        let (low, high) = match scale {
            Scale::Log => (10f64.powf(low.log10().floor()), 10f64.powf(high.log10().ceil())),
            Scale::Linear => (low, high),
        };
        let high = if high > low { high } else { low + 1.0 };
        Self { scale, low, high, from, to }
    }

    fn at(&self, value: f64) -> f64 {
        let share = match self.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Log => (value / self.low).log10() / (self.high / self.low).log10(),
        };
        self.from + share * (self.to - self.from)
    }

    /// Round values within the range, four to ten of them.
    fn ticks(&self) -> Vec<f64> {
        match self.scale {
            Scale::Linear => {
                let rough = (self.high - self.low) / 5.0;
                let power = 10f64.powf(rough.log10().floor());
                let step = [1.0, 2.0, 5.0, 10.0]
                    .map(|factor| factor * power)
                    .into_iter()
                    .find(|step| *step >= rough)
                    .unwrap_or(power);
                let first = (self.low / step).ceil() as i64;
                let last = (self.high / step + 1e-9).floor() as i64;
                (first..=last).map(|n| n as f64 * step).collect()
            }
            Scale::Log => {
                let decades = self.low.log10().round() as i32..=self.high.log10().round() as i32;
                decades.map(|power| 10f64.powi(power)).collect()
            }
        }
    }
}

impl Scale {
    fn shows(self, value: f64) -> bool {
        self == Self::Linear || value > 0.0
    }
}

impl Chart {
    /// The SVG document.
    pub(crate) fn render(&self) -> String {
        let points = || self.series.iter().flat_map(|series| series.points.iter().copied());
        let x = Axis::over(points().map(|p| p.0), self.x_scale, LEFT, WIDTH - RIGHT);
        // A linear axis begins at 0: differences must not look larger than they are.
        let zero = (self.y_scale == Scale::Linear).then_some(0.0);
        let y = Axis::over(points().map(|p| p.1).chain(zero), self.y_scale, TOP + HEIGHT, TOP);
        let rows = self.series.len().div_ceil(LEGEND_COLUMNS) as f64;
        let height = TOP + HEIGHT + BELOW_AXIS + rows * LEGEND_ROW;
        let mut svg = self.head(height);
        if let Some((from, to)) = self.shaded {
            let (from, to) = (x.at(from), x.at(to));
            let _ = writeln!(
                svg,
                r#"<rect class="shade" x="{from:.1}" y="{TOP}" width="{:.1}" height="{HEIGHT}"/>"#,
                to - from
            );
        }
        self.axes(&mut svg, &x, &y);
        for (index, series) in self.series.iter().enumerate() {
            line(&mut svg, index, series, &x, &y);
        }
        svg.push_str("</svg>\n");
        svg
    }

    /// Colours are plain rules of classes: renderers beside browsers know no variables.
    fn head(&self, height: f64) -> String {
        let colours = |pick: fn(&(&'static str, &'static str)) -> &'static str| {
            let rule = |(index, pair)| format!(".s{index}{{stroke:{}}}", pick(pair));
            COLOURS.iter().enumerate().map(rule).collect::<String>()
        };
        let (light, dark) = (colours(|pair| pair.0), colours(|pair| pair.1));
        let title = escape(&self.title);
        format!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">
<title>{title}</title>
<style>
text{{font:12px system-ui,sans-serif;fill:#1f2328}} .title{{font-size:15px;font-weight:600}}
.page{{fill:#ffffff}} .grid{{stroke:#d8dee4}} .shade{{fill:#f3e3d3}}
.line{{fill:none;stroke-width:2}} {light}
@media(prefers-color-scheme:dark){{text{{fill:#e6edf3}}
.page{{fill:#0d1117}} .grid{{stroke:#30363d}} .shade{{fill:#3a2a1a}} {dark}}}
</style>
<rect class="page" width="{WIDTH}" height="{height}"/>
<text class="title" x="{LEFT}" y="22">{title}</text>
"#
        )
    }

    fn axes(&self, svg: &mut String, x: &Axis, y: &Axis) {
        let bottom = TOP + HEIGHT;
        for value in y.ticks() {
            let at = y.at(value);
            let _ = writeln!(
                svg,
                r#"<line class="grid" x1="{LEFT}" x2="{}" y1="{at:.1}" y2="{at:.1}"/>"#,
                WIDTH - RIGHT
            );
            text(svg, (LEFT - 6.0, at + 4.0), "end", &number(value));
        }
        for value in x.ticks() {
            let at = x.at(value);
            let _ = writeln!(
                svg,
                r#"<line class="grid" x1="{at:.1}" x2="{at:.1}" y1="{TOP}" y2="{bottom}"/>"#
            );
            text(svg, (at, bottom + 16.0), "middle", &number(value));
        }
        let middle = (LEFT + WIDTH - RIGHT) / 2.0;
        text(svg, (middle, bottom + 34.0), "middle", &self.x_label);
        let _ =
            writeln!(svg, r#"<g transform="translate(14 {}) rotate(-90)">"#, TOP + HEIGHT / 2.0);
        text(svg, (0.0, 0.0), "middle", &self.y_label);
        svg.push_str("</g>\n");
    }
}

/// One series and its entry in the legend.
fn line(svg: &mut String, index: usize, series: &Series, x: &Axis, y: &Axis) {
    let shown = |point: &&(f64, f64)| {
        x.scale.shows(point.0) && y.scale.shows(point.1) && point.1.is_finite()
    };
    let places: Vec<String> = (series.points.iter().filter(shown))
        .map(|(px, py)| format!("{:.1},{:.1}", x.at(*px), y.at(*py)))
        .collect();
    let colour = index % COLOURS.len();
    let style =
        format!(r#"class="line s{colour}" stroke-dasharray="{}""#, DASHES[index % DASHES.len()]);
    let _ = writeln!(svg, r#"<polyline {style} points="{}"/>"#, places.join(" "));
    let column = (WIDTH - LEFT - RIGHT) / LEGEND_COLUMNS as f64;
    let left = LEFT + (index % LEGEND_COLUMNS) as f64 * column;
    let top = TOP + HEIGHT + BELOW_AXIS + (index / LEGEND_COLUMNS) as f64 * LEGEND_ROW;
    let _ = writeln!(
        svg,
        r#"<line {style} x1="{left:.1}" x2="{:.1}" y1="{top}" y2="{top}"/>"#,
        left + 26.0
    );
    text(svg, (left + 32.0, top + 4.0), "start", &series.name);
}

fn text(svg: &mut String, (x, y): (f64, f64), anchor: &str, content: &str) {
    let content = escape(content);
    let _ = writeln!(svg, r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{content}</text>"#);
}

/// As few digits as tell ticks apart.
fn number(value: f64) -> String {
    if value.abs() >= 1000.0 && value % 1000.0 == 0.0 {
        return format!("{}k", value / 1000.0);
    }
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(y_scale: Scale, points: Vec<(f64, f64)>) -> Chart {
        Chart {
            title: "waits & <loads>".to_owned(),
            x_label: "load".to_owned(),
            y_label: "wait".to_owned(),
            x_scale: Scale::Linear,
            y_scale,
            shaded: Some((1.0, 2.0)),
            series: vec![Series { name: "one".to_owned(), points }],
        }
    }

    #[test]
    fn larger_values_are_drawn_higher_and_nothing_leaves_the_page() {
        for scale in [Scale::Linear, Scale::Log] {
            let svg = chart(scale, vec![(1.0, 1.0), (2.0, 10.0), (3.0, 1000.0)]).render();
            let line = svg.lines().find(|line| line.starts_with("<polyline")).expect("one line");
            let points = line.split("points=\"").nth(1).expect("it has points");
            let heights: Vec<f64> = points
                .trim_end_matches("\"/>")
                .split(' ')
                .map(|p| p.split_once(',').expect("x,y").1.parse().expect("a number"))
                .collect();
            assert!(heights.is_sorted_by(|a, b| a > b), "{heights:?}");
            assert!(heights.iter().all(|h| (TOP..=TOP + HEIGHT).contains(h)), "{heights:?}");
        }
    }

    #[test]
    fn what_cannot_be_drawn_is_left_out_and_text_is_escaped() {
        let svg = chart(Scale::Log, vec![(1.0, 0.0), (2.0, f64::NAN)]).render();
        assert!(svg.contains("points=\"\""), "{svg}");
        assert!(svg.contains("waits &amp; &lt;loads&gt;"), "{svg}");
        assert!(svg.contains("prefers-color-scheme:dark"), "{svg}");
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }
}
