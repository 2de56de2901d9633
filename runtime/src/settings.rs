//! Settings: the command line, and the only reader of the process environment outside clap.

use clap::{
    Error, Parser,
    error::{ContextKind, ContextValue, ErrorKind},
};

/// Reads the command line; shows what is wrong with it and ends the process where it cannot.
///
/// A value that cannot be used is not shown: it may be a secret pasted in place of a reference,
/// or hold a password.
pub fn parse<C: Parser>() -> C {
    C::try_parse().unwrap_or_else(|error| without_value(error).exit())
}

/// The error of an unusable value without the value.
pub fn without_value(mut error: Error) -> Error {
    if error.kind() == ErrorKind::ValueValidation {
        let hidden = ContextValue::String("(not shown)".to_owned());
        error.insert(ContextKind::InvalidValue, hidden);
    }
    error
}

/// The value of an environment variable; `None` when it is unset or is not UTF-8.
#[allow(clippy::disallowed_methods)]
pub fn env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
