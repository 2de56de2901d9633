//! Rates, as options name them.

use std::num::NonZeroU32;

/// The largest rate and burst: what one gateway cannot reach is no limit.
pub(crate) const MAX_RATE: u32 = 1_000_000;

/// How often something may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// In the long run, in a second.
    pub per_second: NonZeroU32,
    /// At once, before `per_second` limits it.
    pub burst: NonZeroU32,
}

impl Rate {
    /// A rate that is not zero.
    ///
    /// # Panics
    /// When one of the numbers is zero.
    pub const fn new(per_second: u32, burst: u32) -> Self {
        let (Some(per_second), Some(burst)) = (NonZeroU32::new(per_second), NonZeroU32::new(burst))
        else {
            panic!("a rate is not zero");
        };
        Self { per_second, burst }
    }
}

/// A text that is no rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a whole number from 1 to {MAX_RATE}")]
pub(super) struct NotARate;

/// Reads a rate or a burst.
pub(super) fn rate(text: &str) -> Result<NonZeroU32, NotARate> {
    let number: NonZeroU32 = text.parse().map_err(|_| NotARate)?;
    if number.get() > MAX_RATE { Err(NotARate) } else { Ok(number) }
}
