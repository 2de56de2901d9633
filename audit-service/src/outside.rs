//! What leaves the service so that its operator cannot take it back: checkpoints at witnesses
//! and in anchors, off the path of appends.

use std::{sync::Arc, time::Duration};

use clap::Args;
use opentelemetry::metrics::Meter;
use runtime::secrets::SecretRef;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use crate::{
    anchor::{
        Anchor,
        azure::{Access, AzureBlobAnchor, token::Identity},
        directory::DirectoryAnchor,
        keeper::Keeper,
        location::AnchorLocation,
    },
    appender::Head,
    clock::Clock,
    notary::Notary,
    proofs::Proofs,
    witness::{book::CosignedBook, client::WitnessSpec, submit::Submitter},
};

pub mod http;
pub mod outage;
pub mod reach;

/// Options of witnesses and anchors.
#[derive(Debug, Clone, Args)]
pub struct OutsideArgs {
    /// A witness that cosigns checkpoints: URL,VKEY; may be given several times.
    #[arg(long = "witness", env = "VITALOG_WITNESSES", value_delimiter = ' ')]
    pub witnesses: Vec<WitnessSpec>,
    /// Seconds between checkpoints that are submitted to witnesses.
    #[arg(
        long,
        env = "VITALOG_WITNESS_EVERY",
        default_value_t = 2,
        value_parser = clap::value_parser!(u64).range(1..=3_600)
    )]
    pub witness_every: u64,
    /// Where anchors are.
    #[command(flatten)]
    pub anchors: AnchorArgs,
    /// Seconds between checkpoints that are anchored.
    #[arg(
        long,
        env = "VITALOG_ANCHOR_EVERY",
        default_value_t = 60,
        value_parser = clap::value_parser!(u64).range(1..=86_400)
    )]
    pub anchor_every: u64,
}

/// Options that say where anchors are, for whoever writes or reads them.
#[derive(Debug, Clone, Args)]
pub struct AnchorArgs {
    /// Where checkpoints are anchored: `dir:PATH` or `azblob:URL` of a container; may be given
    /// several times.
    #[arg(long = "anchor", env = "VITALOG_ANCHORS", value_delimiter = ' ')]
    pub anchors: Vec<AnchorLocation>,
    /// Shared access signature for `azblob`; without one the managed identity is used. REF is
    /// `env:NAME`, `file:/path` or `keyvault:https://…`.
    #[arg(long, env = "VITALOG_ANCHOR_SAS")]
    pub anchor_sas: Option<SecretRef>,
}

/// Witnesses and anchors of a ledger; none by default.
#[derive(Default)]
pub struct Outside {
    /// Who cosigns.
    pub witnesses: Vec<WitnessSpec>,
    /// Between checkpoints that are submitted to witnesses.
    pub witness_every: Duration,
    /// Where checkpoints are kept, each with a name for the log.
    pub anchors: Vec<(String, Arc<dyn Anchor>)>,
    /// Between checkpoints that are anchored.
    pub anchor_every: Duration,
}

impl OutsideArgs {
    /// The witnesses and anchors that the options name.
    pub fn outside(&self, clock: &Clock) -> Outside {
        Outside {
            witnesses: self.witnesses.clone(),
            witness_every: Duration::from_secs(self.witness_every),
            anchors: self.anchors.open(clock),
            anchor_every: Duration::from_secs(self.anchor_every),
        }
    }
}

impl AnchorArgs {
    /// The anchors, each with its location.
    pub fn open(&self, clock: &Clock) -> Vec<(String, Arc<dyn Anchor>)> {
        let opened = self.anchors.iter().map(|location| {
            (location.to_string(), open_anchor(location, self.anchor_sas.as_ref(), clock))
        });
        opened.collect()
    }
}

/// An anchor by its location. A container is opened with the signature, or else with the managed
/// identity of the process's environment.
pub fn open_anchor(
    location: &AnchorLocation,
    sas: Option<&SecretRef>,
    clock: &Clock,
) -> Arc<dyn Anchor> {
    match location {
        AnchorLocation::Directory(path) => Arc::new(DirectoryAnchor::new(path)),
        AnchorLocation::AzureBlob(url) => {
            let access = sas
                .cloned()
                .map_or_else(|| Access::Identity(Identity::from_environment()), Access::Sas);
            Arc::new(AzureBlobAnchor::new(url.clone(), access, clock.clone()))
        }
    }
}

impl Outside {
    /// Starts submitting and anchoring on `tasks`, until the appender is gone; returns where the
    /// cosigned checkpoints are found.
    pub(crate) fn start(
        self,
        head: &watch::Receiver<Head>,
        notary: &Arc<Notary>,
        proofs: &Proofs,
        tasks: &TaskTracker,
        meter: &Meter,
    ) -> Arc<CosignedBook> {
        let Self { witnesses, witness_every, anchors, anchor_every } = self;
        let book = Arc::new(CosignedBook::default());
        let witnessed = !witnesses.is_empty();
        if witnessed {
            let (head, notary) = (head.clone(), notary.clone());
            let book = book.clone();
            let submitter =
                Submitter::new(head, notary, proofs.clone(), book, witnesses, witness_every);
            submitter.observe(meter);
            tasks.spawn(submitter.run());
        }
        if !anchors.is_empty() {
            let (head, notary) = (head.clone(), notary.clone());
            let book = book.clone();
            let keeper = Keeper::new(head, notary, book, anchors, anchor_every, witnessed);
            keeper.observe(meter);
            tasks.spawn(keeper.run());
        }
        book
    }
}
