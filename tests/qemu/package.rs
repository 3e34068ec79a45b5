//! Packages of Debian 12, downloaded and unpacked, not installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::host::{self, kept, run};

/// Where they come from, whatever this machine has.
const SOURCES: &str = "\
deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian bookworm main
deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian bookworm-backports main
";

/// The tree of a package, or of the kernel that it depends on; `finish` is called with it when it is new.
pub fn unpacked(suite: &str, package: &str, finish: impl FnOnce(&Path)) -> PathBuf {
    kept(&format!("{suite}-{package}"), |tree| {
        let packages = tree.with_extension("packages");
        host::clear(&packages);
        download(suite, package, &packages);
        let files = fs::read_dir(&packages).unwrap().map(|entry| entry.unwrap().path());
        let file = files.into_iter().find(|path| path.extension().is_some_and(|extension| extension == "deb")).unwrap();
        run(host::command("dpkg-deb").arg("-x").arg(file).arg(tree));
        fs::remove_dir_all(packages).unwrap();
        finish(tree);
    })
}

/// Into a directory, with an apt of our own, which neither knows nor changes what this machine has installed.
fn download(suite: &str, package: &str, to: &Path) {
    for part in ["lists/partial", "archives/partial"] {
        fs::create_dir_all(to.join("apt").join(part)).unwrap();
    }
    fs::write(to.join("apt/sources.list"), SOURCES).unwrap();
    let apt = |program: &str, arguments: &[&str]| {
        let mut command: Command = host::command(program);
        for (option, value) in [
            ("Dir::Etc::SourceList", to.join("apt/sources.list")),
            ("Dir::Etc::SourceParts", to.join("apt/none")),
            ("Dir::State::Lists", to.join("apt/lists")),
            ("Dir::Cache", to.join("apt")),
            ("APT::Sandbox::User", "root".into()),
        ] {
            command.arg("-o").arg(format!("{option}={}", value.display()));
        }
        run(command.args(arguments).current_dir(to))
    };
    apt("apt-get", &["-qq", "update"]);
    let versions = apt("apt-cache", &["madison", package]);
    let fields = versions.lines().map(|line| line.split('|').map(str::trim).collect::<Vec<_>>());
    let version = fields.filter(|fields| fields[2].contains(&format!(" {suite}/"))).map(|fields| fields[1].to_owned()).next();
    let version = version.unwrap_or_else(|| panic!("{suite} has no {package}: {versions}"));
    let exact = format!("{package}={version}");
    let depends = apt("apt-cache", &["depends", &exact]);
    let Some(image) = depends.split_whitespace().find(|word| word.starts_with("linux-image-6.")) else {
        apt("apt-get", &["-qq", "download", &exact]);
        return;
    };
    // Signed or not is the same to QEMU, and the mirror may have but one of them.
    let unsigned = format!("{image}-unsigned");
    let known = apt("apt-cache", &["pkgnames", image]);
    let image = if known.lines().any(|name| name == unsigned) { &unsigned } else { image };
    apt("apt-get", &["-qq", "download", image]);
}
