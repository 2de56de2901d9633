//! What makes the pictures of the walk-through in `docs/operations.md`: a Prometheus that looks at
//! a running system, a browser that looks at Prometheus, and the drawing of a trace.

pub mod browser;
pub mod dashboard;
pub mod prometheus;
pub mod traffic;
pub mod waterfall;

use std::path::{Path, PathBuf};

/// What stands in `runtime/ops`.
fn ops() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../runtime/ops")
}
