//! The bounds of a listener.

use std::time::Duration;

/// Connections open at once. More wait in the kernel's backlog; an idle one holds some 36 kilobytes.
pub const MAX_CONNECTIONS: usize = 4096;

/// Connections open at once from one address (IPv6: from one /64). Many clients may stand behind
/// one address; a single one must not take all places.
pub const MAX_CONNECTIONS_PER_ADDRESS: usize = 512;

/// How long a peer may take for a request head, and from connecting to the end of the first one,
/// the TLS handshake included.
pub const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection stays open between requests. Longer than the minute for which most load
/// balancers keep theirs, so that the balancer is the one that closes.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(75);

/// How long a peer may take no byte of what it asked for.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a peer may take for an answer, from its head on, at whatever pace.
pub const ANSWER_TIMEOUT: Duration = Duration::from_mins(5);

/// How long a peer may take for a body, whatever its size.
pub const BODY_READ_TIMEOUT: Duration = Duration::from_secs(15);

/// How long requests in flight may take after a shutdown began.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a kept-alive HTTP/1.1 connection is waited for after a shutdown began. The next request
/// is answered with `Connection: close`: a client in the middle of its work never meets a closed
/// connection.
pub const DRAIN_IDLE: Duration = Duration::from_millis(500);

/// The bounds of a [`Server`](super::Server); the defaults are the constants of this module.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// See [`MAX_CONNECTIONS`].
    pub max_connections: usize,
    /// See [`MAX_CONNECTIONS_PER_ADDRESS`].
    pub max_connections_per_address: usize,
    /// See [`HEADER_READ_TIMEOUT`].
    pub header_read_timeout: Duration,
    /// See [`IDLE_TIMEOUT`].
    pub idle_timeout: Duration,
    /// See [`WRITE_TIMEOUT`].
    pub write_timeout: Duration,
    /// See [`ANSWER_TIMEOUT`].
    pub answer_timeout: Duration,
    /// See [`DRAIN_IDLE`].
    pub drain_idle: Duration,
    /// See [`DRAIN_TIMEOUT`].
    pub drain_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: MAX_CONNECTIONS,
            max_connections_per_address: MAX_CONNECTIONS_PER_ADDRESS,
            header_read_timeout: HEADER_READ_TIMEOUT,
            idle_timeout: IDLE_TIMEOUT,
            write_timeout: WRITE_TIMEOUT,
            answer_timeout: ANSWER_TIMEOUT,
            drain_idle: DRAIN_IDLE,
            drain_timeout: DRAIN_TIMEOUT,
        }
    }
}

impl Limits {
    /// The shortest of the times that a connection is watched for. What begins after a look at the
    /// clock cannot be over before another look so much later.
    pub(super) fn tick(&self) -> Duration {
        self.header_read_timeout
            .min(self.idle_timeout)
            .min(self.write_timeout)
            .min(self.answer_timeout)
            .min(self.drain_idle)
            .max(MIN_TICK)
    }
}

/// However short a bound is, looking more often is not worth it.
const MIN_TICK: Duration = Duration::from_millis(10);
