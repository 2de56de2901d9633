//! The only reader of the process environment outside clap.

/// The value of an environment variable; `None` when it is unset or is not UTF-8.
#[allow(clippy::disallowed_methods)]
pub fn env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
