//! Places for requests under way, in compartments: what fills one leaves the others their own.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::Places;

/// Requests that share places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compartment {
    /// What changes something.
    Commands,
    /// What reads one thing by its id.
    Reads,
    /// What may take long: searches, histories, accountings.
    Searches,
    /// What reads the ledger, with long answers and waits.
    Ledger,
}

impl Compartment {
    pub(crate) const ALL: [Self; 4] = [Self::Commands, Self::Reads, Self::Searches, Self::Ledger];

    /// Its name in metrics.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Commands => "commands",
            Self::Reads => "reads",
            Self::Searches => "searches",
            Self::Ledger => "ledger",
        }
    }
}

/// The places of a gateway.
pub(crate) struct Bulkheads {
    sizes: Places,
    free: [Arc<Semaphore>; Compartment::ALL.len()],
}

impl Bulkheads {
    pub(crate) fn new(sizes: Places) -> Self {
        let free = Compartment::ALL.map(|it| Arc::new(Semaphore::new(sizes.of(it).into())));
        Self { sizes, free }
    }

    /// A place, for as long as the permit lives; `None` where there is none left.
    pub(crate) fn enter(&self, compartment: Compartment) -> Option<OwnedSemaphorePermit> {
        Arc::clone(self.free(compartment)).try_acquire_owned().ok()
    }

    /// How many places are taken.
    pub(crate) fn taken(&self, compartment: Compartment) -> usize {
        let size = usize::from(self.sizes.of(compartment));
        size.saturating_sub(self.free(compartment).available_permits())
    }

    fn free(&self, compartment: Compartment) -> &Arc<Semaphore> {
        &self.free[compartment as usize]
    }
}
