//! Replay equals live: whatever happens to patients and to the processes, the read models that
//! were kept up equal those that are built anew from the ledger, on every store.

mod crash;
mod crashes;
mod histories;
mod load;
mod process;
mod world;
