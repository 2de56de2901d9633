//! What the process takes of the machine, from `/proc`; nothing where there is none.

use std::time::Instant;

use opentelemetry::metrics::Meter;
use procfs::process::Process;

/// Registers the instruments. They look when they are asked.
pub(super) fn observe(meter: &Meter) {
    meter
        .f64_observable_counter("process.cpu.time")
        .with_unit("s")
        .with_description("CPU time taken, of all threads")
        .with_callback(|seconds| {
            let ticks = procfs::ticks_per_second();
            if let Some(stat) = myself().and_then(|it| it.stat().ok()) {
                // Whole hundredths of seconds; a float holds centuries of them.
                #[allow(clippy::cast_precision_loss)]
                seconds.observe((stat.utime + stat.stime) as f64 / ticks as f64, &[]);
            }
        })
        .build();
    meter
        .u64_observable_gauge("process.memory.usage")
        .with_unit("By")
        .with_description("Memory in use that is not swapped out")
        .with_callback(|bytes| {
            if let Some(stat) = myself().and_then(|it| it.statm().ok()) {
                bytes.observe(stat.resident * procfs::page_size(), &[]);
            }
        })
        .build();
    meter
        .u64_observable_gauge("process.open_file_descriptor.count")
        .with_description("File descriptors in use, connections among them")
        .with_callback(|count| {
            if let Some(open) = myself().and_then(|it| it.fd_count().ok()) {
                count.observe(open as u64, &[]);
            }
        })
        .build();
    meter
        .i64_observable_gauge("process.thread.count")
        .with_description("Threads")
        .with_callback(|count| {
            if let Some(stat) = myself().and_then(|it| it.stat().ok()) {
                count.observe(stat.num_threads, &[]);
            }
        })
        .build();
    let started = Instant::now();
    meter
        .f64_observable_gauge("process.uptime")
        .with_unit("s")
        .with_description("Time since the process started")
        .with_callback(move |seconds| seconds.observe(started.elapsed().as_secs_f64(), &[]))
        .build();
}

fn myself() -> Option<Process> {
    Process::myself().ok()
}
