//! What was signed before, as anchors know it: for a process that remembers nothing itself.
//!
//! A container loses its disk with each revision. Without this it would believe a store that was cut
//! back to an earlier, genuinely sealed end.

use std::{io, sync::Arc, time::Duration};

use audit_verify::{
    checkpoint::{CheckpointError, TreeHead},
    key_history::KeyHistory,
};
use domain::ids::Name;

use super::{Anchor, AnchorError};

/// How long one anchor may take; a mount may hang for ever.
const PATIENCE: Duration = Duration::from_secs(30);

/// The newest checkpoint of all anchors, verified by the key that signs those of its size; none where
/// nothing was ever anchored.
///
/// # Errors
/// The name of an anchor that cannot be read, or whose newest checkpoint is not this ledger's. One that
/// is passed over could be the one that knows more than the others.
pub async fn newest(
    anchors: &[(String, Arc<dyn Anchor>)],
    origin: &Name,
    keys: &KeyHistory,
) -> Result<Option<TreeHead>, (String, AnchorError)> {
    let mut newest: Option<TreeHead> = None;
    for (name, anchor) in anchors {
        let head = tokio::time::timeout(PATIENCE, newest_of(&**anchor, origin, keys)).await;
        let head = head.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()));
        if let Some(head) = head.map_err(|error| (name.clone(), error))? {
            tracing::info!(anchor = name, size = head.size, "the newest anchored checkpoint");
            if newest.is_none_or(|newest| newest.size < head.size) {
                newest = Some(head);
            }
        }
    }
    Ok(newest)
}

async fn newest_of(
    anchor: &dyn Anchor,
    origin: &Name,
    keys: &KeyHistory,
) -> Result<Option<TreeHead>, AnchorError> {
    let Some(size) = anchor.newest(origin).await? else { return Ok(None) };
    let head = keys.open(&anchor.read(origin, size).await?)?;
    if head.size != size {
        return Err(CheckpointError::Malformed.into());
    }
    Ok(Some(head))
}
