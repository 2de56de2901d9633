//! The highest rate at which the system keeps its promise.

/// Between which rates to look, in requests a second.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The first that is tried.
    pub from: f64,
    /// The highest that is tried.
    pub most: f64,
    /// How close to come: as a share of the rate found.
    pub precision: f64,
}

/// A rate below which nothing is looked for.
const LEAST: f64 = 1.0;

/// Doubles the rate until one is too high, then bisects.
#[derive(Debug)]
pub struct Search {
    limits: Limits,
    kept: Option<f64>,
    broken: Option<f64>,
}

impl Search {
    /// Nothing is tried yet.
    pub fn new(limits: Limits) -> Self {
        Self { limits, kept: None, broken: None }
    }

    /// The rate to try next; `None` at the end.
    pub fn next(&self) -> Option<f64> {
        match (self.kept, self.broken) {
            (None, None) => Some(self.limits.from),
            (Some(kept), None) => {
                (kept < self.limits.most).then(|| (kept * 2.0).min(self.limits.most))
            }
            (None, Some(broken)) => (broken > LEAST).then(|| (broken / 2.0).max(LEAST)),
            (Some(kept), Some(broken)) => {
                (broken - kept > kept * self.limits.precision).then(|| f64::midpoint(kept, broken))
            }
        }
    }

    /// Whether that rate could be kept.
    pub fn learn(&mut self, rate: f64, kept: bool) {
        if kept { self.kept = Some(rate) } else { self.broken = Some(rate) }
    }

    /// The highest rate that could be kept.
    pub fn highest(&self) -> Option<f64> {
        self.kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is found and how many rates are tried, where rates up to `bearable` can be kept.
    fn look(bearable: f64) -> (Option<f64>, usize) {
        let mut search = Search::new(Limits { from: 50.0, most: 10_000.0, precision: 0.05 });
        let mut tried = 0;
        while let Some(rate) = search.next() {
            search.learn(rate, rate <= bearable);
            tried += 1;
            assert!(tried < 50, "no end at {bearable}");
        }
        (search.highest(), tried)
    }

    #[test]
    fn the_highest_rate_is_found_from_either_side_within_the_precision() {
        for bearable in [1.0, 3.0, 49.0, 50.0, 51.0, 333.0, 1_234.0, 9_999.0] {
            let (found, tried) = look(bearable);
            let found = found.expect("a rate");
            assert!(found <= bearable && bearable <= found * 1.05, "{found} for {bearable}");
            assert!(tried <= 14, "{tried} steps for {bearable}");
        }
    }

    #[test]
    fn there_may_be_none_and_there_is_an_end_above() {
        assert_eq!(look(0.0).0, None);
        assert_eq!(look(f64::MAX).0, Some(10_000.0));
    }
}
