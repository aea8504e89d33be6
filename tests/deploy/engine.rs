//! An engine for containers of the tests' own: its own network namespace, so that 993 is free and the host's packet
//! filter stays as it is; its own socket; its own images, kept under `target` so that a second run builds less.

use crate::commands::{command, output, run, wait_for};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tempfile::TempDir;

pub(crate) struct Engine {
    /// Two engines cannot share their images.
    _only_one: MutexGuard<'static, ()>,
    process: Child,
    running: TempDir,
}

impl Engine {
    /// Starts it. It ends when the value, or the test's thread, does.
    pub(crate) fn start() -> Self {
        static ONLY_ONE: Mutex<()> = Mutex::new(());
        let only_one = ONLY_ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let running = tempfile::Builder::new().prefix("engine-").tempdir().expect("a temporary directory");
        let at = |name: &str| running.path().join(name);
        let log = std::fs::File::create(at("log")).expect("a log file");
        let mut dockerd = command("setpriv", ["--pdeathsig", "TERM", "unshare", "--net", "--mount", "sh", "-c"]);
        dockerd.arg("ip link set lo up && exec dockerd \"$@\"").arg("dockerd");
        dockerd.arg("--data-root").arg(Path::new(env!("CARGO_TARGET_TMPDIR")).join("engine"));
        dockerd.arg("--exec-root").arg(at("exec")).arg("--pidfile").arg(at("pid"));
        dockerd.arg("--host").arg(format!("unix://{}", at("socket").display()));
        dockerd.stdin(std::process::Stdio::null()).stdout(log.try_clone().expect("a second handle")).stderr(log);
        let process = dockerd.spawn().expect("setpriv is everywhere");
        let mut engine = Self { _only_one: only_one, process, running };
        wait_for("the engine answers", Duration::from_secs(60), || {
            let log = || std::fs::read_to_string(engine.running.path().join("log")).unwrap_or_default();
            assert!(engine.process.try_wait().expect("it is our child").is_none(), "dockerd ended:\n{}", log());
            output(engine.docker().arg("version")).status.success().then_some(()).ok_or_else(log)
        });
        engine
    }

    /// `docker`, talking to this engine. Not through PATH, where a client of another version may stand first.
    pub(crate) fn docker(&self) -> Command {
        self.client("/usr/bin/docker")
    }

    /// `docker-compose`, talking to this engine.
    pub(crate) fn compose(&self) -> Command {
        self.client("/usr/bin/docker-compose")
    }

    /// A program on the engine's host, that is, in its network namespace.
    pub(crate) fn on_host(&self, program: &str) -> Command {
        command("nsenter", ["--net", "--target", &self.process.id().to_string(), program])
    }

    pub(crate) fn has_image(&self, tag: &str) -> bool {
        output(self.docker().args(["image", "inspect", tag])).status.success()
    }

    /// A directory becomes an image of one layer.
    pub(crate) fn import(&self, directory: &Path, tag: &str) {
        let script = r#"tar -C "$1" -c . | /usr/bin/docker import - "$2""#;
        let mut pipe = self.client("bash");
        run(pipe.args(["-o", "pipefail", "-c", script, "import"]).arg(directory).arg(tag));
    }

    /// Where the engine keeps what does not outlive it.
    pub(crate) fn directory(&self) -> PathBuf {
        self.running.path().to_owned()
    }

    fn client(&self, program: &str) -> Command {
        let mut client = Command::new(program);
        client.env("DOCKER_HOST", format!("unix://{}", self.running.path().join("socket").display()));
        client.env("DOCKER_CONFIG", self.running.path()).env("DOCKER_BUILDKIT", "0").env_remove("DOCKER_CONTEXT");
        // Old Compose else packs a context in a way of its own, and shares no layer with what `docker build` made.
        client.env("COMPOSE_DOCKER_CLI_BUILD", "1").env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        client
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = output(&mut command("kill", [self.process.id().to_string()]));
        let _ = self.process.wait();
    }
}
