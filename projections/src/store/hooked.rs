//! A store with a hook around every call of another: for measuring calls ([`super::observed`]), and
//! for tests that count calls, hold them back or end a process between two of them.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use domain::{
    ids::{PatientId, TestId},
    search::SearchCriteria,
};
use uuid::Uuid;

use super::{Applied, Generations, ProjectionStore, ReadModels, StoreError, Upkeep, WriteModels};
use crate::{
    change::StreamChange,
    documents::{
        ActivityDoc, ActivityFilter, ActivityPage, Erasure, Generation, Office, Parked, PatientDoc,
        Pointer, Position, TestDoc,
    },
};

/// A call of the store.
#[derive(Debug, Clone, Copy)]
pub enum Call<'a> {
    /// `apply`, with its changes.
    Apply(&'a [StreamChange]),
    /// Another method that writes, by its name.
    Write(&'static str),
    /// A method that reads, by its name.
    Read(&'static str),
}

impl Call<'_> {
    /// The method's name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Apply(_) => "apply",
            Self::Write(name) | Self::Read(name) => name,
        }
    }
}

/// What happens around calls.
#[async_trait]
pub trait Hook: Send + Sync + 'static {
    /// Before a call is made; an error is its answer, and it is not made.
    async fn before(&self, _call: Call<'_>) -> Result<(), StoreError> {
        Ok(())
    }

    /// After a call was made; an error is its answer in place of its own.
    async fn after(&self, _call: Call<'_>) -> Result<(), StoreError> {
        Ok(())
    }

    /// Makes a call, between the two.
    fn around<T: Send>(
        &self,
        call: Call<'_>,
        made: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> impl Future<Output = Result<T, StoreError>> + Send {
        async move {
            self.before(call).await?;
            let answer = made.await;
            self.after(call).await?;
            answer
        }
    }
}

/// A store with a hook.
pub struct Hooked<H> {
    inner: Arc<dyn ProjectionStore>,
    /// The hook.
    pub hook: H,
}

impl<H: Hook> Hooked<H> {
    /// Puts a hook around a store.
    pub fn new(inner: Arc<dyn ProjectionStore>, hook: H) -> Self {
        Self { inner, hook }
    }

    async fn around<T: Send>(
        &self,
        call: Call<'_>,
        made: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        self.hook.around(call, made).await
    }
}

#[async_trait]
impl<H: Hook> ReadModels for Hooked<H> {
    async fn patient(
        &self,
        generation: Generation,
        id: PatientId,
    ) -> Result<Option<PatientDoc>, StoreError> {
        self.around(Call::Read("patient"), self.inner.patient(generation, id)).await
    }

    async fn test(
        &self,
        generation: Generation,
        patient: PatientId,
        id: TestId,
    ) -> Result<Option<TestDoc>, StoreError> {
        self.around(Call::Read("test"), self.inner.test(generation, patient, id)).await
    }

    async fn tests(
        &self,
        generation: Generation,
        patient: PatientId,
    ) -> Result<Vec<TestDoc>, StoreError> {
        self.around(Call::Read("tests"), self.inner.tests(generation, patient)).await
    }

    async fn search(
        &self,
        generation: Generation,
        criteria: &SearchCriteria,
        after: Option<PatientId>,
        limit: usize,
    ) -> Result<Vec<PatientDoc>, StoreError> {
        self.around(Call::Read("search"), self.inner.search(generation, criteria, after, limit))
            .await
    }

    async fn scan_patients(
        &self,
        generation: Generation,
        after: Option<PatientId>,
        limit: usize,
    ) -> Result<Vec<PatientDoc>, StoreError> {
        self.around(Call::Read("scan_patients"), self.inner.scan_patients(generation, after, limit))
            .await
    }

    async fn scan_tests(
        &self,
        generation: Generation,
        after: Option<TestId>,
        limit: usize,
    ) -> Result<Vec<TestDoc>, StoreError> {
        self.around(Call::Read("scan_tests"), self.inner.scan_tests(generation, after, limit)).await
    }

    async fn activity(
        &self,
        generation: Generation,
        filter: &ActivityFilter,
        before: Option<u64>,
        limit: usize,
    ) -> Result<ActivityPage, StoreError> {
        self.around(Call::Read("activity"), self.inner.activity(generation, filter, before, limit))
            .await
    }

    async fn erasures(
        &self,
        generation: Generation,
        after: Option<PatientId>,
        limit: usize,
    ) -> Result<Vec<Erasure>, StoreError> {
        self.around(Call::Read("erasures"), self.inner.erasures(generation, after, limit)).await
    }

    async fn confirm(&self) -> Result<(), StoreError> {
        self.around(Call::Read("confirm"), self.inner.confirm()).await
    }
}

#[async_trait]
impl<H: Hook> WriteModels for Hooked<H> {
    async fn cursors(
        &self,
        generation: Generation,
        patients: &[PatientId],
    ) -> Result<HashMap<PatientId, u64>, StoreError> {
        self.around(Call::Read("cursors"), self.inner.cursors(generation, patients)).await
    }

    async fn apply(
        &self,
        generation: Generation,
        changes: &[StreamChange],
    ) -> Result<Vec<Applied>, StoreError> {
        self.around(Call::Apply(changes), self.inner.apply(generation, changes)).await
    }

    async fn write_activity(
        &self,
        generation: Generation,
        documents: &[ActivityDoc],
    ) -> Result<(), StoreError> {
        self.around(Call::Write("write_activity"), self.inner.write_activity(generation, documents))
            .await
    }
}

#[async_trait]
impl<H: Hook> Upkeep for Hooked<H> {
    async fn position(&self, generation: Generation) -> Result<Option<Position>, StoreError> {
        self.around(Call::Read("position"), self.inner.position(generation)).await
    }

    async fn set_position(
        &self,
        generation: Generation,
        position: &Position,
        office: &Office,
    ) -> Result<(), StoreError> {
        self.around(
            Call::Write("set_position"),
            self.inner.set_position(generation, position, office),
        )
        .await
    }

    async fn office(&self, generation: Generation) -> Result<Option<Office>, StoreError> {
        self.around(Call::Read("office"), self.inner.office(generation)).await
    }

    async fn take_office(
        &self,
        generation: Generation,
        seen: Option<Office>,
        holder: Uuid,
    ) -> Result<Option<Office>, StoreError> {
        self.around(Call::Write("take_office"), self.inner.take_office(generation, seen, holder))
            .await
    }

    async fn beat(&self, generation: Generation, office: &Office) -> Result<(), StoreError> {
        self.around(Call::Write("beat"), self.inner.beat(generation, office)).await
    }

    async fn leave_office(
        &self,
        generation: Generation,
        office: &Office,
    ) -> Result<(), StoreError> {
        self.around(Call::Write("leave_office"), self.inner.leave_office(generation, office)).await
    }

    async fn park(&self, generation: Generation, parked: &Parked) -> Result<(), StoreError> {
        self.around(Call::Write("park"), self.inner.park(generation, parked)).await
    }

    async fn parked(
        &self,
        generation: Generation,
        after: Option<PatientId>,
        limit: usize,
    ) -> Result<Vec<Parked>, StoreError> {
        self.around(Call::Read("parked"), self.inner.parked(generation, after, limit)).await
    }

    async fn retry_parked(
        &self,
        generation: Generation,
        patients: Option<&[PatientId]>,
    ) -> Result<u64, StoreError> {
        self.around(Call::Write("retry_parked"), self.inner.retry_parked(generation, patients))
            .await
    }

    async fn unpark(&self, generation: Generation, patient: PatientId) -> Result<(), StoreError> {
        self.around(Call::Write("unpark"), self.inner.unpark(generation, patient)).await
    }

    async fn scrub_due(&self) -> Result<bool, StoreError> {
        self.around(Call::Read("scrub_due"), self.inner.scrub_due()).await
    }

    async fn note(&self, generation: Generation) -> Result<Option<String>, StoreError> {
        self.around(Call::Read("note"), self.inner.note(generation)).await
    }

    async fn set_note(
        &self,
        generation: Generation,
        note: &str,
        office: &Office,
    ) -> Result<(), StoreError> {
        self.around(Call::Write("set_note"), self.inner.set_note(generation, note, office)).await
    }
}

#[async_trait]
impl<H: Hook> Generations for Hooked<H> {
    async fn pointer(&self) -> Result<Pointer, StoreError> {
        self.around(Call::Read("pointer"), self.inner.pointer()).await
    }

    async fn list(&self) -> Result<Vec<Generation>, StoreError> {
        self.around(Call::Read("list"), self.inner.list()).await
    }

    async fn create(&self) -> Result<Generation, StoreError> {
        self.around(Call::Write("create"), self.inner.create()).await
    }

    async fn join(&self, generation: Generation) -> Result<(), StoreError> {
        self.around(Call::Write("join"), self.inner.join(generation)).await
    }

    async fn activate(
        &self,
        generation: Generation,
        expected: Pointer,
    ) -> Result<bool, StoreError> {
        self.around(Call::Write("activate"), self.inner.activate(generation, expected)).await
    }

    async fn settle(&self, also: Generation) -> Result<(), StoreError> {
        self.around(Call::Write("settle"), self.inner.settle(also)).await
    }

    async fn drop_generation(&self, generation: Generation) -> Result<(), StoreError> {
        self.around(Call::Write("drop_generation"), self.inner.drop_generation(generation)).await
    }
}
