//! The databases' credentials, and the URIs that services connect with.

use reqwest::{Method, Url};
use runtime::secrets::{Secret, random_key_hex};
use serde_json::{Value, json};

use crate::{
    Error,
    azure::{Azure, POLL},
    names,
};

/// The administrator that Terraform makes clusters with.
const ADMINISTRATOR: &str = "vitalog";

/// Versions of the resource manager's protocols.
const CLUSTERS: &str = "2024-07-01";
const ACCOUNTS: &str = "2024-11-15";

/// How often a changed key is looked for, [`POLL`] apart.
const LOOKS: u32 = 120;

/// One of an account's two keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// The first.
    Primary,
    /// The second.
    Secondary,
}

impl Which {
    /// The other one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Primary => Self::Secondary,
            Self::Secondary => Self::Primary,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Primary => "Primary",
            Self::Secondary => "Secondary",
        }
    }
}

/// A password that needs no escaping in a URI. Its first three characters are there for rules that ask for
/// an upper-case letter, a digit and a lower-case letter; 256 random bits follow.
pub fn new_password() -> Secret {
    Secret::new(format!("V1v{}", random_key_hex()))
}

/// Sets the password of a cluster's administrator. The one before counts no more.
pub async fn set_password(azure: &Azure, id: &str, password: &Secret) -> Result<(), Error> {
    let text = password.text().map_err(|_| Error::Answer(id.to_owned()))?;
    let administrator = json!({"userName": ADMINISTRATOR, "password": text});
    let body = json!({"properties": {"administrator": administrator}});
    azure.manage(Method::PATCH, id, None, CLUSTERS, Some(&body)).await.map(|_| ())
}

/// The URI of a cluster with this password.
pub async fn cluster_uri(azure: &Azure, id: &str, password: &Secret) -> Result<Secret, Error> {
    let cluster = azure.manage(Method::GET, id, None, CLUSTERS, None).await?;
    let unreadable = || Error::Answer(format!("GET {id}"));
    let shown = cluster["properties"]["connectionString"].as_str().ok_or_else(unreadable)?;
    let host = host(shown).ok_or_else(unreadable)?;
    let password = password.text().map_err(|_| unreadable())?;
    Ok(Secret::new(format!(
        "mongodb+srv://{ADMINISTRATOR}:{password}@{host}/?tls=true&authMechanism=SCRAM-SHA-256&retrywrites=false&maxIdleTimeMS=120000"
    )))
}

/// The host of `mongodb+srv://<user>:<password>@HOST/?…`, in which user and password are literally that.
fn host(shown: &str) -> Option<&str> {
    let rest = shown.strip_prefix("mongodb+srv://")?;
    let rest = rest.split(['/', '?']).next()?;
    let host = rest.rsplit('@').next()?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'.' || b == b'-';
    (!host.is_empty() && host.bytes().all(plain)).then_some(host)
}

/// The password in a URI that stands in the vault.
pub fn password_in(name: &str, uri: &Secret) -> Result<Secret, Error> {
    let unusable = || Error::Unusable { name: name.to_owned(), reason: "no URI with a password" };
    let text = uri.text().map_err(|_| unusable())?;
    let url = Url::parse(text).map_err(|_| unusable())?;
    url.password().map(Secret::new).ok_or_else(unusable)
}

/// The URI of an account with one of its keys.
pub async fn account_uri(azure: &Azure, id: &str, which: Which) -> Result<Secret, Error> {
    let action = "listConnectionStrings";
    let answer = azure.manage(Method::POST, id, Some(action), ACCOUNTS, None).await?;
    let strings = answer["connectionStrings"].as_array().map_or(&[][..], Vec::as_slice);
    let is_it = |it: &&Value| {
        it["keyKind"] == which.name()
            || it["description"] == format!("{} MongoDB Connection String", which.name())
    };
    let uri = strings.iter().find(is_it).and_then(|it| it["connectionString"].as_str());
    let uri = uri.ok_or_else(|| Error::Answer(format!("POST {id}/{action}")))?;
    // The services want to see that it is encrypted, in the name that the driver's specification gives.
    Ok(Secret::new(uri.replace("ssl=true", "tls=true")))
}

/// Makes one of an account's keys anew; returns the URI with it.
pub async fn regenerate(azure: &Azure, id: &str, which: Which) -> Result<Secret, Error> {
    let action = "regenerateKey";
    let before = account_uri(azure, id, which).await?;
    // Here the kinds are in lower case, and in upper case where they are listed.
    let body = json!({"keyKind": which.name().to_ascii_lowercase()});
    azure.manage(Method::POST, id, Some(action), ACCOUNTS, Some(&body)).await?;
    // An account may say that nothing is under way before the key has changed.
    for _ in 0..LOOKS {
        let uri = account_uri(azure, id, which).await?;
        if uri != before {
            return Ok(uri);
        }
        tokio::time::sleep(POLL).await;
    }
    let outcome = "the key that was there before".to_owned();
    Err(Error::Unfinished { what: format!("POST {id}/{action}"), outcome })
}

/// Which of an account's keys the services have: the one in their URI.
pub async fn used_key(azure: &Azure, id: &str, store: &str) -> Result<Which, Error> {
    let name = names::store(store, false);
    let used = password_in(&name, &azure.need(&name).await?)?;
    for which in [Which::Primary, Which::Secondary] {
        if password_in(&name, &account_uri(azure, id, which).await?)? == used {
            return Ok(which);
        }
    }
    Err(Error::Unusable { name, reason: "neither of the account's keys" })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_taken_from_what_azure_shows() {
        let shown =
            "mongodb+srv://<user>:<password>@a-1.global.mongocluster.cosmos.azure.com/?tls=true";
        assert_eq!(host(shown), Some("a-1.global.mongocluster.cosmos.azure.com"));
        let with_name = "mongodb+srv://vitalog:<password>@a.example?tls=true";
        assert_eq!(host(with_name), Some("a.example"));
        for wrong in ["mongodb://a/", "mongodb+srv://", "mongodb+srv://x@a b/", ""] {
            assert_eq!(host(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_password_is_taken_from_a_uri() {
        let uri = Secret::new("mongodb+srv://vitalog:V1vabc@a.example/?tls=true");
        assert_eq!(password_in("x", &uri).unwrap(), Secret::new("V1vabc"));
        for wrong in ["mongodb+srv://a.example/", "nothing"] {
            let error = password_in("x", &Secret::new(wrong)).unwrap_err().to_string();
            assert_eq!(error, "the secret x is no URI with a password");
        }
    }

    #[test]
    fn a_password_is_accepted_and_never_the_same() {
        let (one, other) = (new_password(), new_password());
        assert_ne!(one, other);
        assert_eq!(one.bytes().len(), 67);
    }
}
