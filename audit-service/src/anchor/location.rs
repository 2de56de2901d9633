//! Where an anchor is: `dir:PATH` or `azblob:URL`.

use std::{fmt, path::PathBuf, str::FromStr};

use reqwest::Url;

/// Where an anchor is.
#[derive(Clone, PartialEq, Eq)]
pub enum AnchorLocation {
    /// `dir:PATH`: a directory, of one ledger alone.
    Directory(PathBuf),
    /// `azblob:https://ACCOUNT.blob.core.windows.net/CONTAINER`.
    AzureBlob(Url),
}

/// A text that names no anchor. Does not repeat it: it may hold a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "an anchor is dir:PATH or azblob:https://ACCOUNT.blob.core.windows.net/CONTAINER, without \
     a token"
)]
pub struct NotAnAnchor;

impl FromStr for AnchorLocation {
    type Err = NotAnAnchor;

    fn from_str(text: &str) -> Result<Self, NotAnAnchor> {
        if let Some(path) = text.strip_prefix("dir:") {
            // A URL where a path should be may hold a token, and paths are shown.
            let is_path = !path.is_empty() && !path.contains("://");
            return if is_path { Ok(Self::Directory(path.into())) } else { Err(NotAnAnchor) };
        }
        let url = text.strip_prefix("azblob:").ok_or(NotAnAnchor)?;
        let url = Url::parse(url.trim_end_matches('/')).map_err(|_| NotAnAnchor)?;
        let plain = url.query().is_none() && url.fragment().is_none() && url.password().is_none();
        let container = url.path().len() > 1;
        // Tokens travel in the request: without TLS only to an emulator on this machine.
        let local = matches!(url.host_str(), Some("127.0.0.1" | "[::1]" | "localhost"));
        let safe = url.scheme() == "https" || (url.scheme() == "http" && local);
        if plain && container && safe { Ok(Self::AzureBlob(url)) } else { Err(NotAnAnchor) }
    }
}

impl fmt::Display for AnchorLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => write!(f, "dir:{}", path.display()),
            Self::AzureBlob(url) => write!(f, "azblob:{url}"),
        }
    }
}

impl fmt::Debug for AnchorLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        for text in ["dir:/var/anchor", "azblob:https://a.blob.core.windows.net/ledger"] {
            assert_eq!(text.parse::<AnchorLocation>().unwrap().to_string(), text);
        }
        assert!(
            "azblob:http://127.0.0.1:10000/devstoreaccount1/c".parse::<AnchorLocation>().is_ok()
        );
        for text in [
            "dir:",
            "dir:azblob:https://a.blob.core.windows.net/ledger?sig=canary",
            "/var/anchor",
            "azblob:http://a.blob.core.windows.net/ledger",
            "azblob:https://a.blob.core.windows.net/",
            "azblob:https://a.blob.core.windows.net/ledger?sig=canary",
            "azblob:https://user:canary@a.blob.core.windows.net/ledger",
        ] {
            let error = text.parse::<AnchorLocation>().unwrap_err();
            assert!(!format!("{error} {error:?}").contains("canary"), "{text}");
        }
    }
}
