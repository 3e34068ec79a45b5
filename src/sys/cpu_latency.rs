//! How long a processor may take to wake, as far as the kernel's idle loop decides that (Documentation/power/pm_qos_interface.rst).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};

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

/// Whether processors are a hypervisor's, which is asked to halt them, and the kernel would poll instead where it is told to: the
/// idle driver is cpuidle-haltpoll (Documentation/virt/guest-halt-polling.rst).
#[must_use]
pub fn is_halting_virtual() -> bool {
    fs::read("/sys/devices/system/cpu/cpuidle/current_driver").is_ok_and(|driver| driver.trim_ascii() == b"haltpoll")
}
