use std::collections::HashMap;

use super::*;
use crate::config::ini::edited;
use crate::update::state::{Effect, Event, step};
use proptest::prelude::*;

const TRIES: u32 = 3;
const IMAGES: [&str; 4] = ["a", "b", "images/c", "/srv/d"];

fn source(name: &str) -> ImageSource {
    ImageSource::parse(name).unwrap()
}

/// What power cuts leave on a disk.
#[derive(Clone, Debug)]
struct Disk {
    ini: String,
    counts: Vec<Count>,
}

impl Disk {
    fn new() -> Self {
        Self { ini: "# by hand\n[haos]\ndata_partition = /d\nsystem_image = a\n".into(), counts: Vec::new() }
    }

    fn record(&self) -> Record {
        Record { keys: Keys::of(&Config::parse(&self.ini).unwrap()), counts: self.counts.clone() }
    }

    /// Makes one write; torn, a rename on FAT leaves both names, and haos.ini is the old one.
    fn make(&mut self, write: &Write, torn: bool) {
        match write {
            Write::Count(count) => {
                let old = self.record().count(&count.image).cloned();
                if let Some(old) = old.filter(|_| !torn) {
                    self.counts.retain(|found| *found != old);
                }
                self.counts.push(count.clone());
            }
            Write::Keys(edits) if !torn => {
                let changed = edits.iter().try_fold(self.ini.clone(), |text, edit| edited(&text, edit));
                self.ini = changed.unwrap();
            }
            Write::Forget(count) if !torn => self.counts.retain(|found| found != count),
            Write::Keys(_) | Write::Forget(_) => {}
        }
    }
}

/// A machine, and all that must not happen to it.
struct Machine {
    disk: Disk,
    state: State,
    /// What it runs; `None` while it is off.
    running: Option<ImageSource>,
    proven: Vec<ImageSource>,
    attempts: HashMap<String, u32>,
    /// Images that were left for another, and that nobody has staged since.
    left: Vec<ImageSource>,
}

/// What a random number makes happen, and after how many writes the power goes.
type Chance = (u8, u8, Option<(usize, bool)>);

impl Machine {
    fn new() -> Self {
        let disk = Disk::new();
        let state = disk.record().state(TRIES);
        Self { disk, state, running: None, proven: vec![source("a")], attempts: HashMap::new(), left: Vec::new() }
    }

    fn event(&self, kind: u8, image: u8) -> Option<Event> {
        let image = source(IMAGES[usize::from(image) % IMAGES.len()]);
        let running = self.running.clone();
        Some(match kind % 12 {
            0 | 1 => Event::Stage { image, tries: TRIES },
            2 | 3 => Event::BootBegins,
            4 => Event::MountFailed { image: running?, why: "x".into() },
            5 => Event::DeadlinePassed { image: running? },
            6 => Event::CheckRed { image, why: "y\\".into() },
            7 => Event::Confirm,
            8 => Event::Condemn { image, why: "u".into() },
            9 => Event::Absolve { image },
            10 => Event::DataMissing { why: "z".into() },
            _ if kind < 128 => Event::Fail { why: " two\nlines ".into() },
            _ => Event::Rollback,
        })
    }

    /// Nobody confirms what does not run.
    fn happens(&mut self, (kind, image, cut): Chance) {
        let Some(event) = self.event(kind, image) else { return };
        if event == Event::Confirm && self.running.is_none() {
            return;
        }
        if event == Event::BootBegins {
            self.state = self.disk.record().state(TRIES);
            self.running = None;
        }
        let before = self.state.clone();
        let (state, effects) = step(before.clone(), event.clone());
        let writes = self.disk.record().writes(&state);
        let (made, torn) = cut.map_or((writes.len(), false), |(made, torn)| (made % (writes.len() + 1), torn));
        writes.iter().take(made).for_each(|write| self.disk.make(write, false));
        writes.get(made).filter(|_| torn).into_iter().for_each(|write| self.disk.make(write, true));
        let found = self.disk.record().state(TRIES);
        self.follow(&event, &before, &found);
        if cut.is_some() {
            (self.state, self.running) = (found, None);
            return;
        }
        assert_eq!(self.disk.record().writes(&state), [], "saving twice changes nothing");
        if !matches!(state, State::Safe { .. }) {
            assert_eq!(found.proven(), state.proven());
            assert_eq!(found.next(), state.next());
            assert_eq!(std::mem::discriminant(&found), std::mem::discriminant(&state), "{state:?} became {found:?}");
        }
        self.state = state;
        effects.iter().for_each(|effect| self.carry_out(effect));
    }

    /// What became durable.
    fn follow(&mut self, event: &Event, before: &State, found: &State) {
        if let Event::Stage { image, .. } = event
            && before.next() != Some(image)
            && found.next() == Some(image)
        {
            self.attempts.remove(image.as_str());
            self.left.retain(|left| left != image);
        }
        if *event == Event::Confirm && found.proven() != before.proven() {
            assert_eq!(Some(&found.proven().good), self.running.as_ref(), "what is confirmed runs");
            self.proven.push(found.proven().good.clone());
        }
        for image in [Some(&found.proven().good), found.proven().previous.as_ref()].into_iter().flatten() {
            assert!(self.proven.contains(image), "{image} has never been confirmed: {found:?}");
        }
        assert!(self.disk.ini.starts_with("# by hand\n[haos]\ndata_partition = /d\n"));
    }

    fn carry_out(&mut self, effect: &Effect) {
        match effect {
            Effect::Boot { image } => {
                if *image != self.state.proven().good {
                    let attempts = self.attempts.entry(image.as_str().to_owned()).or_default();
                    *attempts += 1;
                    assert!(*attempts <= TRIES, "{image} is tried {attempts} times");
                    assert!(!self.left.contains(image), "{image} again, which was left for another");
                } else if let Some(bad) = self.state.failed() {
                    self.left.push(bad.image.clone());
                }
                self.running = Some(image.clone());
            }
            Effect::Reboot | Effect::SafeMode { .. } => self.running = None,
            Effect::Drop { image } => assert_ne!(*image, self.state.proven().good, "the good upper goes"),
            _ => {}
        }
    }
}

fn chances() -> impl Strategy<Value = Vec<Chance>> {
    let cut = proptest::option::weighted(0.3, (0..4_usize, any::<bool>()));
    proptest::collection::vec((any::<u8>(), any::<u8>(), cut), 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// The good image is never lost, a bad one is tried so often at most, and what was left is not come back to.
    #[test]
    fn whatever_happens_a_good_image_stays(chances in chances()) {
        let mut machine = Machine::new();
        chances.into_iter().for_each(|chance| machine.happens(chance));
    }

    /// Somebody who only boots gets to an image that was proven, in so many boots.
    #[test]
    fn every_trial_ends(chances in chances()) {
        let mut machine = Machine::new();
        chances.into_iter().for_each(|chance| machine.happens(chance));
        for _ in 0..=TRIES {
            machine.happens((2, 0, None));
        }
        let good = machine.state.proven().good.clone();
        prop_assert_eq!(machine.running, Some(good));
    }

    #[test]
    fn saying_it_twice_changes_nothing(chances in chances(), why in "\\PC{0,9}") {
        let mut machine = Machine::new();
        chances.into_iter().for_each(|chance| machine.happens(chance));
        for event in [Event::Confirm, Event::Fail { why }] {
            let (once, _) = step(machine.state.clone(), event.clone());
            let (twice, _) = step(once.clone(), event);
            prop_assert_eq!(&twice, &once);
            let (mut disk, writes) = (machine.disk.clone(), machine.disk.record().writes(&once));
            writes.iter().for_each(|write| disk.make(write, false));
            prop_assert_eq!(disk.record().writes(&twice), []);
        }
    }
}

#[test]
fn writes_stand_in_their_order() {
    let kinds = |from: &Disk, state: &State| {
        let kind = |write: &Write| match write {
            Write::Count(count) => format!("count {}", count.file_name()),
            Write::Keys(_) => "ini".to_owned(),
            Write::Forget(count) => format!("forget {}", count.file_name()),
        };
        from.record().writes(state).iter().map(kind).collect::<Vec<_>>().join(", ")
    };
    let mut disk = Disk::new();
    let mut state = disk.record().state(TRIES);
    let fail = Event::Fail { why: "x".into() };
    for (event, writes) in [
        (Event::Stage { image: source("b"), tries: 3 }, "count b+3-0, ini"),
        (Event::BootBegins, "count b+2-1"),
        (fail, "ini, count b+0-1"),
        (Event::Confirm, "forget b+0-1"),
        (Event::Stage { image: source("b"), tries: 3 }, "count b+3-0, ini"),
        (Event::Stage { image: source("images/c"), tries: 3 }, "count images%2fc+3-0, ini, forget b+3-0"),
        (Event::BootBegins, "count images%2fc+2-1"),
        (Event::Confirm, "ini, forget images%2fc+2-1"),
        (Event::Rollback, "ini"),
    ] {
        state = step(state, event.clone()).0;
        assert_eq!(kinds(&disk, &state), writes, "{event:?}");
        disk.record().writes(&state).iter().for_each(|write| disk.make(write, false));
    }
    assert_eq!(
        disk.ini,
        "# by hand\n[haos]\ndata_partition = /d\nsystem_image = a\nfailed_image = images/c\nfailed_reason = it was rolled back on request\n"
    );
}

/// As a rename on FAT can leave them.
#[test]
fn of_two_counts_the_lower_one_counts() {
    let mut disk = Disk::new();
    disk.ini += "update_image = b\n";
    let count = |left, tried| Count { image: source("b"), left, tried };
    disk.counts = vec![count(2, 1), count(1, 2)];
    let state = disk.record().state(TRIES);
    assert!(matches!(&state, State::Trying { left: 1, tried: 2, .. }), "{state:?}");
    assert_eq!(disk.record().writes(&state), [Write::Forget(count(2, 1))]);
    let (next, _) = step(state, Event::BootBegins);
    assert_eq!(disk.record().writes(&next), [Write::Count(count(0, 3)), Write::Forget(count(2, 1))]);
}

#[test]
fn haos_ini_alone_stages_an_image() {
    let mut disk = Disk::new();
    disk.ini += "update_image = b\n";
    let staged = disk.record().state(2);
    assert!(matches!(&staged, State::Staged { left: 2, .. }), "{staged:?}");
    let (trying, _) = step(staged, Event::BootBegins);
    let count = Count { image: source("b"), left: 1, tried: 1 };
    assert_eq!(disk.record().writes(&trying), [Write::Count(count)]);
    disk.ini += "failed_image = b\n";
    assert!(matches!(disk.record().state(2), State::Stable { failed: Some(_), .. }), "one that has failed is asked for by stage");
    disk.ini = disk.ini.replace("_image = b", "_image = a");
    assert!(matches!(disk.record().state(2), State::Stable { .. }), "the good one needs no trial");
}
