//! A listener that knows whose connections it takes.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::atomic::{AtomicU64, Ordering},
};

use tokio::net::{TcpListener, TcpStream};

use crate::{networks::Networks, tls::TlsAcceptor};

/// One in so many refused connections is logged, and the first: whoever scans makes thousands.
const LOGGED: u64 = 1_000;

/// From where connections are taken.
#[derive(Clone, Debug, Default)]
pub enum Peers {
    /// From everywhere.
    #[default]
    Anyone,
    /// From these networks.
    Of(Networks),
}

impl Peers {
    /// Whether a connection of this address is taken.
    pub fn may_connect(&self, address: IpAddr) -> bool {
        match self {
            Self::Anyone => true,
            Self::Of(networks) => networks.contains(address),
        }
    }
}

/// A bound listener. Connections that it does not take are closed before a byte is read.
#[derive(Debug)]
pub struct Listener {
    tcp: TcpListener,
    peers: Peers,
    refused: AtomicU64,
    tls: Option<TlsAcceptor>,
}

impl Listener {
    /// Takes the connections of some peers alone.
    pub fn new(tcp: TcpListener, peers: Peers) -> Self {
        Self { tcp, peers, refused: AtomicU64::new(0), tls: None }
    }

    /// With TLS on every connection.
    #[must_use]
    pub fn with_tls(self, tls: TlsAcceptor) -> Self {
        Self { tls: Some(tls), ..self }
    }

    /// How TLS is spoken, if it is.
    pub(crate) fn tls(&self) -> Option<TlsAcceptor> {
        self.tls.clone()
    }

    /// Networks whose connections are taken because they were named.
    pub(crate) fn networks(&self) -> Networks {
        match &self.peers {
            Peers::Anyone => Networks::default(),
            Peers::Of(networks) => networks.clone(),
        }
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
    fn the_named_networks_may_connect_however_an_address_is_written() {
        let network: Network = "10.1.0.0/16".parse().unwrap();
        let peers = Peers::Of([network].into_iter().collect());
        for (address, may) in [
            ("127.0.0.1", false),
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
