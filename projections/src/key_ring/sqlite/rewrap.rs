//! Changing the key-encryption key of an SQLite file.

use std::collections::BTreeMap;

use async_trait::async_trait;
use domain::ids::KeyId;
use rusqlite::{TransactionBehavior, params};

use super::{SqliteKeys, malformed, parse, read};
use crate::key_ring::{
    kek::{KekId, WrappedKey},
    store::{KeyStoreError, Rewrap, Rewrapped},
};

const COUNTS: &str = "
    SELECT kek, count(*) FROM
        (SELECT kek FROM data_keys WHERE destroyed = 0
         UNION ALL SELECT kek FROM epochs WHERE destroyed = 0)
    GROUP BY kek";

const NOT_UNDER: &str = "
    SELECT kid, kek, wrapped FROM data_keys WHERE destroyed = 0 AND kek <> ?1 AND kid > ?2
    UNION ALL SELECT kid, kek, wrapped FROM epochs WHERE destroyed = 0 AND kek <> ?1 AND kid > ?2
    ORDER BY kid LIMIT ?3";

const REWRAP: [&str; 2] = [
    "UPDATE data_keys SET kek = ?1, wrapped = ?2
     WHERE kid = ?3 AND wrapped = ?4 AND destroyed = 0",
    "UPDATE epochs SET kek = ?1, wrapped = ?2
     WHERE kid = ?3 AND wrapped = ?4 AND destroyed = 0",
];

#[async_trait]
impl Rewrap for SqliteKeys {
    async fn counts(&self) -> Result<BTreeMap<KekId, u64>, KeyStoreError> {
        let rows = self
            .run(|connection| {
                let mut select = connection.prepare_cached(COUNTS)?;
                let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
                rows.collect::<rusqlite::Result<Vec<(String, i64)>>>()
            })
            .await?;
        let count = |(kek, count): (String, i64)| {
            let kek = kek.parse().map_err(|_| malformed())?;
            Ok((kek, u64::try_from(count).map_err(|_| malformed())?))
        };
        rows.into_iter().map(count).collect()
    }

    async fn not_under(
        &self,
        kek: KekId,
        after: Option<KeyId>,
        limit: usize,
    ) -> Result<Vec<WrappedKey>, KeyStoreError> {
        let after = after.map_or_else(String::new, |kid| kid.to_string());
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = self
            .run(move |connection| {
                let mut select = connection.prepare_cached(NOT_UNDER)?;
                let rows = select.query_map(params![kek.to_string(), after, limit], read)?;
                rows.collect::<rusqlite::Result<Vec<_>>>()
            })
            .await?;
        rows.into_iter().map(parse).collect()
    }

    async fn rewrap(&self, changes: &[Rewrapped]) -> Result<u64, KeyStoreError> {
        let changes = changes.to_vec();
        self.run(move |connection| {
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let mut put = 0;
            for update in REWRAP {
                let mut update = transaction.prepare_cached(update)?;
                for Rewrapped { old, new } in &changes {
                    let (kek, kid) = (new.kek.to_string(), old.kid.to_string());
                    put += update.execute(params![kek, new.wrapped, kid, old.wrapped])?;
                }
            }
            transaction.commit()?;
            Ok(put as u64)
        })
        .await
    }

    async fn scrub(&self) -> Result<(), KeyStoreError> {
        self.scrub_files().await
    }
}
