use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;

use super::*;

/// A directory that is removed with its contents.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("gsb-{name}-{}", std::process::id()));
        DirBuilder::new().mode(0o700).create(&path).unwrap();
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn the_directory_is_made_for_this_user_alone() {
    let scratch = Scratch::new("made");
    let socket = scratch.0.join("gsb-1/gsb.sock");
    assert_eq!(check(&socket).unwrap_err().kind(), io::ErrorKind::NotFound);
    create(&socket).unwrap();
    create(&socket).unwrap();
    let directory = fs::metadata(socket.parent().unwrap()).unwrap();
    assert_eq!(directory.mode() & 0o777, 0o700);
}

#[test]
fn a_directory_that_others_control_is_refused() {
    let scratch = Scratch::new("refused");
    let refusal = |path: &Path| create(path).unwrap_err().to_string();
    let own = scratch.0.join("own");
    fs::create_dir(&own).unwrap();
    let socket = own.join("gsb.sock");
    let with_mode = |mode| {
        fs::set_permissions(&own, Permissions::from_mode(mode)).unwrap();
        create(&socket)
    };
    for mode in [0o700, 0o755, 0o1777] {
        with_mode(mode).unwrap();
    }
    for mode in [0o770, 0o707, 0o777] {
        let problem = with_mode(mode).unwrap_err().to_string();
        let mode = format!("{mode:04o}");
        assert!(problem.contains(&mode) && problem.contains("GSB_URL"), "{problem}");
    }

    let link = scratch.0.join("link");
    symlink(&scratch.0, &link).unwrap();
    assert!(refusal(&link.join("gsb.sock")).contains("is not a directory"));
    let file = scratch.0.join("file");
    fs::write(&file, "").unwrap();
    assert!(refusal(&file.join("gsb.sock")).contains("is not a directory"));
    // A directory of this user, checked for another user.
    let metadata = fs::metadata(&own).unwrap();
    let problem = problem(&metadata, metadata.uid() + 1);
    let is_named = |text: String| text.contains(&format!("user id {}", metadata.uid()));
    // Directories of root are trusted.
    assert!(metadata.uid() == 0 || problem.is_some_and(is_named));
}
