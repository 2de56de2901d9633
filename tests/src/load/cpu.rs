//! What this process itself takes from the machine that it measures.

use std::time::{Duration, Instant};

use anyhow::Context;
use procfs::process::Process;

/// Processor time since a moment.
#[derive(Debug)]
pub struct CpuClock {
    since: Instant,
    used: Duration,
}

impl CpuClock {
    /// From now on.
    ///
    /// # Errors
    /// Without `/proc`.
    pub fn start() -> anyhow::Result<Self> {
        Ok(Self { since: Instant::now(), used: used()? })
    }

    /// Cores used on average since then.
    ///
    /// # Errors
    /// Without `/proc`.
    pub fn cores(&self) -> anyhow::Result<f64> {
        let used = used()?.saturating_sub(self.used);
        Ok(used.as_secs_f64() / self.since.elapsed().as_secs_f64().max(f64::MIN_POSITIVE))
    }
}

/// User and system time of this process, from `/proc/self/stat`.
fn used() -> anyhow::Result<Duration> {
    let stat = Process::myself().and_then(|own| own.stat()).context("/proc/self/stat")?;
    let millis = (stat.utime + stat.stime).saturating_mul(1_000) / procfs::ticks_per_second();
    Ok(Duration::from_millis(millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_counted() {
        let clock = CpuClock::start().expect("a clock");
        let until = Instant::now() + Duration::from_millis(100);
        while clock.cores().expect("a figure") <= 0.0 || Instant::now() < until {
            assert!(clock.since.elapsed() < Duration::from_secs(30), "no time is counted");
        }
    }
}
