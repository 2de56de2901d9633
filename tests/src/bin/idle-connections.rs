//! `cargo run --release -p tests --bin idle-connections -- --pid PID`: what idle connections cost.
//!
//! Opens kept-alive connections to a running gateway, each after one request, and prints the
//! gateway's resident memory before and after. Start the gateway with `--max-connections` and
//! `--idle-timeout` above what is opened and how long that takes, and with `ulimit -n` above the
//! number of connections; this program raises its own limit as far as it may.

use std::{fs, net::SocketAddr, time::Instant};

use anyhow::{Context, bail, ensure};
use clap::Parser;
use futures::{StreamExt, TryStreamExt};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Connections that are being opened at once.
const OPENING: usize = 64;

/// Descriptors that this program needs besides its connections.
const OTHER_FILES: u64 = 64;

/// A request that needs no key and no upstream.
const REQUEST: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: gateway\r\n\r\n";

/// The longest answer that is read, in bytes.
const MAX_ANSWER_BYTES: usize = 16 * 1024;

/// Measures what idle connections cost a gateway.
#[derive(Debug, Parser)]
struct Arguments {
    /// The gateway's address.
    #[arg(long, default_value = "127.0.0.1:8080")]
    gateway: SocketAddr,
    /// The gateway's process.
    #[arg(long)]
    pid: u32,
    /// Connections to open.
    #[arg(long, default_value_t = 10_000)]
    connections: usize,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    raise_open_files(u64::try_from(arguments.connections)? + OTHER_FILES)?;
    // Whatever the first request makes the gateway allocate is no cost of idle connections.
    drop(open(arguments.gateway).await?);
    let before = resident_kib(arguments.pid)?;
    let started = Instant::now();
    let connections: Vec<TcpStream> =
        futures::stream::iter((0..arguments.connections).map(|_| open(arguments.gateway)))
            .buffer_unordered(OPENING)
            .try_collect()
            .await?;
    let after = resident_kib(arguments.pid)?;
    let took = started.elapsed();
    let closed = connections.iter().filter(|stream| is_closed(stream)).count();
    ensure!(closed == 0, "{closed} connections were closed: raise --idle-timeout");
    let each = after.saturating_sub(before) * 1024 / u64::try_from(connections.len().max(1))?;
    show(&format!(
        "{} idle connections, opened in {took:.1?}: {before} KiB before, {after} KiB after, \
         {each} bytes each",
        connections.len(),
    ));
    Ok(())
}

/// A connection that has answered one request.
async fn open(gateway: SocketAddr) -> anyhow::Result<TcpStream> {
    let mut stream = TcpStream::connect(gateway)
        .await
        .context("cannot connect: is the gateway's --max-connections high enough?")?;
    stream.write_all(REQUEST).await?;
    let mut answer = Vec::new();
    while !is_whole(&answer) {
        ensure!(answer.len() < MAX_ANSWER_BYTES, "an answer without an end");
        if stream.read_buf(&mut answer).await? == 0 {
            bail!("the gateway closed a connection");
        }
    }
    ensure!(answer.starts_with(b"HTTP/1.1 200 "), "the gateway does not answer 200");
    Ok(stream)
}

/// The answer is an object of JSON without objects in it.
fn is_whole(answer: &[u8]) -> bool {
    answer.ends_with(b"}")
}

fn is_closed(stream: &TcpStream) -> bool {
    !matches!(stream.try_read(&mut [0]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
}

/// The resident memory of a process in KiB.
fn resident_kib(pid: u32) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("no such process")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let line = line.context("the process has no memory of its own")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}

fn raise_open_files(wanted: u64) -> anyhow::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return Ok(());
    }
    setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), ..limit })
        .with_context(|| format!("cannot open {wanted} files: run `ulimit -n {wanted}` first"))
}

#[allow(clippy::print_stdout)]
fn show(line: &str) {
    println!("{line}");
}
