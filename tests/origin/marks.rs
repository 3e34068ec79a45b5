//! The attributes of the format in an upper.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use rustix::fs::XattrFlags;

use super::mounted::mount::run;
use super::mounted::union::Union;

const ORIGIN: &str = "trusted.overlay.origin";

/// The attributes of the format on everything in an upper, by path; without the UUID that the kernel gives to each upper.
pub fn marks(upper: &Path) -> BTreeMap<String, Vec<String>> {
    let mut command = Command::new("getfattr");
    let output = run(command.current_dir(upper).args(["-hRd", "-m", r"^(trusted|user)\.overlay\.", "-e", "hex", "."]));
    let mut marks = BTreeMap::new();
    for block in String::from_utf8(output).unwrap().split("\n\n") {
        let mut lines = block.lines().map(str::to_owned);
        let Some(path) = lines.next() else { continue };
        let all: Vec<String> = lines.filter(|line| !line.contains(".overlay.uuid=")).collect();
        assert!(all.is_empty() || marks.insert(path, all).is_none());
    }
    marks
}

/// True where a directory of an unmounted union's upper is marked.
pub fn is_impure(union: &Union, dir: &str) -> bool {
    marks(union.upper()).get(&format!("# file: {dir}")).is_some_and(|all| all.iter().any(|mark| mark.contains(".impure=")))
}

/// Gives a file this origin.
pub fn set_origin(path: &Path, value: &[u8]) {
    rustix::fs::lsetxattr(path, ORIGIN, value, XattrFlags::empty()).unwrap();
}

/// The origin of a file.
pub fn origin(path: &Path) -> Vec<u8> {
    let mut value = vec![0; 256];
    let len = rustix::fs::lgetxattr(path, ORIGIN, value.as_mut_slice()).unwrap();
    value.truncate(len);
    value
}
