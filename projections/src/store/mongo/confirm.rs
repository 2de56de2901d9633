//! Whether the primary that answered is still the primary.

use std::time::Duration;

use mongodb::{bson::doc, options::ReadConcern};

use super::{META, MongoStore, failure, generations::POINTER};
use crate::store::StoreError;

/// How long a primary may take to hear from a majority; one that is cut off never does.
const MAX_TIME: Duration = Duration::from_secs(5);

impl MongoStore {
    /// A primary that is cut off may answer reads for seconds after another was elected, and its
    /// answers lack what that one has acknowledged. A linearizable read makes it hear from a
    /// majority first: where this succeeds, every read before was of the one primary.
    pub(super) async fn confirm_primary(&self) -> Result<(), StoreError> {
        let meta = self.collection(META);
        let find = meta.find_one(doc! { "_id": POINTER });
        let found = find.read_concern(ReadConcern::linearizable()).max_time(MAX_TIME).await;
        found.map(|_| ()).map_err(|error| failure::unavailable(&error))
    }
}
