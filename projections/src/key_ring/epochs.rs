//! The months that search criteria are sealed for, and the end of their keys.

use std::time::Duration;

use domain::time::Timestamp;

use super::{KeyRing, KeyRingError};

impl KeyRing {
    /// Destroys the keys of old search criteria durably, so that each can be read for `months`
    /// months at least and one more at most. 0 keeps all. Returns how many there were.
    pub async fn destroy_old_epochs(
        &self,
        now: Timestamp,
        months: u32,
    ) -> Result<usize, KeyRingError> {
        let Some(this_month) = month_number(&epoch_name(now)).filter(|_| months > 0) else {
            return Ok(0);
        };
        let mut destroyed = 0;
        for (epoch, kid) in self.ask(self.inner.store.epochs()).await? {
            // An epoch of another name is not of this program; it is left alone.
            if month_number(&epoch).is_some_and(|month| month.saturating_add(months) < this_month) {
                self.destroy(kid).await?;
                destroyed += 1;
            }
        }
        Ok(destroyed)
    }
}

/// `2026-11` of any time in that month.
pub(super) fn epoch_name(at: Timestamp) -> String {
    let mut name = at.to_string();
    name.truncate("YYYY-MM".len());
    name
}

/// How long ago a time's epoch began: its key is no older.
pub(super) fn age_in_epoch(at: Timestamp) -> Duration {
    let began = format!("{}-01T00:00:00.000Z", epoch_name(at)).parse::<Timestamp>();
    let age = began.map_or(0, |began| at.millis() - began.millis());
    Duration::from_millis(u64::try_from(age).unwrap_or_default())
}

/// Counts the months of epochs' names; `None` for anything else.
fn month_number(epoch: &str) -> Option<u32> {
    let (year, month) = epoch.split_once('-')?;
    let number = |text: &str, digits| {
        let plain = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u32>().ok().filter(|_| plain)
    };
    let month = number(month, 2).filter(|month| (1..=12).contains(month))?;
    Some(number(year, 4)? * 12 + month)
}
