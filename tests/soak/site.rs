//! Everything that runs beside the clients: Dovecot, Postfix, and the gateway before them.

use crate::command::{client, output_of};
use crate::gateway::{Behind, Gateway};
use crate::kept::{PATIENCE, until};
use crate::message::proven;
use crate::servers::dovecot::{Dovecot, with_crlf};
use crate::servers::postfix::{self, Postfix};
use crate::weather::Server;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

/// The servers behind, which are stopped and started by one hand alone.
pub struct Site {
    dovecot: Mutex<Dovecot>,
    postfix: Mutex<Postfix>,
    pub homes: PathBuf,
}

/// What is not on this machine and is needed; nothing if all is there.
pub fn missing() -> Vec<&'static str> {
    let there = |program: &str| {
        ["/usr/sbin", "/usr/local/sbin", "/usr/bin"].iter().any(|at| Path::new(at).join(program).exists())
    };
    let mut missing = Vec::new();
    if !nix::unistd::Uid::effective().is_root() {
        missing.push("root");
    }
    missing.extend(["dovecot", "postfix"].into_iter().filter(|program| !there(program)));
    missing
}

impl Site {
    pub fn start() -> Self {
        let dovecot = Dovecot::start("");
        // What was deferred while Dovecot was down goes out soon after, and what Postfix takes for a broken service is tried
        // again at once: by its own habits both take minutes.
        let postfix = postfix::with_auth_by(
            &dovecot,
            "minimal_backoff_time = 2s\nmaximal_backoff_time = 5s\nqueue_run_delay = 2s\nservice_throttle_time = 1s\n",
        );
        let homes = dovecot.maildir("x").ancestors().nth(2).expect("home/x/Maildir").to_owned();
        Self { dovecot: Mutex::new(dovecot), postfix: Mutex::new(postfix), homes }
    }

    /// Starts the gateway before them.
    pub fn gateway(&self, program: &Path) -> Gateway {
        let (dovecot, postfix) = (self.dovecot(), self.postfix());
        Gateway::start(program, Behind { imap: dovecot.imap(), pop3: dovecot.pop3(), smtp: postfix.smtp() })
    }

    pub fn stop(&self, server: Server) {
        match server {
            Server::Dovecot => self.dovecot().stop(),
            Server::Postfix => self.postfix().stop(),
        }
    }

    /// Starts it again, and waits until it greets.
    pub fn start_again(&self, server: Server) {
        match server {
            Server::Dovecot => self.dovecot().start_again(),
            Server::Postfix => self.postfix().start_again(),
        }
    }

    /// Sends a signal to a server with everything it has started, the first one first.
    pub fn signal_all(&self, server: Server, signal: Signal) {
        let first = match server {
            Server::Dovecot => self.dovecot().kept.pid(),
            Server::Postfix => self.postfix().kept.pid(),
        };
        // Stopped, it starts no more while we look.
        let _ = kill(first, Signal::SIGSTOP);
        let all = family(first);
        for pid in &all {
            // Some end on their own between the look and the signal.
            let _ = kill(*pid, signal);
        }
        if signal == Signal::SIGKILL {
            // One that is left would answer at a socket that the next instance wants.
            until("killed processes to be gone", || all.iter().all(|pid| !is_alive(*pid)).then_some(()));
        }
    }

    /// Kills Dovecot's processes that speak before login.
    pub fn kill_logins(&self) {
        for pid in family(self.dovecot().kept.pid()) {
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            if name.trim_end().ends_with("-login") {
                // It may have ended on its own.
                let _ = kill(pid, Signal::SIGKILL);
            }
        }
    }

    /// Has Postfix try everything in its queue now.
    pub fn flush(&self) {
        let postfix = self.postfix();
        let mut flush = client("postfix");
        flush.arg("-c").arg(&postfix.directory).arg("flush");
        output_of(flush, b"");
    }

    fn dovecot(&self) -> MutexGuard<'_, Dovecot> {
        self.dovecot.lock().expect("a server that did not come back ends the soak")
    }

    fn postfix(&self) -> MutexGuard<'_, Postfix> {
        self.postfix.lock().expect("a server that did not come back ends the soak")
    }
}

/// Takes what has arrived out of the mailboxes of sent mail, and proves it.
pub fn collect(field: &crate::clients::Field) {
    for number in 0..crate::clients::LEDGER_BOXES {
        let folder = field.homes.join(crate::clients::ledger_box(number)).join("Maildir/new");
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for path in entries.filter_map(Result::ok).map(|entry| entry.path()) {
            let Ok(stored) = std::fs::read(&path) else { continue };
            match proven(field.seed, &with_crlf(&stored)) {
                Ok(id) => field.ledger.arrived(id),
                Err(how) => field.ledger.corrupt(how),
            }
            std::fs::remove_file(&path).expect("ours");
        }
    }
}

/// Waits until everything that was answered with 250 has arrived, or gives up.
pub fn collect_the_rest(site: &Site, field: &crate::clients::Field) {
    let deadline = Instant::now() + 3 * PATIENCE;
    site.flush();
    loop {
        collect(field);
        if field.ledger.under_way() == 0 || Instant::now() > deadline {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    // What must not arrive would be here soon after what must.
    std::thread::sleep(std::time::Duration::from_secs(2));
    collect(field);
}

/// Whether a process runs; one that its parent has yet to look at does not.
pub fn is_alive(pid: Pid) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or_default().trim_start().starts_with(['Z', 'X']))
}

/// A process and everything it has started.
fn family(first: Pid) -> Vec<Pid> {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok) {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let parent = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1)?.parse().ok());
        children.entry(parent.unwrap_or(0)).or_default().push(pid);
    }
    let mut all = vec![first.as_raw()];
    let mut looked = 0;
    while looked < all.len() {
        all.extend(children.get(&all[looked]).into_iter().flatten());
        looked += 1;
    }
    all.into_iter().map(Pid::from_raw).collect()
}
