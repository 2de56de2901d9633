//! `cargo run --release -p tests --bin gateway-bench -- --nginx PATH`: what the gateway costs.
//!
//! One upstream answers 500 bytes of JSON. It is asked directly, through nginx with a map of keys
//! and `limit_req`, and through the built `gateway`, in turns, at several numbers of connections;
//! printed are medians, the gateway's rate as a share of nginx's, and what both add to p50.

use std::{path::PathBuf, sync::Arc, time::Duration};

use clap::Parser;
use tests::bench::{
    gateways::{Nginx, OwnGateway, Upstream, checks_keys},
    load::{self, Operation, Target},
    report::{Figures, machine_load},
};

/// Measures what the gateway costs.
#[derive(Debug, Parser)]
struct Arguments {
    /// The program nginx; without it only the gateway is measured.
    #[arg(long)]
    nginx: Option<PathBuf>,
    /// Rounds of each measurement; their median is shown.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of one measurement.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Connections to measure at.
    #[arg(long, value_delimiter = ',', default_value = "1,16,64,256")]
    connections: Vec<usize>,
    /// What `gateway subscriptions add` is told besides; may be repeated.
    #[arg(long, value_name = "ARGUMENT", allow_hyphen_values = true)]
    add: Vec<String>,
    /// What `gateway` is told besides; may be repeated.
    #[arg(long, value_name = "ARGUMENT", allow_hyphen_values = true)]
    serve: Vec<String>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let time = Duration::from_secs(arguments.seconds);
    let upstream = Upstream::start().await?;
    let gateway = OwnGateway::start(&upstream.address, &arguments.add, &arguments.serve).await?;
    let nginx = match &arguments.nginx {
        Some(program) => Some(Nginx::start(program, &upstream.address).await?),
        None => None,
    };
    let direct = Target { address: upstream.address.clone(), key: gateway.target.key.clone() };
    let mut ways = vec![("direct", direct), ("gateway", gateway.target.clone())];
    ways.extend(nginx.as_ref().map(|nginx| ("nginx", nginx.target.clone())));
    for (_, target) in &ways[1..] {
        checks_keys(target).await?;
    }
    show(&format!("load of the machine at the start: {}", machine_load()));
    // What both pass on as it is: an id.
    let operation =
        Operation::Load(Arc::new(vec!["6f9619ff-8b86-d011-b42d-00cf4fc964ff".to_owned()]));
    for connections in arguments.connections {
        let mut runs = vec![Vec::new(); ways.len()];
        for round in 0..arguments.rounds {
            // Another one begins each time, so that no way always follows the same one.
            for turn in 0..ways.len() {
                let way = (round + turn) % ways.len();
                let figures = load::run(&ways[way].1, &operation, connections, time).await?;
                runs[way].push(figures);
            }
        }
        let medians: Vec<Figures> = runs.into_iter().filter_map(Figures::median).collect();
        for ((name, _), figures) in ways.iter().zip(&medians) {
            show(&format!("{connections:4} connections  {name:8} {figures}"));
        }
        compare(connections, &medians);
    }
    Ok(())
}

/// Direct, the gateway, and nginx where it was measured.
fn compare(connections: usize, medians: &[Figures]) {
    let [direct, gateway, others @ ..] = medians else { return };
    let added = |figures: &Figures| (figures.p50.as_secs_f64() - direct.p50.as_secs_f64()) * 1e3;
    let beside = match others {
        [nginx] => format!(
            "; gateway/nginx {:.2}, nginx adds {:.2} ms",
            gateway.rate / nginx.rate,
            added(nginx)
        ),
        _ => String::new(),
    };
    show(&format!(
        "{connections:4} connections  gateway/direct {:.2}, added p50 {:.2} ms{beside}",
        gateway.rate / direct.rate,
        added(gateway)
    ));
}

#[allow(clippy::print_stdout)]
fn show(text: &str) {
    println!("{text}");
}
