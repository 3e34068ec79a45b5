//! A line on a terminal that says how far something is.

use std::io::{IsTerminal, Write, stderr};

/// Characters of the bar.
const WIDTH: u64 = 30;

/// How far something is that has so many bytes. Where standard error is no terminal, nothing is shown.
pub struct Progress {
    what: &'static str,
    total: u64,
    /// Hundredths that were shown last.
    shown: Option<u64>,
    on: bool,
}

impl Progress {
    /// Of nothing so far.
    pub fn new(what: &'static str, total: u64) -> Self {
        Self { what, total, shown: None, on: stderr().is_terminal() }
    }

    /// So many bytes are done.
    pub fn at(&mut self, done: u64) {
        let hundredths = done.saturating_mul(100).checked_div(self.total).unwrap_or(100).min(100);
        if self.on && self.shown.replace(hundredths) != Some(hundredths) {
            // A terminal that went away is nobody's to tell.
            let _ = write!(stderr(), "\r{}", line(self.what, hundredths));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.on && self.shown.is_some() {
            let _ = writeln!(stderr());
        }
    }
}

fn line(what: &str, hundredths: u64) -> String {
    let full = hundredths * WIDTH / 100;
    let bar: String = (0..WIDTH).map(|at| if at < full { '#' } else { '.' }).collect();
    format!("{what:<9} [{bar}] {hundredths:>3} %")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_fills() {
        assert_eq!(line("copying", 0), format!("copying   [{}]   0 %", ".".repeat(30)));
        assert_eq!(line("verifying", 50), format!("verifying [{}{}]  50 %", "#".repeat(15), ".".repeat(15)));
        assert_eq!(line("copying", 100), format!("copying   [{}] 100 %", "#".repeat(30)));
    }
}
