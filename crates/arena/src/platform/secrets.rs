//! Secrets of an event: one file each under `S/secrets`, 0600, made at first
//! use. The plan names them and nothing else holds them; a seat's own reach it
//! through its settings.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use arena_workshop::plan::SecretName;

/// Letters and digits only: passwords go into URIs, environments and files of other programs.
const ALPHABET: &[u8] = b"ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789";
/// 32 characters of 57: 186 bits.
const LENGTH: usize = 32;

/// Values by name. Clones share them: who needs one asks each time, since it may be replaced.
#[derive(Clone)]
pub(crate) struct Secrets {
    folder: PathBuf,
    values: Arc<Mutex<BTreeMap<SecretName, String>>>,
}

impl Secrets {
    /// Reads the secrets that the plan names, and makes those that are not there yet.
    ///
    /// # Errors
    /// When the folder cannot be read or written.
    pub(crate) fn open<'a>(
        state: &Path,
        names: impl IntoIterator<Item = &'a SecretName>,
    ) -> anyhow::Result<Self> {
        let folder = state.join("secrets");
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .with_context(|| format!("cannot make {}", folder.display()))?;
        let secrets = Self {
            folder,
            values: Arc::default(),
        };
        for name in names {
            secrets.keep(name)?;
        }
        Ok(secrets)
    }

    /// Returns a secret that the plan names.
    pub(crate) fn get(&self, name: &SecretName) -> Option<String> {
        let values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        values.get(name).cloned()
    }

    /// Returns a secret of the platform's own, made at first use.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub(crate) fn keep(&self, name: &SecretName) -> anyhow::Result<String> {
        let value = self.read_or_make(name)?;
        self.set(name, value.clone());
        Ok(value)
    }

    /// Replaces a secret, on the disk first; everybody who asks has the new one from here on.
    ///
    /// # Errors
    /// When it cannot be written; then the old one stays.
    pub(crate) fn replace(&self, name: &SecretName, value: &str) -> anyhow::Result<()> {
        write(&self.path(name), value)?;
        self.set(name, value.to_owned());
        Ok(())
    }

    fn set(&self, name: &SecretName, value: String) {
        let mut values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        values.insert(name.clone(), value);
    }

    fn path(&self, name: &SecretName) -> PathBuf {
        self.folder.join(name.0.replace('/', "--"))
    }

    fn read_or_make(&self, name: &SecretName) -> anyhow::Result<String> {
        let path = self.path(name);
        match fs::read_to_string(&path) {
            Ok(value) if value.len() == LENGTH => return Ok(value),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", path.display()));
            }
        }
        let value = random()?;
        write(&path, &value)?;
        Ok(value)
    }

    /// Returns whether this event ever had that seat.
    pub(crate) fn has_seat(&self, seat: &str) -> bool {
        self.folder
            .join(format!("seat--{seat}--database"))
            .is_file()
    }

    /// Replaces a secret by a fresh one, for whoever opens them next.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub(crate) fn renew(state: &Path, name: &SecretName) -> anyhow::Result<()> {
        let path = state.join("secrets").join(name.0.replace('/', "--"));
        write(&path, &random()?)
    }
}

/// Writes a file that only we can read, all of it or nothing.
///
/// # Errors
/// When the disk refuses.
pub(crate) fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let fresh = path.with_extension("new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&fresh)
        .with_context(|| format!("cannot write {}", fresh.display()))?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .with_context(|| format!("cannot write {}", fresh.display()))?;
    fs::rename(&fresh, path).with_context(|| format!("cannot write {}", path.display()))
}

/// Returns a fresh password.
pub(crate) fn random() -> anyhow::Result<String> {
    let mut text = String::with_capacity(LENGTH);
    let mut bytes = [0_u8; 64];
    while text.len() < LENGTH {
        getrandom::fill(&mut bytes)
            .map_err(|error| anyhow::anyhow!("cannot get random bytes: {error}"))?;
        // Bytes above a multiple of the alphabet would make its beginning more likely.
        let fair = bytes
            .iter()
            .filter(|byte| usize::from(**byte) < 256 / ALPHABET.len() * ALPHABET.len());
        text.extend(fair.map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()])));
        text.truncate(LENGTH);
    }
    Ok(text)
}
