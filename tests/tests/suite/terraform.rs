//! What Terraform tells the services, against what the programs read. Module `settings`, which
//! alone says it, is evaluated by Terraform itself; nothing of Azure is needed for that.

use std::path::{Path, PathBuf};

mod job;
mod settings;
mod told;
mod whole;

/// The repository's root.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}
