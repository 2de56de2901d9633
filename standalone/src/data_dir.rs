//! The data directory: keys for people, secrets for the services, embedded stores.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use audit_service::checkpoint::{CheckpointError, CheckpointSigner, new_signing_key};
use domain::ids::Name;
use gateway::subscriptions::{self, Entry, Scope, SubscriptionsError};
use runtime::secrets::{Secret, SecretError, SecretRef, random_key_hex, write_secret_file};

/// Keys of people and their scopes, made at the first start.
const SUBSCRIPTIONS: [(&str, &[Scope]); 3] = [
    ("clinic", &[Scope::PatientRead, Scope::PatientWrite]),
    ("compliance", &[Scope::AuditRead]),
    ("privacy", &[Scope::PatientErase]),
];

/// Secrets of the services: 32 random bytes each.
const SECRETS: [&str; 9] = [
    SEAL,
    KEK,
    COMMAND,
    PEPPER,
    "service-gateway",
    "service-patient-service",
    "service-projections",
    "service-audit",
    "service-external",
];
/// The key of `operator`, who rotates signing keys and changes subscriptions. It guards no stored
/// data, and older directories do not have it, so it is made whenever it is missing.
const OPERATOR: &str = "service-operator";
const SEAL: &str = "seal";
const KEK: &str = "kek";
const PREVIOUS_KEK: &str = "kek.previous";
const COMMAND: &str = "command";
const PEPPER: &str = "pepper";
const LEDGER: &str = "ledger";

/// A data directory that this process alone uses.
pub struct DataDir {
    root: PathBuf,
    _lock: File,
}

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// The file system refused.
    #[error("{path} cannot be used")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process uses it.
    #[error("{0} is in use by another process")]
    InUse(PathBuf),
    /// A secret is gone, but the stores hold data that needs it.
    #[error(
        "{0} is missing, but the stores are not empty: put it back from the backup; a new one \
         would not fit the stored data"
    )]
    Missing(PathBuf),
    /// A secret cannot be read.
    #[error("a secret cannot be used")]
    Secret(#[from] SecretError),
    /// The signing key cannot be used.
    #[error("the ledger's signing key cannot be used")]
    Key(#[from] CheckpointError),
    /// The subscriptions cannot be written.
    #[error("the subscriptions cannot be written")]
    Subscriptions(#[from] SubscriptionsError),
}

impl DataDir {
    /// Makes the directory if it is not there and locks it.
    pub fn open(root: &Path) -> Result<Self, DataDirError> {
        for folder in [root.to_owned(), root.join("keys"), root.join("secrets")] {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(&folder);
            made.map_err(io_error(&folder))?;
        }
        let path = root.join("lock");
        let lock = File::create(&path).map_err(io_error(&path))?;
        lock.try_lock().map_err(|error| match error {
            fs::TryLockError::WouldBlock => DataDirError::InUse(root.to_owned()),
            fs::TryLockError::Error(source) => DataDirError::Io { path, source },
        })?;
        Ok(Self { root: root.to_owned(), _lock: lock })
    }

    /// A path below the directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Makes the secrets that are missing; where the stores hold data, a missing one is an error.
    pub fn complete(&self, stores_are_empty: bool) -> Result<(), DataDirError> {
        let missing: Vec<PathBuf> = SECRETS
            .iter()
            .chain([&LEDGER])
            .map(|name| self.secret_path(name))
            .chain([self.subscriptions()])
            .filter(|path| !path.exists())
            .collect();
        if let (Some(first), false) = (missing.first(), stores_are_empty) {
            return Err(DataDirError::Missing(first.clone()));
        }
        for name in SECRETS.into_iter().chain([OPERATOR]) {
            Self::make(&self.secret_path(name), random_key_hex)?;
        }
        Self::make(&self.secret_path(LEDGER), new_ledger_key)?;
        let signer = self.signer()?;
        let public = self.path("ledger.pub");
        fs::write(&public, format!("{}\n", signer.verifier_key())).map_err(io_error(&public))?;
        self.make_subscriptions()
    }

    /// The ledger's signing key.
    pub fn signer(&self) -> Result<CheckpointSigner, DataDirError> {
        Ok(CheckpointSigner::from_secret(&self.secret(LEDGER)?)?)
    }

    /// Where the highest checkpoint is remembered: beside the signing key, outside the stores.
    pub fn checkpoint_file(&self) -> PathBuf {
        self.path("secrets").join("ledger.checkpoint")
    }

    /// The key that seals blocks.
    pub fn seal_key(&self) -> Result<Secret, DataDirError> {
        self.secret(SEAL)
    }

    /// The key-encryption key.
    pub fn kek(&self) -> Result<Secret, DataDirError> {
        self.secret(KEK)
    }

    /// The key-encryption key before, which lies beside it while keys are wrapped anew.
    pub fn previous_kek(&self) -> Result<Option<Secret>, DataDirError> {
        if self.secret_path(PREVIOUS_KEK).exists() {
            return self.secret(PREVIOUS_KEK).map(Some);
        }
        Ok(None)
    }

    /// The HMAC key of command ids.
    pub fn command_key(&self) -> Result<Secret, DataDirError> {
        self.secret(COMMAND)
    }

    /// The secret under which subscription keys are stored.
    pub fn pepper(&self) -> Result<Secret, DataDirError> {
        self.secret(PEPPER)
    }

    /// The key by which a caller is known to the internal services.
    pub fn service_key(&self, caller: &str) -> Result<Secret, DataDirError> {
        self.secret(&format!("service-{caller}"))
    }

    /// The file of subscriptions.
    pub fn subscriptions(&self) -> PathBuf {
        self.path("subscriptions.toml")
    }

    fn secret(&self, name: &str) -> Result<Secret, DataDirError> {
        Ok(SecretRef::File(self.secret_path(name)).load()?)
    }

    fn secret_path(&self, name: &str) -> PathBuf {
        self.path("secrets").join(format!("{name}.key"))
    }

    fn make(path: &Path, text: impl FnOnce() -> String) -> Result<(), DataDirError> {
        if path.exists() {
            return Ok(());
        }
        write_secret_file(path, format!("{}\n", text())).map_err(io_error(path))
    }

    fn make_subscriptions(&self) -> Result<(), DataDirError> {
        let file = self.subscriptions();
        if file.exists() {
            return Ok(());
        }
        let pepper = self.pepper()?;
        let mut entries = Vec::new();
        for (name, scopes) in SUBSCRIPTIONS {
            let path = self.path("keys").join(format!("{name}.key"));
            Self::make(&path, subscriptions::new_key)?;
            let key = SecretRef::File(path).load()?;
            let name = name.parse().expect("a short word is a name");
            let keys = vec![subscriptions::hash_key(&pepper, key.text()?)];
            // There is no ledger yet.
            entries.push(Entry { unrecorded: true, ..Entry::new(name, scopes.to_vec(), keys) });
        }
        Ok(subscriptions::write_file(&file, &entries)?)
    }
}

/// A signing key under an origin of its own: every ledger has another name.
fn new_ledger_key() -> String {
    let random = random_key_hex();
    let origin: Name = format!("vitalog-{}", &random[..12]).parse().expect("hex is a name");
    let seed = Secret::new(random_key_hex()).key32().expect("64 hexadecimal digits");
    new_signing_key(&origin, *seed).to_string()
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> DataDirError {
    let path = path.to_owned();
    move |source| DataDirError::Io { path, source }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_first_start_makes_everything_and_the_second_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::open(folder.path()).unwrap();
        data.complete(true).unwrap();
        let clinic = data.path("keys").join("clinic.key");
        assert_eq!(fs::metadata(&clinic).unwrap().permissions().mode() & 0o777, 0o600);
        let before = (fs::read(&clinic).unwrap(), data.signer().unwrap().verifier_key());
        data.complete(false).unwrap();
        let after = (fs::read(&clinic).unwrap(), data.signer().unwrap().verifier_key());
        assert_eq!(before, after);
    }

    #[test]
    fn a_secret_that_is_missing_beside_data_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::open(folder.path()).unwrap();
        data.complete(true).unwrap();
        let kek = data.secret_path(KEK);
        fs::remove_file(&kek).unwrap();
        assert!(matches!(data.complete(false), Err(DataDirError::Missing(path)) if path == kek));
    }

    #[test]
    fn one_process_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let _first = DataDir::open(folder.path()).unwrap();
        assert!(matches!(DataDir::open(folder.path()), Err(DataDirError::InUse(_))));
    }
}
