//! The built-in database on its own.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use crate::world::wait_until;

#[test]
fn the_database_makes_its_folder_where_it_is_missing() {
    let tree = std::env::var("ARENA_ENGINE_TREE").expect("the engine's tree (cargo xtask test)");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let open = fs::Permissions::from_mode(0o755);
    fs::set_permissions(folder.path(), open).expect("our folder");
    let state = folder.path().join("not/there");
    // Whoever runs it: root hands the engine to another user, who must get into the folder.
    let mut serving = Command::new(env!("CARGO_BIN_EXE_arena"))
        .args(["serve", "mongo", "--listen", "127.0.0.1:0", "--tree", &tree])
        .arg("--state")
        .arg(&state)
        .stdout(Stdio::piped())
        .spawn()
        .expect("arena starts");
    let mut said = String::new();
    let mut lines = BufReader::new(serving.stdout.take().expect("piped"));
    lines.read_line(&mut said).expect("it ends or says where");
    let stopped = Command::new("kill").arg(serving.id().to_string()).status();
    let mut status = None;
    wait_until("it ends", || {
        status = serving.try_wait().expect("our child");
        status.is_some()
    });
    assert!(said.starts_with("mongodb://arena:"), "{said:?}");
    assert!(stopped.expect("kill runs").success());
    assert!(status.expect("it ended").success());
}

#[test]
fn a_certificate_that_cannot_be_used_is_said_before_anything_starts() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("front.pem");
    for (text, problem) in [
        (None, "No such file"),
        (Some(""), "there is no certificate in it"),
    ] {
        if let Some(text) = text {
            fs::write(&file, text).expect("our folder");
        }
        let output = Command::new(env!("CARGO_BIN_EXE_arena"))
            .args(["serve", "mongo", "--listen", "127.0.0.1:0"])
            .args(["--tree", "/nonexistent", "--state", "/nonexistent"])
            .arg("--tls-certificate-key-file")
            .arg(&file)
            .output()
            .expect("arena starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(problem), "{said}");
        assert!(said.contains(&file.display().to_string()), "{said}");
    }
}
