//! Remedies for failed attempts to connect.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use gsb_proto::Address;

use crate::private_directory::Untrusted;

/// The remedy for a failed attempt to connect to a router, to be appended to the error in a message.
///
/// If permission is denied, it names the owner and the mode of the socket file, which it reads from the file system.
pub fn connect_advice(address: &Address, error: &io::Error) -> String {
    match (address, error.kind()) {
        _ if Untrusted::is_cause_of(error) => "nothing was sent".to_owned(),
        (Address::Unix(path), io::ErrorKind::PermissionDenied) => denied(path),
        _ if error.raw_os_error() == Some(TOO_MANY_OPEN_FILES) => {
            "raise this program's limit of open files (ulimit -n)".to_owned()
        }
        _ => "is a router running there?".to_owned(),
    }
}

/// EMFILE of errno(3). `io::ErrorKind` has no stable name for it.
const TOO_MANY_OPEN_FILES: i32 = 24;

fn denied(path: &Path) -> String {
    match fs::metadata(path) {
        Ok(socket) => format!(
            "the socket belongs to {}, with mode {:04o}; run as that user, or let the router give others access \
             with --unix-mode (0660 for its group, 0666 for all)",
            user(socket.uid(), &fs::read_to_string("/etc/passwd").unwrap_or_default()),
            socket.mode() & 0o7777
        ),
        Err(_) => match closed_directory(path) {
            Some((directory, owner)) => format!(
                "the directory {} belongs to {}, and this user may not enter it; run as its owner, or let the router \
                 listen elsewhere (and with --unix-mode 0660 or 0666)",
                directory.display(),
                user(owner, &fs::read_to_string("/etc/passwd").unwrap_or_default()),
            ),
            None => "this user may not enter a directory of its path".to_owned(),
        },
    }
}

/// The deepest directory on the path that this user can see, and its owner's user id. This user may not enter it.
fn closed_directory(path: &Path) -> Option<(&Path, u32)> {
    path.ancestors().skip(1).find_map(|directory| {
        let owner = fs::metadata(directory).ok()?.uid();
        Some((directory, owner))
    })
}

/// Describes a user by name, if the password file (passwd(5)) has it, and id.
fn user(uid: u32, passwd: &str) -> String {
    let id = uid.to_string();
    let name = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == id).then_some(name)
    });
    match name {
        Some(name) => format!("user {name} (uid {uid})"),
        None => format!("the user with uid {uid}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_named_if_the_password_file_has_them() {
        let passwd =
            "root:x:0:0:root:/root:/bin/bash\n\nodd\ngolem:x:1001:100::/home/golem:/bin/sh\n";
        assert_eq!(user(1001, passwd), "user golem (uid 1001)");
        assert_eq!(user(100, passwd), "the user with uid 100");
        assert_eq!(user(100, ""), "the user with uid 100");
    }

    #[test]
    fn a_denied_socket_is_described_by_its_owner_and_mode() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("bus.sock");
        let _listener = std::os::unix::net::UnixListener::bind(&path).expect("a socket");
        let owner = fs::metadata(&path).expect("its metadata").uid();
        let address = Address::Unix(path.clone());
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        let advice = connect_advice(&address, &denied);
        assert!(advice.contains(&format!("uid {owner}")), "{advice}");
        assert!(advice.contains("mode 07") && advice.contains("--unix-mode"), "{advice}");

        let hidden = Address::Unix(directory.path().join("no/such/bus.sock"));
        let advice = connect_advice(&hidden, &denied);
        let directory = directory.path().display().to_string();
        assert!(
            advice.contains(&directory) && advice.contains(&format!("uid {owner}")),
            "{advice}"
        );
    }

    #[test]
    fn other_failures_ask_whether_a_router_is_running() {
        let address = Address::Unix("/no/such/socket".into());
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        assert_eq!(connect_advice(&address, &refused), "is a router running there?");
        let exhausted = io::Error::from_raw_os_error(TOO_MANY_OPEN_FILES);
        assert!(connect_advice(&address, &exhausted).contains("ulimit -n"));
    }
}
