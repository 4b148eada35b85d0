//! Checks that other users cannot replace the default socket of a user.

use std::error::Error;
use std::fmt;
use std::fs::{self, DirBuilder, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::Path;

use rustix::process::getuid;

/// Permissions of a new directory for the default socket.
const MODE: u32 = 0o700;

/// The mode bit of a directory in which only the owner of a file may remove it.
const STICKY: u32 = 0o1000;

/// Why the default socket is not used: another user controls it. `Display` writes the reason and the remedy.
#[derive(Debug)]
pub(crate) struct Untrusted(String);

impl Untrusted {
    pub(crate) fn error(message: String) -> io::Error {
        io::Error::new(io::ErrorKind::PermissionDenied, Untrusted(message))
    }

    /// Whether an error is of this kind.
    pub(crate) fn is_cause_of(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|error| error.is::<Untrusted>())
    }
}

impl fmt::Display for Untrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Untrusted {}

/// Creates the directory of the default socket `path` if it does not exist, and checks it as a client does before it
/// connects.
///
/// # Errors
/// The directory cannot be created, or another user can replace files in it.
pub fn create(path: &Path) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        match DirBuilder::new().mode(MODE).create(directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                let problem =
                    format!("cannot create the directory {}: {error}", directory.display());
                return Err(io::Error::new(error.kind(), problem));
            }
            _ => {}
        }
    }
    check(path)
}

/// Checks that only this user and root can remove or replace the default socket `path`.
///
/// Other users may write to the directory if it is sticky, as /tmp is. Such a user can create the socket first, so
/// clients also check who serves it.
///
/// # Errors
/// `PermissionDenied` with the problem of the directory, `NotFound` if it does not exist.
pub(crate) fn check(path: &Path) -> io::Result<()> {
    let Some(directory) = path.parent() else {
        return Ok(());
    };
    match problem(&fs::symlink_metadata(directory)?, getuid().as_raw()) {
        None => Ok(()),
        Some(problem) => Err(Untrusted::error(format!(
            "the directory {} {problem}; set GSB_URL to another address, or XDG_RUNTIME_DIR to a directory of \
             this user with the mode 0700",
            directory.display()
        ))),
    }
}

/// Why a directory cannot be trusted with the default socket of `user`, if it cannot.
fn problem(directory: &Metadata, user: u32) -> Option<String> {
    let (owner, mode) = (directory.uid(), directory.mode() & 0o7777);
    if !directory.is_dir() {
        return Some("is not a directory".to_owned());
    }
    if owner != user && owner != 0 {
        return Some(format!("belongs to user id {owner}, not to this user (id {user}) or root"));
    }
    let is_open = mode & 0o022 != 0 && mode & STICKY == 0;
    is_open.then(|| format!("has the mode {mode:04o}, so other users can write to it"))
}

#[cfg(test)]
#[path = "private_directory_tests.rs"]
mod tests;
