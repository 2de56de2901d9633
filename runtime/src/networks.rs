//! Networks by which an address is known.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net};

/// Networks; an address in any of them is in. Clones share them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks(Arc<[IpNet]>);

impl Networks {
    /// Whether the address is in one of the networks. An IPv4 address counts as such when it comes
    /// mapped into IPv6, which is how a listener on `[::]` shows it.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// The addresses by which a machine speaks to itself.
    pub fn loopback() -> Self {
        let v4 = Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8);
        Self(Arc::new([v4.into(), IpAddr::V6(Ipv6Addr::LOCALHOST).into()]))
    }

    /// These networks and those.
    #[must_use]
    pub fn and(&self, others: &Self) -> Self {
        Self(self.0.iter().chain(others.0.iter()).copied().collect())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<Network> for Networks {
    fn from_iter<T: IntoIterator<Item = Network>>(networks: T) -> Self {
        Self(networks.into_iter().map(|network| network.0).collect())
    }
}

/// One network as an option names it: `10.0.0.0/8`, `fd00::/8`, or a lone address.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Network(IpNet);

/// Why a text is no network to name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// It is neither a network nor an address.
    #[error("not a network: write an address, or one with a prefix such as 10.0.0.0/8")]
    Malformed,
    /// It holds every address there is.
    #[error("this is everybody: name the networks that are meant")]
    Everybody,
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let network = match text.parse::<IpAddr>() {
            Ok(address) => IpNet::from(address.to_canonical()),
            Err(_) => text.parse::<IpNet>().map_err(|_| NetworkError::Malformed)?.trunc(),
        };
        if network.prefix_len() == 0 {
            return Err(NetworkError::Everybody);
        }
        Ok(Self(network))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a peer is counted by: an IPv4 address, or the /64 that an IPv6 host can pick any address of.
pub fn counted_as(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)))
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(networks: &[&str], address: &str, expected: bool) {
        let networks: Networks =
            networks.iter().map(|text| text.parse::<Network>().unwrap()).collect();
        assert_eq!(networks.contains(address.parse().unwrap()), expected, "{networks:?} {address}");
    }

    #[test]
    fn an_address_is_in_a_network_however_it_is_written() {
        check(&[], "10.0.0.1", false);
        check(&["10.0.0.0/8"], "10.255.0.1", true);
        check(&["10.1.2.3/8"], "10.255.0.1", true);
        check(&["10.0.0.0/8"], "11.0.0.1", false);
        check(&["10.0.0.0/8"], "::ffff:10.0.0.1", true);
        check(&["::ffff:10.0.0.1"], "10.0.0.1", true);
        check(&["192.0.2.1", "fd00::/8"], "fd00::1", true);
        check(&["192.0.2.1"], "192.0.2.2", false);
    }

    #[test]
    fn everybody_and_nonsense_are_no_networks() {
        for text in ["0.0.0.0/0", "::/0", "1.2.3.4/0"] {
            assert_eq!(text.parse::<Network>(), Err(NetworkError::Everybody), "{text}");
        }
        for text in ["", "localhost", "10.0.0.0/33", "10.0.0/8", "10.0.0.0/-1"] {
            assert_eq!(text.parse::<Network>(), Err(NetworkError::Malformed), "{text}");
        }
    }

    #[test]
    fn a_host_counts_once_for_all_its_addresses() {
        let counted = |text: &str| counted_as(text.parse().unwrap()).to_string();
        assert_eq!(counted("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(counted("::ffff:192.0.2.1"), "192.0.2.1");
        assert_eq!(counted("192.0.2.1"), "192.0.2.1");
    }
}
