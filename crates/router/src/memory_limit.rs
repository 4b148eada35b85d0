//! The default of the memory limit.

use std::path::Path;

/// A quarter of the memory of this machine, or of the lowest limit of this process's cgroups, in bytes. There is no
/// limit if neither can be read.
pub(crate) fn of_this_machine() -> usize {
    let [meminfo, cgroups] = ["/proc/meminfo", "/proc/self/cgroup"].map(read);
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:")?.strip_suffix("kB"));
    let machine = total.and_then(|kibibytes| kibibytes.trim().parse::<u64>().ok());
    let limits = of_cgroups(&cgroups, Path::new("/sys/fs/cgroup"));
    let least = limits.into_iter().chain(machine.map(|kibibytes| kibibytes << 10)).min();
    least.map_or(usize::MAX, |bytes| usize::try_from(bytes / 4).unwrap_or(usize::MAX))
}

/// The limits of the cgroups in `cgroups` (the text of /proc/self/cgroup) and of their parents.
fn of_cgroups(cgroups: &str, root: &Path) -> Vec<u64> {
    let mut limits = Vec::new();
    for line in cgroups.lines() {
        let (root, path, file) = match line.splitn(3, ':').collect::<Vec<_>>()[..] {
            [_, "", path] => (root.to_owned(), path, "memory.max"),
            [_, controllers, path] if controllers.split(',').any(|name| name == "memory") => {
                (root.join("memory"), path, "memory.limit_in_bytes")
            }
            _ => continue,
        };
        // In a container, the path may be that of the host. Then the root is the cgroup of the container.
        let group = root.join(path.trim_start_matches('/'));
        for directory in group.ancestors().take_while(|directory| directory.starts_with(&root)) {
            limits.extend(read(directory.join(file)).trim().parse::<u64>());
        }
    }
    limits
}

/// The text of a file; empty if it cannot be read.
fn read(file: impl AsRef<Path>) -> String {
    std::fs::read_to_string(file).unwrap_or_default()
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
