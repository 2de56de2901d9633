//! The API's page in a real browser.

use std::{process::Stdio, time::Duration};

use tests::{
    samples::a_place,
    system::{Store, System},
};
use tokio::process::Command;

/// Far more than the page needs, because the machine may be busy with other tests.
const PATIENCE: Duration = Duration::from_secs(90);

#[tokio::test]
async fn a_browser_renders_the_api_under_its_content_security_policy() {
    let _place = a_place().await;
    let system = System::standalone(Store::Sqlite).await;
    let profile = tempfile::tempdir().unwrap();
    let arguments = [
        "--headless".to_owned(),
        "--no-sandbox".to_owned(),
        "--disable-gpu".to_owned(),
        "--disable-quic".to_owned(),
        "--no-first-run".to_owned(),
        "--disable-background-networking".to_owned(),
        "--disable-component-update".to_owned(),
        "--disable-sync".to_owned(),
        format!("--user-data-dir={}", profile.path().display()),
        "--virtual-time-budget=20000".to_owned(),
        "--dump-dom".to_owned(),
        format!("{}/docs", system.addresses().gateway),
    ];
    let chromium = runtime::settings::env("VITALOG_CHROMIUM").unwrap_or("chromium".to_owned());
    let rendering = Command::new(chromium)
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output =
        tokio::time::timeout(PATIENCE, rendering).await.expect("it ends").expect("it runs");
    let page =
        String::from_utf8(output.stdout).unwrap().replace("<wbr>", "").replace('\u{200b}', "");
    // The page as served names no route: only the script that ran puts them there.
    for text in ["/patient/{id}/tests/{testId}", "Search patients", "Read one record"] {
        assert!(page.contains(text), "{text} is not on the page");
    }
    system.finish().await;
}
