//! Each way that a boot can go, by what fails.

use super::*;
use crate::update::state::{Failed, Proven};

/// Fails where it is told to, and remembers what was done.
#[derive(Default)]
struct Fake {
    fails: Vec<&'static str>,
    done: Vec<String>,
}

impl Fake {
    fn does(&mut self, what: String) -> Result<()> {
        let fails = self.fails.iter().any(|fails| what.starts_with(fails));
        let is_asked = self.fails.iter().any(|fails| fails.strip_prefix("asked: ").is_some_and(|fails| what.starts_with(fails)));
        let is_full = self.fails.iter().any(|fails| fails.strip_prefix("full: ").is_some_and(|fails| what.starts_with(fails)));
        self.done.push(what);
        if is_full {
            Err(Error::sys("write", "x", Errno::ENOSPC))
        } else if is_asked {
            Err(Error::sys("wait for", "x", Errno::EINTR))
        } else if fails {
            Err(Error::Refused("broken".to_owned()))
        } else {
            Ok(())
        }
    }
}

impl Acts for Fake {
    fn go_on(&self) -> Result<()> {
        let until = |last: &str| self.done.last().is_some_and(|done| done.starts_with(last));
        match self.fails.iter().find_map(|fails| fails.strip_prefix("asked after: ")) {
            Some(last) if until(last) => Err(Error::sys("wait for", "x", Errno::EINTR)),
            _ => Ok(()),
        }
    }

    fn save(&mut self, state: &State) -> Result<()> {
        let word = match state {
            State::Stable { .. } => "stable".to_owned(),
            State::Staged { left, .. } => format!("staged {left}"),
            State::Trying { left, tried, .. } => format!("trying {left} {tried}"),
            State::RolledBack { .. } => "rolled back".to_owned(),
            State::Safe { .. } => "safe".to_owned(),
        };
        self.does(format!("save {word}"))
    }

    fn stand_by(&mut self, state: &State) -> Result<()> {
        match state {
            State::Trying { left, .. } => self.does(format!("stand by {left}")),
            _ => Ok(()),
        }
    }

    fn prepare(&mut self, image: &ImageSource, anew: bool) -> Result<()> {
        self.does(format!("prepare {image} {anew}"))
    }

    fn begin_time(&mut self) {
        self.done.push("begin time".to_owned());
    }

    fn take_into_use(&mut self, image: &ImageSource) -> Result<()> {
        self.does(format!("use {image}"))
    }

    fn discard(&mut self, image: &ImageSource) -> Result<()> {
        self.does(format!("discard {image}"))
    }

    fn close_log(&mut self, attempt: &Attempt, why: &str) {
        self.done.push(format!("close {}: {why}", attempt.image));
    }

    fn mount(&mut self, image: &ImageSource, trial: bool) -> Result<Side> {
        self.does(format!("mount {image} {trial}")).map(|()| Side::Asker)
    }
}

fn image(name: &str) -> ImageSource {
    ImageSource::parse(name).unwrap()
}

fn proven() -> Proven {
    Proven { good: image("old"), previous: None }
}

fn stable() -> State {
    State::Stable { proven: proven(), failed: None }
}

fn staged(left: u32) -> State {
    State::Staged { proven: proven(), failed: None, next: image("new"), left }
}

fn trying(left: u32) -> State {
    State::Trying { proven: proven(), failed: None, next: image("new"), left, tried: 1 }
}

fn told(ending: &Ending) -> String {
    match ending {
        Ending::Mounted { image, trial, why } => format!("{image} {trial} {}", why.as_deref().unwrap_or("-")),
        Ending::Served => "served".to_owned(),
        Ending::Safe { why } => format!("safe: {why}"),
        Ending::Interrupted { at } => format!("interrupted: {at}"),
    }
}

/// What a boot does, and how it ends; a log is closed somewhere on the way.
fn goes(state: &State, fails: Vec<&'static str>, done: &[&str], ending: &str) {
    let mut acts = Fake { fails, ..Fake::default() };
    let ended = run(state.clone(), Event::BootBegins, &mut acts);
    assert_eq!(told(&ended), ending, "{state:?}");
    let order = |line: &&str| !line.starts_with("close");
    let found: Vec<&str> = acts.done.iter().map(String::as_str).filter(order).collect();
    assert_eq!(found, done.iter().copied().filter(order).collect::<Vec<_>>(), "{state:?} {:?}", acts.fails);
    // Who stands by a trial would end the boot in the middle of that.
    let place = |what: &str| acts.done.iter().position(|line| line.starts_with(what));
    assert!(
        place("discard").is_none_or(|discarded| place("stand by").is_none() || place("close") < Some(discarded)),
        "{:?}",
        acts.done
    );
    let closed = acts.done.iter().filter(|line| line.starts_with("close")).count();
    assert_eq!(closed, done.iter().filter(|line| line.starts_with("close")).count());
}

/// Nothing is counted, saved, taken into use or taken away.
#[test]
fn who_only_looks_mounts_the_good_image_alone() {
    let rolled_back =
        State::RolledBack { proven: proven(), bad: Failed { image: image("new"), why: "bad".to_owned() }, tried: 1 };
    for (state, why) in [
        (stable(), "-"),
        (staged(2), "new is not tried at this boot: nothing shall be written (-o ro)"),
        (trying(0), "new is not tried at this boot: nothing shall be written (-o ro)"),
        (rolled_back, "new has failed: bad"),
    ] {
        let mut acts = Fake::default();
        assert_eq!(told(&look(&state, &mut acts)), format!("old false {why}"));
        assert_eq!(acts.done, ["mount old false"], "{state:?}");
        let mut acts = Fake { fails: vec!["mount old"], ..Fake::default() };
        let ending = told(&look(&state, &mut acts));
        assert!(ending.starts_with("safe: ") && ending.contains("broken"), "{ending}");
        assert_eq!(acts.done, ["mount old false"], "{state:?}");
    }
}

#[test]
fn a_boot_ends_with_what_can_be_booted() {
    let back = ["close new: broken", "save rolled back", "use old", "mount old false", "discard new"];
    let failed = "old false new has failed: broken";
    for (state, fails, done, ending) in [
        (stable(), vec![], vec!["save stable", "use old", "mount old false"], "old false -"),
        (stable(), vec!["mount old"], vec!["save stable", "use old", "mount old false", "save safe"], "safe: broken"),
        (stable(), vec!["use old"], vec!["save stable", "use old", "save safe"], "safe: broken"),
        (
            staged(3),
            vec![],
            vec!["save trying 2 1", "stand by 2", "prepare new true", "begin time", "mount new true"],
            "new true -",
        ),
        (
            trying(1),
            vec![],
            vec!["save trying 0 2", "stand by 0", "prepare new false", "begin time", "mount new true"],
            "new true -",
        ),
        (
            trying(1),
            vec!["mount new"],
            [&["save trying 0 2", "stand by 0", "prepare new false", "begin time", "mount new true"], &back[..]].concat(),
            failed,
        ),
        (staged(3), vec!["prepare"], [&["save trying 2 1", "stand by 2", "prepare new true"], &back[..]].concat(), failed),
        // What was not counted is not touched.
        (
            staged(3),
            vec!["save trying"],
            vec!["save trying 2 1", "use old", "mount old false"],
            "old false new is not tried at this boot: it cannot be counted, or nobody could end it: broken",
        ),
        // What nobody would end is not begun.
        (
            staged(3),
            vec!["stand by"],
            vec!["save trying 2 1", "stand by 2", "use old", "mount old false"],
            "old false new is not tried at this boot: it cannot be counted, or nobody could end it: broken",
        ),
        (
            trying(0),
            vec![],
            vec!["save rolled back", "use old", "mount old false", "discard new"],
            "old false new has failed: none of 1 attempts to boot it was confirmed",
        ),
    ] {
        goes(&state, fails, &done, ending);
    }
}

/// The data or the machine is at fault where both fail: the update has its other attempts, and what was written in those before.
#[test]
fn an_update_is_not_decided_by_what_both_meet() {
    let tried = ["save trying 2 1", "stand by 2", "prepare new true", "begin time", "mount new true"];
    let back = ["close new: broken", "save rolled back", "use old", "mount old false", "save trying 2 1"];
    goes(&staged(3), vec!["mount"], &[&tried[..], &back[..]].concat(), "safe: broken");
}

#[test]
fn what_was_not_begun_stays_staged_whatever_becomes_of_the_good_one() {
    let done = ["save trying 2 1", "stand by 2", "use old", "mount old false"];
    let safe = "safe: new is not tried at this boot: it cannot be counted, or nobody could end it: broken; old: broken";
    goes(&staged(3), vec!["stand by", "mount old"], &done, safe);
}

#[test]
fn who_is_asked_to_end_decides_nothing() {
    let begun = ["save trying 0 2", "stand by 0", "prepare new false", "begin time", "mount new true"];
    let at = "interrupted: wait for x: Interrupted system call (os error 4)";
    let close = "close new: the boot was asked to end: wait for x: Interrupted system call (os error 4)";
    for (state, fails, done) in [
        (trying(1), vec!["asked: mount new"], [&begun[..], &[close]].concat()),
        (trying(1), vec!["asked: stand by"], vec!["save trying 0 2", "stand by 0", close]),
        (trying(1), vec!["asked after: begin time"], [&begun[..4], &[close]].concat()),
        (trying(1), vec!["asked after: stand by"], vec!["save trying 0 2", "stand by 0", close]),
        (stable(), vec!["asked: mount old"], vec!["save stable", "use old", "mount old false"]),
    ] {
        goes(&state, fails, &done, at);
    }
}

/// It has its other attempts when there is room.
#[test]
fn a_full_disk_is_no_image_s_fault() {
    let begun = ["save trying 0 2", "stand by 0", "prepare new false", "begin time", "mount new true"];
    let left = ["close new: no room", "discard new", "save trying 1 2", "use old", "mount old false"];
    for (state, fails, done, ending) in [
        (
            staged(3),
            vec!["full: prepare"],
            vec![
                "save trying 2 1",
                "stand by 2",
                "prepare new true",
                "close new: no room",
                "save staged 3",
                "use old",
                "mount old false",
            ],
            "old false new is not tried at this boot: write x: No space left on device (os error 28)",
        ),
        (
            trying(1),
            vec!["full: mount new"],
            [begun, left].concat(),
            "old false new is not tried at this boot: write x: No space left on device (os error 28)",
        ),
        // And nobody is left who would end a boot that is not its own.
        (
            trying(1),
            vec!["full: mount new", "mount old"],
            [begun, left].concat(),
            "safe: new is not tried at this boot: write x: No space left on device (os error 28); old: broken",
        ),
        (
            staged(3),
            vec!["full: prepare", "mount old"],
            vec![
                "save trying 2 1",
                "stand by 2",
                "prepare new true",
                "close new: no room",
                "save staged 3",
                "use old",
                "mount old false",
            ],
            "safe: new is not tried at this boot: write x: No space left on device (os error 28); old: broken",
        ),
        (
            staged(3),
            vec!["full: save trying"],
            vec!["save trying 2 1", "save staged 3", "use old", "mount old false"],
            "old false new is not tried at this boot: it cannot be counted, or nobody could end it: write x: No space left on device \
             (os error 28)",
        ),
    ] {
        goes(&state, fails, &done, ending);
    }
}

/// What a trial has left goes when there is a root, or before it where it is in its way.
#[test]
fn a_trial_s_leavings_are_in_no_root_s_way() {
    let bad = Failed { image: image("new"), why: "x".to_owned() };
    let back = State::RolledBack { proven: proven(), bad, tried: 1 };
    for (fails, done) in [
        (vec![], vec!["use old", "mount old false", "discard new"]),
        (vec!["full: use old"], vec!["use old", "discard new", "use old"]),
        (vec!["full: mount old"], vec!["use old", "mount old false", "discard new", "mount old false"]),
    ] {
        let mut acts = Fake { fails, ..Fake::default() };
        let _ended = run(back.clone(), Event::BootBegins, &mut acts);
        assert!(acts.done[1..].starts_with(&done.iter().map(|&done| done.to_owned()).collect::<Vec<_>>()), "{:?}", acts.done);
    }
}

#[test]
fn missing_data_are_no_image_s_fault() {
    let bad = Failed { image: image("new"), why: "x".to_owned() };
    for state in [stable(), staged(3), trying(1), State::RolledBack { proven: proven(), bad, tried: 1 }] {
        let mut acts = Fake::default();
        let ended = run(state, Event::DataMissing { why: "gone".to_owned() }, &mut acts);
        assert_eq!((told(&ended).as_str(), &acts.done[..]), ("safe: gone", &["save safe".to_owned()][..]));
    }
}
