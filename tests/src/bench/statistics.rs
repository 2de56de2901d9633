//! Whether two samples of times differ, by two tests of which one does not mind outliers.

/// Beyond this both statistics count as a signal, the threshold that leakage assessments use
/// (ISO/IEC 17825): by chance alone once in some hundred thousand comparisons.
pub const SIGNAL: f64 = 4.5;

/// Two samples compared.
#[derive(Debug, Clone, Copy)]
pub struct Comparison {
    /// The difference of the means, of the first from the second, in the samples' unit.
    pub difference: f64,
    /// The smallest difference that Welch's t would have taken for a signal.
    pub detectable: f64,
    /// Welch's t.
    pub t: f64,
    /// Mann and Whitney's U, as a standard normal deviate.
    pub z: f64,
}

impl Comparison {
    /// Compares samples of at least two values each; slowest outliers should be gone.
    pub fn of(one: &[f64], other: &[f64]) -> Self {
        let ((mean, variance), (other_mean, other_variance)) = (moments(one), moments(other));
        let difference = mean - other_mean;
        let error = (variance / count(one) + other_variance / count(other)).sqrt();
        let t = if error > 0.0 { difference / error } else { 0.0 };
        Self { difference, detectable: SIGNAL * error, t, z: mann_whitney(one, other) }
    }

    /// Whether both tests see a difference.
    pub fn is_signal(&self) -> bool {
        self.t.abs() > SIGNAL && self.z.abs() > SIGNAL
    }
}

/// The value that this share of a sample is under, from 0 to 100.
pub fn percentile(sample: &[f64], percent: usize) -> f64 {
    let mut sorted = sample.to_vec();
    sorted.sort_by(f64::total_cmp);
    let index = sorted.len() * percent / 100;
    sorted.get(index.min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}

fn count(sample: &[f64]) -> f64 {
    f64::from(u32::try_from(sample.len()).unwrap_or(u32::MAX))
}

/// Mean and unbiased variance.
fn moments(sample: &[f64]) -> (f64, f64) {
    let mean = sample.iter().sum::<f64>() / count(sample);
    let squares: f64 = sample.iter().map(|value| (value - mean).powi(2)).sum();
    (mean, squares / (count(sample) - 1.0).max(1.0))
}

/// With the normal approximation, ties sharing their ranks' mean.
fn mann_whitney(one: &[f64], other: &[f64]) -> f64 {
    let mut all: Vec<(f64, bool)> = one.iter().map(|value| (*value, true)).collect();
    all.extend(other.iter().map(|value| (*value, false)));
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut rank_sum, mut tie_term, mut before) = (0.0, 0.0, 0.0);
    for tied in all.chunk_by(|a, b| a.0.total_cmp(&b.0).is_eq()) {
        let length = f64::from(u32::try_from(tied.len()).unwrap_or(u32::MAX));
        let rank = before + f64::midpoint(length, 1.0);
        let mine = tied.iter().filter(|(_, mine)| *mine).count();
        rank_sum += rank * f64::from(u32::try_from(mine).unwrap_or(u32::MAX));
        tie_term += length.powi(3) - length;
        before += length;
    }
    let (n, m) = (count(one), count(other));
    let u = rank_sum - n * (n + 1.0) / 2.0;
    let all = n + m;
    let variance = n * m / 12.0 * ((all + 1.0) - tie_term / (all * (all - 1.0)));
    if variance > 0.0 { (u - n * m / 2.0) / variance.sqrt() } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn close(one: f64, other: f64) {
        assert!((one - other).abs() < 1e-3, "{one} is not {other}");
    }

    #[test]
    fn statistics_are_those_of_the_literature() {
        // Computed from the definitions, U by counting pairs.
        let one = [27.5, 21.0, 19.0, 23.6, 17.0, 17.9, 16.9, 20.1, 21.9, 22.6, 23.1, 19.6];
        let other = [27.1, 22.0, 20.8, 23.4, 23.4, 23.5, 25.8, 22.0, 24.8, 20.2, 21.9, 22.1];
        let comparison = Comparison::of(&one, &other);
        close(comparison.t, -2.0896);
        close(comparison.z, -1.9932);
        assert!(!comparison.is_signal());
    }

    #[test]
    fn a_shift_is_a_signal_and_noise_is_none() {
        let noise = |shift: f64| -> Vec<f64> {
            (0..2_000_u32).map(|number| f64::from(number * 7_919 % 1_009) + shift).collect()
        };
        assert!(!Comparison::of(&noise(0.0), &noise(0.0)).is_signal());
        assert!(Comparison::of(&noise(60.0), &noise(0.0)).is_signal());
    }
}
