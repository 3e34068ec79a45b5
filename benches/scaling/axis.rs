//! One thing that grows, and what is measured along it.

use std::fmt::Write;

/// How fast the time of one operation may grow with the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Growth {
    /// Hardly: by the depth of a search, and by what leaves the processor's caches.
    Logarithmic,
    /// The same while what is asked for is kept; then blocks are decompressed, as by the first look-up of all ([`COLD`]).
    Kept,
    /// In proportion.
    Linear,
    /// It only shrinks, or stays: more room, more hands.
    None,
    /// As little, but for the lines of memory that several processors write to in turns.
    Shared,
}

impl Growth {
    /// What the time at `work` may be as a multiple of that at `first`. Measuring on a busy machine takes half of it.
    fn allowed(self, first: usize, work: usize) -> f64 {
        let times = work as f64 / first as f64;
        2.0 * match self {
            Self::Logarithmic | Self::Kept => 1.0 + times.log2(),
            Self::Linear => times,
            Self::None => 1.0,
            Self::Shared => 2.0,
        }
    }
}

/// The series of the first look-up, in an image that was just opened.
pub const COLD: &str = "open, and look up one name";

/// One line of a picture.
pub struct Series {
    pub name: &'static str,
    pub growth: Growth,
    /// (work, seconds of one operation)
    pub points: Vec<(usize, f64)>,
}

/// One picture.
pub struct Axis {
    pub title: &'static str,
    pub series: Vec<Series>,
}

/// Seconds, for people.
pub fn shown(seconds: f64) -> String {
    match seconds {
        s if s < 1e-6 => format!("{:.0} ns", s * 1e9),
        s if s < 1e-3 => format!("{:.2} us", s * 1e6),
        s if s < 1.0 => format!("{:.2} ms", s * 1e3),
        s => format!("{s:.2} s"),
    }
}

impl Axis {
    /// Measures each series at each amount of work: `measure` returns the seconds of one operation of each.
    pub fn along<const N: usize>(
        title: &'static str,
        series: [(&'static str, Growth); N],
        works: &[usize],
        mut measure: impl FnMut(usize) -> [f64; N],
    ) -> Self {
        let mut series = series.map(|(name, growth)| Series { name, growth, points: Vec::new() });
        for work in works {
            for (series, seconds) in series.iter_mut().zip(measure(*work)) {
                series.points.push((*work, seconds));
            }
        }
        Self { title, series: series.into() }
    }

    /// Of Markdown.
    pub fn table(&self) -> String {
        let mut text = format!("| {} |", self.title);
        let works = || self.series[0].points.iter().map(|(work, _)| work);
        works().for_each(|work| write!(text, " {work} |").unwrap());
        write!(text, "\n| --- |{}\n", " --- |".repeat(works().count())).unwrap();
        for series in &self.series {
            write!(text, "| {} |", series.name).unwrap();
            series.points.iter().for_each(|(_, seconds)| write!(text, " {} |", shown(*seconds)).unwrap());
            text.push('\n');
        }
        text.push('\n');
        text
    }

    /// What grows faster than it may.
    pub fn worse(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let cold = self.series.iter().find(|series| series.name == COLD);
        for series in &self.series {
            let (first, base) = series.points[0];
            for (place, (work, seconds)) in series.points.iter().enumerate() {
                let of_kept = series.growth.allowed(first, *work);
                let of_cold =
                    cold.filter(|_| series.growth == Growth::Kept).map_or(0.0, |cold| 2.0 * cold.points[place].1 / base);
                let allowed = of_kept.max(of_cold);
                if *seconds > base * allowed {
                    let (times, name, title) = (seconds / base, series.name, self.title);
                    lines.push(format!(
                        "{title}: {name} takes {times:.1} times as long at {work} as at {first}; {allowed:.1} at most"
                    ));
                }
            }
        }
        lines
    }
}
