//! Programs that live as long as the test that started them, and never longer.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

/// How long anything that happens on this machine may take before a test calls it broken.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A server process under a shell that ends it (and removes its directory) when this value is dropped or when the test
/// process dies in whatever way: values in statics are never dropped, and a killed test run must leave nothing behind.
pub struct Kept {
    shell: Child,
    word: Option<ChildStdin>,
    pid: Pid,
    name: String,
    log: PathBuf,
    owns: Option<PathBuf>,
}

/// `$1` log, `$2` directory to remove or empty. A line on standard input means stop, its end means stop and remove.
const KEEPER: &str = r#"
log=$1 directory=$2; shift 2
"$@" </dev/null >>"$log" 2>&1 & pid=$!
echo $pid
read -r word && directory=
kill -TERM $pid 2>/dev/null
wait $pid
status=$?
# The second time is for what children still wrote at the first.
[ -z "$directory" ] || rm -rf "$directory" || { sleep 1; rm -rf "$directory"; }
exit $status
"#;

impl Kept {
    /// Starts `program`; what it says goes to `log`, and `owns` is removed after it.
    pub fn start<A: AsRef<OsStr>>(program: &str, arguments: &[A], log: &Path, owns: Option<&Path>) -> Self {
        let mut shell = Command::new("/bin/sh")
            .args(["-c", KEEPER, "keeper"])
            .arg(log)
            .arg(owns.unwrap_or(Path::new("")))
            .arg(program)
            .args(arguments)
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell starts");
        let word = shell.stdin.take();
        let mut first = String::new();
        BufReader::new(shell.stdout.take().expect("piped")).read_line(&mut first).expect("the shell says a pid");
        let pid = Pid::from_raw(first.trim().parse().expect("a pid"));
        Self { shell, word, pid, name: program.to_owned(), log: log.to_owned(), owns: owns.map(Path::to_owned) }
    }

    /// The server's process.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Sends a signal to the server's process.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid, signal).expect("the process is there");
    }

    /// Ends the server by SIGTERM, keeps its directory, and says how it went.
    pub fn stop(&mut self) -> ExitStatus {
        if let Some(mut word) = self.word.take() {
            // A shell that has already gone cannot hear it; waiting below says so.
            let _ = word.write_all(b"stop\n");
        }
        until(&format!("{} to end", self.name), || self.shell.try_wait().expect("our child"))
    }

    /// Leaves the directory of a stopped server to the one that is started in its place.
    pub fn leave_directory(&mut self) {
        self.owns = None;
    }

    /// Everything the server said so far, for the message of a failed test.
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if self.word.take().is_some() {
            until(&format!("{} to end", self.name), || self.shell.try_wait().expect("our child"));
        } else if let Some(directory) = &self.owns {
            // Stopped before, and its directory kept for a look or a second start; nobody else removes it.
            let _ = std::fs::remove_dir_all(directory);
        }
    }
}

/// Asks until there is an answer; panics with `what` was waited for when [`PATIENCE`] is at its end.
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A loopback address that nobody else on this machine uses: all of 127.0.0.0/8 is ours to listen on, so that each server can
/// have the standard ports, and ports need not be guessed.
pub fn own_address() -> Ipv4Addr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [.., a, b] = std::process::id().to_be_bytes();
    let last = NEXT.fetch_add(1, Ordering::Relaxed);
    assert!(last < 255, "more servers than addresses");
    Ipv4Addr::new(127, 64 | (a & 0x3f), b, last)
}

/// A directory that servers which have given up root can also enter; it goes when the [`Kept`] that owns it does.
pub fn directory(name: &str) -> PathBuf {
    let path = tempfile::Builder::new().prefix(&format!("gatepost-{name}-")).tempdir().expect("a directory").keep();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("ours");
    path
}

/// Writes `text` to a new file at `path`, making the directories on the way.
pub fn write(path: &Path, text: impl AsRef<[u8]>) {
    std::fs::create_dir_all(path.parent().expect("a file in a directory")).expect("a directory");
    // A file that is there may be a link to one that others share.
    let _ = std::fs::remove_file(path);
    File::create(path)
        .and_then(|mut file| file.write_all(text.as_ref()))
        .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}
