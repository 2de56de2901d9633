//! A patient's state, from the read model or, where that lags, from the ledger.

use domain::{
    ids::{KeyId, PatientId, TestId},
    patient::{Lifecycle, Patient, Test},
};
use projections::{
    documents::{Generation, PatientState, TestDoc},
    history,
    store::StoreError,
};

use crate::{error::Failure, state::App};

/// Which tests a request needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tests {
    None,
    One(TestId),
    All,
}

/// A state, and where it comes from.
pub(crate) struct Loaded {
    pub(crate) patient: Patient,
    /// The data key; known while the patient is there to see, and from her history.
    pub(crate) kid: Option<KeyId>,
    /// Read from the ledger, not from the read model.
    pub(crate) from_ledger: bool,
}

impl Loaded {
    /// Nothing more can happen to this patient that brings anything back.
    pub(crate) fn is_final(&self) -> bool {
        matches!(self.patient.lifecycle, Lifecycle::Removed | Lifecycle::Erased)
    }
}

impl App {
    /// Reads one generation of the read model.
    ///
    /// The patient's document is read before her tests, and written after them: so no test is
    /// older than the version found, and one that is newer shows in the ledger's version.
    pub(crate) async fn load(
        &self,
        generation: Generation,
        id: PatientId,
        tests: Tests,
    ) -> Result<Loaded, StoreError> {
        let Some(document) = self.store.patient(generation, id).await? else {
            return Ok(Loaded { patient: Patient::default(), kid: None, from_ledger: false });
        };
        let (lifecycle, kid) = match document.state {
            PatientState::Active { kid, current } => (Lifecycle::Active(current), Some(kid)),
            PatientState::Removed => (Lifecycle::Removed, None),
            PatientState::Erased => (Lifecycle::Erased, None),
        };
        let mut patient = Patient { version: document.version, lifecycle, ..Patient::default() };
        if kid.is_some() {
            match tests {
                Tests::None => {}
                Tests::One(test) => {
                    let found = self.store.test(generation, id, test).await?;
                    patient.tests.extend(found.map(test_of));
                }
                Tests::All => {
                    let found = self.store.tests(generation, id).await?;
                    patient.tests.extend(found.into_iter().map(test_of));
                }
            }
        }
        Ok(Loaded { patient, kid, from_ledger: false })
    }

    /// Reads the patient again because the ledger has her at version `actual`: from the read
    /// model if that has caught up, else from the ledger. The key that was known is dropped from
    /// memory if she turns out to be erased.
    pub(crate) async fn reload(
        &self,
        generation: Generation,
        id: PatientId,
        tests: Tests,
        actual: u64,
        known: Option<KeyId>,
    ) -> Result<Loaded, Failure> {
        let mut loaded = self.load(generation, id, tests).await?;
        if loaded.patient.version < actual {
            loaded = self.load_from_ledger(id).await?;
        }
        if loaded.patient.lifecycle == Lifecycle::Erased
            && let Some(kid) = known
        {
            self.ring.forget(kid);
        }
        Ok(loaded)
    }

    /// Reads the patient's whole stream.
    pub(crate) async fn load_from_ledger(&self, id: PatientId) -> Result<Loaded, Failure> {
        let history = history::load(&self.audit, &self.ring, id).await?;
        let erased = history.state.lifecycle == Lifecycle::Erased;
        if let (true, Some(kid)) = (erased, history.kid) {
            self.ring.forget(kid);
        }
        Ok(Loaded { patient: history.state, kid: history.kid, from_ledger: true })
    }
}

fn test_of(document: TestDoc) -> (TestId, Test) {
    let test = match document.current {
        Some(current) => Test::Active { first: document.first, current },
        None => Test::Gone,
    };
    (document.id, test)
}
