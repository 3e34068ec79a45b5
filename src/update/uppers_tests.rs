use super::*;
use crate::update::base::Base;
use crate::update::meta::Backend;
use std::os::unix::fs::{MetadataExt, symlink};

const RIGHTS: Rights = Rights { perm: 0o755, owner: None };

fn meta() -> Meta {
    let base = Base { name: "a.squashfs".into(), version: None, size: 1, digest: [1; 32] };
    Meta { base, backend: None, parent: None, mounts: 0, parent_mounts: 0, clean: true, used: true }
}

#[test]
fn generations_are_made_and_chosen() {
    let data = tempfile::tempdir().unwrap();
    assert!(Uppers::open(data.path()).unwrap().is_none());
    let uppers = Uppers::create(data.path(), &meta(), RIGHTS).unwrap();
    let first = uppers.current().unwrap();
    let home = data.path().join("haosfs/uppers/1");
    assert_eq!((first.number, &first.upper, &first.work), (1, &home.join("upper"), &home.join("work")));
    assert_eq!((first.meta, fs::metadata(&first.upper).unwrap().mode() & 0o7777), (meta(), 0o755));
    assert!(Uppers::create(data.path(), &meta(), RIGHTS).is_err());
    let child = Meta { parent: Some(1), ..meta() };
    assert_eq!(uppers.add(&child, Rights { perm: 0o1777, owner: None }).unwrap(), 2);
    assert_eq!(uppers.current().unwrap().number, 1);
    uppers.set_current(2).unwrap();
    let second = Uppers::open(data.path()).unwrap().unwrap().current().unwrap();
    assert_eq!((second.number, &second.meta), (2, &child));
    assert_eq!(fs::metadata(second.upper).unwrap().mode() & 0o7777, 0o1777);
    let served = Meta { backend: Some(Backend::Kernel), clean: false, ..child };
    uppers.save(2, &served).unwrap();
    assert_eq!(uppers.current().unwrap().meta, served);
    uppers.set_current(1).unwrap();
    assert_eq!((uppers.current().unwrap().number, uppers.numbers().unwrap()), (1, vec![1, 2]));
    assert!(uppers.set_current(3).is_err());
}

/// Whatever the rights of files in an upper, setuid programs among them, they are for those who see the union.
#[test]
fn nobody_else_gets_at_what_is_in_them() {
    let data = tempfile::tempdir().unwrap();
    let uppers = Uppers::create(data.path(), &meta(), RIGHTS).unwrap();
    uppers.add(&meta(), RIGHTS).unwrap();
    for name in ["", "1", "1/work", "2", "2/work"] {
        let mode = fs::metadata(data.path().join("haosfs/uppers").join(name)).unwrap().mode();
        assert_eq!(mode & 0o7777, 0o700, "uppers/{name}");
    }
}

/// A partition from elsewhere has no say in which directories of this machine are written to.
#[test]
fn a_link_in_place_of_uppers_is_refused() {
    let [own, foreign] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    Uppers::create(own.path(), &meta(), RIGHTS).unwrap();
    let (haosfs, uppers) = (foreign.path().join("haosfs"), foreign.path().join("haosfs/uppers"));
    let refused = |link: &Path| {
        let message = Uppers::open(foreign.path()).unwrap_err().to_string();
        assert_eq!(message, format!("{} is a symbolic link; expected a directory", link.display()));
        assert!(Uppers::create(foreign.path(), &meta(), RIGHTS).is_err());
        fs::remove_file(link).unwrap();
    };
    for target in [own.path().join("haosfs"), "absent".into()] {
        symlink(target, &haosfs).unwrap();
        refused(&haosfs);
    }
    fs::create_dir(&haosfs).unwrap();
    for target in [own.path().join("haosfs/uppers"), "absent".into()] {
        symlink(target, &uppers).unwrap();
        refused(&uppers);
    }
    assert!(Uppers::open(foreign.path()).unwrap().is_none());
    assert_eq!(Uppers::open(own.path()).unwrap().unwrap().numbers().unwrap(), [1], "nothing is made by a link");
}

#[test]
fn a_generation_that_goes_leaves_its_number() {
    let data = tempfile::tempdir().unwrap();
    let uppers = Uppers::create(data.path(), &meta(), RIGHTS).unwrap();
    assert!(uppers.remove(1).unwrap_err().to_string().contains("generation 1 is in use"));
    for number in [2, 3, 4] {
        assert_eq!(uppers.add(&meta(), RIGHTS).unwrap(), number);
    }
    for (removed, left) in [(3, &[1, 2, 4][..]), (4, &[1, 2]), (2, &[1])] {
        uppers.remove(removed).unwrap();
        assert_eq!(uppers.numbers().unwrap(), left);
    }
    assert_eq!(uppers.add(&meta(), RIGHTS).unwrap(), 5);
    uppers.remove(5).unwrap();
    drop(uppers);
    assert_eq!(Uppers::open(data.path()).unwrap().unwrap().add(&meta(), RIGHTS).unwrap(), 6);
}

#[test]
fn leftovers_go_and_other_names_do_not_count() {
    let data = tempfile::tempdir().unwrap();
    fs::create_dir_all(data.path().join("haosfs/.unfinished/1/upper")).unwrap();
    let uppers = Uppers::create(data.path(), &meta(), RIGHTS).unwrap();
    assert_eq!(fs::read_dir(data.path().join("haosfs")).unwrap().count(), 1);
    for name in [".unfinished", "0", "01", "+3", "x", "18446744073709551616"] {
        fs::create_dir(data.path().join("haosfs/uppers").join(name)).unwrap();
    }
    assert_eq!(uppers.numbers().unwrap(), [1]);
    assert_eq!(uppers.add(&meta(), RIGHTS).unwrap(), 2);
}

#[test]
fn what_is_not_sound_is_refused_with_a_remedy() {
    let data = tempfile::tempdir().unwrap();
    assert!(Uppers::open(&data.path().join("absent")).is_err());
    let uppers = Uppers::create(data.path(), &meta(), RIGHTS).unwrap();
    let home = data.path().join("haosfs/uppers");
    let says = |words: &str| {
        let message = uppers.current().unwrap_err().to_string();
        assert!(message.contains(words), "{words:?} not in {message}");
    };
    let link = home.join("current");
    let point_to = |target: &str| {
        fs::remove_file(&link).unwrap();
        symlink(target, &link).unwrap();
    };
    for (target, words) in [
        ("2", "names generation 2, which is not there"),
        ("../uppers/1", "leads to ../uppers/1, which is no generation"),
        ("/etc", "is no generation"),
        ("", "is no generation"),
    ] {
        if !target.is_empty() {
            point_to(target);
        } else {
            point_to("0");
        }
        says(words);
        says("`ln -sfn 1 ");
    }
    fs::remove_file(&link).unwrap();
    says("current is missing");
    fs::write(&link, "1").unwrap();
    says("is no symbolic link");
    point_to("1");
    fs::write(home.join("1/meta.ini"), "").unwrap();
    says("meta.ini: it is empty");
    fs::write(home.join("1/meta.ini"), vec![b'x'; 5000]).unwrap();
    says("has more than 4096 bytes");
    fs::write(home.join("1/meta.ini"), meta().text()).unwrap();
    fs::remove_dir(home.join("1/work")).unwrap();
    says("work is missing");
    symlink("/tmp", home.join("1/work")).unwrap();
    says("work is missing, or is no directory");
}
