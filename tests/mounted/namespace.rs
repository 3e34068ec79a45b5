//! An ordinary user who is root of namespaces of his own, where he may mount.

use std::path::Path;
use std::process::Command;

use super::mount::run;
use super::scratch::open_temp_dir;
use super::user::NOBODY;

/// Gives everything below a directory to [`NOBODY`].
pub fn give_away(dir: &Path) {
    run(Command::new("chown").args(["-R", &format!("{NOBODY}:{NOBODY}")]).arg(dir));
}

/// Runs the named test of this binary again inside `unshare -Urm`, with an environment variable that tells it where its files are.
pub fn run_again(test: &str, variable: &str, at: &Path) {
    // The folder that cargo builds in may be closed to others.
    let programs = open_temp_dir();
    let program = programs.path().join("test");
    run(Command::new("cp").arg(std::env::current_exe().unwrap()).arg(&program));
    let id = NOBODY.to_string();
    let mut command = Command::new("setpriv");
    command.args(["--reuid", &id, "--regid", &id, "--clear-groups", "--", "unshare", "-Urm"]).arg(&program);
    command.args(["--exact", test, "--nocapture"]).env(variable, at);
    println!("{}", String::from_utf8_lossy(&run(&mut command)));
}
