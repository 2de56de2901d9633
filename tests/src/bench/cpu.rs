//! The processor time that processes have used, as the kernel counts it.

use std::{collections::BTreeMap, fs, time::Duration};

use anyhow::Context;

/// Processor time of each process, by its name.
pub type Used = BTreeMap<String, Duration>;

/// What these processes have used since they began, in user and kernel mode, all threads.
pub fn used(pids: &BTreeMap<String, u32>) -> anyhow::Result<Used> {
    pids.iter().map(|(name, pid)| Ok((name.clone(), of(*pid)?))).collect()
}

/// As [`used`], of one process, counted in ticks of 10 ms (proc(5), `/proc/pid/stat`).
fn of(pid: u32) -> anyhow::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let ticks = ticks(&stat).context("a line of /proc/pid/stat")?;
    let second = rustix::param::clock_ticks_per_second();
    Ok(Duration::from_secs(1) * u32::try_from(ticks)? / u32::try_from(second)?)
}

/// Fields 14 and 15. The second field is the program's name in parentheses, and may hold any.
fn ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_kernel_time_are_found_behind_any_name() {
        let line = "7 (a) b) S 1 7 7 0 -1 4194304 100 0 0 0 42 8 1 1 20 0 1 0 5 1000 10";
        assert_eq!(ticks(line), Some(50));
        assert_eq!(ticks("7 (cut"), None);
    }

    #[test]
    fn time_that_is_used_is_seen() {
        let pids = BTreeMap::from([("this".to_owned(), std::process::id())]);
        let before = used(&pids).expect("this process runs")["this"];
        let mut number = 0_u64;
        while used(&pids).expect("this process runs")["this"] == before {
            number = std::hint::black_box(number + 1);
        }
    }
}
