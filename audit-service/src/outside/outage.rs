//! Telling each trouble once.

/// Remembers what was last said about something that may fail again and again.
#[derive(Debug, Default)]
pub struct Outage {
    told: Option<String>,
}

impl Outage {
    /// Whether this failure has not been told yet: the first of an outage, or another one.
    pub fn begins(&mut self, reason: &str) -> bool {
        if self.told.as_deref() == Some(reason) {
            return false;
        }
        self.told = Some(reason.to_owned());
        true
    }

    /// Whether an outage was told that is over now.
    pub fn ends(&mut self) -> bool {
        self.told.take().is_some()
    }
}
