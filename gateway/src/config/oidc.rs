//! Bearer tokens of an `OpenID` provider.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use jsonwebtoken::{Algorithm, AlgorithmFamily};

use super::rate::{Rate, rate};
pub use crate::oidc::{Issuer, IssuerError};
use crate::subscriptions::{Scope, UnknownScope};

/// Between two fetches of the issuer's keys that tokens with unknown keys may cause. It bounds what
/// a flood of such tokens makes the issuer do, and how long a key that it did not announce may be
/// refused during one.
pub const FETCH_FLOOR: Duration = Duration::from_secs(30);

/// Between two fetches of the issuer's keys without any cause: what it withdraws is refused after
/// this at the latest.
pub const REFRESH_INTERVAL: Duration = Duration::from_hours(1);

/// How long the issuer's keys count that were fetched last. An outage of the issuer may last so long
/// without any consequence, and a key that it withdraws during one counts so long at the most.
pub const KEYS_MAX_AGE: Duration = Duration::from_hours(24);

/// How long fetching the issuer's keys may take, from the first connection to the last byte.
pub const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// Requests of one user, refused ones included, with whatever tokens: far more than a person makes,
/// and little for a program, which is what subscriptions are for.
pub const TOKEN_RATE: Rate = Rate::new(50, 100);

/// Whose tokens are taken. The defaults fit access tokens of Microsoft Entra ID, version 2.0.
#[derive(Clone, Debug, Args)]
// Names of fields are those of flags.
#[allow(clippy::struct_field_names)]
pub struct OidcOptions {
    /// Issuer whose bearer tokens are taken, exactly as their `iss` says it; without it none are.
    /// For Microsoft Entra ID `https://login.microsoftonline.com/TENANT/v2.0`, or
    /// `https://sts.windows.net/TENANT/` where the API is registered for tokens of version 1
    #[arg(long, env = "VITALOG_OIDC_ISSUER", value_name = "URL", requires = "oidc_audience")]
    oidc_issuer: Option<Issuer>,
    /// What tokens for this API have as `aud`; may be repeated
    #[arg(
        long,
        env = "VITALOG_OIDC_AUDIENCE",
        value_name = "TEXT",
        value_delimiter = ',',
        value_parser = NonEmptyStringValueParser::new(),
        requires = "oidc_issuer"
    )]
    oidc_audience: Vec<String>,
    /// Algorithms by which tokens may be signed: RS, PS or ES with 256 or 384, RS512, PS512, `EdDSA`
    #[arg(
        long,
        env = "VITALOG_OIDC_ALGORITHMS",
        value_name = "ALG",
        value_delimiter = ',',
        value_parser = signing_algorithm,
        default_value = "RS256,ES256,PS256"
    )]
    oidc_algorithms: Vec<Algorithm>,
    /// Claims that say who the user is, the first that a token has counts; they stand in records
    #[arg(
        long,
        env = "VITALOG_OIDC_SUBJECT_CLAIM",
        value_name = "CLAIM",
        value_delimiter = ',',
        default_value = "oid,sub"
    )]
    oidc_subject_claim: Vec<String>,
    /// Claims whose texts are scopes: a text with spaces between, or an array
    #[arg(
        long,
        env = "VITALOG_OIDC_SCOPE_CLAIMS",
        value_name = "CLAIM",
        value_delimiter = ',',
        default_value = "scp,scope,roles"
    )]
    oidc_scope_claims: Vec<String>,
    /// The issuer's own name of a scope, such as `Patient.Read=patient:read`; may be repeated
    #[arg(
        long,
        env = "VITALOG_OIDC_SCOPE_MAP",
        value_name = "FROM=TO",
        value_delimiter = ',',
        value_parser = scope_mapping
    )]
    oidc_scope_map: Vec<(String, Scope)>,
    /// Requests of one user in a second, at each gateway
    #[arg(
        long,
        env = "VITALOG_TOKEN_RATE",
        value_name = "NUMBER",
        value_parser = rate,
        default_value_t = TOKEN_RATE.per_second
    )]
    token_rate: NonZeroU32,
    /// Requests of one user at once before that rate limits them
    #[arg(
        long,
        env = "VITALOG_TOKEN_BURST",
        value_name = "NUMBER",
        value_parser = rate,
        default_value_t = TOKEN_RATE.burst
    )]
    token_burst: NonZeroU32,
    /// Seconds after which keys of the issuer no longer count that could not be fetched again;
    /// tokens are answered 503 then
    #[arg(
        long,
        env = "VITALOG_OIDC_KEYS_MAX_AGE",
        value_name = "SECONDS",
        default_value_t = KEYS_MAX_AGE.as_secs(),
        value_parser = clap::value_parser!(u64).range(60..=30 * 86_400)
    )]
    oidc_keys_max_age: u64,
    /// File of the authorities (PEM) whose certificates of the issuer are taken; without it those of
    /// the system
    #[arg(long, env = "VITALOG_OIDC_CA", value_name = "PATH", requires = "oidc_issuer")]
    oidc_ca: Option<PathBuf>,
}

impl OidcOptions {
    /// `None` where no issuer is configured.
    pub fn settings(self) -> Option<OidcSettings> {
        let mut settings = OidcSettings::new(self.oidc_issuer?, self.oidc_audience);
        settings.algorithms = self.oidc_algorithms;
        settings.subject_claims = self.oidc_subject_claim;
        settings.scope_claims = self.oidc_scope_claims;
        settings.scope_map = self.oidc_scope_map;
        settings.rate = Rate { per_second: self.token_rate, burst: self.token_burst };
        settings.keys_max_age = Duration::from_secs(self.oidc_keys_max_age);
        settings.ca = self.oidc_ca;
        Some(settings)
    }
}

/// Which tokens are taken, and what they mean.
#[derive(Clone, Debug)]
pub struct OidcSettings {
    /// Who issues them.
    pub issuer: Issuer,
    /// A token is for this API when its `aud` names one of these.
    pub audiences: Vec<String>,
    /// How they may be signed; never symmetric.
    pub algorithms: Vec<Algorithm>,
    /// The first claim of these that a token has says who the user is.
    pub subject_claims: Vec<String>,
    /// Claims that hold scopes.
    pub scope_claims: Vec<String>,
    /// The issuer's names of scopes, besides their own.
    pub scope_map: Vec<(String, Scope)>,
    /// See [`TOKEN_RATE`].
    pub rate: Rate,
    /// See [`FETCH_FLOOR`].
    pub fetch_floor: Duration,
    /// See [`REFRESH_INTERVAL`].
    pub refresh_interval: Duration,
    /// See [`FETCH_TIMEOUT`].
    pub fetch_timeout: Duration,
    /// See [`KEYS_MAX_AGE`].
    pub keys_max_age: Duration,
    /// The authorities whose certificates the issuer may have; without it those of the system.
    pub ca: Option<PathBuf>,
}

impl OidcSettings {
    /// Settings as the options have them by default.
    pub fn new(issuer: Issuer, audiences: Vec<String>) -> Self {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Self {
            issuer,
            audiences,
            algorithms: vec![Algorithm::RS256, Algorithm::ES256, Algorithm::PS256],
            subject_claims: texts(&["oid", "sub"]),
            scope_claims: texts(&["scp", "scope", "roles"]),
            scope_map: Vec::new(),
            rate: TOKEN_RATE,
            fetch_floor: FETCH_FLOOR,
            refresh_interval: REFRESH_INTERVAL,
            fetch_timeout: FETCH_TIMEOUT,
            keys_max_age: KEYS_MAX_AGE,
            ca: None,
        }
    }
}

/// Why an option about tokens cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum OptionError {
    /// With a symmetric algorithm, and with none, whoever checks tokens could make them as well.
    #[error("must be an asymmetric signing algorithm, such as RS256, PS256 or ES256")]
    Algorithm,
    /// Without `=`, or with nothing before it.
    #[error("must be FROM=TO")]
    Mapping,
    /// What follows `=` is no scope.
    #[error(transparent)]
    Scope(#[from] UnknownScope),
}

fn signing_algorithm(text: &str) -> Result<Algorithm, OptionError> {
    match text.parse::<Algorithm>() {
        Ok(algorithm) if algorithm.family() != AlgorithmFamily::Hmac => Ok(algorithm),
        _ => Err(OptionError::Algorithm),
    }
}

fn scope_mapping(text: &str) -> Result<(String, Scope), OptionError> {
    match text.rsplit_once('=') {
        Some((from, to)) if !from.is_empty() => Ok((from.to_owned(), to.parse()?)),
        _ => Err(OptionError::Mapping),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        oidc: OidcOptions,
    }

    fn parse(options: &str) -> Result<Option<OidcSettings>, clap::Error> {
        let line = format!("gateway {options}");
        Ok(Line::try_parse_from(line.split_whitespace())?.oidc.settings())
    }

    const ISSUER: &str = "--oidc-issuer https://login.example/tenant/v2.0 --oidc-audience api";

    #[test]
    fn without_an_issuer_there_are_no_tokens_and_the_defaults_are_those_of_the_settings() {
        assert!(parse("").unwrap().is_none());
        let settings = parse(ISSUER).unwrap().unwrap();
        let expected = OidcSettings::new(settings.issuer.clone(), vec!["api".into()]);
        assert_eq!(format!("{settings:?}"), format!("{expected:?}"));
    }

    #[test]
    fn lists_can_be_repeated_and_separated() {
        let settings = parse(&format!(
            "{ISSUER} --oidc-audience api://other --oidc-algorithms ES384,EdDSA \
             --oidc-scope-map Patient.Read=patient:read --oidc-scope-map a=b=audit:read \
             --token-rate 7 --token-burst 9 --oidc-keys-max-age 3600 --oidc-ca ca.pem"
        ));
        let settings = settings.unwrap().unwrap();
        assert_eq!(settings.audiences, ["api", "api://other"]);
        assert_eq!(settings.algorithms, [Algorithm::ES384, Algorithm::EdDSA]);
        let map = [("Patient.Read".into(), Scope::PatientRead), ("a=b".into(), Scope::AuditRead)];
        assert_eq!(settings.scope_map, map);
        assert_eq!(settings.rate, Rate::new(7, 9));
        assert_eq!(settings.keys_max_age, Duration::from_hours(1));
        assert_eq!(settings.ca, Some("ca.pem".into()));
    }

    #[test]
    fn what_would_be_insecure_or_half_cannot_be_configured() {
        for wrong in [
            "--oidc-issuer https://login.example",
            "--oidc-audience api",
            "--oidc-issuer https://login.example --oidc-audience=",
            "--oidc-audience api --oidc-issuer http://login.example",
            "--oidc-audience api --oidc-issuer https://login.example?tenant=1",
            "--oidc-audience api --oidc-issuer https://user:password@login.example",
            "--oidc-audience api --oidc-issuer login.example",
            "--oidc-ca ca.pem",
            "--oidc-issuer https://login.example --oidc-audience api --oidc-keys-max-age 59",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        for wrong in ["HS256", "HS384", "HS512", "none", "None", "RS256,HS256", "RS1", ""] {
            assert!(parse(&format!("{ISSUER} --oidc-algorithms={wrong}")).is_err(), "{wrong}");
        }
        for wrong in ["patient:read", "=patient:read", "a=", "a=patient", "a=patient:read=b"] {
            assert!(parse(&format!("{ISSUER} --oidc-scope-map={wrong}")).is_err(), "{wrong}");
        }
        for wrong in ["0", "-1", "1000001", "4294967296", "none", ""] {
            assert!(parse(&format!("{ISSUER} --token-rate={wrong}")).is_err(), "{wrong}");
            assert!(parse(&format!("{ISSUER} --token-burst={wrong}")).is_err(), "{wrong}");
        }
    }
}
