//! A lock on a file, which the kernel releases when its holder exits or is killed.

use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

/// A locked file. Dropping it releases the lock and leaves the file, which means nothing without the lock;
/// [`remove`](LockFile::remove) removes it as well.
#[derive(Debug)]
pub(crate) struct LockFile {
    path: PathBuf,
    /// Holds the lock.
    file: File,
}

impl LockFile {
    /// Takes the lock; `None` if another process holds it.
    pub(crate) fn try_acquire(path: &Path) -> io::Result<Option<LockFile>> {
        // In a directory that others can write to, the path may lead to a link or a pipe of theirs.
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        loop {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .custom_flags(flags.bits().cast_signed())
                .open(path)?;
            if !file.metadata()?.is_file() {
                return Err(io::Error::other("it is not a regular file; remove it"));
            }
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(error),
            }
            // The last holder may have removed the file after it was opened here. A lock on a removed file keeps no
            // other router out.
            let lock = LockFile { path: path.to_owned(), file };
            if lock.is_in_place()? {
                return Ok(Some(lock));
            }
        }
    }

    /// Whether the path still leads to this file, and not to another file or to none.
    pub(crate) fn is_in_place(&self) -> io::Result<bool> {
        match std::fs::symlink_metadata(&self.path) {
            Ok(there) => Ok(is_same(&there, &self.file.metadata()?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Removes the file, if the path still leads to it, and then releases the lock.
    pub(crate) fn remove(self) {
        // If the file was removed, another router may have locked a new one by now.
        let removed = match self.is_in_place() {
            Ok(true) => std::fs::remove_file(&self.path),
            Ok(false) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = removed {
            log::warn!("cannot remove the lock file {}: {error}", self.path.display());
        }
    }
}

/// Whether both describe the same file.
pub(crate) fn is_same(a: &Metadata, b: &Metadata) -> bool {
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}
