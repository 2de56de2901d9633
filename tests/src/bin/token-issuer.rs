//! A local issuer of tokens, to try `--oidc-issuer` without an identity provider.

use std::net::SocketAddr;

use clap::Parser;
use tests::issuer::{AUDIENCE, LocalIssuer};

/// A local issuer of bearer tokens. Whoever reaches it gets any token.
#[derive(Debug, Parser)]
#[command(name = "token-issuer")]
struct Options {
    /// Loopback address to listen on
    #[arg(long, default_value = "127.0.0.1:9000", value_parser = loopback)]
    listen: SocketAddr,
}

fn loopback(text: &str) -> Result<SocketAddr, String> {
    match text.parse::<SocketAddr>() {
        Ok(address) if address.ip().is_loopback() => Ok(address),
        _ => Err("must be a loopback address, such as 127.0.0.1:9000".to_owned()),
    }
}

#[tokio::main]
#[allow(clippy::print_stdout)]
async fn main() -> anyhow::Result<()> {
    let issuer = LocalIssuer::start(Options::parse().listen).await?;
    let url = issuer.url();
    println!("Options: --oidc-issuer {url} --oidc-audience {AUDIENCE}");
    println!("A token: curl -s '{url}/token?oid=nurse-7&scp=patient:read+patient:write'");
    runtime::shutdown::on_signals().cancelled().await;
    Ok(())
}
