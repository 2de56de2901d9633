//! A process that freezes at one of its store calls, as SIGSTOP and kill -9 would have it.

use std::sync::Mutex;

use async_trait::async_trait;
use projections::store::{
    StoreError,
    hooked::{Call, Hook},
};
use tokio::sync::watch;

/// On which side of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Before,
    After,
}

/// A step of a process: a call of the store by its name, and the side of it.
pub(crate) type Step = (Side, &'static str);

/// Freezes at a step: that call and all others wait until it thaws.
#[derive(Default)]
pub(crate) struct Process {
    freezes_at: Mutex<Option<Step>>,
    frozen: watch::Sender<bool>,
    loses_answer_of: Mutex<Option<&'static str>>,
    calls: Mutex<Vec<&'static str>>,
}

#[derive(Debug, thiserror::Error)]
#[error("the answer is lost")]
struct Lost;

impl Process {
    /// Freezes at this step when it comes to it.
    pub(crate) fn freeze_at(&self, step: Step) {
        *self.freezes_at.lock().unwrap() = Some(step);
    }

    /// Waits until it is frozen.
    pub(crate) async fn freezes(&self) {
        let mut frozen = self.frozen.subscribe();
        let waited = frozen.wait_for(|frozen| *frozen);
        let waited = tokio::time::timeout(crate::fixture::PATIENCE, waited).await;
        waited.expect("it comes to the step").unwrap();
    }

    pub(crate) fn thaw(&self) {
        self.frozen.send_replace(false);
    }

    /// Makes this call once, and loses its answer.
    pub(crate) fn fail_after(&self, call: &'static str) {
        *self.loses_answer_of.lock().unwrap() = Some(call);
    }

    /// Names of the calls made so far.
    pub(crate) fn calls(&self) -> Vec<&'static str> {
        self.calls.lock().unwrap().clone()
    }

    async fn step(&self, step: Step) {
        if self.freezes_at.lock().unwrap().take_if(|at| *at == step).is_some() {
            self.frozen.send_replace(true);
        }
        self.frozen.subscribe().wait_for(|frozen| !frozen).await.unwrap();
    }
}

fn name(call: Call<'_>) -> &'static str {
    match call {
        Call::Apply(_) => "apply",
        Call::Write(name) | Call::Read(name) => name,
    }
}

#[async_trait]
impl Hook for Process {
    async fn before(&self, call: Call<'_>) -> Result<(), StoreError> {
        self.calls.lock().unwrap().push(name(call));
        self.step((Side::Before, name(call))).await;
        Ok(())
    }

    async fn after(&self, call: Call<'_>) -> Result<(), StoreError> {
        self.step((Side::After, name(call))).await;
        let lost = self.loses_answer_of.lock().unwrap().take_if(|of| *of == name(call)).is_some();
        if lost { Err(StoreError::Unavailable(Box::new(Lost))) } else { Ok(()) }
    }
}
