//! Subscriptions: who may come in with a key, and with what scopes and limits.
//!
//! A store holds HMACs of keys under a pepper that it does not hold, so neither reading nor
//! guessing the store opens the door.

mod change;
mod command;
mod entry;
mod error;
mod file;
mod keys;
mod location;
mod meter;
mod mongo;
mod store;
mod table;
mod usage;

pub use change::Setting;
pub use command::CommandError;
pub use domain::subscription::{Scope, UnknownScope};
pub use entry::Entry;
pub use error::SubscriptionsError;
pub use file::write_file;
pub use keys::{MIN_PEPPER_BYTES, check_pepper, hash_key, new_key};
pub use location::SubscriptionsLocation;

pub(crate) use change::{Change, Limits};
pub(crate) use command::{Journal, Made, current, make};
pub(crate) use file::FileStore;
pub(crate) use meter::Meter;
pub(crate) use store::{Revision, SubscriptionStore};
pub(crate) use table::Subscriptions;
