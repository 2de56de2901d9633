//! The witness's command line: `witness` and `witness keygen`.

use std::{fs, io, net::SocketAddr, path::PathBuf};

use audit_verify::{checkpoint::LedgerKey, cosignature::WitnessSecret, keys::KeyError};
use clap::{Args, Subcommand};
use runtime::{
    files,
    hardening::{Insecure, Overrides},
    secrets::{self, Secret, SecretError, SecretRef},
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::server::{self, WitnessConfig, WitnessError};
use crate::service::system_clock;

/// Bytes of a file of verifier keys at most.
const MAX_KEY_FILE_BYTES: u64 = 64 * 1024;

/// Watch ledgers: cosign each checkpoint that extends the one before (C2SP tlog-witness).
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct WitnessArgs {
    /// What to do instead of serving.
    #[command(subcommand)]
    command: Option<WitnessCommand>,
    /// Options of serving.
    #[command(flatten)]
    serve: Option<ServeWitnessArgs>,
}

/// What `witness` does besides serving.
#[derive(Debug, Subcommand)]
enum WitnessCommand {
    /// Make a key for a new witness.
    Keygen(WitnessKeygenArgs),
}

/// Options of `witness`.
#[derive(Debug, Args)]
struct ServeWitnessArgs {
    /// Address to listen on.
    #[arg(long, env = "VITALOG_WITNESS_LISTEN", default_value = "127.0.0.1:7074")]
    listen: SocketAddr,
    /// The witness's key, as made by `witness keygen`: a reference to a secret. REF is `env:NAME`,
    /// `file:/path` or `keyvault:https://…`.
    #[arg(long, env = "VITALOG_WITNESS_KEY", required = true)]
    key: SecretRef,
    /// Folder of what was seen. It must never be set back to an older copy.
    #[arg(long, env = "VITALOG_WITNESS_STATE", required = true)]
    state: PathBuf,
    /// File with the verifier keys of a ledger, one a line; may be given several times.
    #[arg(
        long = "ledger-key",
        env = "VITALOG_WITNESS_LEDGER_KEYS",
        value_delimiter = ' ',
        required = true
    )]
    ledger_keys: Vec<PathBuf>,
}

/// Options of `witness keygen`.
#[derive(Debug, Args)]
struct WitnessKeygenArgs {
    /// The new witness's name: a URL without its scheme, by which people will know it.
    #[arg(long)]
    name: String,
    /// File for the witness's key; must not exist.
    #[arg(long)]
    out: PathBuf,
    /// File for the verifier key; must not exist.
    #[arg(long)]
    public: PathBuf,
}

/// Why the witness's command line failed.
#[derive(Debug, thiserror::Error)]
pub enum WitnessArgsError {
    /// Options are missing.
    #[error("say --key, --state and --ledger-key, or keygen")]
    Missing,
    /// The witness's key cannot be loaded.
    #[error("the witness's key cannot be loaded")]
    Secret(#[from] SecretError),
    /// The witness's key or name cannot be used.
    #[error("the witness's key cannot be used")]
    Key(#[from] KeyError),
    /// A file of verifier keys cannot be used.
    #[error("the verifier keys in {path} cannot be used")]
    LedgerKey {
        /// The file.
        path: PathBuf,
        /// Why.
        source: KeyError,
    },
    /// A file cannot be read or written.
    #[error("{path} cannot be used")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The witness ended other than by being told to.
    #[error(transparent)]
    Witness(#[from] WitnessError),
}

impl WitnessArgs {
    /// Looks whether the settings are secure. Anybody may talk to a witness: it takes what a ledger
    /// has signed, and nothing that it has is secret but its key.
    pub fn harden(&self, over: &Overrides) -> Result<(), Insecure> {
        match (&self.command, &self.serve) {
            (None, Some(args)) => over.keys("--key", [&args.key]),
            _ => Ok(()),
        }
    }

    /// Serves until `shutdown`, or makes a key.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), WitnessArgsError> {
        match (self.command, self.serve) {
            (Some(WitnessCommand::Keygen(args)), _) => args.run(),
            (None, Some(args)) => args.run(shutdown).await,
            (None, None) => Err(WitnessArgsError::Missing),
        }
    }
}

impl ServeWitnessArgs {
    async fn run(self, shutdown: CancellationToken) -> Result<(), WitnessArgsError> {
        let secret = WitnessSecret::parse(self.key.load()?.text()?)?;
        let ledgers = ledger_keys(&self.ledger_keys)?;
        let address = self.listen;
        let listener = TcpListener::bind(address)
            .await
            .map_err(|source| WitnessArgsError::Listen { address, source })?;
        let config = WitnessConfig { secret, ledgers, state: self.state, clock: system_clock() };
        Ok(server::run(listener, config, shutdown).await?)
    }
}

impl WitnessKeygenArgs {
    fn run(&self) -> Result<(), WitnessArgsError> {
        let seed = Secret::new(secrets::random_key_hex()).key32()?;
        let secret = WitnessSecret::new(&self.name, &seed)?;
        secrets::write_secret_file(&self.out, format!("{}\n", *secret.to_text()))
            .map_err(failed(&self.out))?;
        files::create(&self.public, &format!("{}\n", secret.public())).map_err(failed(&self.public))
    }
}

/// The verifier keys of some files, one a line.
pub fn ledger_keys(files: &[PathBuf]) -> Result<Vec<LedgerKey>, WitnessArgsError> {
    let mut keys = Vec::new();
    for path in files {
        let too_long = fs::metadata(path).map_err(failed(path))?.len() > MAX_KEY_FILE_BYTES;
        let text = if too_long {
            String::new()
        } else {
            fs::read_to_string(path).map_err(failed(path))?
        };
        let unusable = |source| WitnessArgsError::LedgerKey { path: path.clone(), source };
        let before = keys.len();
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            keys.push(line.parse().map_err(unusable)?);
        }
        if keys.len() == before {
            return Err(unusable(KeyError::Public));
        }
    }
    Ok(keys)
}

fn failed(path: &std::path::Path) -> impl FnOnce(io::Error) -> WitnessArgsError {
    let path = path.to_owned();
    |source| WitnessArgsError::File { path, source }
}
