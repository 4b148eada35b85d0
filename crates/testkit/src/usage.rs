//! What a process takes of its machine, as the kernel tells it. Linux only.

use std::fmt;
use std::fs;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What a router may take beside what its limits allow: the runtime, buffers that are kept, and pages of the
/// program that are first touched when something happens. In bytes.
const BASE: u64 = 12 << 20;

/// What a process uses at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of memory that it has now (`VmRSS`).
    pub resident: u64,
    /// Most bytes of memory that it ever had (`VmHWM`).
    pub peak: u64,
    /// Open file descriptors.
    pub descriptors: usize,
}

impl Usage {
    /// What a live process uses now.
    ///
    /// # Panics
    /// There is no such process, or it is another user's.
    pub fn of(process: u32) -> Self {
        let status = fs::read_to_string(format!("/proc/{process}/status")).expect("its status");
        let bytes = |name: &str| {
            let mut lines = status.lines();
            let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            let kibibytes = value.and_then(|value| value.trim().strip_suffix(" kB"));
            kibibytes.expect(name).parse::<u64>().expect("a number") << 10
        };
        let descriptors = fs::read_dir(format!("/proc/{process}/fd")).expect("its descriptors");
        Usage { resident: bytes("VmRSS"), peak: bytes("VmHWM"), descriptors: descriptors.count() }
    }

    /// The most memory that a process may have had which started like this and whose limits let it queue or
    /// keep so many bytes more: twice as much, as an allocator may need that for them, and a fixed base.
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

/// Bytes for people.
pub fn mebibytes(bytes: u64) -> String {
    format!("{}.{} MiB", bytes >> 20, ((bytes & 0xf_ffff) * 10) >> 20)
}

/// Lets this process open as many files as it may. For tests with many connections, each of which takes a
/// descriptor here, too.
pub fn raise_descriptor_limit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("more descriptors");
}
