//! Whose tokens are taken.

use std::str::FromStr;

use reqwest::Url;

/// An issuer's identifier, which is also where its keys are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    text: String,
    url: Url,
}

/// A text that is not an issuer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be https://host/path without query (http only for loopback), as tokens have it")]
pub struct IssuerError;

impl FromStr for Issuer {
    type Err = IssuerError;

    fn from_str(text: &str) -> Result<Self, IssuerError> {
        let url = Url::parse(text).map_err(|_| IssuerError)?;
        let plain = url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        let safe = url.scheme() == "https" || (url.scheme() == "http" && is_loopback(&url));
        if !plain || !safe || !url.has_host() {
            return Err(IssuerError);
        }
        Ok(Self { text: text.to_owned(), url })
    }
}

impl Issuer {
    /// The identifier exactly as it was configured and stands in tokens.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Where its configuration is (`OpenID` Connect Discovery 1.0, section 4).
    pub(super) fn configuration(&self) -> Url {
        let mut url = self.url.clone();
        let path = url.path().trim_end_matches('/');
        let path = format!("{path}/.well-known/openid-configuration");
        url.set_path(&path);
        url
    }

    /// Whether it runs on this machine, as only a developer's or a test's does.
    pub(super) fn is_local(&self) -> bool {
        is_loopback(&self.url)
    }

    /// Whether its keys may be fetched from this address: over TLS, or where the issuer itself
    /// needs none.
    pub(super) fn may_refer_to(&self, url: &Url) -> bool {
        url.scheme() == "https"
            || (url.scheme() == "http" && self.url.scheme() == "http" && is_loopback(url))
    }
}

fn is_loopback(url: &Url) -> bool {
    // The parser writes numbers of every form as an address, and an IPv6 address in brackets.
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(issuer: &str, configuration: &str) {
        let issuer: Issuer = issuer.parse().unwrap();
        assert_eq!(issuer.configuration().as_str(), configuration);
    }

    #[test]
    fn the_configuration_is_below_the_issuer_with_and_without_a_slash() {
        check(
            "https://login.microsoftonline.com/t/v2.0",
            "https://login.microsoftonline.com/t/v2.0/.well-known/openid-configuration",
        );
        check(
            "https://sts.windows.net/t/",
            "https://sts.windows.net/t/.well-known/openid-configuration",
        );
        check("https://login.example", "https://login.example/.well-known/openid-configuration");
        check("http://[::1]:80/a", "http://[::1]/a/.well-known/openid-configuration");
    }

    #[test]
    fn plain_http_is_for_loopback_alone() {
        for right in ["http://127.0.0.1:9000", "http://127.9.9.9/", "http://localhost:9000/realm"] {
            assert!(right.parse::<Issuer>().is_ok(), "{right}");
        }
        for wrong in [
            "http://10.0.0.1",
            "http://localhost.example",
            "http://127.0.0.1.example",
            "http://[::2]",
            "ftp://localhost",
            "https://",
            "https://login.example/#",
            "",
        ] {
            assert_eq!(wrong.parse::<Issuer>(), Err(IssuerError), "{wrong}");
        }
    }

    #[test]
    fn keys_come_over_tls_unless_the_issuer_is_local_itself() {
        let check = |issuer: &str, keys: &str| {
            let issuer: Issuer = issuer.parse().unwrap();
            issuer.may_refer_to(&Url::parse(keys).unwrap())
        };
        assert!(check("https://login.example", "https://keys.example/k"));
        assert!(check("http://127.0.0.1:1", "http://127.0.0.1:2/k"));
        for keys in ["http://login.example/k", "http://127.0.0.1/k", "file:///etc/passwd"] {
            assert!(!check("https://login.example", keys), "{keys}");
        }
        assert!(!check("http://127.0.0.1:1", "http://10.0.0.1/k"));
    }
}
