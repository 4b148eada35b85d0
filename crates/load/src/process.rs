//! What a process needs, as its kernel tells.

use std::fs;
use std::time::Duration;

use crate::Failure;

/// A process at some moment.
#[derive(Debug)]
pub struct Process {
    pid: u32,
    processor: Duration,
}

/// What a process has needed since then.
#[derive(Debug, Clone, Copy)]
pub struct Need {
    /// Processor time of all its threads.
    pub processor: Duration,
    /// The most that it ever had, in bytes.
    pub peak_memory: u64,
}

impl Process {
    /// Looks at a process now.
    ///
    /// # Errors
    /// There is none with this id.
    pub fn look(pid: u32) -> Result<Self, Failure> {
        let processor = processor(pid).ok_or(Failure::Process(pid))?;
        Ok(Process { pid, processor })
    }

    /// The memory that a process has now, in bytes.
    ///
    /// # Errors
    /// There is none with this id.
    pub fn memory_of(pid: u32) -> Result<u64, Failure> {
        memory(pid, "VmRSS:").ok_or(Failure::Process(pid))
    }

    /// What it has needed since.
    ///
    /// # Errors
    /// It is gone.
    pub fn need(&self) -> Result<Need, Failure> {
        let failed = Failure::Process(self.pid);
        let (Some(processor), Some(peak_memory)) =
            (processor(self.pid), memory(self.pid, "VmHWM:"))
        else {
            return Err(failed);
        };
        Ok(Need { processor: processor.saturating_sub(self.processor), peak_memory })
    }
}

/// Processor time of user and kernel, from `/proc/<pid>/stat` (proc_pid_stat(5), fields 14 and 15).
fn processor(pid: u32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is a name in parentheses, which may contain anything.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let kernel: u64 = fields.next()?.parse().ok()?;
    let ticks = rustix::param::clock_ticks_per_second();
    Some(Duration::from_secs_f64((user + kernel) as f64 / ticks as f64))
}

/// An entry of `/proc/<pid>/status` (proc_pid_status(5)), in bytes.
fn memory(pid: u32, field: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let value = status.lines().find_map(|line| line.strip_prefix(field))?;
    let kibibytes: u64 = value.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}
