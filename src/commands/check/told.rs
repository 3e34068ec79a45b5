//! How a finding is told: a line for people, or a JSON object.

use serde_json::{Value, json};

use crate::commands::output::{add_bytes, printable};
use crate::union::check::defect::{Explanation, Finding, Outcome, Repair};

/// `severity: path: what it is; what can be done`, or what was.
pub fn line(finding: &Finding, explanation: &Explanation) -> String {
    let Explanation { severity, means, .. } = explanation;
    let path = printable(finding.path.as_os_str());
    let what = match &finding.outcome {
        Outcome::Repaired => "repaired",
        _ => severity.name(),
    };
    let mut line = format!("{what}: {path}: {means}");
    let remedy = match &finding.outcome {
        Outcome::Failed(e) => format!("mending it failed: {e}"),
        Outcome::Left if explanation.repair.is_some() && explanation.remedy.is_empty() => "--repair mends it".to_owned(),
        Outcome::Left => explanation.remedy.to_owned(),
        Outcome::Repaired => explanation.repair.as_ref().map_or_else(String::new, Repair::done),
    };
    if !remedy.is_empty() {
        line.push_str("; ");
        line.push_str(&remedy);
    }
    line
}

/// An object; `path_hex` is added where the bytes are not UTF-8.
pub fn json(finding: &Finding, explanation: &Explanation) -> Value {
    let (outcome, failure) = match &finding.outcome {
        Outcome::Left => ("left", None),
        Outcome::Repaired => ("repaired", None),
        Outcome::Failed(e) => ("failed", Some(e.to_string())),
    };
    let mut object = json!({
        "severity": explanation.severity.name(),
        "finding": explanation.id,
        "means": explanation.means,
        "remedy": explanation.remedy,
        "repairable": explanation.repair.is_some(),
        "outcome": outcome,
    });
    add_bytes(&mut object, "path", finding.path.as_os_str());
    if let (Outcome::Repaired, Some(repair), Some(members)) = (&finding.outcome, &explanation.repair, object.as_object_mut()) {
        members.insert("done".to_owned(), repair.done().into());
    }
    if let (Some(failure), Some(members)) = (failure, object.as_object_mut()) {
        members.insert("failure".to_owned(), failure.into());
    }
    object
}
