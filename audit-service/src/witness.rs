//! Witnesses, both sides of C2SP tlog-witness: the server that compliance runs itself, and the
//! submission of checkpoints to such servers, with what came back.

pub mod args;
pub mod cosigner;
pub mod evidence;
pub mod request;
pub mod server;
pub mod state;

pub mod book;
pub mod client;
pub mod submit;
