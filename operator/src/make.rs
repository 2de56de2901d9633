//! Making the secrets that are missing.
//!
//! Whatever is there stays, so an interrupted run is simply run again.

use audit_verify::checkpoint::LedgerSecret;
use domain::ids::Name;
use runtime::secrets::{Secret, random_key_hex};
use zeroize::Zeroizing;

use crate::{
    Error,
    azure::Azure,
    deployment::{DeploymentOptions, StoreKind},
    names::{self, KEYS, LEDGER_KEY, ServiceKey, Successor},
    stores::{self, Which},
};

/// Makes every secret that a service reads and that is not there. Returns the names of those it made.
pub async fn ensure(azure: &Azure, deployment: &DeploymentOptions) -> Result<Vec<String>, Error> {
    let mut made = Vec::new();
    for name in KEYS {
        if azure.get(name).await?.is_none() {
            azure.set(name, &random_key(), true).await?;
            made.push(name.to_owned());
        }
    }
    ledger_key(azure, &deployment.ledger_origin, &mut made).await?;
    for key in ServiceKey::all() {
        service_key(azure, key, &mut made).await?;
    }
    for (store, id) in deployment.stores.each() {
        let copy = deployment.replicas.as_ref().and_then(|replicas| replicas.id(store));
        database(azure, deployment.store_kind, store, id, copy, &mut made).await?;
    }
    Ok(made)
}

fn random_key() -> Secret {
    Secret::new(random_key_hex())
}

fn new_ledger_key(origin: &Name) -> LedgerSecret {
    let mut seed = Zeroizing::new([0_u8; 32]);
    let hex = Zeroizing::new(random_key_hex());
    hex::decode_to_slice(hex.as_bytes(), seed.as_mut()).expect("64 hex digits are 32 bytes");
    LedgerSecret::new(origin.clone(), &seed)
}

/// The signing key, and what is public of it: from the key, so that both always belong together.
async fn ledger_key(azure: &Azure, origin: &Name, made: &mut Vec<String>) -> Result<(), Error> {
    let (name, public) = LEDGER_KEY;
    let unusable = |reason| Error::Unusable { name: name.to_owned(), reason };
    let key = if let Some(text) = azure.get(name).await? {
        let text = text.text().map_err(|_| unusable("no signing key of a ledger"))?;
        LedgerSecret::parse(text).map_err(|_| unusable("no signing key of a ledger"))?
    } else {
        let key = new_ledger_key(origin);
        azure.set(name, &Secret::new(key.to_text().as_bytes()), true).await?;
        made.push(name.to_owned());
        key
    };
    if key.origin() != origin {
        return Err(unusable("of another ledger than VITALOG_LEDGER_ORIGIN says"));
    }
    if azure.get(public).await?.is_none() {
        azure.set(public, &Secret::new(key.public().to_string()), false).await?;
        made.push(public.to_owned());
    }
    Ok(())
}

/// All three are alike where none is under rotation. The callee's come first: a key that is shown is taken.
async fn service_key(azure: &Azure, key: ServiceKey, made: &mut Vec<String>) -> Result<(), Error> {
    let (current, next) = (azure.get(&key.current()).await?, azure.get(&key.next()).await?);
    let shown = azure.get(&key.shown()).await?;
    let known = shown.clone().or_else(|| current.clone()).or_else(|| next.clone());
    let value = known.unwrap_or_else(random_key);
    for (name, there) in [(key.current(), current), (key.next(), next), (key.shown(), shown)] {
        if there.is_none() {
            azure.set(&name, &value, true).await?;
            made.push(name);
        }
    }
    Ok(())
}

/// A database's URI, and that of its copy, which has the same password.
async fn database(
    azure: &Azure,
    kind: StoreKind,
    store: &str,
    id: &str,
    copy: Option<&str>,
    made: &mut Vec<String>,
) -> Result<(), Error> {
    let name = names::store(store, false);
    let uri = match (azure.get(&name).await?, kind) {
        (Some(uri), _) => uri,
        (None, StoreKind::Ru) => {
            let uri = stores::account_uri(azure, id, Which::Primary).await?;
            azure.set(&name, &uri, true).await?;
            made.push(name.clone());
            uri
        }
        (None, StoreKind::Vcore) => {
            let password = stores::new_password();
            stores::set_password(azure, id, &password).await?;
            let uri = stores::cluster_uri(azure, id, &password).await?;
            azure.set(&name, &uri, true).await?;
            made.push(name.clone());
            uri
        }
    };
    let copy_name = names::store(store, true);
    if let Some(copy) = copy
        && azure.get(&copy_name).await?.is_none()
    {
        write_copy(azure, kind, &name, &uri, &copy_name, copy).await?;
        made.push(copy_name);
    }
    Ok(())
}

/// Writes the URI of a copy, from that of its original.
pub(crate) async fn write_copy(
    azure: &Azure,
    kind: StoreKind,
    name: &str,
    uri: &Secret,
    copy_name: &str,
    copy: &str,
) -> Result<(), Error> {
    let uri = match kind {
        StoreKind::Vcore => {
            let password = stores::password_in(name, uri)?;
            stores::cluster_uri(azure, copy, &password).await?
        }
        // The second region of an account has the same address and the same keys.
        StoreKind::Ru => uri.clone(),
    };
    azure.set(copy_name, &uri, true).await
}

/// Makes the next key of a kind, beside the one that is used.
///
/// # Errors
/// [`Error::Exists`]: a key that may be in use is never replaced.
pub async fn successor(
    azure: &Azure,
    origin: &Name,
    name: &Successor,
) -> Result<Vec<String>, Error> {
    match name {
        Successor::Key(name) => {
            absent(azure, name).await?;
            azure.set(name, &random_key(), true).await?;
            Ok(vec![name.clone()])
        }
        Successor::LedgerKey { secret, public } => {
            absent(azure, secret).await?;
            let key = new_ledger_key(origin);
            // The public one first: it can be made again, with the other.
            azure.set(public, &Secret::new(key.public().to_string()), false).await?;
            azure.set(secret, &Secret::new(key.to_text().as_bytes()), true).await?;
            Ok(vec![public.clone(), secret.clone()])
        }
    }
}

async fn absent(azure: &Azure, name: &str) -> Result<(), Error> {
    match azure.get(name).await? {
        None => Ok(()),
        Some(_) => Err(Error::Exists(name.to_owned())),
    }
}
