//! Runs a seat's program without a sandbox, for the one person who asked for that by name: as our
//! own user, in folders of its own, and with everything that it started ended before it starts
//! again. Nothing here separates anything.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs;
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};

use super::run::{die_with_platform, hold};
use super::{Home, NestError, PRIVATE, Run};

/// Every process of a seat carries this variable: there is no namespace to know it by.
pub(crate) const MARK: &str = "ARENA_OPEN_SEAT";

/// Characters that a path may not have: it stands inside JSON and in lists of paths.
const TROUBLE: [char; 4] = ['"', '\\', ':', '\n'];

/// Becomes the program.
pub(super) fn run(run: &Run) -> Result<Infallible, NestError> {
    let (Some(folder), Home::Folder(home)) = (&run.open, &run.home) else {
        let error = io::Error::other("it was made for a sandbox");
        return Err(NestError::new("cannot run it without a sandbox")(error));
    };
    die_with_platform()?;
    sweep(&run.lock);
    let _lock = hold(&run.lock)?;
    let outside = Outside::of(run, folder, home)?;
    write(run, folder, &outside).map_err(NestError::new("cannot write the seat's own files"))?;
    let command: Vec<String> = run
        .command
        .iter()
        .map(|word| outside.of_text(word))
        .collect();
    let (program, arguments) = command.split_first().ok_or_else(|| {
        NestError::new("cannot start it")(io::Error::other("there is no command"))
    })?;
    let environment = run
        .environment
        .iter()
        .map(|(name, value)| (name, outside.of_text(value)));
    let error = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(environment)
        .env(MARK, &run.lock)
        .current_dir(outside.of_text(&run.directory))
        .exec();
    Err(NestError::new(format!("cannot start {program}"))(error))
}

/// Ends every process of ours that a run with this lock left behind.
pub(crate) fn sweep(lock: &Path) {
    let mark = format!("{MARK}={}", lock.display());
    let own = std::process::id();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<i32>().ok())
        else {
            continue;
        };
        // Other people's environments cannot be read, and are not meant.
        let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
        let is_marked = environment
            .split(|byte| *byte == 0)
            .any(|variable| variable == mark.as_bytes());
        if is_marked
            && u32::try_from(pid) != Ok(own)
            && let Some(pid) = Pid::from_raw(pid)
        {
            // It may have gone in this moment, which is what we want.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// The small files of the run, in a folder that only we enter.
fn write(run: &Run, folder: &Path, outside: &Outside) -> io::Result<()> {
    for path in run.files.keys() {
        let file = PathBuf::from(outside.of_text(path));
        debug_assert!(file.starts_with(folder), "small files lie in one folder");
    }
    fs::create_dir_all(folder)?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
    for (path, text) in &run.files {
        let path = outside.of_text(path);
        let _ = fs::remove_file(&path);
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        io::Write::write_all(&mut file, outside.of_text(text).as_bytes())?;
    }
    Ok(())
}

/// Paths inside a sandbox and what they stand for.
struct Outside(BTreeMap<String, String>);

impl Outside {
    fn of(run: &Run, folder: &Path, home: &Path) -> Result<Outside, NestError> {
        let mut all = vec![(run.home_at.clone(), home), (PRIVATE.to_owned(), folder)];
        all.extend(
            run.read_only
                .iter()
                .map(|bind| (bind.to.clone(), &*bind.from)),
        );
        let text = |(inside, path): (String, &Path)| match path.to_str() {
            Some(path) if !path.contains(TROUBLE) => Ok((inside, path.to_owned())),
            _ => {
                let error =
                    io::Error::other("without a sandbox a path may not hold these: \" \\ :");
                Err(NestError::new(format!("cannot work in {}", path.display()))(error))
            }
        };
        all.into_iter()
            .map(text)
            .collect::<Result<_, _>>()
            .map(Outside)
    }

    /// Replaces every path inside by what it stands for; the longest one that fits.
    fn of_text(&self, text: &str) -> String {
        let mut replaced = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('/') {
            let (before, path) = rest.split_at(at);
            replaced.push_str(before);
            let begins = !replaced.ends_with(is_part_of_a_name);
            let fits = self.0.iter().rev().filter(|_| begins).find(|(inside, _)| {
                path.strip_prefix(inside.as_str())
                    .is_some_and(|after| !after.starts_with(is_part_of_a_name))
            });
            let (taken, put) = match fits {
                Some((inside, outside)) => (inside.len(), outside.as_str()),
                None => (1, "/"),
            };
            replaced.push_str(put);
            rest = &path[taken..];
        }
        replaced.push_str(rest);
        replaced
    }
}

fn is_part_of_a_name(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '-' | '_' | '.')
}

#[cfg(test)]
mod tests {
    use super::Outside;

    #[test]
    fn paths_inside_become_what_they_stand_for() {
        let pairs = [
            ("/home/workspace", "/srv/seat"),
            ("/opt/arena/node", "/tools/node"),
            ("/run/arena", "/run/user/1/x"),
        ];
        let outside = Outside(pairs.map(|(a, b)| (a.to_owned(), b.to_owned())).into());
        for (inside, expected) in [
            ("/home/workspace/hello/server", "/srv/seat/hello/server"),
            ("/opt/arena/node/bin:/usr/bin", "/tools/node/bin:/usr/bin"),
            ("{\"home\":\"/home/workspace\"}", "{\"home\":\"/srv/seat\"}"),
            ("/home/workspaces", "/home/workspaces"),
            ("file:///home/workspace", "file:///srv/seat"),
            ("/other/home/workspace", "/other/home/workspace"),
            (
                "http://localhost:21000/run/arena",
                "http://localhost:21000/run/arena",
            ),
            ("nothing", "nothing"),
        ] {
            assert_eq!(outside.of_text(inside), expected);
        }
    }
}
