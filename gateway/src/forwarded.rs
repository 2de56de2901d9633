//! Whose address a request has come from.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, Request};
use http::{HeaderMap, HeaderName};
use runtime::networks::Networks;

/// The one header by which proxies name their clients. `Forwarded` and `X-Real-IP` are not read:
/// a proxy that sets one of the three passes on what a client wrote into the others.
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Puts the client's address in place of a trusted proxy's, for everything that asks who is there.
pub(crate) fn with_client_address(trusted: &Networks, mut request: Request) -> Request {
    if let Some(&ConnectInfo(peer)) = request.extensions().get::<ConnectInfo<SocketAddr>>()
        && trusted.contains(peer.ip())
    {
        let client = client_address(trusted, peer.ip(), request.headers());
        // Nobody knows the port that the client has.
        request.extensions_mut().insert(ConnectInfo(SocketAddr::new(client, 0)));
    }
    request
}

/// Every proxy appends the address that it was called from, so the list is believed from its end:
/// up to the first address that is no trusted proxy, or to what cannot be read.
fn client_address(trusted: &Networks, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
    let lines: Vec<&[u8]> =
        headers.get_all(X_FORWARDED_FOR).iter().map(http::HeaderValue::as_bytes).collect();
    let entries = lines.iter().rev().flat_map(|line| line.rsplit(|byte| *byte == b','));
    let mut client = peer;
    for entry in entries {
        let Some(address) = address(entry) else { break };
        client = address;
        if !trusted.contains(address) {
            break;
        }
    }
    client
}

/// An address as proxies write it, with or without a port: some name the port, too.
fn address(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry).ok()?.trim_matches([' ', '\t']);
    let lone = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = match lone.parse::<IpAddr>() {
        Ok(address) => address,
        Err(_) => text.parse::<SocketAddr>().ok()?.ip(),
    };
    Some(address.to_canonical())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use runtime::networks::Network;

    #[track_caller]
    fn check(lines: &[&str], expected: &str) {
        let trusted: Network = "10.0.0.0/8".parse().unwrap();
        let trusted: Networks = [trusted, "fd00::/8".parse().unwrap()].into_iter().collect();
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(X_FORWARDED_FOR, line.parse().unwrap());
        }
        let client = client_address(&trusted, "10.0.0.1".parse().unwrap(), &headers);
        assert_eq!(client.to_string(), expected, "{lines:?}");
    }

    #[test]
    fn the_client_is_the_last_address_that_is_no_trusted_proxy() {
        check(&[], "10.0.0.1");
        check(&["192.0.2.1"], "192.0.2.1");
        check(&["6.6.6.6, 192.0.2.1"], "192.0.2.1");
        check(&["6.6.6.6, 192.0.2.1, 10.0.0.2"], "192.0.2.1");
        check(&["6.6.6.6", "192.0.2.1", "fd00::1,10.0.0.2"], "192.0.2.1");
        check(&["10.0.0.3, 10.0.0.2"], "10.0.0.3");
    }

    #[test]
    fn addresses_are_read_as_proxies_write_them() {
        check(&["192.0.2.1:4711"], "192.0.2.1");
        check(&[" 192.0.2.1\t"], "192.0.2.1");
        check(&["2001:db8::1"], "2001:db8::1");
        check(&["[2001:db8::1]"], "2001:db8::1");
        check(&["[2001:db8::1]:4711"], "2001:db8::1");
        check(&["::ffff:192.0.2.1"], "192.0.2.1");
        check(&["192.0.2.1, ::ffff:10.0.0.2"], "192.0.2.1");
    }

    #[test]
    fn what_cannot_be_read_ends_the_list() {
        for nonsense in
            ["unknown", "_hidden", "", "192.0.2.1.", "192.0.2.01", "1", "fe80::1%eth0", "a:b"]
        {
            check(&[&format!("6.6.6.6, {nonsense}")], "10.0.0.1");
            check(&[&format!("6.6.6.6, {nonsense}, 10.0.0.2")], "10.0.0.2");
            check(&[&format!("{nonsense}, 192.0.2.1")], "192.0.2.1");
        }
        let mut headers = HeaderMap::new();
        let bytes = http::HeaderValue::from_bytes(b"6.6.6.6, \xff").unwrap();
        headers.append(X_FORWARDED_FOR, bytes);
        let peer = "10.0.0.1".parse().unwrap();
        assert_eq!(client_address(&Networks::default(), peer, &headers), peer);
    }
}
