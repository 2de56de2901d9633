//! Whether the last block is still where it was: one that is taken away under a running
//! appender must not be built upon.

use std::time::Duration;

use domain::hash::Hash;
use tokio::time::Instant;

use crate::{
    block::Block,
    ledger::FoldError,
    store::{LedgerStore, StoreError},
};

/// How often the last block is looked at: it is read whole.
const INTERVAL: Duration = Duration::from_secs(1);

/// Remembers the last block.
#[derive(Default)]
pub struct TailGuard {
    last: Option<(u64, Hash)>,
    checked: Option<Instant>,
}

impl TailGuard {
    /// Remembers a block that was just stored or verified.
    pub fn moved_to(&mut self, block: &Block) {
        self.last = Some((block.first, block.root));
    }

    /// Looks for the last block, if it was not looked for lately. The inner error is final.
    pub async fn check(
        &mut self,
        store: &dyn LedgerStore,
    ) -> Result<Result<(), FoldError>, StoreError> {
        let due = self.checked.is_none_or(|checked| checked.elapsed() >= INTERVAL);
        let (true, Some((first, root))) = (due, self.last) else { return Ok(Ok(())) };
        let found = store.block_at(first).await?;
        if found.is_none_or(|block| block.root != root) {
            return Ok(Err(FoldError::Gone { first }));
        }
        self.checked = Some(Instant::now());
        Ok(Ok(()))
    }
}
