//! The default socket of a user is in a private directory, and only this user or root serves it.

#![allow(clippy::unwrap_used)]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use gsb_client::Bus;
use gsb_testkit::{RouterProcess, within};
use tempfile::TempDir;
use tokio::process::Command;

const ROUTER: &str = env!("CARGO_BIN_EXE_router");

/// The test that is the client program.
const CLIENT: &str = "default_socket::connects_to_the_default_address";

/// A user without rights; its name is `nobody` on most systems.
const OTHER_USER: u32 = 65_534;

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// The output of a client process that connects to the default address, with these environment variables.
async fn client(variables: &[(&str, &str)]) -> String {
    run_client(Command::new(std::env::current_exe().unwrap()), variables).await
}

async fn run_client(mut command: Command, variables: &[(&str, &str)]) -> String {
    command.args(["--ignored", "--exact", CLIENT, "--nocapture"]);
    command.env_remove("GSB_URL").envs(variables.iter().copied());
    let output = within("the end of the client", command.output()).await.unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
#[ignore = "the client program of the tests below"]
async fn connects_to_the_default_address() {
    match Bus::connect_default().await {
        Ok(_) => println!("connected"),
        Err(error) => println!("{error}"),
    }
}

#[tokio::test]
async fn the_directory_is_made_private_and_checked() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("gsb-1");
    let variables = [("XDG_RUNTIME_DIR", directory.to_str().unwrap())];
    let router = RouterProcess::start(ROUTER, [""; 0], &variables).await;
    assert_eq!(directory.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    let said = client(&variables).await;
    assert!(said.contains("connected"), "{said}");

    set_mode(&directory, 0o777);
    let said = client(&variables).await;
    assert!(said.contains("has the mode 0777") && said.contains("XDG_RUNTIME_DIR"), "{said}");
    router.stop().await;
    let run = Command::new(ROUTER).env_remove("GSB_URL").envs(variables).output();
    let output = within("the end of the router", run).await.unwrap();
    assert_eq!(output.status.code(), Some(3));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("has the mode 0777") && said.contains("GSB_URL"), "{said}");
}

/// A directory that all users may write to, like /tmp, and a command that runs a program in it as another user. `None`
/// if this user may not do that.
fn shared_directory(program: impl AsRef<Path>) -> Option<(TempDir, Command)> {
    if !rustix::process::geteuid().is_root() {
        println!("not tested, because this needs root");
        return None;
    }
    let directory = tempfile::tempdir().unwrap();
    set_mode(directory.path(), 0o1777);
    // The other user may have no access to the built program, so it is copied. A separate process does that: while this
    // process has the copy open for writing, another test could fork and keep it open, and then it cannot be run.
    let copy = directory.path().join("program");
    let install = std::process::Command::new("install")
        .args(["-m", "755"])
        .args([program.as_ref(), &copy])
        .status();
    assert!(install.unwrap().success());
    let mut command = Command::new(copy);
    command.uid(OTHER_USER).env_remove("GSB_URL");
    Some((directory, command))
}

#[tokio::test]
async fn a_client_does_not_talk_to_the_router_of_another_user() {
    let Some((directory, mut command)) = shared_directory(ROUTER) else { return };
    let url = format!("unix:{}/gsb.sock", directory.path().display());
    command.args(["-l", &url, "--unix-mode", "0666"]);
    let _router = RouterProcess::start_command(&mut command, &[]).await;
    let runtime_directory = ("XDG_RUNTIME_DIR", directory.path().to_str().unwrap());
    let said = client(&[runtime_directory]).await;
    assert!(said.contains("served by user id 65534") && said.contains("GSB_URL"), "{said}");
    // A socket that the user names is trusted.
    let said = client(&[runtime_directory, ("GSB_URL", &url)]).await;
    assert!(said.contains("connected"), "{said}");
}

#[tokio::test]
async fn a_lock_file_of_another_user_is_named() {
    let Some((directory, mut command)) = shared_directory(ROUTER) else { return };
    let lock = directory.path().join("gsb.sock.lock");
    fs::write(&lock, "").unwrap();
    set_mode(&lock, 0o600);
    command.args(["-l", &format!("unix:{}/gsb.sock", directory.path().display())]);
    let output = within("the end of the router", command.output()).await.unwrap();
    assert_eq!(output.status.code(), Some(3));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains(&format!("{}, which belongs to user id 0", lock.display())), "{said}");
}

#[tokio::test]
async fn a_client_without_permission_learns_whose_the_socket_is() {
    let client = std::env::current_exe().unwrap();
    let Some((directory, command)) = shared_directory(client) else { return };
    let url = format!("unix:{}/gsb.sock", directory.path().display());
    let _router = RouterProcess::start(ROUTER, ["-l", &url], &[]).await;
    let said = run_client(command, &[("GSB_URL", &url)]).await;
    for part in ["uid 0", "mode 0600", "--unix-mode"] {
        assert!(said.contains(part), "{part} is not in: {said}");
    }
    assert!(!said.contains("is a router running"), "{said}");
}
