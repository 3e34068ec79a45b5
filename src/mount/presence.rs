//! How `haosfs umount` knows when a daemon has gone: the daemon listens on an abstract socket whose name begins with its superblock's
//! device number, and the kernel takes that name away when the daemon ends (unix(7)).

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::{DupFlags, Errno};
use rustix::net::{AddressFamily, Shutdown, SocketAddrUnix, SocketFlags, SocketType};

use crate::sys::peer::Peer;
use crate::sys::proc;

/// Between two looks at whether a daemon has gone.
const PAUSE: Duration = Duration::from_millis(10);

/// How long a daemon without a free descriptor leaves those waiting who ask for it.
const RESPITE: Duration = Duration::from_secs(1);

/// The daemon's side; its being open is the message.
pub struct Presence {
    first: OwnedFd,
}

/// A descriptor that is lower than those of the layers, which are opened after it. The kernel lets go of the files of a process
/// that ends in the order of their numbers, or in the reverse: the socket stands at both ends, so the upper's locks go before it.
pub struct Reserved {
    first: OwnedFd,
}

impl Reserved {
    /// Takes the lowest free descriptor.
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE`.
    pub fn take() -> io::Result<Self> {
        Ok(Self { first: fs::File::open("/")?.into() })
    }
}

/// Names that are there until their daemons end.
pub struct Watch {
    daemons: Vec<Daemon>,
    user: Option<u32>,
}

struct Daemon {
    name: String,
    pid: Option<i32>,
}

/// What comes of asking who listens by a name.
enum Answer {
    /// This process, which is believed.
    Daemon(Option<i32>),
    /// It cannot be asked: so many want to speak to it, it is stopped, or there is no descriptor to ask by.
    Crowded,
    /// Nobody, or one who is not believed.
    Nobody,
}

/// Device numbers are used again at once, while the daemon that had one before may still be writing out; and a name that can be known
/// before can be taken by anybody. So each daemon adds something of its own.
fn beginning(device: &str) -> String {
    format!("haosfs/{device}/")
}

impl Presence {
    /// Shows this process as the daemon of the superblock `major:minor`. A thread takes who connects, and lets go of him: the kernel
    /// keeps those that nobody takes, also when they have gone, and at some number it keeps no more.
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE`, and where there can be no thread.
    pub fn show(device: &str, reserved: Reserved) -> io::Result<Self> {
        let mut first = reserved.first;
        let name = format!("{}{}", beginning(device), proc::since_start().as_nanos());
        let listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(name)?)?;
        rustix::io::dup3(&listener, &mut first, DupFlags::CLOEXEC)?;
        thread::Builder::new().name("presence".to_owned()).spawn(move || {
            loop {
                match listener.accept() {
                    Err(e) if e.raw_os_error() == Some(libc::EINVAL) => break,
                    Err(_) => thread::sleep(RESPITE),
                    Ok(_) => {}
                }
            }
        })?;
        Ok(Self { first })
    }
}

impl Drop for Presence {
    /// By this the thread ends as well.
    fn drop(&mut self) {
        let _listens_no_more = rustix::net::shutdown(&self.first, Shutdown::Both);
    }
}

impl Watch {
    /// Starts to watch the daemon of the superblock `major:minor`, and any that had the number before and is not done yet;
    /// `None` where none shows itself. Anybody can take such a name: so only a process of root or of `user`, whose mount it is,
    /// is believed.
    #[must_use]
    pub fn start(device: &str, user: Option<u32>) -> Option<Self> {
        let (mut daemons, mut crowded) = (Vec::new(), HashSet::new());
        for name in names(device) {
            match ask(&name, user) {
                Answer::Daemon(pid) => daemons.push(Daemon { name, pid }),
                Answer::Crowded => _ = crowded.insert(name),
                Answer::Nobody => {}
            }
        }
        daemons.extend(holding(&crowded, user));
        (!daemons.is_empty()).then_some(Self { daemons, user })
    }

    /// The daemon, or the last of those that showed themselves, where that can be told.
    #[must_use]
    pub fn pid(&self) -> Option<i32> {
        self.daemons.iter().rev().find_map(|daemon| daemon.pid)
    }

    /// The same in words.
    #[must_use]
    pub fn told(&self) -> String {
        self.pid().map_or_else(|| "its daemon".to_owned(), |pid| format!("its daemon (pid {pid})"))
    }

    /// Waits until all have ended; false when the time is over first.
    #[must_use]
    pub fn wait(&self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        self.daemons.iter().all(|daemon| {
            while daemon.is_there(self.user) {
                if Instant::now() >= end {
                    return false;
                }
                thread::sleep(PAUSE);
            }
            true
        })
    }
}

impl Daemon {
    /// By its name, which a stranger may take once it has gone.
    fn is_there(&self, user: Option<u32>) -> bool {
        match ask(&self.name, user) {
            Answer::Daemon(_) => true,
            // What must not be looked at is taken to be there.
            Answer::Crowded => self.pid.is_none_or(|pid| match held_by(pid, &links(|name| name == self.name)) {
                Ok(mut held) => held.next().is_some(),
                Err(e) => e.kind() != io::ErrorKind::NotFound,
            }),
            Answer::Nobody => false,
        }
    }
}

/// What listens now, and what did so while this was read.
fn names(device: &str) -> BTreeSet<String> {
    let beginning = beginning(device);
    sockets().into_iter().map(|(name, _)| name).filter(|name| name.starts_with(&beginning)).collect()
}

/// The abstract names of sockets, with their inodes: the last fields of each line (proc_net_unix(5)). Of a name there may be a line for
/// each connection beside the one that listens.
fn sockets() -> Vec<(String, String)> {
    let table = fs::read(proc::path("self/net/unix")).unwrap_or_default();
    let text = |field: &[u8]| String::from_utf8(field.to_vec()).ok();
    let socket = |line: &[u8]| {
        let mut fields = line.rsplit(|&b| b == b' ').filter(|field| !field.is_empty());
        let name = text(fields.next()?.strip_prefix(b"@")?)?;
        Some((name, text(fields.next()?)?))
    };
    table.split(|&b| b == b'\n').filter_map(socket).collect()
}

/// Who listens by a name.
fn ask(name: &str, user: Option<u32>) -> Answer {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let Ok(socket) = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None) else {
        return Answer::Crowded;
    };
    let Ok(address) = SocketAddrUnix::new_abstract_name(name.as_bytes()) else { return Answer::Nobody };
    match rustix::net::connect(&socket, &address) {
        Ok(()) => {}
        Err(Errno::AGAIN) => return Answer::Crowded,
        Err(_) => return Answer::Nobody,
    }
    match Peer::of(socket.as_fd()) {
        Ok(peer) if peer.user == 0 || user == Some(peer.user) => Answer::Daemon(peer.pid),
        _ => Answer::Nobody,
    }
}

/// Those among these names that have a socket of a process which is believed.
fn holding(names: &HashSet<String>, user: Option<u32>) -> Vec<Daemon> {
    if names.is_empty() {
        return Vec::new();
    }
    let links = links(|name| names.contains(name));
    let processes = fs::read_dir(proc::path(".")).into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let believed = |pid: &i32| proc::users(*pid).is_some_and(|users| users.iter().all(|&uid| uid == 0 || user == Some(uid)));
    let held = |pid| held_by(pid, &links).into_iter().flatten().map(move |name| Daemon { name, pid: Some(pid) });
    pids.filter(believed).flat_map(held).collect()
}

/// Sockets by what a descriptor of theirs shows, with their names.
fn links(is_wanted: impl Fn(&str) -> bool) -> HashMap<PathBuf, String> {
    let wanted = sockets().into_iter().filter(|(name, _)| is_wanted(name));
    wanted.map(|(name, inode)| (format!("socket:[{inode}]").into(), name)).collect()
}

/// The names of those that a process has open.
fn held_by(pid: i32, links: &HashMap<PathBuf, String>) -> io::Result<impl Iterator<Item = String>> {
    let descriptors = fs::read_dir(proc::path(&format!("{pid}/fd")))?.flatten();
    Ok(descriptors.filter_map(|entry| links.get(&fs::read_link(entry.path()).ok()?).cloned()))
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};

    use super::*;

    const NOBODY: u32 = 65534;

    fn is_root(test: &str) -> bool {
        if own() == Some(0) {
            return true;
        }
        println!("SKIPPED {test}: needs root");
        assert!(std::env::var_os("HAOSFS_NO_SKIP").is_none_or(|v| v != "1"), "{test} was skipped: needs root");
        false
    }

    fn own() -> Option<u32> {
        Some(rustix::process::geteuid().as_raw())
    }

    fn own_pid() -> i32 {
        i32::try_from(std::process::id()).unwrap()
    }

    fn show(device: &str) -> io::Result<Presence> {
        Presence::show(device, Reserved::take()?)
    }

    #[test]
    fn only_root_and_the_mount_s_own_user_are_believed() {
        if !is_root("only_root_and_the_mount_s_own_user_are_believed") {
            return;
        }
        let device = format!("foreign:{}", std::process::id());
        let shown = device.clone();
        // Credentials are per thread in Linux; a socket keeps those of the thread that listened.
        let foreign = thread::spawn(move || {
            let nobody = rustix::process::Uid::from_raw(NOBODY);
            rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
            show(&shown).unwrap()
        });
        let _foreign = foreign.join().unwrap();
        assert!(Watch::start(&device, Some(0)).is_none());
        assert!(Watch::start(&device, Some(1000)).is_none());
        assert!(Watch::start(&device, None).is_none());
        assert!(Watch::start(&device, Some(NOBODY)).is_some());
        let _roots = show(&device).unwrap();
        assert_eq!(Watch::start(&device, Some(1000)).unwrap().daemons.len(), 1);
    }

    #[test]
    fn a_watch_ends_with_the_daemon() {
        let device = format!("test:{}", std::process::id());
        assert!(Watch::start(&device, own()).is_none());
        let presence = show(&device).unwrap();
        let watch = Watch::start(&device, own()).unwrap();
        assert_eq!(watch.pid(), Some(own_pid()));
        assert!(!watch.wait(Duration::ZERO));
        drop(presence);
        assert!(watch.wait(Duration::from_secs(5)));
    }

    #[test]
    fn a_number_used_again_is_watched_to_the_last() {
        let device = format!("again:{}", std::process::id());
        let (old, new) = (show(&device).unwrap(), show(&device).unwrap());
        let watch = Watch::start(&device, own()).unwrap();
        drop(new);
        assert!(!watch.wait(Duration::from_millis(20)));
        drop(old);
        assert!(watch.wait(Duration::from_secs(5)));
    }

    fn most_waiting() -> usize {
        fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap().trim().parse().unwrap()
    }

    /// Who has asked and gone is let go of, however many they are.
    #[test]
    fn those_who_ask_are_never_too_many() {
        let device = format!("asked:{}", std::process::id());
        let _presence = show(&device).unwrap();
        let name = names(&device).pop_last().unwrap();
        (0..most_waiting() * 2).for_each(|_| assert!(!matches!(ask(&name, own()), Answer::Nobody)));
        let start = Instant::now();
        while Watch::start(&device, own()).unwrap().pid() != Some(own_pid()) {
            assert!(start.elapsed() < Duration::from_secs(5));
        }
    }

    /// Nor is somebody else by being one that cannot be asked.
    #[test]
    fn a_stranger_whom_nobody_can_ask_is_not_believed() {
        const TEST: &str = "a_stranger_whom_nobody_can_ask_is_not_believed";
        const LISTENS: &str = "socket(S, AF_UNIX, SOCK_STREAM, 0); bind(S, pack('S a*', AF_UNIX, \"\\0$ARGV[0]\")) or die;
            listen(S, 0); $| = 1; print qq(\\n); <STDIN>";
        if !is_root(TEST) {
            return;
        }
        let device = format!("stranger:{}", std::process::id());
        let mut command = Command::new("perl");
        command.args(["-MSocket", "-e", LISTENS, &format!("{}0", beginning(&device))]).uid(NOBODY).gid(NOBODY);
        let mut stranger = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        stranger.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        let name = names(&device).pop_last().unwrap();
        assert!((0..10).any(|_| matches!(ask(&name, own()), Answer::Crowded)));
        assert!(Watch::start(&device, Some(1000)).is_none());
        assert_eq!(Watch::start(&device, Some(NOBODY)).unwrap().pid(), i32::try_from(stranger.id()).ok());
        drop(stranger.stdin.take());
        assert!(stranger.wait().unwrap().success());
    }

    /// One that takes nobody: it is stopped, or others ask faster than it can take them.
    #[test]
    fn one_that_cannot_be_asked_is_there() {
        let device = format!("full:{}", std::process::id());
        let name = format!("{}0", beginning(&device));
        let listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        (0..=most_waiting()).for_each(|_| _ = ask(&name, own()));
        let watch = Watch::start(&device, own()).unwrap();
        assert_eq!(watch.pid(), Some(own_pid()));
        assert!(!watch.wait(Duration::from_millis(20)));
        drop(listener);
        assert!(watch.wait(Duration::from_secs(5)));
    }
}
