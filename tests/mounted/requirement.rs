//! What a test needs from the machine. What is missing is printed, never passed over in silence.

use std::path::Path;

/// Something that a machine may lack.
#[derive(Clone, Copy, Debug)]
pub enum Requirement {
    /// Effective user id 0.
    Root,
    /// A program in `PATH` or in cargo's own folder of programs.
    Tool(&'static str),
    /// A usable `/dev/fuse`.
    Fuse,
    /// `/dev/cpu_dma_latency`, to claim that processors wake soon.
    CpuLatency,
}

impl Requirement {
    /// Says what is missing; `None` when nothing is.
    fn missing(self) -> Option<String> {
        match self {
            Self::Root => (!rustix::process::geteuid().is_root()).then(|| "needs root".to_owned()),
            Self::Tool(name) => tool(name).is_none().then(|| format!("needs the program {name}")),
            Self::Fuse => {
                let opened = std::fs::OpenOptions::new().read(true).write(true).open("/dev/fuse");
                opened.err().map(|e| format!("needs /dev/fuse: {e}"))
            }
            Self::CpuLatency => {
                let opened = std::fs::OpenOptions::new().write(true).open("/dev/cpu_dma_latency");
                opened.err().map(|e| format!("needs /dev/cpu_dma_latency: {e}"))
            }
        }
    }
}

/// Finds a program in `PATH`, in the folders of the administrator, or where cargo installs programs.
pub fn tool(name: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let cargo = std::env::var_os("HOME").map(|home| Path::new(&home).join(".cargo/bin"));
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]).chain(cargo);
    folders.map(|folder| folder.join(name)).find(|candidate| candidate.is_file())
}

/// True when the test can run. Otherwise prints the one line `SKIPPED test: reason`, or panics when `HAOSFS_NO_SKIP=1`.
pub fn can_run(test: &str, requirements: &[Requirement]) -> bool {
    let Some(reason) = requirements.iter().find_map(|requirement| requirement.missing()) else { return true };
    assert!(std::env::var("HAOSFS_NO_SKIP").as_deref() != Ok("1"), "{test} cannot run and HAOSFS_NO_SKIP=1: {reason}");
    println!("SKIPPED {test}: {reason}");
    false
}
