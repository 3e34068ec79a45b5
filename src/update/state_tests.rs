use super::*;

fn source(name: &str) -> ImageSource {
    ImageSource::parse(name).unwrap()
}

fn failed(name: &str, why: &str) -> Option<Failed> {
    Some(Failed { image: source(name), why: why.into() })
}

fn proven(good: &str, previous: Option<&str>) -> Proven {
    Proven { good: source(good), previous: previous.map(source) }
}

fn stable(good: &str, previous: Option<&str>, bad: Option<Failed>) -> State {
    State::Stable { proven: proven(good, previous), failed: bad }
}

fn staged(next: &str, left: u32) -> State {
    State::Staged { proven: proven("a", None), failed: None, next: source(next), left }
}

fn staged_after(next: &str, bad: &str) -> State {
    State::Staged { proven: proven("a", None), failed: failed(bad, "x"), next: source(next), left: 3 }
}

fn trying(next: &str, left: u32, tried: u32) -> State {
    State::Trying { proven: proven("a", None), failed: None, next: source(next), left, tried }
}

fn rolled_back(bad: &str, why: &str, tried: u32) -> State {
    State::RolledBack { proven: proven("a", None), bad: failed(bad, why).unwrap(), tried }
}

fn safe(before: State, why: &str) -> State {
    State::Safe { before: Box::new(before), why: why.into() }
}

/// `prepare b`, `boot a`, ...: short words for effects.
fn told(effects: &[Effect]) -> String {
    let word = |effect: &Effect| match effect {
        Effect::Prepare { image, anew: true } => format!("prepare {image} anew"),
        Effect::Prepare { image, anew: false } => format!("prepare {image}"),
        Effect::Use { image } => format!("use {image}"),
        Effect::Return { image } => format!("return {image}"),
        Effect::Drop { image } => format!("drop {image}"),
        Effect::SaveLog { image } => format!("log {image}"),
        Effect::Boot { image } => format!("boot {image}"),
        Effect::Reboot => "reboot".to_owned(),
        Effect::SafeMode { why } => format!("safe mode: {why}"),
    };
    effects.iter().map(word).collect::<Vec<_>>().join(", ")
}

fn stage(image: &str) -> Event {
    Event::Stage { image: source(image), tries: 3 }
}

fn unmountable(image: &str) -> Event {
    Event::MountFailed { image: source(image), why: "damaged".into() }
}

fn red(image: &str) -> Event {
    Event::CheckRed { image: source(image), why: "no network".into() }
}

fn late(image: &str) -> Event {
    Event::DeadlinePassed { image: source(image) }
}

fn broken() -> Event {
    Event::Fail { why: "broken".into() }
}

#[test]
fn the_good_way() {
    for (state, event, then, effects) in [
        (stable("a", None, None), stage("b"), staged("b", 3), ""),
        (stable("a", None, failed("b", "x")), stage("b"), staged("b", 3), ""),
        (stable("a", None, None), stage("a"), stable("a", None, None), ""),
        (stable("a", None, None), Event::Stage { image: source("b"), tries: 0 }, staged("b", 1), ""),
        (stable("a", None, None), Event::BootBegins, stable("a", None, None), "use a, boot a"),
        (stable("a", None, None), Event::Confirm, stable("a", None, None), "use a"),
        (staged("b", 3), stage("b"), staged("b", 3), ""),
        (staged("b", 1), stage("b"), staged("b", 1), ""),
        (staged("b", 1), stage("c"), staged("c", 3), ""),
        (staged("b", 3), Event::BootBegins, trying("b", 2, 1), "prepare b anew, boot b"),
        (staged("b", 3), Event::Confirm, staged("b", 3), ""),
        (trying("b", 2, 1), Event::BootBegins, trying("b", 1, 2), "prepare b, boot b"),
        (trying("b", 0, 3), Event::Confirm, stable("b", Some("a"), None), "use b"),
        (trying("b", 0, 3), stage("b"), trying("b", 0, 3), ""),
        (trying("b", 0, 3), stage("c"), staged("c", 3), "drop b"),
        (stable("b", Some("a"), None), Event::Confirm, stable("b", Some("a"), None), "use b"),
    ] {
        let found = step(state.clone(), event.clone());
        assert_eq!((found.0, told(&found.1).as_str()), (then, effects), "{state:?} {event:?}");
    }
}

#[test]
fn the_way_back() {
    let none = "none of 3 attempts to boot it was confirmed";
    let back = |why: &str| rolled_back("b", why, 1);
    let late_why = "it was not confirmed in time";
    for (state, event, then, effects) in [
        (trying("b", 0, 3), Event::BootBegins, rolled_back("b", none, 3), "use a, boot a, drop b"),
        (trying("b", 2, 1), unmountable("b"), back("damaged"), "log b, use a, boot a, drop b"),
        (trying("b", 2, 1), late("b"), back(late_why), "log b, reboot"),
        (trying("b", 2, 1), red("b"), back("no network"), "log b, reboot"),
        (trying("b", 2, 1), broken(), back("broken"), "log b, reboot"),
        (trying("b", 2, 1), Event::Rollback, back(ON_REQUEST), "reboot"),
        (trying("b", 2, 1), red("a"), trying("b", 2, 1), ""),
        (trying("b", 2, 1), unmountable("a"), trying("b", 2, 1), ""),
        (staged("b", 3), broken(), stable("a", None, failed("b", "broken")), ""),
        (staged("b", 3), Event::Rollback, stable("a", None, None), ""),
        (staged("b", 3), red("b"), staged("b", 3), ""),
        (back("x"), Event::BootBegins, back("x"), "use a, boot a, drop b"),
        (back("x"), broken(), back("x"), ""),
        (back("x"), Event::Rollback, back("x"), ""),
        (back("x"), red("b"), back("x"), ""),
        (back("x"), late("b"), back("x"), ""),
        (back("x"), stage("b"), staged("b", 3), "drop b"),
        (back("x"), Event::Confirm, stable("a", None, failed("b", "x")), "drop b, use a"),
        (stable("b", Some("a"), None), Event::Rollback, stable("a", None, failed("b", ON_REQUEST)), "return a, reboot"),
        (stable("a", None, None), Event::Rollback, stable("a", None, None), ""),
        (stable("a", None, None), broken(), stable("a", None, None), ""),
        (stable("a", None, None), red("a"), stable("a", None, None), ""),
    ] {
        let found = step(state.clone(), event.clone());
        assert_eq!((found.0, told(&found.1).as_str()), (then, effects), "{state:?} {event:?}");
    }
}

#[test]
fn both_failed() {
    let back = rolled_back("b", "x", 1);
    let good = stable("a", None, None);
    for (state, event, then, effects) in [
        (back.clone(), unmountable("a"), safe(back.clone(), "damaged"), "safe mode: damaged"),
        (back.clone(), red("a"), safe(back.clone(), "no network"), "safe mode: no network"),
        (good.clone(), unmountable("a"), safe(good.clone(), "damaged"), "safe mode: damaged"),
        (safe(back.clone(), "x"), red("a"), safe(back.clone(), "x"), ""),
        (safe(back.clone(), "x"), broken(), safe(back.clone(), "x"), ""),
        (safe(back.clone(), "x"), Event::BootBegins, back.clone(), "use a, boot a, drop b"),
        (safe(back, "x"), stage("c"), staged_after("c", "b"), "drop b"),
        (safe(good.clone(), "x"), Event::BootBegins, good, "use a, boot a"),
    ] {
        let found = step(state.clone(), event.clone());
        assert_eq!((found.0, told(&found.1).as_str()), (then, effects), "{state:?} {event:?}");
    }
}

/// What is said of any image, whatever else goes on.
#[test]
fn an_image_is_condemned_and_absolved() {
    let condemn = |image: &str| Event::Condemn { image: source(image), why: "x".into() };
    let absolve = |image: &str| Event::Absolve { image: source(image) };
    for (state, event, next, effects) in [
        (stable("a", Some("b"), None), condemn("b"), stable("a", None, failed("b", "x")), ""),
        (stable("a", Some("b"), None), condemn("a"), stable("b", None, failed("a", "x")), "return b, reboot"),
        (stable("a", None, None), condemn("a"), stable("a", None, None), ""),
        (stable("a", None, None), condemn("c"), stable("a", None, failed("c", "x")), ""),
        (staged("b", 3), condemn("b"), stable("a", None, failed("b", "x")), ""),
        (staged("b", 3), condemn("c"), staged_after("b", "c"), ""),
        (staged("b", 3), condemn("a"), staged("b", 3), ""),
        (trying("b", 2, 1), condemn("b"), rolled_back("b", "x", 1), "log b, reboot"),
        (rolled_back("b", "y", 1), condemn("c"), rolled_back("b", "y", 1), ""),
        (safe(stable("a", None, None), "y"), condemn("c"), stable("a", None, failed("c", "x")), ""),
        (stable("a", None, failed("b", "x")), absolve("b"), stable("a", None, None), ""),
        (stable("a", None, failed("b", "x")), absolve("c"), stable("a", None, failed("b", "x")), ""),
        (staged_after("b", "c"), absolve("c"), staged("b", 3), ""),
        (rolled_back("b", "y", 1), absolve("b"), stable("a", None, None), "drop b"),
        (rolled_back("b", "y", 1), absolve("c"), rolled_back("b", "y", 1), ""),
    ] {
        let (found, done) = step(state.clone(), event.clone());
        assert_eq!((found, told(&done).as_str()), (next, effects), "{state:?} {event:?}");
    }
}

#[test]
fn missing_data_decide_nothing() {
    let event = Event::DataMissing { why: "gone".into() };
    for state in [stable("a", None, None), staged("b", 3), trying("b", 2, 1), rolled_back("b", "y", 1)] {
        let (found, done) = step(state.clone(), event.clone());
        assert_eq!((found, told(&done).as_str()), (safe(state, "gone"), "safe mode: gone"));
    }
}
