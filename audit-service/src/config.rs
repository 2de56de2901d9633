//! Settings of the service, from flags and environment; the only reader of them.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use clap::{Args, Parser, Subcommand};
use domain::ids::{IdError, Name};
use runtime::{
    files,
    hardening::{Insecure, Overrides, PeerArgs},
    health::Readiness,
    listener::Peers,
    retry,
    secrets::{self, SecretError, SecretRef},
    service_keys::{CallerSpec, Callers},
    store_location::StoreLocation,
    telemetry::TelemetryArgs,
};
use tokio_util::sync::CancellationToken;

use crate::{
    checkpoint::{CheckpointError, CheckpointFile, CheckpointSigner, new_signing_key},
    outside::OutsideArgs,
    rotate_key::RotateKeyArgs,
    seal::SealKeys,
    seal_keys::{SealKeySpec, SealKeysError},
    service::{Parts, system_clock},
    store::{
        LedgerStore,
        mongo::{
            MongoLedger,
            open::{CosmosConsistency, MongoOptions, OpenError},
        },
        observed::Observed,
        sqlite::SqliteLedger,
    },
};

/// The append-only, hash-chained, signed ledger.
#[derive(Debug, Parser)]
#[command(name = "audit-service", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// What to accept though it is insecure.
    #[command(flatten)]
    pub overrides: Overrides,
}

/// What the program does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the ledger to the other services.
    Serve(Box<ServeArgs>),
    /// Make a signing key, for a new ledger or to take over in one.
    Keygen(KeygenArgs),
    /// Let the next signing key take over, without a pause.
    ///
    /// 1. Make the next key: `keygen` with the ledger's name.
    /// 2. Restart every replica, one after the other, with `--signing-key CURRENT,NEXT`. One that
    ///    lacks the next key stops at the rotation.
    /// 3. Run this. Running it again changes nothing.
    /// 4. Restart every replica with the next key alone.
    /// 5. Give out the new verifier key. The old one stays good for verifying the whole ledger:
    ///    the rotation is a record of the ledger, and it vouches for that.
    #[command(verbatim_doc_comment)]
    RotateKey(Box<RotateKeyArgs>),
}

/// Options of `serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Address to listen on.
    #[arg(long, env = "VITALOG_AUDIT_LISTEN", default_value = "127.0.0.1:7072")]
    pub listen: SocketAddr,
    /// Whose connections are taken.
    #[command(flatten)]
    pub peers: PeerArgs,
    /// The ledger's store: sqlite:PATH, mongodb://…, or a reference to such a URI. A reference is
    /// `env:NAME`, `file:/path` or `keyvault:https://…`.
    #[arg(long, env = "VITALOG_LEDGER_STORE")]
    pub store: StoreLocation,
    /// Databases on MongoDB are called `PREFIX_ledger` and so on.
    #[arg(long, env = "VITALOG_DATABASE_PREFIX", default_value = "vitalog")]
    pub database_prefix: Name,
    /// Consistency of an Azure Cosmos DB account, which cannot be seen over the wire.
    #[arg(long, env = "VITALOG_COSMOS_CONSISTENCY", value_enum)]
    pub cosmos_consistency: Option<CosmosConsistency>,
    /// The ledger's signing key, as made by `keygen`: REF, or `REF,NEXT_REF` while it is rotated.
    /// REF is `env:NAME`, `file:/path` or `keyvault:https://…`.
    #[arg(long, env = "VITALOG_LEDGER_KEY", value_delimiter = ',', required = true)]
    pub signing_key: Vec<SecretRef>,
    /// The key that seals blocks: 32 bytes, hexadecimal or base64. REF, or `REF,OTHER_REF` while it is
    /// rotated and `REF,OLDER_REF@SIZE` afterwards: seals of the older one count up to SIZE records.
    /// REF is `env:NAME`, `file:/path` or `keyvault:https://…`.
    #[arg(
        long = "seal-key",
        env = "VITALOG_SEAL_KEY",
        value_name = "REF",
        value_delimiter = ',',
        required = true
    )]
    pub seal_keys: Vec<SealKeySpec>,
    /// File that remembers the highest checkpoint outside the store.
    #[arg(long, env = "VITALOG_CHECKPOINT_FILE")]
    pub checkpoint_file: PathBuf,
    /// A caller and its service key: NAME=REF, or NAME=REF,REF while a key is rotated. REF is
    /// `env:NAME`, `file:/path` or `keyvault:https://…`.
    #[arg(long = "caller", env = "VITALOG_AUDIT_CALLERS", value_delimiter = ' ', required = true)]
    pub callers: Vec<CallerSpec>,
    /// Witnesses and anchors.
    #[command(flatten)]
    pub outside: OutsideArgs,
    /// Where traces and metrics go.
    #[command(flatten)]
    pub telemetry: TelemetryArgs,
}

/// Options of `keygen`.
#[derive(Debug, Args)]
pub struct KeygenArgs {
    /// The ledger's name.
    #[arg(long)]
    pub origin: Name,
    /// File for the signing key; must not exist.
    #[arg(long)]
    pub out: PathBuf,
    /// File for the verifier key; must not exist.
    #[arg(long)]
    pub public: PathBuf,
}

/// Why the service does not start.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A setting is insecure, or its secret cannot be had.
    #[error(transparent)]
    Insecure(#[from] Insecure),
    /// A secret cannot be used.
    #[error("a secret cannot be used")]
    Secret(#[from] SecretError),
    /// The seal keys cannot be used.
    #[error("blocks cannot be sealed")]
    Seal(#[from] SealKeysError),
    /// The signing key or checkpoint cannot be used.
    #[error("the signing key cannot be used")]
    Key(#[from] CheckpointError),
    /// The store refuses to be opened; waiting does not help.
    #[error("the ledger store cannot be opened")]
    Mongo(#[from] OpenError),
    /// The embedded store cannot be opened.
    #[error("the ledger file cannot be opened")]
    Sqlite(#[source] crate::store::sqlite::OpenError),
    /// A name cannot stand in records.
    #[error("a name cannot be used")]
    Name(#[from] IdError),
    /// A key file could not be written.
    #[error("a key file could not be written")]
    Io(#[from] std::io::Error),
    /// The process was told to stop.
    #[error("stopped while waiting for secrets or the ledger store")]
    Stopped,
}

impl ServeArgs {
    /// Whose connections are taken.
    pub fn peers(&self, over: &Overrides) -> Result<Peers, Insecure> {
        over.peers("--listen", self.listen, &self.peers.networks)
    }

    /// Looks whether the settings are secure. Loads secrets.
    fn harden(&self, over: &Overrides) -> Result<(), Insecure> {
        over.store("--store", &self.store)?;
        over.keys("--signing-key", &self.signing_key)?;
        over.keys("--seal-key", self.seal_keys.iter().map(SealKeySpec::key))?;
        over.callers(&self.callers)
    }

    /// Loads the secrets, refuses insecure ones, makes `callers` known and opens the store, waiting
    /// for one that is not there yet. The keys of callers are read again until `shutdown`.
    pub async fn parts(
        self: Arc<Self>,
        overrides: Overrides,
        callers: &Callers,
        readiness: &Readiness,
        shutdown: &CancellationToken,
    ) -> Result<Parts, ConfigError> {
        let (args, known) = (Arc::clone(&self), callers.clone());
        let loaded =
            secrets::loading(readiness, shutdown, move || args.load(&overrides, &known)).await?;
        let (signer, seal_keys) = loaded.ok_or(ConfigError::Stopped)?;
        tokio::spawn(callers.clone().keep_reloading(self.callers.clone(), shutdown.clone()));
        let options = MongoOptions { cosmos_consistency: self.cosmos_consistency };
        let store =
            open_store(&self.store, &self.database_prefix, options, readiness, shutdown).await?;
        let clock = system_clock();
        Ok(Parts {
            outside: self.outside.outside(&clock),
            store,
            signer,
            seal_keys,
            checkpoint_file: CheckpointFile::new(&self.checkpoint_file),
            clock,
        })
    }

    fn load(
        &self,
        overrides: &Overrides,
        callers: &Callers,
    ) -> Result<(CheckpointSigner, SealKeys), ConfigError> {
        self.harden(overrides)?;
        callers.reload(&self.callers)?;
        let signing_keys =
            self.signing_key.iter().map(SecretRef::load).collect::<Result<Vec<_>, _>>()?;
        let signer = CheckpointSigner::from_secrets(&signing_keys)?;
        if let Some(sas) = &self.outside.anchors.anchor_sas {
            // Nothing waits for anchors: the first load has its time here, and whoever writes to one
            // says later what is wrong with it.
            let _ = sas.load();
        }
        Ok((signer, SealKeySpec::load_all(&self.seal_keys)?))
    }
}

/// Opens a ledger store to be served, with its calls observed; one that cannot be reached is waited
/// for.
pub async fn open_store(
    location: &StoreLocation,
    prefix: &Name,
    options: MongoOptions,
    readiness: &Readiness,
    shutdown: &CancellationToken,
) -> Result<Arc<dyn LedgerStore>, ConfigError> {
    if let StoreLocation::Sqlite(path) = location {
        let ledger = SqliteLedger::open(path).map_err(ConfigError::Sqlite)?;
        return Ok(Arc::new(Observed::new("sqlite", ledger)));
    }
    let uri = location.mongo_uri()?.ok_or(SecretError::NotAReference)?;
    let uri = uri.text()?.to_owned();
    let database = format!("{prefix}_ledger");
    let component = readiness.component("ledger store");
    let opened = retry::until_ready("ledger store", &component, shutdown, || async {
        match MongoLedger::connect(&uri, &database, options).await {
            Err(error) if error.is_transient() => Err(error),
            answer => Ok(answer),
        }
    });
    Ok(Arc::new(Observed::new("mongodb", opened.await.ok_or(ConfigError::Stopped)??)))
}

impl KeygenArgs {
    /// Makes the key pair.
    pub fn run(&self) -> Result<(), ConfigError> {
        let seed = secrets::Secret::new(secrets::random_key_hex()).key32()?;
        let key = new_signing_key(&self.origin, *seed);
        let signer = CheckpointSigner::from_secret(&secrets::Secret::new(key.as_bytes()))?;
        secrets::write_secret_file(&self.out, format!("{}\n", *key))?;
        Ok(files::create(&self.public, &format!("{}\n", signer.verifier_key()))?)
    }
}
