//! What a process uses, as reported by the Linux kernel.

use std::time::Duration;

use procfs::ProcResult;
use procfs::process::Process;

use crate::failure::Failure;

/// What a process uses: at one moment, or [since](ResourceUse::since) an earlier one.
#[derive(Debug, Clone, Copy)]
pub struct ResourceUse {
    /// Processor time of all its threads, in user and kernel mode.
    pub processor: Duration,
    /// Resident memory in bytes.
    pub memory: u64,
    /// The peak of its resident memory since it started, in bytes.
    pub peak_memory: u64,
}

impl ResourceUse {
    /// What the process with this id uses now.
    ///
    /// # Errors
    /// [`Failure::Process`] if there is no such process, or it has ended, or this user may not inspect it.
    pub fn of(pid: u32) -> Result<Self, Failure> {
        read(pid).ok().flatten().ok_or(Failure::Process(pid))
    }

    /// The same, with the processor time used since `earlier`.
    #[must_use]
    pub fn since(self, earlier: ResourceUse) -> Self {
        ResourceUse { processor: self.processor.saturating_sub(earlier.processor), ..self }
    }
}

/// The number of descriptors that the process with this id has open.
///
/// # Errors
/// As [`ResourceUse::of`].
pub fn descriptors(pid: u32) -> Result<u64, Failure> {
    let count = process(pid).and_then(|process| process.fd_count());
    count.map(|count| count as u64).map_err(|_| Failure::Process(pid))
}

/// `None` if the process has ended: a zombie has no memory.
fn read(pid: u32) -> ProcResult<Option<ResourceUse>> {
    let process = process(pid)?;
    let (stat, status) = (process.stat()?, process.status()?);
    let ticks = (stat.utime + stat.stime) as f64;
    let processor = Duration::from_secs_f64(ticks / procfs::ticks_per_second() as f64);
    let memory = status.vmrss.zip(status.vmhwm);
    // The kernel counts in kibibytes.
    Ok(memory.map(|(now, peak)| ResourceUse {
        processor,
        memory: now << 10,
        peak_memory: peak << 10,
    }))
}

fn process(pid: u32) -> ProcResult<Process> {
    // No process has an id that does not fit.
    Process::new(i32::try_from(pid).unwrap_or(i32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_measured_and_a_missing_one_is_named() {
        let own = std::process::id();
        let before = ResourceUse::of(own).expect("this process");
        let after = ResourceUse::of(own).expect("this process");
        assert!(after.memory > 0 && after.peak_memory >= after.memory, "{after:?}");
        assert!(after.since(before).processor <= after.processor);
        assert!(descriptors(own).expect("this process") >= 3);
        for failure in [ResourceUse::of(u32::MAX).err(), descriptors(u32::MAX).err()] {
            assert!(matches!(failure, Some(Failure::Process(u32::MAX))), "{failure:?}");
        }
    }
}
