//! The ratios as a picture: a line of bars for each turn of each row, on a logarithmic scale; the kernel is the line at 1.

use std::fmt::Write;

use crate::contender::Contender;
use crate::rounds::Results;
use crate::row::Kind;

const LEFT: f64 = 360.0;
const WIDTH: f64 = 560.0;
const BAR: f64 = 7.0;
/// The scale goes from 1/64 to 64.
const OCTAVES: f64 = 6.0;

const fn colour(driver: Contender) -> &'static str {
    match driver {
        Contender::Kernel => "#888888",
        Contender::TwoDaemons => "#c98f3c",
        Contender::Haosfs => "#1f6fb2",
        Contender::Rootless => "#7fb2dc",
    }
}

fn at(ratio: f64) -> f64 {
    LEFT + WIDTH * (ratio.log2().clamp(-OCTAVES, OCTAVES) + OCTAVES) / (2.0 * OCTAVES)
}

/// An SVG of its own.
pub fn svg(results: &Results) -> String {
    let others: Vec<Contender> = results.drivers.iter().copied().filter(|driver| *driver != Contender::Kernel).collect();
    let mut body = String::new();
    let mut y = 50.0;
    for row in &results.rows {
        let turns: &[&str] = match row.kind {
            Kind::ColdAndAgain => &[", cold", ", again"],
            _ => &[""],
        };
        for (turn, name) in turns.iter().enumerate() {
            let Some(kernel) = results.median(row.name, Contender::Kernel.name(), turn) else { continue };
            let middle = y + BAR * others.len() as f64 / 2.0 + 4.0;
            writeln!(body, r#"<text x="{}" y="{middle}" text-anchor="end">{}{name}</text>"#, LEFT - 8.0, row.title).unwrap();
            for driver in &others {
                if let Some(seconds) = results.median(row.name, driver.name(), turn) {
                    let (x, one) = (at(seconds / kernel), at(1.0));
                    let (from, width) = (x.min(one), (x - one).abs().max(1.0));
                    let fill = colour(*driver);
                    writeln!(body, r#"<rect x="{from:.1}" y="{y}" width="{width:.1}" height="{BAR}" fill="{fill}"/>"#).unwrap();
                }
                y += BAR;
            }
            y += 8.0;
        }
    }
    frame(&others, &body, y)
}

fn frame(drivers: &[Contender], body: &str, bottom: f64) -> String {
    let mut grid = String::new();
    for power in -6..=6_i32 {
        let ratio = 2_f64.powi(power);
        let name = if power < 0 { format!("1/{}", 1 << -power) } else { (1 << power).to_string() };
        let (x, width) = (at(ratio), if power == 0 { 1.5 } else { 0.3 });
        writeln!(grid, r##"<path d="M{x:.1} 40V{bottom}" stroke="#555" stroke-width="{width}"/>"##).unwrap();
        writeln!(grid, r#"<text x="{x:.1}" y="36" text-anchor="middle">{name}</text>"#).unwrap();
    }
    for (place, driver) in drivers.iter().enumerate() {
        let x = LEFT + 180.0 * place as f64;
        writeln!(grid, r#"<rect x="{x}" y="8" width="12" height="12" fill="{}"/>"#, colour(*driver)).unwrap();
        writeln!(grid, r#"<text x="{}" y="18">{}</text>"#, x + 18.0, driver.name()).unwrap();
    }
    let (width, height) = (LEFT + WIDTH + 20.0, bottom + 30.0);
    let note = bottom + 20.0;
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" font-size="12">
<rect width="100%" height="100%" fill="#fff"/>
{grid}{body}<text x="{LEFT}" y="{note}">times as multiples of the kernel's; bars to the left are faster</text>
</svg>
"##
    )
}
