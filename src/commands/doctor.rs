//! `haosfs doctor`.

use std::ffi::OsString;

use serde_json::{Value, json};

use super::output::{Output, add, printable};
use crate::config::mount_options::MountOptions;
use crate::error::{Error, Result};
use crate::mount::{self, Ability, Choice, DeviceFact, Examination, MountPlan, Request, UpperFacts};

/// Says what this machine offers this user and what would be taken of it; with a source, for that one.
///
/// # Errors
/// What would stand in the way of mounting that source, after everything else was said.
pub fn run(source: Option<(OsString, MountOptions)>, json: bool) -> Result<()> {
    let found = mount::examine();
    let mount = source.map(|(source, options)| judge(source, options));
    let mut output = Output::open();
    if json {
        output.line(&object(&found, mount.as_ref()).to_string())?;
    } else {
        lines(&found).iter().try_for_each(|line| output.line(line))?;
        if let Some(Ok((judged, plan))) = &mount {
            plan_lines(plan, judged).iter().try_for_each(|line| output.line(line))?;
        }
    }
    output.finish()?;
    mount.map_or(Ok(()), |mount| mount.map(drop))
}

fn judge(source: OsString, options: MountOptions) -> Result<Judged> {
    // A plan wants a mountpoint that exists; nothing is mounted there.
    let mountpoint = tempfile::tempdir().map_err(|e| Error::sys("make", "a directory to think of as mountpoint", e))?;
    let request = Request::new(source, mountpoint.path().to_owned(), Vec::new(), None, None, options)?;
    let plan = MountPlan::check(Request { dry_run: true, ..request })?;
    Ok((mount::examine_plan(&plan)?, plan))
}

fn lines(found: &Examination) -> Vec<String> {
    let facts = &found.facts;
    let rights = if facts.may_administer { "may mount" } else { "may not mount" };
    let whose = if facts.initial_user_namespace { "" } else { ", in a user namespace of its own" };
    let device = match facts.device {
        DeviceFact::Usable => "yes",
        DeviceFact::Missing => "no: it is missing",
        DeviceFact::Denied => "no: no permission",
    };
    let helper = facts.fusermount.as_ref().map_or_else(|| "no".to_owned(), |path| path.display().to_string());
    let mut lines = vec![format!("user          uid {}, {rights}{whose}", facts.euid)];
    let mut say = |name: &str, value: String| lines.push(format!("{name:<13} {value}"));
    for (name, ability) in abilities(found) {
        say(name, told(ability));
    }
    say("/dev/fuse", device.to_owned());
    say("fusermount3", helper);
    say("FUSE mounts", told(&found.fuse));
    say("haos.ini", chosen(&found.automatic));
    lines
}

fn abilities(found: &Examination) -> [(&'static str, &Ability); 4] {
    [
        ("overlayfs", &found.overlay),
        ("squashfs", &found.squashfs),
        ("loop devices", &found.loops),
        ("fsopen(2)", &found.mount_api),
    ]
}

fn told(ability: &Ability) -> String {
    match ability {
        Ok(()) => "yes".to_owned(),
        Err(why) => format!("no: {why}"),
    }
}

fn chosen(choice: &std::result::Result<Choice, String>) -> String {
    match choice {
        Ok(choice) => format!("would be mounted by {}: {}", choice.backend.name(), choice.reason),
        Err(why) => format!("cannot be mounted: {why}"),
    }
}

fn plan_lines(plan: &MountPlan, (choice, upper): &(Choice, Option<UpperFacts>)) -> Vec<String> {
    let mut lines = vec![String::new(), printable(&plan.source)];
    let mut say = |name: &str, value: String| lines.push(format!("  {name:<11} {value}"));
    say("backend", format!("{}: {}", choice.backend.name(), choice.reason));
    plan.lowers.iter().for_each(|lower| say("lower", printable(lower.path.as_os_str())));
    match (upper, &plan.upper) {
        (Some(facts), Some(upper)) => {
            if let Some(claim) = &upper.claim {
                let generation = claim.generation();
                let (data, base) = (claim.data().shown(), printable(&generation.meta.base.name));
                say("generation", format!("{} on {data}, made on {base}", generation.number));
            }
            let features: Vec<String> =
                features(facts).iter().map(|(name, has)| format!("{name} {}", if *has { "yes" } else { "no" })).collect();
            say("upper", format!("{}: {}", if facts.suffice() { "fit" } else { "unfit" }, features.join(", ")));
        }
        _ => say("upper", "none yet, or none asked for".to_owned()),
    }
    lines
}

const fn features(facts: &UpperFacts) -> [(&'static str, bool); 7] {
    [
        ("whiteouts", facts.whiteouts),
        ("RENAME_WHITEOUT", facts.rename_whiteout),
        ("RENAME_EXCHANGE", facts.rename_exchange),
        ("trusted xattrs", facts.trusted_xattrs),
        ("user xattrs", facts.user_xattrs),
        ("O_TMPFILE", facts.tmpfile),
        ("d_type", facts.d_type),
    ]
}

type Judged = ((Choice, Option<UpperFacts>), MountPlan);

fn object(found: &Examination, mount: Option<&Result<Judged>>) -> Value {
    let facts = &found.facts;
    let mut object = json!({
        "uid": facts.euid,
        "may_mount": facts.may_administer,
        "initial_user_namespace": facts.initial_user_namespace,
        "dev_fuse": facts.device == DeviceFact::Usable,
        "fusermount3": facts.fusermount.as_ref().map(|path| path.to_string_lossy()),
        "fuse": ability(&found.fuse),
        "haos_ini": choice(&found.automatic),
    });
    for (name, can) in abilities(found) {
        add(&mut object, name.trim_end_matches("(2)"), ability(can));
    }
    match mount {
        Some(Ok(((taken, upper), _))) => {
            let features =
                upper.map(|facts| features(&facts).iter().map(|(name, has)| ((*name).to_owned(), json!(has))).collect());
            let features: Option<serde_json::Map<String, Value>> = features;
            let taken = json!({ "backend": taken.backend.name(), "reason": taken.reason, "upper": features });
            add(&mut object, "mount", taken);
        }
        Some(Err(e)) => add(&mut object, "mount", json!({ "error": e.to_string() })),
        None => {}
    }
    object
}

fn ability(can: &Ability) -> Value {
    match can {
        Ok(()) => json!({ "usable": true }),
        Err(why) => json!({ "usable": false, "why": why }),
    }
}

fn choice(choice: &std::result::Result<Choice, String>) -> Value {
    match choice {
        Ok(choice) => json!({ "backend": choice.backend.name(), "reason": choice.reason }),
        Err(why) => json!({ "error": why }),
    }
}
