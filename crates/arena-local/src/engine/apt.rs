//! The packages of the engine through this machine's own apt: a private apt tree
//! that names only Debian forky, so that nothing of the machine changes and no
//! privileges are needed. The mirror's address and the network settings (proxy,
//! certificates) are the machine's own; what arrives is signed by Debian's keys.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use std::{fs, io, thread};

use super::install::{InstallError, InstallProgress};

const SUITE: &str = "forky";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// What is installed when each of [`PACKAGES`] has its name still; found by following ELF
/// dependencies, so it is far smaller than the packages' own dependency closure.
const PACKAGES: &str = include_str!("packages.txt");

/// What the closure is computed from when a name of [`PACKAGES`] has moved.
const ROOTS: [&str; 4] = [
    "postgresql-18",
    "postgresql-client-18",
    "postgresql-18-documentdb",
    "postgresql-18-pgvector",
];

/// Downloads the engine's packages into a folder below `work` and returns that folder.
pub(super) fn download(
    work: &Path,
    progress: &dyn Fn(InstallProgress),
) -> Result<PathBuf, InstallError> {
    let mirrors = mirrors_in(Path::new("/etc/apt"));
    if mirrors.is_empty() {
        return Err(InstallError::NoMirror);
    }
    if !Path::new(KEYRING).exists() {
        return Err(InstallError::NoKeyring {
            path: KEYRING.into(),
        });
    }
    let apt = PrivateApt::create(&work.join("apt")).map_err(|source| InstallError::Files {
        path: work.join("apt"),
        source,
    })?;
    progress(InstallProgress::ReadingPackageLists);
    apt.update_from_one_of(&mirrors)?;
    let wanted: Vec<&str> = PACKAGES
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    match apt.uris(&["download", "--print-uris"], &wanted) {
        Ok(total) => apt.fetch(&["download"], &wanted, total, progress),
        Err(missing) => {
            tracing::info!(error = %missing, "a package name has moved, taking the whole dependency closure");
            let arguments = [
                "install",
                "--yes",
                "--no-install-recommends",
                "--download-only",
            ];
            let printing = [&arguments[..], &["--print-uris"]].concat();
            let total = apt.uris(&printing, &ROOTS)?;
            apt.fetch(&arguments, &ROOTS, total, progress)
        }
    }
}

struct PrivateApt {
    folder: PathBuf,
}

impl PrivateApt {
    fn create(folder: &Path) -> io::Result<Self> {
        for part in [
            "etc",
            "state/lists/partial",
            "cache/archives/partial",
            "log",
            "tmp",
        ] {
            fs::create_dir_all(folder.join(part))?;
        }
        fs::write(folder.join("state/status"), "")?;
        let apt = Self {
            folder: folder.to_path_buf(),
        };
        fs::write(apt.folder.join("apt.conf"), apt.configuration())?;
        Ok(apt)
    }

    /// The machine's `Acquire` settings (proxies, certificates, retries) and our own places.
    fn configuration(&self) -> String {
        let root = self.folder.display();
        let mut text = format!(
            "Dir \"{root}\";\nDir::Etc \"{root}/etc\";\nDir::Etc::sourcelist \"{root}/etc/sources.list\";\n\
             Dir::Etc::sourceparts \"/dev/null\";\nDir::Etc::parts \"/dev/null\";\n\
             Dir::Etc::preferences \"/dev/null\";\nDir::Etc::preferencesparts \"/dev/null\";\n\
             Dir::Etc::netrc \"/etc/apt/auth.conf\";\nDir::Etc::netrcparts \"/etc/apt/auth.conf.d\";\n\
             Dir::State \"{root}/state\";\nDir::State::status \"{root}/state/status\";\n\
             Dir::Cache \"{root}/cache\";\nDir::Log \"{root}/log\";\n\
             APT::Sandbox::User \"\";\nAcquire::Languages \"none\";\n"
        );
        let machine = Command::new("apt-config")
            .arg("dump")
            .arg("Acquire")
            .output();
        let machine = machine.map(|output| output.stdout).unwrap_or_default();
        for line in String::from_utf8_lossy(&machine).lines() {
            let ours = ["Acquire::IndexTargets", "Acquire::Languages"];
            if line.starts_with("Acquire::") && !ours.iter().any(|key| line.starts_with(key)) {
                text.push_str(line);
                text.push('\n');
            }
        }
        text
    }

    fn update_from_one_of(&self, mirrors: &BTreeSet<String>) -> Result<(), InstallError> {
        let mut last = InstallError::NoMirror;
        for mirror in mirrors {
            let path = self.folder.join("etc/sources.list");
            let line = format!("deb [signed-by={KEYRING}] {mirror} {SUITE} main\n");
            fs::write(&path, line).map_err(|source| InstallError::Files { path, source })?;
            match self.run(&["update", "--error-on=any"], &[]) {
                Ok(_) => return Ok(()),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Returns how many bytes apt would download; fails if a package does not exist.
    fn uris(&self, arguments: &[&str], packages: &[&str]) -> Result<u64, InstallError> {
        let listing = self.run(arguments, packages)?;
        // 'http://mirror/path' file size SHA256:hash
        let sizes = listing.lines().filter(|line| line.starts_with('\''));
        Ok(sizes
            .filter_map(|line| line.split_whitespace().nth(2)?.parse::<u64>().ok())
            .sum())
    }

    fn fetch(
        &self,
        arguments: &[&str],
        packages: &[&str],
        total: u64,
        progress: &dyn Fn(InstallProgress),
    ) -> Result<PathBuf, InstallError> {
        let folder = self.folder.join("cache/archives");
        let error_of = |source| InstallError::Files {
            path: folder.clone(),
            source,
        };
        let mut child = self
            .command(arguments, packages)
            .spawn()
            .map_err(InstallError::no_apt)?;
        loop {
            let bytes = bytes_below(&folder);
            progress(InstallProgress::Downloading {
                bytes: bytes.min(total),
                total,
            });
            if child.try_wait().map_err(error_of)?.is_some() {
                break;
            }
            thread::sleep(PROGRESS_INTERVAL);
        }
        let output = child.wait_with_output().map_err(error_of)?;
        if !output.status.success() {
            return Err(InstallError::apt(arguments, &output.stderr));
        }
        Ok(folder)
    }

    fn run(&self, arguments: &[&str], packages: &[&str]) -> Result<String, InstallError> {
        let output = self
            .command(arguments, packages)
            .output()
            .map_err(InstallError::no_apt)?;
        if !output.status.success() {
            return Err(InstallError::apt(arguments, &output.stderr));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn command(&self, arguments: &[&str], packages: &[&str]) -> Command {
        // It ends with us: nobody else would end it when we are interrupted or killed.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM", "--", "apt-get"]);
        let arguments = arguments.iter().chain(packages).map(OsString::from);
        command
            .args(arguments)
            .env("APT_CONFIG", self.folder.join("apt.conf"))
            .env("LC_ALL", "C")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("TMPDIR", self.folder.join("tmp"))
            .current_dir(self.folder.join("cache/archives"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }
}

fn bytes_below(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else {
        return 0;
    };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => bytes_below(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    sizes.sum()
}

/// Returns the addresses of Debian mirrors that this machine's apt is configured with.
fn mirrors_in(etc_apt: &Path) -> BTreeSet<String> {
    let mut files = vec![etc_apt.join("sources.list")];
    let parts = fs::read_dir(etc_apt.join("sources.list.d"));
    files.extend(
        parts
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path()),
    );
    let mut mirrors = BTreeSet::new();
    for path in files {
        let Ok(text) = fs::read_to_string(&path) else {
            continue;
        };
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("list") => mirrors.extend(mirrors_in_list(&text)),
            Some("sources") => mirrors.extend(mirrors_in_deb822(&text)),
            _ => {}
        }
    }
    mirrors
}

/// A mirror of Debian's main archive, not of its security updates or of something else.
fn is_debian_archive(uri: &str) -> bool {
    uri.trim_end_matches('/').ends_with("/debian")
}

/// `deb [options] URI suite components…`, one per line.
fn mirrors_in_list(text: &str) -> Vec<String> {
    let lines = text
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim());
    let sources = lines.filter_map(|line| line.strip_prefix("deb ").map(str::trim));
    let uris = sources.filter_map(|source| {
        let after_options = match source.strip_prefix('[') {
            Some(rest) => rest.split_once(']')?.1,
            None => source,
        };
        after_options.split_whitespace().next()
    });
    uris.filter(|uri| is_debian_archive(uri))
        .map(str::to_owned)
        .collect()
}

/// Paragraphs of `Key: value` lines, separated by empty lines; comments may stand between.
fn mirrors_in_deb822(text: &str) -> Vec<String> {
    let mut mirrors = Vec::new();
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    for paragraph in lines.split(|line| line.trim().is_empty()) {
        let value = |key: &str| deb822_value(paragraph, key);
        let enabled = value("Enabled").is_none_or(|value| value.trim() != "no");
        let has_binaries =
            value("Types").is_some_and(|types| types.split_whitespace().any(|t| t == "deb"));
        if enabled && has_binaries {
            let uris = value("URIs").unwrap_or_default();
            mirrors.extend(
                uris.split_whitespace()
                    .filter(|uri| is_debian_archive(uri))
                    .map(str::to_owned),
            );
        }
    }
    mirrors
}

fn deb822_value(paragraph: &[&str], key: &str) -> Option<String> {
    let start = paragraph.iter().position(|line| {
        line.split_once(':')
            .is_some_and(|(name, _)| name.eq_ignore_ascii_case(key))
    })?;
    let mut value = paragraph[start].split_once(':')?.1.to_owned();
    for line in &paragraph[start + 1..] {
        if !line.starts_with([' ', '\t']) {
            break;
        }
        value.push_str(line);
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirror_is_read_from_lines_with_options_and_comments() {
        let text = "# deb http://old.example/debian x main\n\
                    deb [arch=amd64 signed-by=/k.gpg] http://mirror.example/debian bookworm main # main\n\
                    deb http://security.example/debian-security bookworm-security main\n\
                    deb-src http://source.example/debian bookworm main\n";
        assert_eq!(mirrors_in_list(text), ["http://mirror.example/debian"]);
    }

    #[test]
    fn a_mirror_is_read_from_paragraphs_with_folded_values() {
        let text = "Types: deb deb-src\n# comment: here\nURIs: http://a.example/debian/\n  http://b.example/debian\n\
                    Suites: bookworm\n\nTypes: deb\nEnabled: no\nURIs: http://c.example/debian\n\n\
                    Types: deb\nURIs: http://d.example/ubuntu\n";
        assert_eq!(
            mirrors_in_deb822(text),
            ["http://a.example/debian/", "http://b.example/debian"]
        );
    }

    #[test]
    fn package_names_are_listed_once() {
        let names: Vec<&str> = PACKAGES.lines().collect();
        let unique: BTreeSet<&str> = names.iter().copied().collect();
        assert_eq!(names.len(), unique.len());
        assert!(ROOTS.iter().all(|root| unique.contains(root)));
    }
}
