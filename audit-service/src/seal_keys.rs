//! The keys of blocks' seals, as settings name them.

use std::str::FromStr;

use runtime::secrets::{SecretError, SecretRef};

use crate::seal::SealKeys;

/// `REF`, or `REF@SIZE` for a key that was rotated when the ledger had SIZE records: of blocks that end
/// behind that it is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealKeySpec {
    key: SecretRef,
    until: Option<u64>,
}

/// Why there are no seal keys.
#[derive(Debug, thiserror::Error)]
pub enum SealKeysError {
    /// A key cannot be had.
    #[error("a seal key cannot be used")]
    Secret(#[from] SecretError),
    /// None is named, or the first one has an end.
    #[error("the first seal key is the one in use: there has to be one, without @SIZE")]
    NoneInUse,
}

impl SealKeySpec {
    /// Where the key is.
    pub const fn key(&self) -> &SecretRef {
        &self.key
    }

    fn load(&self) -> Result<([u8; 32], Option<u64>), SecretError> {
        Ok((*self.key.load()?.key32()?, self.until))
    }

    /// Loads keys, of which the first one is in use.
    pub fn load_all(specs: &[Self]) -> Result<SealKeys, SealKeysError> {
        let (first, others) = specs.split_first().ok_or(SealKeysError::NoneInUse)?;
        let (key, None) = first.load()? else { return Err(SealKeysError::NoneInUse) };
        others.iter().try_fold(SealKeys::new(key), |keys, other| {
            let (key, until) = other.load()?;
            Ok(keys.and(key, until))
        })
    }
}

impl FromStr for SealKeySpec {
    type Err = SecretError;

    fn from_str(text: &str) -> Result<Self, SecretError> {
        let ended = text.rsplit_once('@').and_then(|(key, size)| Some((key, size.parse().ok()?)));
        let (key, until) = ended.map_or((text, None), |(key, size)| (key, Some(size)));
        Ok(Self { key: key.parse()?, until })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, key: &str, until: Option<u64>) {
        let spec: SealKeySpec = text.parse().unwrap();
        assert_eq!(spec, SealKeySpec { key: key.parse().unwrap(), until });
    }

    #[test]
    fn a_key_may_have_an_end() {
        check("env:SEAL", "env:SEAL", None);
        check("file:/keys/seal@1234", "file:/keys/seal", Some(1234));
        check("file:/keys/me@home", "file:/keys/me@home", None);
        for wrong in ["", "@1", "SEAL", "env:SEAL@x"] {
            assert!(wrong.parse::<SealKeySpec>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_first_key_has_no_end() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("seal.key");
        std::fs::write(&file, "ab".repeat(32)).unwrap();
        let name = format!("file:{}", file.display());
        let load = |names: &[String]| {
            let specs: Vec<_> = names.iter().map(|it| it.parse().unwrap()).collect();
            SealKeySpec::load_all(&specs)
        };
        assert!(load(&[name.clone(), format!("{name}@7")]).is_ok());
        for none in [&[][..], &[format!("{name}@7"), name]] {
            assert!(matches!(load(none), Err(SealKeysError::NoneInUse)));
        }
        let missing = load(&["file:/nowhere/seal.key".to_owned()]);
        assert!(matches!(missing, Err(SealKeysError::Secret(_))));
    }
}
