//! Pictures of pages, made by a Chromium without a window.

use std::{path::Path, process::Stdio, time::Duration};

use anyhow::{Context, ensure};
use tokio::process::Command;

/// Far more than a page needs, because the machine is busy with the system that is looked at.
const PATIENCE: Duration = Duration::from_mins(2);

/// What the page may do, in milliseconds of its own clock, before the picture is taken.
const BUDGET_MS: u32 = 8_000;

/// Makes a picture of a page as a window of this size shows it.
pub async fn picture(url: &str, size: (u32, u32), file: &Path) -> anyhow::Result<()> {
    let profile = tempfile::tempdir()?;
    let (width, height) = size;
    let arguments = [
        "--headless=new".to_owned(),
        "--no-sandbox".to_owned(),
        "--disable-gpu".to_owned(),
        "--hide-scrollbars".to_owned(),
        "--no-first-run".to_owned(),
        "--disable-background-networking".to_owned(),
        "--disable-component-update".to_owned(),
        "--disable-sync".to_owned(),
        format!("--user-data-dir={}", profile.path().display()),
        format!("--virtual-time-budget={BUDGET_MS}"),
        format!("--window-size={width},{height}"),
        format!("--screenshot={}", file.display()),
        url.to_owned(),
    ];
    let chromium = runtime::settings::env("VITALOG_CHROMIUM").unwrap_or("chromium".to_owned());
    let rendering = Command::new(chromium)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .status();
    let status = tokio::time::timeout(PATIENCE, rendering).await.context("Chromium hangs")??;
    ensure!(status.success() && file.is_file(), "Chromium made no picture of {url}");
    Ok(())
}
