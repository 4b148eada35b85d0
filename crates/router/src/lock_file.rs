//! A lock that lasts as long as its holder, however that ends.

use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

/// A locked file, which is removed when dropped, if its path still leads to it. The kernel releases the lock
/// of a process that dies; the file that stays behind then means nothing.
#[derive(Debug)]
pub(crate) struct LockFile {
    path: PathBuf,
    /// Holds the lock.
    file: File,
}

impl LockFile {
    /// Takes the lock; `None` if another holds it.
    pub(crate) fn try_acquire(path: &Path) -> io::Result<Option<LockFile>> {
        // In a directory that others write to, too, somebody may have put something else there.
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
                return Err(io::Error::other("the lock file is not a file"));
            }
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(error),
            }
            // The holder before may have removed the file between our opening and our locking it;
            // then this lock keeps nobody out.
            let lock = LockFile { path: path.to_owned(), file };
            if lock.is_in_place()? {
                return Ok(Some(lock));
            }
        }
    }

    /// Whether its path still leads to it, and not to another file or to none.
    pub(crate) fn is_in_place(&self) -> io::Result<bool> {
        match std::fs::symlink_metadata(&self.path) {
            Ok(there) => Ok(is_same(&there, &self.file.metadata()?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        // Somebody may have removed it, and another router locks a new one by now.
        let removed = match self.is_in_place() {
            Ok(true) => std::fs::remove_file(&self.path),
            Ok(false) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = removed {
            log::warn!("cannot remove {}: {error}", self.path.display());
        }
    }
}

/// Whether both describe one and the same file.
pub(crate) fn is_same(a: &Metadata, b: &Metadata) -> bool {
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}
