//! How long a processor may take to wake, as far as the kernel's idle loop decides that (Documentation/power/pm_qos_interface.rst).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};

use super::proc;

/// A claim to all processors, without effect until it says something. It ends with its descriptor, so also with the process.
#[derive(Debug)]
pub struct CpuLatency(File);

/// What makes no claim (`PM_QOS_CPU_LATENCY_DEFAULT_VALUE`, include/linux/pm_qos.h): 2,000 seconds.
const ANY: i32 = 2_000_000_000;

impl CpuLatency {
    /// Opens a claim.
    ///
    /// # Errors
    /// `EACCES` for ordinary users, `ENOENT` in kernels without power management.
    pub fn open() -> io::Result<Self> {
        OpenOptions::new().write(true).open("/dev/cpu_dma_latency").map(Self)
    }

    /// From now on no processor may take longer than so many microseconds to wake; with 0 none halts.
    ///
    /// # Errors
    /// `EINVAL` for more than half an hour.
    pub fn limit(&self, micros: u32) -> io::Result<()> {
        let micros = i32::try_from(micros).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        (&self.0).write_all(&micros.to_ne_bytes())
    }

    /// Takes back what was said.
    ///
    /// # Errors
    /// None are known.
    pub fn lift(&self) -> io::Result<()> {
        (&self.0).write_all(&ANY.to_ne_bytes())
    }
}

/// What happens to a processor that has nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// A hypervisor is asked to halt it, unless the kernel was told to poll: the idle driver is cpuidle-haltpoll
    /// (Documentation/virt/guest-halt-polling.rst).
    HaltsUnlessTold,
    /// A hypervisor is asked to halt it, whatever the kernel was told: there is no idle driver (kernel/sched/idle.c,
    /// `cpuidle_idle_call`).
    Halts,
    /// It is the machine's own, or driven like that.
    Sleeps,
}

/// What happens on this machine.
#[must_use]
pub fn idle() -> Idle {
    let driver = fs::read("/sys/devices/system/cpu/cpuidle/current_driver").ok();
    idle_with(driver.as_deref().map(<[u8]>::trim_ascii), || is_virtual(&fs::read(proc::path("cpuinfo")).unwrap_or_default()))
}

fn idle_with(driver: Option<&[u8]>, is_virtual: impl Fn() -> bool) -> Idle {
    match driver {
        Some(b"haltpoll") => Idle::HaltsUnlessTold,
        Some(b"none") | None if is_virtual() => Idle::Halts,
        _ => Idle::Sleeps,
    }
}

/// By /proc/cpuinfo of x86; others do not tell there.
fn is_virtual(cpuinfo: &[u8]) -> bool {
    let flags = cpuinfo.split(|&b| b == b'\n').find_map(|line| line.strip_prefix(b"flags"));
    flags.is_some_and(|flags| flags.split(|&b| b == b' ').any(|flag| flag == b"hypervisor"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_halt_by_a_hypervisor_alone() {
        let own = b"processor\t: 0\nflags\t\t: fpu vme\n\nprocessor\t: 1\nflags\t\t: fpu vme\n";
        let virtual_ones = b"processor\t: 0\nflags\t\t: fpu hypervisor vme\n";
        for (driver, cpuinfo, expected) in [
            (Some(&b"haltpoll"[..]), &virtual_ones[..], Idle::HaltsUnlessTold),
            (Some(b"none"), virtual_ones, Idle::Halts),
            (None, virtual_ones, Idle::Halts),
            (Some(b"none"), own, Idle::Sleeps),
            (Some(b"intel_idle"), virtual_ones, Idle::Sleeps),
            (None, b"", Idle::Sleeps),
        ] {
            assert_eq!(idle_with(driver, || is_virtual(cpuinfo)), expected, "{driver:?}");
        }
    }
}
