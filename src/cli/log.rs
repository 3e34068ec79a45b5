//! Where the log goes: standard error, a file, or the system log (datagrams to /dev/log, syslog(3)'s own form).

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tracing::{Level, Metadata};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry};

use crate::error::{Error, Result};

/// Names the environment variable that sets what is logged (`debug`, `haosfs::mount=trace`; by default `info`).
const FILTER: &str = "HAOSFS_LOG";

/// Where syslogd or journald listens.
const SOCKET: &str = "/dev/log";

/// The kernel's log (Documentation/ABI/testing/dev-kmsg).
const KERNEL_LOG: &str = "/dev/kmsg";

/// Facility "daemon" in a syslog priority (RFC 3164, 4.1.1).
const FACILITY_DAEMON: u8 = 3 << 3;

/// Where the log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Standard error.
    Stderr,
    /// This file, appended to.
    File(PathBuf),
    /// The system log.
    Syslog,
    /// The kernel's log; standard error where that cannot be written.
    Kernel,
}

/// Starts the log of this process.
///
/// # Errors
/// When the file cannot be opened.
pub fn start(destination: &Destination) -> Result<()> {
    // fuser calls it an error when the asker of an interrupted request is gone before the answer comes.
    let asked = std::env::var(FILTER).ok().and_then(|words| words.parse().ok());
    let filter = asked.unwrap_or_else(|| Targets::new().with_default(Level::INFO).with_target("fuser", LevelFilter::OFF));
    let log = fmt::layer().with_ansi(false).with_target(false);
    match destination {
        Destination::Stderr => begin(log.with_writer(io::stderr).without_time(), filter),
        Destination::File(path) => {
            let file = File::options().append(true).create(true).open(path).map_err(|e| Error::sys("open the log", path, e))?;
            begin(log.with_writer(Arc::new(file)), filter)
        }
        Destination::Syslog => {
            let socket = nonblocking().map_err(|e| Error::sys("log to", SOCKET, e))?;
            begin(log.with_writer(Syslog { socket: Arc::new(socket) }).without_time().with_level(false), filter)
        }
        Destination::Kernel => match Kernel::open() {
            Ok(kernel) => begin(log.with_writer(kernel).without_time().with_level(false), filter),
            Err(_) => begin(log.with_writer(io::stderr).without_time(), filter),
        },
    }
}

fn begin(log: impl Layer<Registry> + Send + Sync, filter: Targets) -> Result<()> {
    let started = tracing_subscriber::registry().with(log.with_filter(filter)).try_init();
    started.map_err(|e| Error::Refused(format!("the log cannot be started: {e}")))
}

/// The kernel takes ten records in five seconds from each that has its log open (`printk.devkmsg`), so it is open more often than once;
/// and before a root that this process serves becomes its own.
const OPEN: usize = 16;

/// Makes one record of each event.
struct Kernel {
    open: Arc<[File]>,
    next: AtomicUsize,
}

impl Kernel {
    fn open() -> io::Result<Self> {
        let open = (0..OPEN).map(|_| File::options().append(true).open(KERNEL_LOG)).collect::<io::Result<Vec<_>>>()?;
        Ok(Self { open: open.into(), next: AtomicUsize::new(0) })
    }

    fn record(&self, level: Level) -> Record {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        Record { open: Arc::clone(&self.open), number, severity: severity(level) }
    }
}

/// One event on its way.
struct Record {
    open: Arc<[File]>,
    number: usize,
    severity: u8,
}

impl<'a> MakeWriter<'a> for Kernel {
    type Writer = Record;

    fn make_writer(&'a self) -> Record {
        self.record(Level::INFO)
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Record {
        self.record(*metadata.level())
    }
}

impl Write for Record {
    /// Nobody can be told where it is not taken.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let mut record = datagram(self.severity, std::process::id(), event);
        record.push(b'\n');
        let file = self.open.get(self.number.checked_rem(self.open.len()).unwrap_or_default());
        let _ = file.map(|mut file| file.write(&record));
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One that takes nothing rather than have its sender wait: whoever reads the log may wait for us.
fn nonblocking() -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Makes one datagram of each event.
struct Syslog {
    socket: Arc<UnixDatagram>,
}

/// One event on its way.
struct Message {
    socket: Arc<UnixDatagram>,
    severity: u8,
}

impl<'a> MakeWriter<'a> for Syslog {
    type Writer = Message;

    fn make_writer(&'a self) -> Message {
        Message { socket: Arc::clone(&self.socket), severity: severity(Level::INFO) }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Message {
        Message { socket: Arc::clone(&self.socket), severity: severity(*metadata.level()) }
    }
}

impl Write for Message {
    /// Nobody can be told where the system log is missing, so that is no error.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let _ = self.socket.send_to(&datagram(self.severity, std::process::id(), event), SOCKET);
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// `<priority>haosfs[pid]: text`.
fn datagram(severity: u8, pid: u32, event: &[u8]) -> Vec<u8> {
    let mut datagram = format!("<{}>haosfs[{pid}]: ", FACILITY_DAEMON | severity).into_bytes();
    datagram.extend_from_slice(event.trim_ascii_end());
    datagram
}

/// Severities of RFC 3164.
fn severity(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_carries_priority_and_pid() {
        assert_eq!(datagram(severity(Level::WARN), 7, b"hello\n"), b"<28>haosfs[7]: hello");
        assert_eq!(datagram(severity(Level::ERROR), 7, b"x"), b"<27>haosfs[7]: x");
    }
}
