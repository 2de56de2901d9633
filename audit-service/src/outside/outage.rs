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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_trouble_is_told_once_and_its_end_once() {
        let mut outage = Outage::default();
        assert!(!outage.ends());
        assert!(outage.begins("down"));
        assert!(!outage.begins("down"));
        assert!(outage.begins("lying"));
        assert!(outage.ends());
        assert!(!outage.ends());
        assert!(outage.begins("lying"));
    }
}
