//! The witness's command line.

use std::{os::unix::fs::PermissionsExt, path::Path, time::Duration};

use audit_service::witness::args::{WitnessArgs, WitnessArgsError, ledger_keys};
use audit_verify::cosignature::{WitnessKey, WitnessSecret};
use clap::Parser;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    fixture::{PATIENCE, eventually},
    witness_fixture::{Log, ledger_secret},
};

/// As a program mounts it.
#[derive(Debug, Parser)]
struct Program {
    #[command(flatten)]
    witness: WitnessArgs,
}

fn parse(arguments: &[&str]) -> Result<WitnessArgs, clap::Error> {
    Program::try_parse_from(["witness"].iter().chain(arguments)).map(|program| program.witness)
}

fn path(folder: &Path, name: &str) -> String {
    folder.join(name).display().to_string()
}

async fn keygen(folder: &Path) -> Result<(), WitnessArgsError> {
    let (out, public) = (path(folder, "witness.key"), path(folder, "witness.pub"));
    let arguments = ["keygen", "--name", "w.example/1", "--out", &out, "--public", &public];
    parse(&arguments).unwrap().run(CancellationToken::new()).await
}

#[tokio::test]
async fn a_key_is_made_once_and_belongs_to_its_public_one() {
    let folder = tempfile::tempdir().unwrap();
    keygen(folder.path()).await.unwrap();
    let read = |name| std::fs::read_to_string(folder.path().join(name)).unwrap();
    let secret = WitnessSecret::parse(read("witness.key").trim_end()).unwrap();
    let public: WitnessKey = read("witness.pub").trim_end().parse().unwrap();
    assert_eq!((secret.public(), public.name()), (public.clone(), "w.example/1"));
    let mode = std::fs::metadata(folder.path().join("witness.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let again = keygen(folder.path()).await;
    assert!(matches!(again, Err(WitnessArgsError::File { .. })), "{again:?}");
    assert_eq!(WitnessSecret::parse(read("witness.key").trim_end()).unwrap().public(), public);
}

#[tokio::test]
async fn it_serves_with_the_keys_of_its_files() {
    let folder = tempfile::tempdir().unwrap();
    keygen(folder.path()).await.unwrap();
    let ledger_key = path(folder.path(), "ledger.pub");
    std::fs::write(&ledger_key, format!("{}\n", ledger_secret().public())).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let key = format!("file:{}", path(folder.path(), "witness.key"));
    let state = path(folder.path(), "state");
    let arguments =
        ["--listen", &address, "--key", &key, "--state", &state, "--ledger-key", &ledger_key];
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(parse(&arguments).unwrap().run(shutdown.clone()));
    eventually(|| std::net::TcpStream::connect(&address).is_ok()).await;
    let http = runtime::client::internal_client();
    let url = format!("http://{address}/add-checkpoint");
    let body = Log::new().request(0, 5).to_text();
    let answer = http.post(url).body(body).timeout(Duration::from_secs(5)).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    shutdown.cancel();
    tokio::time::timeout(PATIENCE, running).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn what_is_missing_or_wrong_is_told() {
    for arguments in [&[] as &[&str], &["--key", "env:X"], &["keygen"], &["--key", "canary"]] {
        // Parsed or not, it does not serve.
        match parse(arguments) {
            Err(_) => {}
            Ok(args) => assert!(args.run(CancellationToken::new()).await.is_err(), "{arguments:?}"),
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys");
    for (text, keys) in [
        (format!("{0}\n\n{0}\n", ledger_secret().public()), Some(2)),
        (String::new(), None),
        ("rubbish\n".to_owned(), None),
        (format!("{}x\n", ledger_secret().public()), None),
    ] {
        std::fs::write(&file, &text).unwrap();
        assert_eq!(ledger_keys(std::slice::from_ref(&file)).ok().map(|k| k.len()), keys, "{text}");
    }
    assert!(matches!(
        ledger_keys(&[folder.path().join("none")]),
        Err(WitnessArgsError::File { .. })
    ));
}

#[test]
fn the_service_takes_witnesses_and_anchors() {
    use audit_service::config::{Cli, Command};
    let key = crate::witness_fixture::witness_secret(1).public();
    let required = "serve --store sqlite:x --signing-key env:A --seal-key env:B \
                    --checkpoint-file c --caller gateway=env:C";
    let outside = format!(
        "--witness https://w.example,{key} --witness http://127.0.0.1:7074,{key} \
         --anchor dir:/var/anchor --anchor azblob:https://a.blob.core.windows.net/ledger \
         --anchor-sas file:/sas --anchor-every 5 --witness-every 7"
    );
    let parse = |options: &str| {
        let text = format!("audit-service {required} {options}");
        match Cli::try_parse_from(text.split_whitespace()).map(|cli| cli.command) {
            Ok(Command::Serve(args)) => Some(args.outside),
            _ => None,
        }
    };
    let clock = audit_service::service::system_clock();
    let outside = parse(&outside).unwrap().outside(&clock);
    assert_eq!((outside.witnesses.len(), outside.anchors.len()), (2, 2));
    let (witness_every, anchor_every) = (outside.witness_every, outside.anchor_every);
    assert_eq!((witness_every, anchor_every), (Duration::from_secs(7), Duration::from_secs(5)));
    let default = parse("").unwrap().outside(&clock);
    assert!(default.witnesses.is_empty() && default.anchors.is_empty());
    let (witness_every, anchor_every) = (default.witness_every, default.anchor_every);
    assert_eq!((witness_every, anchor_every), (Duration::from_secs(2), Duration::from_mins(1)));
    for wrong in ["--witness x", "--anchor /var", "--anchor-every 0", "--anchor-sas canary"] {
        assert!(parse(wrong).is_none(), "{wrong}");
    }
}
