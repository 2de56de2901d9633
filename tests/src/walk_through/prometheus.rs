//! A real Prometheus with the rules and alerts of `runtime/ops`.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use serde_json::Value;

use super::ops;
use crate::{
    http,
    programs::{POLL_PAUSE, Program},
    system::free_address,
};

/// Where Debian's package has the pages.
const PAGES: &str = "/usr/share/prometheus/web";

/// How long it may take to start.
const PATIENCE: Duration = Duration::from_mins(1);

/// Its pages as somebody sees them who has clicked: the alerts' without those that do not fire,
/// and one of them opened; a graph's with all of the query in sight.
const CLICKED: &str = r#"<!DOCTYPE html>
<meta charset="utf-8">
<style>html, body { margin: 0; overflow: hidden } iframe { border: 0; width: 100vw; height: 100vh }</style>
<iframe></iframe>
<script>
const frame = document.querySelector("iframe"), alert = location.hash.slice(1);
frame.onload = () => {
  const page = frame.contentDocument;
  if (alert) {
    page.getElementById("inactiveAlerts").click();
    for (const header of page.querySelectorAll(".alert_header"))
      if (header.textContent.includes(alert)) header.click();
  } else {
    // The page makes its form later.
    setTimeout(() => {
      const query = page.querySelector("textarea");
      query.style.height = query.scrollHeight + 4 + "px";
      query.blur();
    }, 2000);
  }
  page.activeElement.blur();
};
frame.src = alert ? "/classic/alerts" : "/classic/graph" + location.search;
</script>
"#;

/// It ends when it is dropped.
#[derive(Debug)]
pub struct Prometheus {
    program: Program,
    url: String,
}

/// An alert that is pending or firing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    /// Its name.
    pub name: String,
    /// Whether it fires.
    pub fires: bool,
    /// What is wrong.
    pub summary: String,
}

impl Prometheus {
    /// Starts one that looks every second at these addresses, by job.
    ///
    /// The program is `VITALOG_PROMETHEUS`, its pages are in `VITALOG_PROMETHEUS_PAGES`; without
    /// them Debian's package is used as it is installed.
    pub async fn start(folder: &Path, targets: &[(&str, &str)]) -> anyhow::Result<Self> {
        let (pages, user) = (pages()?, folder.join("user"));
        fs::create_dir_all(&user)?;
        fs::write(user.join("clicked.html"), CLICKED)?;
        for file in ["rules.yaml", "alerts.yaml"] {
            fs::copy(ops().join("prometheus").join(file), folder.join(file))?;
        }
        let (address, url) = free_address()?;
        fs::write(folder.join("prometheus.yaml"), configuration(targets, &address)?)?;
        let program = runtime::settings::env("VITALOG_PROMETHEUS").unwrap_or("prometheus".into());
        let arguments = [
            format!("--chdir={}", folder.display()),
            program,
            // Its pages show this path.
            "--config.file=prometheus.yaml".to_owned(),
            format!("--storage.tsdb.path={}", folder.join("data").display()),
            format!("--web.listen-address={address}"),
            format!("--web.local-assets={}", pages.display()),
            format!("--web.user-assets={}", user.display()),
        ];
        let log = folder.join("prometheus.log");
        let program = Program::start(Path::new("/usr/bin/env"), &arguments, "", &log)?;
        let prometheus = Self { program, url };
        prometheus.sees(targets.len()).await?;
        Ok(prometheus)
    }

    fn page(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    /// The page of the alerts, with this one opened.
    pub fn alert(&self, name: &str) -> String {
        self.page(&format!("/user/clicked.html#{name}"))
    }

    /// The page of a query's graph.
    pub fn graph(&self, query: &str, range: &str) -> anyhow::Result<String> {
        let parameters = [("g0.expr", query), ("g0.tab", "0"), ("g0.range_input", range)];
        let page = self.page("/user/clicked.html");
        Ok(reqwest::Url::parse_with_params(&page, parameters)?.to_string())
    }

    async fn ask(&self, path: &str, parameters: &[(&str, &str)]) -> anyhow::Result<Value> {
        let url = self.page(&format!("/api/v1/{path}"));
        let url = reqwest::Url::parse_with_params(&url, parameters)?;
        let answer = http::try_send(reqwest::Client::new().get(url)).await?;
        let answer: Value = serde_json::from_slice(&answer.body)?;
        ensure!(answer["status"] == "success", "{path}: {answer}");
        Ok(answer["data"].clone())
    }

    /// What a query yields now: the labels and the number of each series that has one, the highest
    /// first.
    pub async fn values(&self, query: &str) -> anyhow::Result<Vec<(String, f64)>> {
        let answer = self.ask("query", &[("query", query)]).await?;
        let mut values = Vec::new();
        for series in answer["result"].as_array().into_iter().flatten() {
            let labels = series["metric"].as_object().into_iter().flatten();
            let labels = labels.filter_map(|(_, value)| value.as_str());
            let labels = labels.collect::<Vec<_>>().join(" ");
            let value: f64 = series["value"][1].as_str().context("a value")?.parse()?;
            if value.is_finite() {
                values.push((labels, value));
            }
        }
        values.sort_by(|one, other| other.1.total_cmp(&one.1));
        Ok(values)
    }

    /// The alerts that are pending or firing.
    pub async fn alerts(&self) -> anyhow::Result<Vec<Alert>> {
        let answer = self.ask("alerts", &[]).await?;
        let read = |alert: &Value| {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            Alert {
                name: text(&alert["labels"]["alertname"]),
                fires: alert["state"] == "firing",
                summary: text(&alert["annotations"]["summary"]),
            }
        };
        Ok(answer["alerts"].as_array().into_iter().flatten().map(read).collect())
    }

    /// Waits until it has seen this many addresses, and itself.
    async fn sees(&self, targets: usize) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let seen = self.values("up == 1").await;
            if matches!(&seen, Ok(seen) if seen.len() == targets + 1) {
                return Ok(());
            }
            let said = || format!("{seen:?}: {}", self.program.last_words());
            ensure!(Instant::now() < deadline, "Prometheus does not see all: {}", said());
            tokio::time::sleep(POLL_PAUSE).await;
        }
    }
}

fn pages() -> anyhow::Result<PathBuf> {
    let pages = runtime::settings::env("VITALOG_PROMETHEUS_PAGES").unwrap_or(PAGES.to_owned());
    let pages = PathBuf::from(pages);
    ensure!(
        pages.join("static/d3/d3.min.js").exists(),
        "Prometheus's pages and the libraries that they use are not in {}: on Debian, \
         apt-get install prometheus; else VITALOG_PROMETHEUS_PAGES names the folder",
        pages.display()
    );
    Ok(pages)
}

/// The configuration of the compose file with these addresses, and without what does not run here.
fn configuration(targets: &[(&str, &str)], own: &str) -> anyhow::Result<String> {
    let text = fs::read_to_string(ops().join("prometheus/prometheus.yaml"))?;
    let (head, jobs) = text.split_once("scrape_configs:\n").context("no scrape_configs")?;
    let mut text = head.replace("interval: 15s", "interval: 1s") + "scrape_configs:\n";
    let mut left = targets.len() + 1;
    for job in jobs.split_inclusive("\"]\n") {
        let (name, target) = named(job).context("a job of three lines")?;
        let here = targets.iter().find(|(job, _)| *job == name).map(|(_, address)| *address);
        if let Some(here) = here.or((name == "prometheus").then_some(own)) {
            text += &job.replace(target, here);
            left -= 1;
        }
    }
    ensure!(left == 0, "some of {targets:?} are no jobs");
    Ok(text)
}

/// The name and the address of a job.
fn named(job: &str) -> Option<(&str, &str)> {
    let name = job.split_once("job_name: ")?.1.lines().next()?;
    Some((name, job.split('"').nth(1)?))
}
