//! The gateway under test, and what it says.

use super::client::Client;
use super::old_server::{self, Speaks};
use super::outcome::{Outcome, PATIENCE, gatepost, program, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;
use tempfile::TempDir;

/// A folder for a gateway: `gatepost.yaml`, `state/`, `run/admin.sock`. It goes with the last one who has it.
#[derive(Clone)]
pub struct Folder(Arc<TempDir>);

impl Folder {
    /// A folder that users other than root may enter.
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("gatepost-process-").tempdir().expect("a folder");
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).expect("ours");
        Self(Arc::new(folder))
    }

    /// A path inside.
    pub fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file inside.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.at(name);
        std::fs::write(&path, text).expect("written");
        path
    }

    /// Writes `gatepost.yaml` with these listeners before an old IMAP server; `more` is further top-level YAML.
    pub fn configure(&self, listeners: &str, more: &str) -> PathBuf {
        static OLD: std::sync::OnceLock<SocketAddr> = std::sync::OnceLock::new();
        let imap = OLD.get_or_init(|| old_server::serve(Speaks::Imap));
        let state = if more.contains("state_dir:") { "" } else { "state_dir: state\n" };
        let admin = if more.contains("admin:") { "" } else { "admin: { address: null, socket: run/admin.sock }\n" };
        self.write(
            "gatepost.yaml",
            format!(
                "hostname: mail.example.net\n{state}{admin}backends: {{ main: {{ imap: \"{imap}\" }} }}\nlisteners:\n{listeners}\n{more}\n"
            ),
        )
    }

    /// `gatepost COMMAND… -c gatepost.yaml`, to its end.
    pub fn gatepost(&self, command: &[&str]) -> Outcome {
        let file = self.at("gatepost.yaml");
        gatepost(command.iter().map(OsStr::new).chain([OsStr::new("-c"), file.as_os_str()]))
    }

    /// The admin socket, in a folder of its own, which the gateway makes.
    pub fn socket(&self) -> PathBuf {
        self.at("run/admin.sock")
    }

    /// The private CA's root.
    pub fn root(&self) -> Vec<u8> {
        std::fs::read(self.at("state/ca/root.pem")).expect("a private CA")
    }
}

/// One listener `imaps` with implicit TLS.
pub const IMAPS: &str = "  imaps: { address: \"127.0.0.1:0\", protocol: imap }";
/// One listener `imap` with STARTTLS.
pub const IMAP: &str = "  imap: { address: \"127.0.0.1:0\", protocol: imap, tls: starttls }";

/// A running gateway; it is killed when this goes.
pub struct Gateway {
    pub folder: Folder,
    child: Child,
    out: Lines,
    err: Lines,
}

impl Gateway {
    /// Starts one with these listeners and further YAML, and waits until it is ready.
    pub fn start(listeners: &str, more: &str) -> Self {
        let folder = Folder::new();
        folder.configure(listeners, more);
        Self::start_in(&folder)
    }

    /// Starts one with the folder's configuration, and waits until it is ready.
    pub fn start_in(folder: &Folder) -> Self {
        Self::start_by(folder, program())
    }

    /// The same by a command to which `run -c FILE` is added.
    pub fn start_by(folder: &Folder, mut command: Command) -> Self {
        command.args(["run", "-c"]).arg(folder.at("gatepost.yaml"));
        let mut gateway = Self::spawn(folder, command);
        gateway.wait_until_ready();
        gateway
    }

    /// Starts a whole command line, and waits for nothing.
    pub fn spawn(folder: &Folder, mut command: Command) -> Self {
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let out = Lines::follow(child.stdout.take().expect("piped"));
        let err = Lines::follow(child.stderr.take().expect("piped"));
        Self { folder: folder.clone(), child, out, err }
    }

    fn wait_until_ready(&mut self) {
        let socket = self.folder.socket();
        until("the gateway to be ready", || {
            if let Some(status) = self.child.try_wait().expect("our child") {
                panic!("it ended ({status}) and had said:\n{}", self.said());
            }
            UnixStream::connect(&socket).ok()
        });
    }

    /// The process.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().try_into().expect("a pid"))
    }

    /// Where the listener is bound.
    pub fn address(&self, listener: &str) -> SocketAddr {
        self.addresses(listener)[0]
    }

    /// Where the listener was bound so far, oldest first; at least one.
    pub fn addresses(&self, listener: &str) -> Vec<SocketAddr> {
        let word = format!(": {listener} (");
        self.message(&word);
        let lines = self.out.so_far();
        let bound = lines.iter().filter_map(|line| {
            let message = line["message"].as_str()?;
            message.strip_prefix("listening on ")?.split_once(&word)?.0.parse().ok()
        });
        bound.collect()
    }

    /// Connects to the listener with TLS, trusting the gateway's own CA.
    #[track_caller]
    pub fn tls(&self, listener: &str) -> Client {
        Client::tls(self.address(listener), &self.folder.root()).expect("TLS")
    }

    /// How many lines were said, to look at those that come after.
    pub fn lines_so_far(&self) -> usize {
        self.out.so_far().len()
    }

    /// Waits for an event of this kind.
    #[track_caller]
    pub fn event(&self, kind: &str) -> Value {
        self.event_after(0, kind)
    }

    /// Waits for an event of this kind that is not among the first lines.
    #[track_caller]
    pub fn event_after(&self, skip: usize, kind: &str) -> Value {
        self.line_after(skip, kind, |line| line["event"] == kind)
    }

    /// Waits for words on standard error.
    #[track_caller]
    pub fn hint(&self, words: &str) {
        let found = self.err.wait(0, |line| line.as_str().is_some_and(|line| line.contains(words)));
        assert!(found.is_some(), "no {words:?} in what it said:\n{}", self.said());
    }

    /// Waits for a message with these words.
    #[track_caller]
    pub fn message(&self, words: &str) -> Value {
        self.message_after(0, words)
    }

    /// Waits for a message with these words that is not among the first lines.
    #[track_caller]
    pub fn message_after(&self, skip: usize, words: &str) -> Value {
        self.line_after(skip, words, |line| line["message"].as_str().is_some_and(|message| message.contains(words)))
    }

    /// Waits for a line.
    #[track_caller]
    pub fn line_after(&self, skip: usize, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.out.wait(skip, wanted).unwrap_or_else(|| panic!("no {what:?} in what it said:\n{}", self.said()))
    }

    /// Everything it said on both outputs.
    pub fn said(&self) -> String {
        let lines = self.out.so_far().into_iter().chain(self.err.so_far());
        lines.map(|line| line.as_str().map_or_else(|| line.to_string(), str::to_owned) + "\n").collect()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("it runs");
    }

    /// Waits for its end, and gives the exit code.
    #[track_caller]
    pub fn ended(&mut self) -> Option<i32> {
        self.status().code()
    }

    /// Waits for its end, and says how it came.
    #[track_caller]
    pub fn status(&mut self) -> ExitStatus {
        let child = &mut self.child;
        until("the gateway to end", || child.try_wait().expect("our child"))
    }

    /// SIGTERM, and its end with success.
    #[track_caller]
    pub fn terminate(mut self) {
        self.signal(Signal::SIGTERM);
        assert_eq!(self.ended(), Some(0), "{}", self.said());
    }

    /// The time the processors spent for it.
    pub fn cpu_time(&self) -> std::time::Duration {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).expect("it runs");
        let fields: Vec<u64> = text
            .rsplit(')')
            .next()
            .map(|rest| rest.split_whitespace().map(|field| field.parse().unwrap_or(0)).collect())
            .unwrap_or_default();
        // utime and stime, the 14th and 15th fields; a tick is 10 ms on every Linux that is not exotic.
        std::time::Duration::from_millis((fields[11] + fields[12]) * 10)
    }

    /// A field of `/proc/PID/status`.
    pub fn proc_status(&self, field: &str) -> Vec<String> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it runs");
        let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).expect(field);
        line.split_whitespace().map(str::to_owned).collect()
    }

    /// How many descriptors it has open.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(Path::new("/proc").join(self.pid().to_string()).join("fd")).expect("it runs").count()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the gateway said:\n{}", self.said());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What comes out of a pipe, line by line: JSON as it is, other text as a string.
#[derive(Clone)]
struct Lines(Arc<(Mutex<Vec<Value>>, Condvar)>);

impl Lines {
    fn follow(pipe: impl Read + Send + 'static) -> Self {
        let lines = Self(Arc::default());
        let ours = lines.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                let value = serde_json::from_str(&line).unwrap_or(Value::String(line));
                let (lines, more) = &*ours.0;
                lines.lock().expect("nobody panics with it").push(value);
                more.notify_all();
            }
        });
        lines
    }

    fn so_far(&self) -> Vec<Value> {
        self.0.0.lock().expect("nobody panics with it").clone()
    }

    fn wait(&self, skip: usize, wanted: impl Fn(&Value) -> bool) -> Option<Value> {
        let (lines, more) = &*self.0;
        let deadline = Instant::now() + PATIENCE;
        let mut lines = lines.lock().expect("nobody panics with it");
        loop {
            if let Some(found) = lines.iter().skip(skip).find(|line| wanted(line)) {
                return Some(found.clone());
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            lines = more.wait_timeout(lines, left).expect("nobody panics with it").0;
        }
    }
}
