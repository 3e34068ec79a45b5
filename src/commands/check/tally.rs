//! What was found, counted.

use crate::union::check::defect::{Defect, Explanation, Finding, Outcome, Severity};

/// Counts of findings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    errors: u64,
    warnings: u64,
    notes: u64,
    repaired: u64,
    repairable: u64,
    unchecked: u64,
}

impl Tally {
    /// Counts one.
    pub fn count(&mut self, finding: &Finding, explanation: &Explanation) {
        if matches!(finding.outcome, Outcome::Repaired) {
            self.repaired += 1;
            return;
        }
        self.repairable += u64::from(explanation.repair.is_some());
        if matches!(finding.defect, Defect::Unchecked(_)) {
            self.unchecked += 1;
            return;
        }
        match explanation.severity {
            Severity::Error => self.errors += 1,
            Severity::Warning => self.warnings += 1,
            Severity::Note => self.notes += 1,
        }
    }

    /// The last line.
    pub fn line(&self, repair: bool) -> String {
        let Self { errors, warnings, notes, repaired, repairable, unchecked } = self;
        let mut line = format!("{errors} errors, {warnings} warnings, {notes} notes");
        if *unchecked > 0 {
            line.push_str(&format!(", {unchecked} could not be looked at"));
        }
        if repair {
            line.push_str(&format!("; {repaired} repaired"));
        } else if *repairable > 0 {
            line.push_str(&format!("; --repair mends {repairable} of them"));
        }
        line
    }

    /// The sum of 1 (something was mended), 4 (an error or a warning is left) and 8 (something could not be looked at), as for
    /// fsck(8).
    pub fn exit_code(&self) -> u8 {
        let bit = |is: bool, value: u8| if is { value } else { 0 };
        bit(self.repaired > 0, 1) | bit(self.errors + self.warnings > 0, 4) | bit(self.unchecked > 0, 8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_those_of_fsck() {
        let clean = Tally { notes: 3, ..Tally::default() };
        for (tally, code) in [
            (clean, 0),
            (Tally { repaired: 2, ..clean }, 1),
            (Tally { warnings: 1, ..clean }, 4),
            (Tally { errors: 1, repaired: 1, ..clean }, 5),
            (Tally { unchecked: 1, ..clean }, 8),
        ] {
            assert_eq!(tally.exit_code(), code, "{tally:?}");
        }
    }
}
