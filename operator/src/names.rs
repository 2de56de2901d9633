//! The secrets of a deployment by their names, as Terraform's module `settings` has them.

use std::{fmt, str::FromStr};

/// Keys that each have one holder.
pub const KEYS: [&str; 4] = ["seal-key", "kek", "command-key", "pepper"];

/// The ledger's signing key, and what verifies it.
pub const LEDGER_KEY: (&str, &str) = ("ledger-key", "ledger-pub");

/// Keys that a caller shows to a callee. Each stands in three secrets, see [`ServiceKey`].
pub const SERVICE_KEYS: [&str; 5] = [
    "gateway-to-patient",
    "gateway-to-audit",
    "patient-to-audit",
    "projections-to-audit",
    "operator-to-audit",
];

/// Databases; the secret of each is `NAME-store`, and `NAME-store-b` for the second region's copy.
pub const STORES: [&str; 4] = ["ledger", "patients", "keys", "gateway"];

/// The three secrets of a service key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServiceKey(&'static str);

impl ServiceKey {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        SERVICE_KEYS.into_iter().map(Self)
    }

    /// What the caller shows.
    pub fn shown(self) -> String {
        self.0.to_owned()
    }

    /// What the callee takes.
    pub fn current(self) -> String {
        format!("{}-current", self.0)
    }

    /// What the callee takes as well, so that the caller can change over.
    pub fn next(self) -> String {
        format!("{}-next", self.0)
    }
}

/// The name of a database's secret.
pub fn store(store: &str, is_copy: bool) -> String {
    format!("{store}-store{}", if is_copy { "-b" } else { "" })
}

/// The names of all secrets that `ensure` makes where there is no second region.
pub fn ensured() -> Vec<String> {
    let mut names: Vec<String> = KEYS.map(str::to_owned).into();
    names.extend([LEDGER_KEY.0.to_owned(), LEDGER_KEY.1.to_owned()]);
    names.extend(ServiceKey::all().flat_map(|key| [key.shown(), key.current(), key.next()]));
    names.extend(STORES.map(|name| store(name, false)));
    names
}

/// A name that cannot be made or rotated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing that `make` makes.
    #[error(
        "{0} is none of {keys}: the other secrets are made by `ensure`, and new versions of them by `rotate`", keys = KEYS.iter().chain([&LEDGER_KEY.0]).map(|name| format!("{name}-N")).collect::<Vec<_>>().join(", ")
    )]
    NotMade(String),
    /// Nothing that `rotate` rotates.
    #[error("{0} is not rotated here: a service key ({keys}) or a database's password ({stores}) is", keys = SERVICE_KEYS.join(", "), stores = STORES.map(|name| store(name, false)).join(", "))]
    NotRotated(String),
}

/// A secret that is made beside its predecessor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Successor {
    /// One of [`KEYS`] with a number.
    Key(String),
    /// `ledger-key-N`; its verifier key becomes `ledger-pub-N`.
    LedgerKey {
        /// `ledger-key-N`.
        secret: String,
        /// `ledger-pub-N`.
        public: String,
    },
}

impl FromStr for Successor {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let number = |prefix: &str| {
            let number = text.strip_prefix(prefix)?.strip_prefix('-')?;
            number.parse::<u16>().ok().filter(|it| *it >= 2 && it.to_string() == number)
        };
        if KEYS.into_iter().any(|key| number(key).is_some()) {
            Ok(Self::Key(text.to_owned()))
        } else if let Some(number) = number(LEDGER_KEY.0) {
            Ok(Self::LedgerKey {
                secret: text.to_owned(),
                public: format!("{}-{number}", LEDGER_KEY.1),
            })
        } else {
            Err(NameError::NotMade(text.to_owned()))
        }
    }
}

/// A secret that gets a new value under its old name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rotated {
    /// By the name that the caller shows.
    ServiceKey(ServiceKey),
    /// By `NAME-store`.
    Store(&'static str),
}

impl FromStr for Rotated {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let key = ServiceKey::all().find(|key| key.0 == text).map(Self::ServiceKey);
        let database =
            || STORES.into_iter().find(|name| store(name, false) == text).map(Self::Store);
        key.or_else(database).ok_or_else(|| NameError::NotRotated(text.to_owned()))
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_successors_are_made_by_name() {
        for key in ["kek-2", "seal-key-3", "command-key-12", "pepper-2"] {
            assert_eq!(key.parse(), Ok(Successor::Key(key.into())));
        }
        let (secret, public) = ("ledger-key-12".to_owned(), "ledger-pub-12".to_owned());
        assert_eq!("ledger-key-12".parse(), Ok(Successor::LedgerKey { secret, public }));
        for name in
            ["kek", "kek-1", "kek-02", "kek-", "kek-x", "kek-99999", "keys-2", "", "ledger-key"]
        {
            assert_eq!(name.parse::<Successor>(), Err(NameError::NotMade(name.into())));
        }
    }

    #[test]
    fn only_service_keys_and_databases_are_rotated() {
        assert!(matches!("gateway-to-audit".parse(), Ok(Rotated::ServiceKey(_))));
        assert_eq!("keys-store".parse(), Ok(Rotated::Store("keys")));
        for name in ["pepper", "seal-key", "gateway-to-audit-next", "keys-store-b", "kek", ""] {
            assert_eq!(name.parse::<Rotated>(), Err(NameError::NotRotated(name.into())));
        }
    }

    #[test]
    fn no_name_is_there_twice() {
        let names: std::collections::BTreeSet<_> = ensured().into_iter().collect();
        assert_eq!(names.len(), ensured().len());
        assert_eq!(names.len(), 4 + 2 + 15 + 4);
    }
}
