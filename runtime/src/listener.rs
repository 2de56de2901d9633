//! A listener that knows whose connections it takes.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::atomic::{AtomicU64, Ordering},
};

use tokio::net::{TcpListener, TcpStream};

use crate::networks::Networks;

/// One in so many refused connections is logged, and the first: whoever scans makes thousands.
const LOGGED: u64 = 1_000;

/// From where connections are taken.
#[derive(Clone, Debug, Default)]
pub enum Peers {
    /// From everywhere.
    #[default]
    Anyone,
    /// From this machine and these networks.
    Of(Networks),
}

impl Peers {
    /// Whether a connection of this address is taken.
    pub fn may_connect(&self, address: IpAddr) -> bool {
        match self {
            Self::Anyone => true,
            Self::Of(networks) => {
                address.to_canonical().is_loopback() || networks.contains(address)
            }
        }
    }
}

/// A bound listener. Connections that it does not take are closed before a byte is read.
#[derive(Debug)]
pub struct Listener {
    tcp: TcpListener,
    peers: Peers,
    refused: AtomicU64,
}

impl Listener {
    /// Takes the connections of some peers alone.
    pub fn new(tcp: TcpListener, peers: Peers) -> Self {
        Self { tcp, peers, refused: AtomicU64::new(0) }
    }

    /// The next connection that is taken.
    ///
    /// # Errors
    /// What accepting says.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        loop {
            let (stream, peer) = self.tcp.accept().await?;
            if self.peers.may_connect(peer.ip()) {
                return Ok((stream, peer));
            }
            drop(stream);
            let refused = self.refused.fetch_add(1, Ordering::Relaxed);
            if refused.is_multiple_of(LOGGED) {
                let (peer, refused) = (peer.ip(), refused + 1);
                tracing::warn!(%peer, refused, "a connection from outside --allow-network was closed");
            }
        }
    }
}

impl From<TcpListener> for Listener {
    fn from(tcp: TcpListener) -> Self {
        Self::new(tcp, Peers::Anyone)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::networks::Network;

    #[test]
    fn this_machine_and_the_named_networks_may_connect() {
        let network: Network = "10.1.0.0/16".parse().unwrap();
        let peers = Peers::Of([network].into_iter().collect());
        for (address, may) in [
            ("127.0.0.1", true),
            ("::1", true),
            ("::ffff:127.0.0.1", true),
            ("10.1.2.3", true),
            ("::ffff:10.1.2.3", true),
            ("10.2.0.1", false),
            ("192.0.2.1", false),
            ("2001:db8::1", false),
        ] {
            assert_eq!(peers.may_connect(address.parse().unwrap()), may, "{address}");
            assert!(Peers::Anyone.may_connect(address.parse().unwrap()));
        }
    }
}
