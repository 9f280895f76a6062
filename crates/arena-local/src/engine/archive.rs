//! A finished engine tree as one file, for machines without Debian's packages or without a network:
//! made by `cargo xtask engine`, named by the configuration as a path or an address. Nothing is
//! taken from it before its SHA-256 is right, and nothing of it lands outside its folder.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::install::{InstallError, InstallProgress, sha256_of};

/// The largest archive that is fetched; a real one takes 60 MB.
const BYTES_MAX: u64 = 1 << 30;
/// A checksum file is a line.
const SUM_BYTES_MAX: u64 = 4096;
/// A server that is there answers within this.
const CONNECT_WITHIN: Duration = Duration::from_secs(20);
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// A tar archive, plain or compressed with gzip, of a finished tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineArchive {
    /// A file's path, or an address that begins with `http://` or `https://`.
    pub place: String,
    /// Its SHA-256 in hexadecimal; another file is refused. Without it, the file `{place}.sha256`
    /// beside it says which: that finds a broken archive, not a forged one.
    pub sha256: Option<String>,
}

impl EngineArchive {
    /// Reads `place` or `place#sha256=…`, as the variable `ARENA_ENGINE_ARCHIVE` and the
    /// configuration name an archive.
    pub fn parse(text: &str) -> Self {
        match text.rsplit_once("#sha256=") {
            Some((place, sum)) => Self {
                place: place.to_owned(),
                sha256: Some(sum.trim().to_ascii_lowercase()),
            },
            None => Self {
                place: text.to_owned(),
                sha256: None,
            },
        }
    }

    fn is_address(&self) -> bool {
        ["http://", "https://"]
            .iter()
            .any(|scheme| self.place.starts_with(scheme))
    }

    /// Brings the archive into `work`, verifies it, and unpacks it into `root`.
    pub(super) fn unpack(
        &self,
        work: &Path,
        root: &Path,
        progress: &dyn Fn(InstallProgress),
    ) -> Result<(), InstallError> {
        let (file, beside) = if self.is_address() {
            let (file, beside) = (work.join("archive"), work.join("archive.sha256"));
            fetch(&self.place, &file, BYTES_MAX, progress)?;
            if self.sha256.is_none() {
                fetch(
                    &format!("{}.sha256", self.place),
                    &beside,
                    SUM_BYTES_MAX,
                    &|_| (),
                )?;
            }
            (file, beside)
        } else {
            let beside = PathBuf::from(format!("{}.sha256", self.place));
            (PathBuf::from(&self.place), beside)
        };
        let expected = match &self.sha256 {
            Some(sum) => sum.clone(),
            None => sum_in(&beside)?,
        };
        let actual = sha256_of(&file).map_err(files_at(&file))?;
        if actual != expected {
            return Err(InstallError::OtherArchive {
                path: PathBuf::from(&self.place),
                expected,
                actual,
            });
        }
        progress(InstallProgress::Unpacking { done: 0, total: 1 });
        unpack(&file, root)
    }
}

/// Reads `{sha256}  {name}`, as `sha256sum` writes it.
fn sum_in(path: &Path) -> Result<String, InstallError> {
    let text = fs::read_to_string(path).map_err(files_at(path))?;
    let sum = text.split_whitespace().next().unwrap_or_default();
    Ok(sum.to_ascii_lowercase())
}

fn fetch(
    address: &str,
    file: &Path,
    most: u64,
    progress: &dyn Fn(InstallProgress),
) -> Result<(), InstallError> {
    let failed = |reason: &dyn std::fmt::Display| InstallError::Program {
        command: format!("fetching {address}"),
        output: reason.to_string(),
    };
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_connect(Some(CONNECT_WITHIN))
        .build()
        .into();
    let mut answer = agent.get(address).call().map_err(|error| failed(&error))?;
    let total = answer.body().content_length().unwrap_or(0);
    let mut body = answer.body_mut().as_reader().take(most);
    let mut out = File::create(file).map_err(files_at(file))?;
    let (mut buffer, mut bytes) = (vec![0; 1 << 16], 0_u64);
    loop {
        let read = body.read(&mut buffer).map_err(|error| failed(&error))?;
        if read == 0 {
            return Ok(());
        }
        out.write_all(&buffer[..read]).map_err(files_at(file))?;
        bytes = bytes.saturating_add(u64::try_from(read).unwrap_or(0));
        progress(InstallProgress::Downloading { bytes, total });
    }
}

fn unpack(file: &Path, root: &Path) -> Result<(), InstallError> {
    let mut start = [0; 2];
    let is_gzip = File::open(file)
        .and_then(|mut file| file.read_exact(&mut start))
        .is_ok()
        && start == GZIP;
    if !is_gzip {
        let opened = File::open(file).map_err(files_at(file))?;
        return entries(opened, file, root);
    }
    // The machine's own gzip: a development build of ours would take a minute.
    let mut gzip = Command::new("gzip")
        .args(["--decompress", "--stdout", "--"])
        .arg(file)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|source| InstallError::NoProgram {
            program: "gzip",
            source,
        })?;
    let plain = gzip.stdout.take().expect("its output is piped");
    let unpacked = entries(plain, file, root);
    let status = gzip.wait().map_err(files_at(file))?;
    unpacked?;
    if status.success() {
        Ok(())
    } else {
        Err(broken(file, "gzip finds it damaged"))
    }
}

fn entries(mut plain: impl Read, file: &Path, root: &Path) -> Result<(), InstallError> {
    let damaged = |error: io::Error| broken(file, &error.to_string());
    let mut archive = tar::Archive::new(&mut plain);
    archive.set_preserve_permissions(true);
    archive.set_overwrite(false);
    for entry in archive.entries().map_err(damaged)? {
        let mut entry = entry.map_err(damaged)?;
        let path = entry.path().map_err(damaged)?.into_owned();
        let link = entry.link_name().map_err(damaged)?;
        let leaves = match &link {
            Some(link) if entry.header().entry_type().is_hard_link() => depth(link).is_none(),
            Some(link) => depth(&path.parent().unwrap_or(&path).join(link)).is_none(),
            None => false,
        };
        let kind = entry.header().entry_type();
        let is_known = kind.is_file() || kind.is_dir() || kind.is_symlink() || kind.is_hard_link();
        if leaves || !is_known || depth(&path).is_none() {
            return Err(broken(file, &format!("{} leads out of it", path.display())));
        }
        if !entry.unpack_in(root).map_err(damaged)? {
            return Err(broken(file, &format!("{} leads out of it", path.display())));
        }
    }
    // What gzip still has to say must be read, else it would wait for ever.
    io::copy(&mut plain, &mut io::sink()).map_err(damaged)?;
    Ok(())
}

/// Returns how deep below its top a path ends; `None` if it ever leaves it.
fn depth(path: &Path) -> Option<usize> {
    path.components()
        .try_fold(0_usize, |depth, part| match part {
            Component::Normal(_) => Some(depth + 1),
            Component::CurDir => Some(depth),
            Component::ParentDir => depth.checked_sub(1),
            Component::RootDir | Component::Prefix(_) => None,
        })
}

fn broken(file: &Path, why: &str) -> InstallError {
    InstallError::Archive {
        path: file.to_owned(),
        why: why.to_owned(),
    }
}

fn files_at(path: &Path) -> impl Fn(io::Error) -> InstallError {
    let path = path.to_owned();
    move |source| InstallError::Files {
        path: path.clone(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::BufRead;

    /// A tar archive of one entry, whose name and link `tar` itself would refuse to write.
    fn archive(kind: tar::EntryType, name: &str, link: &str) -> Vec<u8> {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o644);
        let text: &[u8] = if kind.is_file() { b"text" } else { b"" };
        header.set_size(u64::try_from(text.len()).unwrap());
        let bytes = header.as_mut_bytes();
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        bytes[157..157 + link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        let mut builder = tar::Builder::new(Vec::new());
        builder.append(&header, text).unwrap();
        builder.into_inner().unwrap()
    }

    fn unpacked(
        bytes: &[u8],
        sha256: Option<&str>,
    ) -> (tempfile::TempDir, Result<(), InstallError>) {
        let folder = tempfile::tempdir().unwrap();
        let (file, root) = (folder.path().join("engine.tar"), folder.path().join("tree"));
        fs::write(&file, bytes).unwrap();
        fs::create_dir(&root).unwrap();
        let sum = sha256_of(&file).unwrap();
        fs::write(
            folder.path().join("engine.tar.sha256"),
            format!("{sum}  engine.tar\n"),
        )
        .unwrap();
        let archive = EngineArchive {
            place: file.display().to_string(),
            sha256: sha256.map(str::to_owned),
        };
        let outcome = archive.unpack(folder.path(), &root, &|_| ());
        (folder, outcome)
    }

    #[test]
    fn entries_that_lead_out_of_the_archive_are_refused() {
        use tar::EntryType::{Block, Link, Regular, Symlink};
        for (kind, name, link) in [
            (Regular, "../escaped", ""),
            (Regular, "/escaped", ""),
            (Regular, "a/../../escaped", ""),
            (Symlink, "a", "../escaped"),
            (Symlink, "a", "/etc/passwd"),
            (Symlink, "usr/lib/a", "../../../escaped"),
            (Link, "a", "../escaped"),
            (Block, "a", ""),
        ] {
            let (folder, outcome) = unpacked(&archive(kind, name, link), None);
            assert!(
                matches!(outcome, Err(InstallError::Archive { .. })),
                "{name} → {link}: {outcome:?}"
            );
            assert!(!folder.path().join("escaped").exists());
        }
        let (folder, outcome) = unpacked(&archive(Regular, "usr/bin/a", ""), None);
        outcome.unwrap();
        assert_eq!(
            fs::read(folder.path().join("tree/usr/bin/a")).unwrap(),
            b"text"
        );
        unpacked(&archive(Symlink, "usr/lib/a", "../share/b"), None)
            .1
            .unwrap();
    }

    #[test]
    fn another_archive_and_half_of_one_are_refused() {
        let whole = archive(tar::EntryType::Regular, "a", "");
        let other = "00".repeat(32);
        let (_, outcome) = unpacked(&whole, Some(&other));
        assert!(
            matches!(outcome, Err(InstallError::OtherArchive { .. })),
            "{outcome:?}"
        );
        // Even where somebody made a checksum of the half.
        let (_, outcome) = unpacked(&whole[..514], None);
        assert!(outcome.is_err());
    }

    #[test]
    fn an_archive_comes_from_an_address_with_its_checksum() {
        let bytes = archive(tar::EntryType::Regular, "a", "");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}/engine.tar", listener.local_addr().unwrap());
        let served = bytes.clone();
        let server = std::thread::spawn(move || {
            for _ in 0..2 {
                let (mut stream, _) = listener.accept().unwrap();
                let mut lines = io::BufReader::new(stream.try_clone().unwrap()).lines();
                let first = lines.next().unwrap().unwrap();
                while !lines.next().unwrap().unwrap().is_empty() {}
                let sum = <sha2::Sha256 as sha2::Digest>::digest(&served);
                let sum: String = sum.iter().map(|byte| format!("{byte:02x}")).collect();
                let body = if first.contains(".sha256") {
                    sum.into_bytes()
                } else {
                    served.clone()
                };
                write!(
                    stream,
                    "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    body.len()
                )
                .unwrap();
                stream.write_all(&body).unwrap();
            }
        });
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("tree");
        fs::create_dir(&root).unwrap();
        EngineArchive::parse(&address)
            .unpack(folder.path(), &root, &|_| ())
            .unwrap();
        server.join().unwrap();
        assert_eq!(fs::read(root.join("a")).unwrap(), b"text");
    }

    #[test]
    fn a_place_carries_its_checksum() {
        let archive = EngineArchive::parse("https://x.test/e.tar.gz#sha256=ABCD");
        assert_eq!(
            (archive.place.as_str(), archive.sha256.as_deref()),
            ("https://x.test/e.tar.gz", Some("abcd"))
        );
        assert_eq!(EngineArchive::parse("/srv/e.tar.gz").sha256, None);
    }
}
