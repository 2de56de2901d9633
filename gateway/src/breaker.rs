//! A circuit breaker: while a service cannot be reached, nobody waits for it.
//!
//! It opens after a run of failures without an answer in between. That a connection cannot be made
//! is about the service, whoever asked. That an answer does not come may be about one slow route,
//! so it counts only while the service does not answer the looks at its readiness either.
//! While open, the probe that closes it is such a look: no client's request pays for it, and no
//! slow route can fail it.

use std::time::{Duration, Instant};

/// How long failures must have gone on. A service that restarts is away for less.
pub(crate) const SHORTEST_RUN: Duration = Duration::from_secs(1);

/// Whether requests are let through to a service.
#[derive(Debug)]
pub(crate) struct Breaker {
    /// Failures in a row that open it.
    limit: u32,
    run: u32,
    run_began: Option<Instant>,
    open: bool,
    /// Whether the last look got any answer.
    reachable: bool,
}

/// How a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failed {
    /// There was no connection.
    Connecting,
    /// There was one, and no answer.
    Waiting,
}

/// That the breaker moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Opened,
    Closed,
}

impl Breaker {
    pub(crate) fn new(limit: u32) -> Self {
        Self { limit, run: 0, run_began: None, open: false, reachable: true }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open
    }

    /// A request was answered, whatever the answer says.
    pub(crate) fn answered(&mut self) -> Option<Change> {
        self.run = 0;
        self.run_began = None;
        std::mem::take(&mut self.open).then_some(Change::Closed)
    }

    /// A request was not answered.
    pub(crate) fn failed(&mut self, how: Failed, now: Instant) -> Option<Change> {
        if self.open || (how == Failed::Waiting && self.reachable) {
            return None;
        }
        self.run = self.run.saturating_add(1);
        let began = *self.run_began.get_or_insert(now);
        if self.run < self.limit || now.saturating_duration_since(began) < SHORTEST_RUN {
            return None;
        }
        self.open = true;
        Some(Change::Opened)
    }

    /// A look at the service's readiness got an answer, or none. That it is not ready is one.
    pub(crate) fn looked(&mut self, reachable: bool) -> Option<Change> {
        self.reachable = reachable;
        if reachable { self.answered() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What happens, and when, in milliseconds.
    enum Step {
        Connecting(u64),
        Waiting(u64),
        Answered,
        Look(bool),
    }
    use Step::{Answered, Connecting, Look, Waiting};

    /// A breaker of three failures is open at the end or not.
    #[track_caller]
    fn check(steps: impl IntoIterator<Item = Step>, open: bool) {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut breaker = Breaker::new(3);
        for step in steps {
            let before = breaker.is_open();
            let change = match step {
                Connecting(millis) => breaker.failed(Failed::Connecting, at(millis)),
                Waiting(millis) => breaker.failed(Failed::Waiting, at(millis)),
                Answered => breaker.answered(),
                Look(reachable) => breaker.looked(reachable),
            };
            let expected = match (before, breaker.is_open()) {
                (false, true) => Some(Change::Opened),
                (true, false) => Some(Change::Closed),
                _ => None,
            };
            assert_eq!(change, expected);
        }
        assert_eq!(breaker.is_open(), open);
    }

    #[test]
    fn it_opens_after_a_run_of_connections_that_cannot_be_made() {
        check([Connecting(0), Connecting(500)], false);
        check([Connecting(0), Connecting(1), Connecting(1_000)], true);
        check([Connecting(0), Connecting(5_000)], false);
    }

    #[test]
    fn an_answer_ends_a_run() {
        check([Connecting(0), Connecting(900), Answered, Connecting(1_800)], false);
        check([Connecting(0), Connecting(900), Look(true), Connecting(1_800)], false);
        let again = [Connecting(0), Answered, Connecting(1), Connecting(2), Connecting(1_001)];
        check(again, true);
    }

    #[test]
    fn a_short_run_is_a_restart_however_many_fail() {
        check((0..999).map(Connecting), false);
    }

    #[test]
    fn slow_routes_never_open_it_while_the_service_says_that_it_is_there() {
        check((0..100).map(|n| Waiting(n * 1_000)), false);
        check([Look(false), Look(true), Waiting(0), Waiting(1_000), Waiting(2_000)], false);
    }

    #[test]
    fn a_service_that_answers_nobody_opens_it() {
        check([Look(false), Waiting(0), Waiting(500), Waiting(1_000)], true);
        check([Waiting(0), Look(false), Waiting(0), Connecting(500), Waiting(1_000)], true);
        check([Look(false), Look(false), Look(false)], false);
    }

    #[test]
    fn a_look_that_is_answered_closes_it() {
        let open = || [Connecting(0), Connecting(1), Connecting(1_000)];
        check(open().into_iter().chain([Look(false)]), true);
        check(open().into_iter().chain([Connecting(9_000), Waiting(9_000)]), true);
        check(open().into_iter().chain([Look(true)]), false);
        // One that was sent before it opened.
        check(open().into_iter().chain([Answered]), false);
    }
}
