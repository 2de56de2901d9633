//! The built programs as processes: started, watched, killed, and never left behind.

use std::{
    ffi::OsStr,
    fs::{self, File, OpenOptions},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};

/// Kills a process when the test process ends, however that ends: then its input does, too.
const WATCHDOG: &str = r#"trap '' INT TERM HUP; read -r line; kill -KILL "$0" 2>/dev/null"#;

/// The pause between two looks at something that is waited for.
pub const POLL_PAUSE: Duration = Duration::from_millis(20);

/// A running program of the workspace, which writes to a log file. It is killed when it is dropped.
#[derive(Debug)]
pub struct Program {
    name: String,
    child: Child,
    watchdog: Child,
    log: PathBuf,
}

impl Program {
    /// Starts a program; what it writes is appended to `log`. Its environment is empty but for
    /// `RUST_LOG`, so that settings of the machine have no influence.
    pub fn start(
        program: &Path,
        arguments: &[impl AsRef<OsStr>],
        rust_log: &str,
        log: &Path,
    ) -> anyhow::Result<Self> {
        Self::start_in(program, arguments, [("RUST_LOG", rust_log)], log)
    }

    /// As [`Program::start`], with this environment and nothing else.
    pub fn start_in(
        program: &Path,
        arguments: &[impl AsRef<OsStr>],
        environment: impl IntoIterator<Item = (impl AsRef<OsStr>, impl AsRef<OsStr>)>,
        log: &Path,
    ) -> anyhow::Result<Self> {
        let output = OpenOptions::new().create(true).append(true).open(log)?;
        let child = Command::new(program)
            .args(arguments)
            .env_clear()
            .envs(environment)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        let watchdog = Command::new("sh")
            .args(["-c", WATCHDOG])
            .arg(child.id().to_string())
            .stdin(Stdio::piped())
            .spawn()
            .context("starting sh")?;
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { name, child, watchdog, log: log.to_owned() })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by its name, such as `STOP`.
    pub fn signal(&self, name: &str) -> anyhow::Result<()> {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").arg(format!("-{name}")).arg(&pid).status();
        ensure!(status.context("running kill")?.success(), "kill -{name} {} failed", self.name);
        Ok(())
    }

    /// Kills it without warning, and waits until it is gone.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        // The watchdog goes first: the process id may be another's as soon as it is reaped.
        self.dismiss_watchdog();
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// How it ended; `None` while it runs.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        let status = self.child.try_wait()?;
        if status.is_some() {
            self.dismiss_watchdog();
        }
        Ok(status)
    }

    /// Waits until it ends by itself.
    pub async fn wait(&mut self, patience: Duration) -> anyhow::Result<ExitStatus> {
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            tokio::time::sleep(POLL_PAUSE).await;
        }
        bail!("{} still runs after {patience:?}", self.name)
    }

    /// What it has written so far.
    pub fn log(&self) -> String {
        fs::read(&self.log)
            .map(|log| String::from_utf8_lossy(&log).into_owned())
            .unwrap_or_default()
    }

    /// The end of what it has written, for messages.
    pub fn last_words(&self) -> String {
        const LINES: usize = 25;
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }

    fn dismiss_watchdog(&mut self) {
        let _ = self.watchdog.kill();
        let _ = self.watchdog.wait();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// Where a program of the workspace was built: beside this one, or beside the folder of this
/// one if it is a test.
pub fn built(name: &str) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let mut folder = own.parent().context("no folder of programs")?;
    if folder.ends_with("deps") {
        folder = folder.parent().context("no folder of programs")?;
    }
    let program = folder.join(name);
    ensure!(
        program.is_file(),
        "{} is not built: run ./tests/run, or cargo build --workspace --bins",
        program.display()
    );
    Ok(program)
}

/// Runs a program of the workspace to its end, within `patience`; its output must be text.
pub async fn run(
    name: &str,
    arguments: &[String],
    folder: &Path,
    patience: Duration,
) -> anyhow::Result<Output> {
    let program = built(name)?;
    let (log, output) = (folder.join(format!("{name}.log")), folder.join(format!("{name}.out")));
    let mut child = tokio::process::Command::new(program)
        .args(arguments)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(File::create(&output)?)
        .stderr(File::create(&log)?)
        .kill_on_drop(true)
        .spawn()?;
    let status = tokio::time::timeout(patience, child.wait()).await;
    let status = status.with_context(|| format!("{name} still runs after {patience:?}"))??;
    Ok(Output { status, stdout: fs::read(output)?, stderr: fs::read(log)? })
}
