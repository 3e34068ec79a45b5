//! mmap(2) and exec(2).

use std::fs::{self, File, OpenOptions, Permissions};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use rustix::io::Errno;

use super::assertions::{pattern, refused};
use super::case::cases;
use super::raw::{map_private, map_shared, map_shared_ro};

cases![
    mapping_shows_the_file, shared_stores_reach_read, writes_reach_a_mapping, private_stores_stay_private, mapping_outlives_its_name,
    unmapped_stores_persist, two_mappings_are_one, programs_run, scripts_run, running_programs_are_busy;
];

fn rw(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).open(path).unwrap()
}

fn mapping_shows_the_file(dir: &Path) {
    let bytes = pattern(300_001, 6);
    fs::write(dir.join("f"), &bytes).unwrap();
    let map = map_shared_ro(&File::open(dir.join("f")).unwrap());
    assert!(map[..] == bytes[..]);
}

fn shared_stores_reach_read(dir: &Path) {
    fs::write(dir.join("f"), vec![0; 10_000]).unwrap();
    let mut map = map_shared(&rw(&dir.join("f")));
    map[5000..5005].copy_from_slice(b"store");
    map.flush().unwrap();
    let mut five = [0; 5];
    File::open(dir.join("f")).unwrap().read_exact_at(&mut five, 5000).unwrap();
    assert_eq!(&five, b"store");
}

fn writes_reach_a_mapping(dir: &Path) {
    fs::write(dir.join("f"), vec![0; 10_000]).unwrap();
    let file = rw(&dir.join("f"));
    let map = map_shared_ro(&file);
    assert_eq!(map[4242], 0);
    file.write_all_at(b"!", 4242).unwrap();
    assert_eq!(map[4242], b'!');
}

fn private_stores_stay_private(dir: &Path) {
    fs::write(dir.join("f"), b"original").unwrap();
    let mut map = map_private(&File::open(dir.join("f")).unwrap());
    map[0] = b'X';
    assert_eq!(&map[..], b"Xriginal");
    assert_eq!(fs::read(dir.join("f")).unwrap(), b"original");
}

fn mapping_outlives_its_name(dir: &Path) {
    let bytes = pattern(100_000, 8);
    fs::write(dir.join("f"), &bytes).unwrap();
    let map = map_shared_ro(&File::open(dir.join("f")).unwrap());
    fs::remove_file(dir.join("f")).unwrap();
    assert!(map[..] == bytes[..]);
}

fn unmapped_stores_persist(dir: &Path) {
    fs::write(dir.join("f"), vec![0; 20_000]).unwrap();
    let mut map = map_shared(&rw(&dir.join("f")));
    map[19_999] = 7;
    map[0] = 9;
    drop(map);
    let bytes = fs::read(dir.join("f")).unwrap();
    assert_eq!((bytes[0], bytes[19_999]), (9, 7));
}

fn two_mappings_are_one(dir: &Path) {
    fs::write(dir.join("f"), vec![0; 8192]).unwrap();
    let mut a = map_shared(&rw(&dir.join("f")));
    let b = map_shared_ro(&File::open(dir.join("f")).unwrap());
    a[8000] = 3;
    assert_eq!(b[8000], 3);
}

/// A copy of true(1) in the directory.
fn program(dir: &Path) -> std::path::PathBuf {
    // By another process: a child that another test is starting could hold our descriptor, and make the copy busy.
    assert!(Command::new("cp").arg("/bin/true").arg(dir.join("program")).status().unwrap().success());
    fs::set_permissions(dir.join("program"), Permissions::from_mode(0o755)).unwrap();
    dir.join("program")
}

fn programs_run(dir: &Path) {
    let program = program(dir);
    assert!(Command::new(&program).status().unwrap().success());
    fs::set_permissions(&program, Permissions::from_mode(0o644)).unwrap();
    refused(Command::new(&program).status(), Errno::ACCESS);
}

fn scripts_run(dir: &Path) {
    // By another process, as above.
    let write = "printf '#!/bin/sh\\nexit 7\\n' > script";
    assert!(Command::new("sh").current_dir(dir).args(["-c", write]).status().unwrap().success());
    fs::set_permissions(dir.join("script"), Permissions::from_mode(0o755)).unwrap();
    assert_eq!(Command::new(dir.join("script")).status().unwrap().code(), Some(7));
}

fn running_programs_are_busy(dir: &Path) {
    let copy = dir.join("program");
    fs::copy("/bin/sleep", &copy).unwrap();
    fs::set_permissions(&copy, Permissions::from_mode(0o755)).unwrap();
    // A child that another test is just starting may have our descriptor of the copy until its exec: busy for an instant.
    let mut started = Command::new(&copy).arg("30").spawn();
    for _ in 0..50 {
        match &started {
            Err(e) if e.raw_os_error() == Some(libc::ETXTBSY) => std::thread::sleep(std::time::Duration::from_millis(100)),
            _ => break,
        }
        started = Command::new(&copy).arg("30").spawn();
    }
    let mut child = started.unwrap();
    let answer = OpenOptions::new().write(true).open(&copy);
    child.kill().unwrap();
    child.wait().unwrap();
    refused(answer, Errno::TXTBSY);
}
