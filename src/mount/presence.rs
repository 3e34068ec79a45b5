//! How `haosfs umount` knows when a daemon has gone: the daemon listens on an abstract socket that bears its superblock's
//! device number and never accepts; the kernel closes waiting connections when the daemon ends (unix(7)).

use std::io;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

/// The daemon's side; its being open is the message.
pub struct Presence {
    _listener: UnixListener,
    _first: OwnedFd,
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
        Ok(Self { first: std::fs::File::open("/")?.into() })
    }
}

/// Connections that break when the daemon ends.
pub struct Watch {
    sockets: Vec<OwnedFd>,
    /// The daemon, or the last of those that showed themselves.
    pub pid: i32,
}

/// Device numbers are used again at once, while the daemon that had one before may still be writing out: so each has a few names.
const NAMES: usize = 8;

fn names(device: &str) -> impl Iterator<Item = String> {
    (0..NAMES).map(move |n| format!("haosfs/{device}/{n}"))
}

impl Presence {
    /// Shows this process as the daemon of the superblock `major:minor`.
    ///
    /// # Errors
    /// `EADDRINUSE` when too many other processes claim to be it.
    pub fn show(device: &str, reserved: Reserved) -> io::Result<Self> {
        let mut first = reserved.first;
        let mut last = io::Error::from_raw_os_error(libc::EADDRINUSE);
        for name in names(device) {
            match UnixListener::bind_addr(&SocketAddr::from_abstract_name(name)?) {
                Ok(listener) => {
                    rustix::io::dup3(&listener, &mut first, rustix::io::DupFlags::CLOEXEC)?;
                    return Ok(Self { _listener: listener, _first: first });
                }
                Err(e) => last = e,
            }
        }
        Err(last)
    }
}

impl Watch {
    /// Starts to watch the daemon of the superblock `major:minor`, and any that had the number before and is not done yet;
    /// `None` where none shows itself. Anybody can take such a name: so only a process of root or of `user`, whose mount it is,
    /// is believed.
    #[must_use]
    pub fn start(device: &str, user: Option<u32>) -> Option<Self> {
        let mut watch = Self { sockets: Vec::new(), pid: 0 };
        for name in names(device) {
            if let Some((socket, pid)) = connect(&name, user) {
                watch.sockets.push(socket);
                watch.pid = pid;
            }
        }
        (!watch.sockets.is_empty()).then_some(watch)
    }

    /// Waits until all have ended; false when the time is over first.
    ///
    /// # Errors
    /// What poll(2) answers.
    pub fn wait(&self, limit: Duration) -> io::Result<bool> {
        let end = Instant::now() + limit;
        for socket in &self.sockets {
            let mut fds = [PollFd::new(socket, PollFlags::IN)];
            loop {
                let left = end.saturating_duration_since(Instant::now());
                let limit =
                    Timespec { tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX), tv_nsec: left.subsec_nanos().into() };
                match poll(&mut fds, Some(&limit)) {
                    Err(rustix::io::Errno::INTR) => {}
                    Ok(0) => return Ok(false),
                    answer => {
                        answer?;
                        break;
                    }
                }
            }
        }
        Ok(true)
    }
}

fn connect(name: &str, user: Option<u32>) -> Option<(OwnedFd, i32)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).ok()?;
    let address = SocketAddrUnix::new_abstract_name(name.as_bytes()).ok()?;
    rustix::net::connect(&socket, &address).ok()?;
    let peer = rustix::net::sockopt::socket_peercred(&socket).ok()?;
    let believed = peer.uid.is_root() || user == Some(peer.uid.as_raw());
    believed.then(|| (socket, peer.pid.as_raw_nonzero().get()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> Option<u32> {
        Some(rustix::process::geteuid().as_raw())
    }

    fn show(device: &str) -> io::Result<Presence> {
        Presence::show(device, Reserved::take()?)
    }

    #[test]
    fn only_root_and_the_mount_s_own_user_are_believed() {
        const TEST: &str = "only_root_and_the_mount_s_own_user_are_believed";
        const NOBODY: u32 = 65534;
        if own() != Some(0) {
            println!("SKIPPED {TEST}: needs root");
            assert!(std::env::var_os("HAOSFS_NO_SKIP").is_none_or(|v| v != "1"), "{TEST} was skipped: needs root");
            return;
        }
        let device = format!("foreign:{}", std::process::id());
        let shown = device.clone();
        // Credentials are per thread in Linux; a socket keeps those of the thread that listened.
        let foreign = std::thread::spawn(move || {
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
        assert_eq!(Watch::start(&device, Some(1000)).unwrap().sockets.len(), 1);
    }

    #[test]
    fn a_watch_ends_with_the_daemon() {
        let device = format!("test:{}", std::process::id());
        assert!(Watch::start(&device, own()).is_none());
        let presence = show(&device).unwrap();
        let watch = Watch::start(&device, own()).unwrap();
        assert_eq!(watch.pid, i32::try_from(std::process::id()).unwrap());
        assert!(!watch.wait(Duration::ZERO).unwrap());
        drop(presence);
        assert!(watch.wait(Duration::from_secs(5)).unwrap());
    }

    #[test]
    fn a_number_used_again_is_watched_to_the_last() {
        let device = format!("again:{}", std::process::id());
        let (old, new) = (show(&device).unwrap(), show(&device).unwrap());
        let watch = Watch::start(&device, own()).unwrap();
        drop(new);
        assert!(!watch.wait(Duration::from_millis(20)).unwrap());
        drop(old);
        assert!(watch.wait(Duration::from_secs(5)).unwrap());
    }
}
