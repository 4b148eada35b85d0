//! Memory and descriptors of a process, as reported by the Linux kernel.

use std::fmt;

use procfs::process::Process;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Memory in bytes that a router may need beside what its limits allow: for its runtime, for buffers that it keeps, and
/// for pages of the program that are touched first under load.
const BASE: u64 = 12 << 20;

/// The memory and descriptors of a process at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Resident memory in bytes (`VmRSS`).
    pub resident: u64,
    /// The peak of its resident memory in bytes (`VmHWM`).
    pub peak: u64,
    /// Open file descriptors.
    pub descriptors: usize,
}

impl Usage {
    /// What a running process uses now.
    ///
    /// # Panics
    /// There is no such process, or it belongs to another user.
    pub fn of(process: u32) -> Self {
        let process = Process::new(process.cast_signed()).expect("a process");
        let status = process.status().expect("its status");
        // The kernel counts in kibibytes.
        let bytes = |kibibytes: Option<u64>| kibibytes.expect("a running process") << 10;
        Usage {
            resident: bytes(status.vmrss),
            peak: bytes(status.vmhwm),
            descriptors: process.fd_count().expect("its descriptors"),
        }
    }

    /// The memory in bytes that a process which started with this usage may reach if its limits allow it to hold
    /// `bytes` more: twice that much, which an allocator may need, and a fixed base.
    pub fn peak_limit(&self, bytes: u64) -> u64 {
        self.resident + BASE + 2 * bytes
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Usage { resident, peak, descriptors } = self;
        let (resident, peak) = (mebibytes(*resident), mebibytes(*peak));
        write!(f, "{resident} of memory, at most {peak}, {descriptors} descriptors")
    }
}

/// A number of bytes as text.
pub fn mebibytes(bytes: u64) -> String {
    format!("{}.{} MiB", bytes >> 20, ((bytes & 0xf_ffff) * 10) >> 20)
}

/// Raises the limit of open files of this process as far as the system allows, for tests with many connections.
pub fn raise_descriptor_limit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("more descriptors");
}
