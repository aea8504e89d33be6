//! Dovecot 2.3 as an old server: IMAP, POP3 and LMTP in the clear, and the login service that Postfix asks.

use super::known::{DISCREET, JOE, MARY, ODD, greeted};
use crate::kept::{Kept, directory, own_address, until, write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// A running Dovecot.
pub struct Dovecot {
    pub address: Ipv4Addr,
    directory: PathBuf,
    pub kept: Kept,
}

/// The instance that all tests share which do not stop it; each test takes a user of its own from it.
pub fn shared() -> &'static Dovecot {
    static SHARED: OnceLock<Dovecot> = OnceLock::new();
    SHARED.get_or_init(|| Dovecot::start(""))
}

/// Who owns the mail: Debian's `mail` user and group.
const MAIL: u32 = 8;

impl Dovecot {
    /// Starts one with `more` at the end of its configuration.
    pub fn start(more: &str) -> Self {
        let (address, directory) = (own_address(), directory("dovecot"));
        let at = directory.display();
        write(&directory.join("dovecot.conf"), format!("{}{more}", configuration(address, &directory)));
        write(
            &directory.join("users"),
            [JOE, ODD, MARY, DISCREET].map(|(user, password)| password_line(user, password)).concat(),
        );
        for name in ["home", "run", "state"] {
            std::fs::create_dir_all(directory.join(name)).expect("a directory of ours");
        }
        chown(directory.join("home"), Some(MAIL), Some(MAIL)).expect("root");
        let kept = Self::run(&directory, Some(&directory));
        let dovecot = Self { address, directory: at.to_string().into(), kept };
        dovecot.wait();
        dovecot
    }

    /// Ends it, as when the machine behind a gateway goes down.
    pub fn stop(&mut self) {
        self.kept.stop();
    }

    /// Brings it up again at the same address with the same mail.
    pub fn start_again(&mut self) {
        self.kept.leave_directory();
        self.kept = Self::run(&self.directory, Some(&self.directory));
        self.wait();
    }

    fn run(directory: &Path, owns: Option<&Path>) -> Kept {
        let configuration = directory.join("dovecot.conf");
        Kept::start("dovecot", &["-F".as_ref(), "-c".as_ref(), configuration.as_os_str()], &directory.join("log"), owns)
    }

    fn wait(&self) {
        greeted(self.imap(), "* OK", &self.kept);
        greeted(self.pop3(), "+OK", &self.kept);
        greeted(self.lmtp(), "220", &self.kept);
    }

    pub fn imap(&self) -> SocketAddr {
        (self.address, 143).into()
    }

    pub fn pop3(&self) -> SocketAddr {
        (self.address, 110).into()
    }

    pub fn lmtp(&self) -> SocketAddr {
        (self.address, 24).into()
    }

    /// The socket at which Postfix has its logins checked.
    pub fn auth_socket(&self) -> PathBuf {
        self.directory.join("run/auth-client")
    }

    /// A user of the test's own, so that tests do not meet in one mailbox: every name with a hyphen is one, with the password
    /// `secret`. (Dovecot reads a changed file of users again only after a second, so none can be added while it runs.)
    pub fn user<'a>(&self, name: &'a str) -> &'a str {
        assert!(name.contains('-'), "{name}");
        name
    }

    /// Puts a message into `user`'s INBOX, as a delivery agent on that machine would.
    pub fn deliver(&self, user: &str, message: impl AsRef<[u8]>) {
        deliver_into(&self.maildir(user), message);
    }

    /// Waits for the first message in `user`'s INBOX and returns it with the CRLF line ends it came with.
    pub fn arrived(&self, user: &str) -> Vec<u8> {
        until(&format!("mail for {user}"), || self.messages(user).into_iter().next())
    }

    /// All messages in `user`'s INBOX, oldest first.
    pub fn messages(&self, user: &str) -> Vec<Vec<u8>> {
        let mut files: Vec<PathBuf> = ["new", "cur"]
            .iter()
            .filter_map(|name| std::fs::read_dir(self.maildir(user).join(name)).ok())
            .flat_map(|entries| entries.filter_map(Result::ok).map(|entry| entry.path()))
            .collect();
        files.sort_by_key(|path| path.file_name().map(ToOwned::to_owned));
        files.iter().filter_map(|path| std::fs::read(path).ok()).map(|message| with_crlf(&message)).collect()
    }

    /// Where `user`'s INBOX is.
    pub fn maildir(&self, user: &str) -> PathBuf {
        self.directory.join("home").join(user.split('@').next().expect("at least one part")).join("Maildir")
    }
}

/// Puts a message into a folder of mail, as a delivery agent would, and makes the folder if need be.
pub fn deliver_into(folder: &Path, message: impl AsRef<[u8]>) {
    for name in ["", "new", "cur", "tmp"] {
        std::fs::create_dir_all(folder.join(name)).expect("root");
        chown(folder.join(name), Some(MAIL), Some(MAIL)).expect("root");
    }
    chown(folder.parent().expect("a home"), Some(MAIL), Some(MAIL)).expect("root");
    // A name is never given twice, also while the first message of that name stands in `cur`.
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let file = folder.join("tmp").join(format!("{number:09}.delivered.test"));
    write(&file, message);
    chown(&file, Some(MAIL), Some(MAIL)).expect("root");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("root");
    std::fs::rename(&file, folder.join("new").join(file.file_name().expect("has one"))).expect("one file system");
}

fn password_line(user: &str, password: &str) -> String {
    format!("{user}:{{PLAIN}}{password}::::::\n")
}

/// Dovecot keeps messages with bare LF; a message it received over the network had CRLF everywhere.
pub fn with_crlf(stored: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(stored.len() + stored.len() / 32);
    for line in stored.split_inclusive(|byte| *byte == b'\n') {
        message.extend_from_slice(line.strip_suffix(b"\n").unwrap_or(line));
        if line.ends_with(b"\n") {
            message.extend_from_slice(b"\r\n");
        }
    }
    message
}

fn configuration(address: Ipv4Addr, directory: &Path) -> String {
    let at = directory.display();
    // Delays after failures and the penalty that grows with them would only make the tests slow.
    format!(
        r#"
base_dir = {at}/run
state_dir = {at}/state
log_path = {at}/log
protocols = imap pop3 lmtp
listen = {address}
ssl = no
disable_plaintext_auth = no
auth_mechanisms = plain login cram-md5 apop
auth_failure_delay = 0
mail_max_userip_connections = 1000
mail_location = maildir:~/Maildir
first_valid_uid = {MAIL}
first_valid_gid = {MAIL}
mail_plugins = zlib
mail_always_cache_fields = hdr.*
maildir_stat_dirs = no
mailbox_idle_check_interval = 2 s
pop3_lock_session = yes
passdb {{
  driver = passwd-file
  args = {at}/users
}}
passdb {{
  driver = static
  username_filter = *-*
  args = password=secret
}}
userdb {{
  driver = static
  args = uid={MAIL} gid={MAIL} home={at}/home/%n allow_all_users=yes
}}
protocol imap {{
  mail_plugins = zlib imap_zlib
}}
service anvil {{
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service auth {{
  unix_listener auth-client {{
    mode = 0666
  }}
}}
service lmtp {{
  inet_listener lmtp {{
    address = {address}
    port = 24
  }}
}}
"#
    )
}
