//! The axes as pictures beside each other, on logarithmic scales.

use std::fmt::Write;

use crate::axis::{Axis, shown};

const WIDTH: f64 = 300.0;
const HEIGHT: f64 = 200.0;
const LEFT: f64 = 70.0;
const TOP: f64 = 100.0;
const COLUMNS: usize = 2;
/// From one picture to the next.
const STEP: [f64; 2] = [LEFT + WIDTH + 40.0, TOP + HEIGHT + 40.0];
const COLOURS: [&str; 4] = ["#1f6fb2", "#c98f3c", "#4a9a5b", "#9a4a8f"];

/// Whole decades around all the seconds.
fn decades(axis: &Axis) -> (i32, i32) {
    let seconds = || axis.series.iter().flat_map(|series| &series.points).map(|(_, seconds)| seconds.log10());
    let (low, high) = (seconds().fold(f64::MAX, f64::min).floor(), seconds().fold(f64::MIN, f64::max).ceil());
    (low as i32, high.max(low + 1.0) as i32)
}

fn picture(axis: &Axis) -> String {
    let mut text = String::new();
    let (low, high) = decades(axis);
    let works: Vec<usize> = axis.series[0].points.iter().map(|(work, _)| *work).collect();
    let span = (works[works.len() - 1] as f64 / works[0] as f64).log10();
    let x = |work: usize| LEFT + WIDTH * (work as f64 / works[0] as f64).log10() / span;
    let y = |seconds: f64| TOP + HEIGHT * (f64::from(high) - seconds.log10()) / f64::from(high - low);
    writeln!(text, r#"<text x="{LEFT}" y="20" font-weight="bold">{}</text>"#, axis.title).unwrap();
    for decade in low..=high {
        let at = y(10_f64.powi(decade));
        writeln!(text, r##"<path d="M{LEFT} {at:.1}h{WIDTH}" stroke="#bbb" stroke-width="0.5"/>"##).unwrap();
        let name = shown(10_f64.powi(decade)).replace(".00", "");
        writeln!(text, r#"<text x="{}" y="{:.1}" text-anchor="end">{name}</text>"#, LEFT - 6.0, at + 4.0).unwrap();
    }
    for work in &works {
        writeln!(text, r#"<text x="{:.1}" y="{}" text-anchor="middle">{work}</text>"#, x(*work), TOP + HEIGHT + 18.0).unwrap();
    }
    for ((place, series), colour) in axis.series.iter().enumerate().zip(COLOURS) {
        let path: Vec<String> =
            series.points.iter().map(|(work, seconds)| format!("{:.1} {:.1}", x(*work), y(*seconds))).collect();
        writeln!(text, r#"<polyline points="{}" fill="none" stroke="{colour}" stroke-width="2"/>"#, path.join(" ")).unwrap();
        let below = 38.0 + 16.0 * place as f64;
        writeln!(text, r#"<rect x="{LEFT}" y="{}" width="12" height="4" fill="{colour}"/>"#, below - 6.0).unwrap();
        writeln!(text, r#"<text x="{}" y="{below}">{}</text>"#, LEFT + 18.0, series.name).unwrap();
    }
    text
}

/// An SVG of its own.
pub fn svg(axes: &[Axis]) -> String {
    let mut body = String::new();
    for (place, axis) in axes.iter().enumerate() {
        let (column, line) = ((place % COLUMNS) as f64, (place / COLUMNS) as f64);
        writeln!(body, r#"<g transform="translate({} {})">"#, column * STEP[0], line * STEP[1]).unwrap();
        body.push_str(&picture(axis));
        body.push_str("</g>\n");
    }
    let (width, height) = (STEP[0] * COLUMNS as f64, STEP[1] * axes.len().div_ceil(COLUMNS) as f64);
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" font-size="12">
<rect width="100%" height="100%" fill="#fff"/>
{body}</svg>
"##
    )
}
