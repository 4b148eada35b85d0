//! The default of the memory limit.

use std::path::Path;

/// A quarter of the memory of this machine, or of the least that a cgroup of this process allows, in bytes. Without a
/// limit if neither can be read.
pub(crate) fn of_this_machine() -> usize {
    let cgroups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let memory = machine().into_iter().chain(of_cgroups(&cgroups, Path::new("/sys/fs/cgroup")));
    memory.min().map_or(usize::MAX, |bytes| usize::try_from(bytes / 4).unwrap_or(usize::MAX))
}

fn machine() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes << 10)
}

/// The limits of the cgroups that `cgroups` names (as /proc/self/cgroup does), and of those around them.
fn of_cgroups(cgroups: &str, root: &Path) -> Vec<u64> {
    let mut limits = Vec::new();
    for line in cgroups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else {
            continue;
        };
        let is_first_version = controllers.split(',').any(|controller| controller == "memory");
        let (root, file) = match (controllers, is_first_version) {
            ("", _) => (root.to_owned(), "memory.max"),
            (_, true) => (root.join("memory"), "memory.limit_in_bytes"),
            (_, false) => continue,
        };
        let group = root.join(path.trim_start_matches('/'));
        // In a container the path may be that of the host; then the root is the container's.
        for directory in group.ancestors().take_while(|directory| directory.starts_with(&root)) {
            let text = std::fs::read_to_string(directory.join(file)).unwrap_or_default();
            limits.extend(text.trim().parse::<u64>());
        }
    }
    limits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_limit_of_all_groups_counts() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let file = root.path().join(path);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        };
        write("a/memory.max", "4096\n");
        write("a/b/memory.max", "max\n");
        write("memory/c/memory.limit_in_bytes", "8192\n");
        let limits = |cgroups| of_cgroups(cgroups, root.path());
        assert_eq!(limits("0::/a/b\n"), [4096]);
        assert_eq!(limits("5:cpu:/a\n7:memory,pids:/c\n"), [8192]);
        assert_eq!(limits("0::/elsewhere\nnonsense\n"), [0; 0]);
    }

    #[test]
    fn this_machine_has_memory() {
        assert!((1 << 20..usize::MAX).contains(&of_this_machine()));
    }
}
