//! What the jobs are told of their deployment.

use clap::{Args, ValueEnum};
use domain::ids::Name;

use crate::{Error, azure::Azure, names::STORES};

/// Where secrets are kept.
#[derive(Debug, Args)]
pub struct VaultOptions {
    /// The vault, as `https://NAME.vault.azure.net`
    #[arg(long, env = "VITALOG_VAULT", value_name = "URL")]
    pub vault: String,
    /// The resource manager of the cloud
    #[arg(
        long,
        env = "VITALOG_RESOURCE_MANAGER",
        value_name = "URL",
        default_value = "https://management.azure.com"
    )]
    pub resource_manager: String,
}

impl VaultOptions {
    /// Both services, with the managed identity of this job.
    pub fn azure(&self) -> Result<Azure, Error> {
        Azure::new(&self.vault, &self.resource_manager, runtime::settings::env("AZURE_CLIENT_ID"))
    }
}

/// What there is besides the vault.
#[derive(Debug, Args)]
pub struct DeploymentOptions {
    /// The ledger's name, which stands in its keys
    #[arg(long, env = "VITALOG_LEDGER_ORIGIN", value_name = "NAME")]
    pub ledger_origin: Name,
    /// What the databases are
    #[arg(long, env = "VITALOG_STORE_KIND")]
    pub store_kind: StoreKind,
    /// Resource ids of the four databases, as `ledger=/subscriptions/… patients=… keys=… gateway=…`
    #[arg(long, env = "VITALOG_STORES", value_name = "IDS")]
    pub stores: Databases,
    /// Resource ids of the copies in the second region, likewise
    #[arg(long, env = "VITALOG_REPLICAS", value_name = "IDS")]
    pub replicas: Option<Databases>,
}

/// What the databases are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StoreKind {
    /// Clusters of the vCore kind: one administrator with a password.
    Vcore,
    /// Cosmos DB accounts: two keys.
    Ru,
}

/// The resource ids of all databases, in the order of [`STORES`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Databases([String; 4]);

impl Databases {
    /// Each database and its resource id.
    pub fn each(&self) -> impl Iterator<Item = (&'static str, &str)> {
        STORES.into_iter().zip(self.0.iter().map(String::as_str))
    }

    /// The resource id of one of [`STORES`].
    pub fn id(&self, store: &str) -> Option<&str> {
        self.each().find(|it| it.0 == store).map(|it| it.1)
    }
}

impl std::str::FromStr for Databases {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut ids: [String; 4] = Default::default();
        for part in text.split_whitespace() {
            let (store, id) = part.split_once('=').ok_or("each is NAME=RESOURCE-ID")?;
            let place = STORES.iter().position(|known| *known == store);
            let place = place.ok_or("the databases are ledger, patients, keys and gateway")?;
            // Nothing that could lead a token or a change elsewhere.
            let plain = id.bytes().all(|b| b.is_ascii_alphanumeric() || b"/.-_()".contains(&b));
            if !id.starts_with("/subscriptions/") || !plain || id.contains("..") {
                return Err("a resource id begins with /subscriptions/");
            }
            if !std::mem::replace(&mut ids[place], id.to_owned()).is_empty() {
                return Err("a database stands there twice");
            }
        }
        if ids.iter().any(String::is_empty) {
            return Err("ledger, patients, keys and gateway are all needed");
        }
        Ok(Self(ids))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const ALL: &str = "gateway=/subscriptions/0/g keys=/subscriptions/0/k ledger=/subscriptions/0/l patients=/subscriptions/0/p";

    #[test]
    fn databases_are_read_in_any_order() {
        let databases: Databases = ALL.parse().unwrap();
        assert_eq!(databases.id("keys"), Some("/subscriptions/0/k"));
        assert_eq!(databases.id("others"), None);
        assert_eq!(databases.each().next(), Some(("ledger", "/subscriptions/0/l")));
    }

    #[test]
    fn what_is_no_database_is_refused() {
        for wrong in [
            "",
            "ledger=/subscriptions/0/l",
            "ledger",
            &ALL.replace("/subscriptions/0/l", "https://elsewhere.example/"),
            &ALL.replace("/0/l", "/0/../l"),
            &ALL.replace("/0/l", "/0/l?x=y"),
            &ALL.replace("patients", "ledger"),
            &ALL.replace("patients", "others"),
        ] {
            assert!(wrong.parse::<Databases>().is_err(), "{wrong}");
        }
    }
}
