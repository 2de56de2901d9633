//! Blocks as documents, and the store's errors.

#[path = "../../src/store/mongo/document.rs"]
mod document;
#[path = "../../src/store/error.rs"]
mod error;

use bson::{RawDocument, RawDocumentBuf};
pub use error::{AppendError, BoxError, StoreError};

use crate::block::Block;

/// A block as the document that the store keeps.
pub fn encode(block: &Block) -> Result<RawDocumentBuf, BoxError> {
    document::encode(block)
}

/// Reads a whole block.
pub fn decode(document: &RawDocument) -> Result<Block, StoreError> {
    document::decode(document, 0)
}

/// Reads a document as each of the parts that a projection returns.
pub fn decode_parts(document: &RawDocument) {
    let _ = document::decode_extent(document).map(|extent| (extent.first, extent.end));
    let _ = document::decode_streams(document);
    let _ = document::decode_commands(document);
    let found = document::decode_found(document).unwrap_or_default();
    let _ = found.iter().map(|line| (line.v, line.line.len())).max();
}
