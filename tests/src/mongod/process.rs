//! Processes that end when the test process does, whatever ends it.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::{Context, ensure};

/// Starts the program given as its arguments, says its process id, and kills it when its own
/// input ends: that is when the test process closes it or ceases to be. Signals from a terminal
/// are for the test process; if they ended this shell, the program would stay.
const GUARD: &str = r#"
trap '' INT TERM HUP
"$@" </dev/null >/dev/null 2>&1 &
echo $!
cat >/dev/null
kill -KILL $!
wait
"#;

/// Removes the folder given as its name when its input ends, and the programs that write there
/// had time to end too.
const JANITOR: &str = r#"
trap '' INT TERM HUP
cat >/dev/null
sleep 1
rm -rf -- "$0"
"#;

/// A running program.
#[derive(Debug)]
pub(super) struct Guarded {
    guard: Child,
    pid: u32,
}

impl Guarded {
    /// Starts a program. That it goes on running is for the caller to see.
    pub(super) fn start(program: &Path, arguments: &[String]) -> anyhow::Result<Self> {
        let mut guard = Command::new("sh")
            .args(["-c", GUARD, "guard"])
            .arg(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting sh")?;
        let mut line = String::new();
        let output = guard.stdout.take().context("no output of sh")?;
        BufReader::new(output).read_line(&mut line)?;
        let pid = line.trim().parse().context("sh told no process id")?;
        Ok(Self { guard, pid })
    }

    /// Its process id.
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends a signal by its name.
    pub(super) fn signal(&self, name: &str) -> anyhow::Result<()> {
        let status =
            Command::new("kill").arg(format!("-{name}")).arg(self.pid.to_string()).status();
        ensure!(status.context("running kill")?.success(), "kill -{name} {} failed", self.pid);
        Ok(())
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }
}

/// A folder for the data of guarded programs, removed after the test process.
#[derive(Debug)]
pub(super) struct Folder {
    path: tempfile::TempDir,
    janitor: Child,
}

impl Folder {
    pub(super) fn new() -> anyhow::Result<Self> {
        Self::under(&std::env::temp_dir())
    }

    /// A folder under another one.
    pub(super) fn under(folder: &Path) -> anyhow::Result<Self> {
        let path = tempfile::Builder::new().prefix("vitalog-mongod-").tempdir_in(folder)?;
        let janitor = Command::new("sh")
            .args(["-c", JANITOR])
            .arg(path.path())
            .stdin(Stdio::piped())
            .spawn()
            .context("starting sh")?;
        Ok(Self { path, janitor })
    }

    pub(super) fn path(&self) -> &Path {
        self.path.path()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // The folder itself goes with `path`; a second removal finds nothing.
        drop(self.janitor.stdin.take());
    }
}
