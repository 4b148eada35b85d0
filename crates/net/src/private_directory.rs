//! The directory of the default socket: only its user can put files into it.

use std::error::Error;
use std::fmt;
use std::fs::{self, DirBuilder, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::Path;

use rustix::process::getuid;

/// Permissions of a directory that is made for the default socket.
const MODE: u32 = 0o700;

/// Only the owner of a file may remove it.
const STICKY: u32 = 0o1000;

/// Why the default socket is not used: another user controls it. Displays as a sentence with the remedy.
#[derive(Debug)]
pub(crate) struct Untrusted(String);

impl Untrusted {
    pub(crate) fn error(sentence: String) -> io::Error {
        io::Error::new(io::ErrorKind::PermissionDenied, Untrusted(sentence))
    }

    /// Whether an error is one of these.
    pub(crate) fn is_behind(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|error| error.is::<Untrusted>())
    }
}

impl fmt::Display for Untrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Untrusted {}

/// Makes the directory of the default socket `path` if it does not exist, and checks it as
/// connecting does.
///
/// # Errors
/// The directory cannot be made, or another user can replace what is in it.
pub fn create(path: &Path) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        match DirBuilder::new().mode(MODE).create(directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                let problem = format!("cannot make the directory {}: {error}", directory.display());
                return Err(io::Error::new(error.kind(), problem));
            }
            _ => {}
        }
    }
    check(path)
}

/// Checks that no other user but root can remove or replace the default socket `path`.
///
/// Other users may write to the directory if it is sticky, as /tmp is. Such a user can make the socket first,
/// which is why clients also look at who serves it.
///
/// # Errors
/// `PermissionDenied` with what is wrong with the directory, `NotFound` if there is none.
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

/// What makes a directory unfit for the default socket of `user`.
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
