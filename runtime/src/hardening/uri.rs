//! MongoDB connection strings, as far as they say who is let in, and how.

use super::is_this_machine;

/// Mechanisms by which a client shows who it is without a user name in the string.
const WITHOUT_USER: [&str; 4] = ["MONGODB-X509", "MONGODB-OIDC", "MONGODB-AWS", "GSSAPI"];

/// Options under which whoever answers is taken for the database.
const UNCHECKED: [&str; 3] =
    ["tlsInsecure", "tlsAllowInvalidCertificates", "tlsAllowInvalidHostnames"];

/// A connection string in parts. It is not decoded, so that what looks odd counts as insecure.
struct Parts<'a> {
    has_records: bool,
    credentials: Option<&'a str>,
    hosts: &'a str,
    options: &'a str,
}

fn parts(uri: &str) -> Option<Parts<'_>> {
    let (scheme, rest) = uri.split_once("://")?;
    let (authority, tail) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let (credentials, hosts) = match authority.rsplit_once('@') {
        Some((credentials, hosts)) => (Some(credentials), hosts),
        None => (None, authority),
    };
    let options = tail.split_once('?').map_or("", |(_, options)| options);
    Some(Parts { has_records: scheme == "mongodb+srv", credentials, hosts, options })
}

/// Whether there is a password in it.
pub(super) fn has_password(uri: &str) -> bool {
    let password = |credentials: &str| Some(credentials.split_once(':')?.1.to_owned());
    let password = parts(uri).and_then(|parts| parts.credentials.and_then(password));
    password.is_some_and(|password| !password.is_empty())
        || options(uri).any(|(name, _)| name.eq_ignore_ascii_case("tlsCertificateKeyFilePassword"))
}

/// Whether it leads to another machine and shows it nothing.
pub(super) fn is_open(uri: &str) -> bool {
    let Some(parts) = parts(uri) else { return true };
    let has_user = parts.credentials.is_some_and(|credentials| {
        credentials
            .split_once(':')
            .is_some_and(|(user, password)| !user.is_empty() && !password.is_empty())
    });
    let by_mechanism = options(uri).any(|(name, value)| {
        name.eq_ignore_ascii_case("authMechanism")
            && WITHOUT_USER.iter().any(|it| value.eq_ignore_ascii_case(it))
    });
    !parts.is_local() && !has_user && !by_mechanism
}

/// Whether it leads to another machine without TLS, or with TLS that anybody can answer.
pub(super) fn is_plain(uri: &str) -> bool {
    let Some(parts) = parts(uri) else { return true };
    let of = |names: &'static [&'static str]| {
        options(uri).filter(move |(name, _)| names.iter().any(|it| name.eq_ignore_ascii_case(it)))
    };
    let asked: Vec<_> = of(&["tls", "ssl"]).map(|(_, value)| value == "true").collect();
    let encrypted =
        if asked.is_empty() { parts.has_records } else { asked.into_iter().all(|it| it) };
    let checked = of(&UNCHECKED).all(|(_, value)| value == "false");
    !parts.is_local() && (!encrypted || !checked)
}

impl Parts<'_> {
    fn is_local(&self) -> bool {
        !self.has_records && self.hosts.split(',').all(is_local)
    }
}

fn options(uri: &str) -> impl Iterator<Item = (&str, &str)> {
    let options = parts(uri).map_or("", |parts| parts.options);
    options.split('&').filter_map(|option| option.split_once('='))
}

fn is_local(host: &str) -> bool {
    // A socket's path is written with its slashes encoded.
    let is_socket = host.get(..3).is_some_and(|it| it.eq_ignore_ascii_case("%2f"));
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    is_socket || is_this_machine(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_machines_need_authentication() {
        for (uri, open) in [
            ("mongodb://127.0.0.1:27017", false),
            ("mongodb://localhost/?directConnection=true", false),
            ("mongodb://[::1]:27017/", false),
            ("mongodb://[::1]/", false),
            ("mongodb://%2Ftmp%2Fmongodb-27017.sock/", false),
            ("mongodb://127.0.0.1:1,127.0.0.2:2/?replicaSet=rs", false),
            ("mongodb://127.0.0.1,10.0.0.1/", true),
            ("mongodb://db", true),
            ("mongodb://0.0.0.0:1/", false),
            ("mongodb://127.0.0.1.evil.example/", true),
            ("mongodb://db:27017/?authSource=admin", true),
            ("mongodb://user@db/", true),
            ("mongodb://:password@db/", true),
            ("mongodb://user:password@db/", false),
            ("mongodb://user:pass%40word@db,other/", false),
            ("mongodb+srv://cluster.example/", true),
            ("mongodb+srv://localhost/", true),
            ("mongodb+srv://user:password@cluster.example/", false),
            ("mongodb://db/?authMechanism=MONGODB-X509", false),
            ("mongodb+srv://db/?tls=true&authmechanism=mongodb-oidc", false),
            ("mongodb://db/?authMechanism=SCRAM-SHA-256", true),
            ("", true),
        ] {
            assert_eq!(is_open(uri), open, "{uri}");
        }
    }

    #[test]
    fn other_machines_need_tls_and_certificates_that_are_checked() {
        for (uri, plain) in [
            ("mongodb://127.0.0.1:27017", false),
            ("mongodb://127.0.0.1/?tlsInsecure=true", false),
            ("mongodb://user:password@db/", true),
            ("mongodb://127.0.0.1,db/", true),
            ("mongodb://db/?tls=true", false),
            ("mongodb://db?tls=true&tlsCAFile=/ca.pem", false),
            ("mongodb://db:10255/?ssl=true&replicaSet=globaldb", false),
            ("mongodb://db/?TLS=true", false),
            ("mongodb://db/?tls=false", true),
            ("mongodb://db/?tls=true&ssl=false", true),
            ("mongodb://db/?tlsCAFile=/ca.pem", true),
            ("mongodb://db/?tls=true&tlsInsecure=true", true),
            ("mongodb://db/?tls=true&tlsinsecure=false", false),
            ("mongodb://db/?tls=true&tlsAllowInvalidCertificates=true", true),
            ("mongodb://db/?tls=true&tlsallowinvalidhostnames=true", true),
            ("mongodb+srv://db/", false),
            ("mongodb+srv://db/?tls=false", true),
            ("mongodb+srv://db/?tlsAllowInvalidCertificates=true", true),
            ("mongodb://db/tls=true", true),
            ("", true),
        ] {
            assert_eq!(is_plain(uri), plain, "{uri}");
        }
    }

    #[test]
    fn passwords_are_seen_wherever_they_stand() {
        for (uri, has) in [
            ("mongodb://user:password@127.0.0.1/", true),
            ("mongodb+srv://user:p@ss@db/", true),
            ("mongodb://db/?tls=true&tlsCertificateKeyFilePassword=x", true),
            ("mongodb://user@db/", false),
            ("mongodb://127.0.0.1:27017/", false),
            ("mongodb://db/?authMechanism=MONGODB-X509", false),
        ] {
            assert_eq!(has_password(uri), has, "{uri}");
        }
    }
}
