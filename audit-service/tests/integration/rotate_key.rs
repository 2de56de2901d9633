//! `rotate-key` against the real service, and what the service then shows.

use std::{fs, path::PathBuf};

use audit_client::AppendError;
use audit_service::{
    rotate_key::{RotateKeyArgs, RotateKeyError, Rotated},
    store::memory::MemoryLedger,
};
use audit_verify::{checkpoint::LedgerSecret, key_history::read_listing};
use runtime::secrets::SecretRef;
use tempfile::TempDir;

use crate::{
    chain::Chain,
    fixture::{FIRST_KEY, ledger_secret},
    server::{Server, key},
};

const OLD: u8 = FIRST_KEY;
const NEW: u8 = 10;
const NEWER: u8 = 11;

/// An operator's desk: a service and files.
struct Desk {
    server: Server,
    store: MemoryLedger,
    folder: TempDir,
}

impl Desk {
    async fn with(seeds: &[u8]) -> Self {
        let store = MemoryLedger::new();
        let server = Server::start_with(seeds, &store).await;
        Self { server, store, folder: tempfile::tempdir().unwrap() }
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    fn secret(&self, secret: &LedgerSecret) -> SecretRef {
        let name = secret.public().to_string().replace('/', "_");
        SecretRef::File(self.file(&name, &secret.to_text()))
    }

    fn args(&self, current: u8, next: u8) -> RotateKeyArgs {
        RotateKeyArgs {
            client_tls: runtime::client::ClientTlsArgs::default(),
            url: format!("{}/", self.server.url),
            caller_key: SecretRef::File(self.file("operator.key", &key("operator"))),
            signing_key: self.secret(&ledger_secret(current)),
            next: self.secret(&ledger_secret(next)),
            public: None,
        }
    }

    async fn rotate(&self, current: u8, next: u8) -> Result<Rotated, RotateKeyError> {
        self.args(current, next).run().await
    }

    async fn refuses(&self, args: RotateKeyArgs) -> RotateKeyError {
        let blocks = self.store.blocks().len();
        let error = args.run().await.unwrap_err();
        assert_eq!(self.store.blocks().len(), blocks, "something was stored");
        error
    }
}

#[tokio::test]
async fn the_key_is_rotated_once_and_shown() {
    let desk = Desk::with(&[OLD, NEW]).await;
    let public = desk.folder.path().join("new.pub");
    let args = RotateKeyArgs { public: Some(public.clone()), ..desk.args(OLD, NEW) };
    let Rotated { key, receipt } = args.run().await.unwrap();
    assert_eq!((&key, receipt.unwrap().seq), (&ledger_secret(NEW).public(), 0));
    assert_eq!(fs::read_to_string(&public).unwrap(), format!("{key}\n"));
    // Again, with the same file.
    assert_eq!(args.run().await.unwrap(), Rotated { key: key.clone(), receipt: None });
    let chain = Chain::check(&desk.store.blocks());
    assert_eq!(chain.records.len(), 1);
    let record = &chain.records[0];
    assert_eq!((&record["type"], &record["stream"]), (&"KeyRotated".into(), &"ledger/keys".into()));
    assert_eq!(
        (&record["source"], &record["actor"]["id"]),
        (&"operator".into(), &"operator".into())
    );

    let shown = desk.server.get("audit", "/key").await;
    assert_eq!(shown.text, format!("{key}\n"));
    let listed = desk.server.get("audit", "/keys").await;
    let old = ledger_secret(OLD).public();
    assert_eq!(listed.text, format!("0 {old}\n1 {key}\n"));
    assert_eq!(listed.header("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(read_listing(&listed.text).unwrap(), [(0, old), (1, key.clone())]);
    let path = "/streams/ledger/keys/records?from=1";
    let rotations = desk.server.get("projections", path).await.records();
    assert_eq!(rotations.iter().map(|record| record.seq).collect::<Vec<_>>(), [0]);
    key.open(&desk.server.get("audit", "/checkpoint").await.text).unwrap();
    desk.server.stop().await;
}

#[tokio::test]
async fn what_cannot_be_rotated_is_refused_with_nothing_stored() {
    let desk = Desk::with(&[OLD, NEW]).await;
    let error = desk.refuses(desk.args(OLD, OLD)).await;
    assert!(matches!(error, RotateKeyError::SameKey), "{error}");
    let other = LedgerSecret::new("another-ledger".parse().unwrap(), &[NEW; 32]);
    let args = RotateKeyArgs { next: desk.secret(&other), ..desk.args(OLD, NEW) };
    let error = desk.refuses(args).await;
    assert!(matches!(error, RotateKeyError::Origins { .. }), "{error}");
    let error = desk.refuses(desk.args(NEWER, NEW)).await;
    let signs = ledger_secret(OLD).public().to_string();
    assert!(matches!(&error, RotateKeyError::AnotherSigns(key) if *key == signs), "{error}");
    // The replica was not given that key.
    let error = desk.refuses(desk.args(OLD, NEWER)).await;
    assert!(
        matches!(&error, RotateKeyError::Append(AppendError::Refused(reason))
            if reason.contains("does not hold the next signing key")),
        "{error:?}"
    );
    // Another caller's key.
    let stranger = SecretRef::File(desk.file("audit.key", &key("audit")));
    let error = desk.refuses(RotateKeyArgs { caller_key: stranger, ..desk.args(OLD, NEW) }).await;
    assert!(matches!(error, RotateKeyError::Append(AppendError::Refused(_))), "{error:?}");
    // A file with another key in it is not overwritten, and nothing is rotated.
    let public = desk.file("ledger.pub", &ledger_secret(OLD).public().to_string());
    let args = RotateKeyArgs { public: Some(public.clone()), ..desk.args(OLD, NEW) };
    let error = desk.refuses(args).await;
    assert!(matches!(&error, RotateKeyError::Public { path, .. } if *path == public), "{error}");
    desk.server.stop().await;
}

#[tokio::test]
async fn a_key_that_signed_before_does_not_come_back() {
    let desk = Desk::with(&[OLD, NEW]).await;
    desk.rotate(OLD, NEW).await.unwrap();
    let error = desk.refuses(desk.args(NEW, OLD)).await;
    assert!(matches!(error, RotateKeyError::UsedBefore), "{error}");
    desk.server.stop().await;
}

#[tokio::test]
async fn of_two_runs_at_once_one_rotates_and_the_other_finds_it_done() {
    let desk = Desk::with(&[OLD, NEW]).await;
    let key = ledger_secret(NEW).public();
    let (one, other) = tokio::join!(desk.rotate(OLD, NEW), desk.rotate(OLD, NEW));
    let (one, other) = (one.unwrap(), other.unwrap());
    assert_eq!((&one.key, &other.key), (&key, &key));
    assert_ne!(one.receipt.is_some(), other.receipt.is_some());
    assert_eq!(Chain::check(&desk.store.blocks()).records.len(), 1);
    desk.server.stop().await;
}
