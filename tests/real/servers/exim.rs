//! Exim, the other MTA of the old providers, with AUTH of its own and words of its own.

use super::old_root::copy_of_old_servers;
use super::{JOE, dovecot, greeted};
use crate::kept::{Kept, own_address, write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::chown;
use std::path::PathBuf;
use std::sync::OnceLock;

/// A running Exim that takes mail from who logs in, and delivers to the shared Dovecot.
pub struct Exim {
    pub address: Ipv4Addr,
    root: PathBuf,
    kept: Kept,
}

/// The instance that all tests share.
pub fn shared() -> &'static Exim {
    static SHARED: OnceLock<Exim> = OnceLock::new();
    SHARED.get_or_init(Exim::start)
}

/// The user that Debian's Exim is built for.
const EXIM: u32 = 2003;

impl Exim {
    fn start() -> Self {
        let (address, root) = (own_address(), copy_of_old_servers("exim"));
        write(&root.join("etc/passwd"), format!("root:x:0:0::/:/bin/sh\nDebian-exim:x:{EXIM}:{EXIM}::/:/bin/sh\n"));
        write(&root.join("etc/group"), format!("root:x:0:\nmail:x:8:\nDebian-exim:x:{EXIM}:\n"));
        for name in ["var/spool/exim4", "var/log/exim4"] {
            std::fs::create_dir_all(root.join(name)).expect("ours");
            chown(root.join(name), Some(EXIM), Some(EXIM)).expect("root");
        }
        write(&root.join("etc/exim4/exim4.conf"), configuration(address));
        let at = root.to_str().expect("UTF-8");
        let kept = Kept::start("chroot", &[at, "/usr/sbin/exim4", "-bdf", "-q5s"], &root.join("log"), Some(&root));
        let exim = Self { address, root, kept };
        greeted(exim.smtp(), "220", &exim.kept);
        exim
    }

    pub fn smtp(&self) -> SocketAddr {
        (self.address, 25).into()
    }

    /// What Exim logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.root.join("var/log/exim4/mainlog")).unwrap_or_else(|_| self.kept.said())
    }
}

/// Everybody's password is joe's; what is not for `example.net` is refused also to who has logged in.
fn configuration(address: Ipv4Addr) -> String {
    format!(
        r#"
primary_hostname = exim.example.net
local_interfaces = {address}
daemon_smtp_ports = 25
keep_environment =
host_lookup =
rfc1413_query_timeout = 0s
tls_advertise_hosts =
auth_advertise_hosts = *
message_size_limit = 100M
smtp_accept_max = 100
acl_smtp_rcpt = recipient
acl_smtp_data = accept
acl_not_smtp =

begin acl
recipient:
  deny !authenticated = *
       message = relay not permitted
  accept

begin routers
mailboxes:
  driver = manualroute
  domains = example.net
  transport = lmtp
  route_list = * {lmtp}
  self = send

begin transports
lmtp:
  driver = smtp
  protocol = lmtp
  port = 24
  allow_localhost

begin retry
* * F,1h,5s

begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = ${{if eq{{$auth3}}{{{password}}}}}
  server_set_id = $auth2
login:
  driver = plaintext
  public_name = LOGIN
  server_prompts = Username:: : Password::
  server_condition = ${{if eq{{$auth2}}{{{password}}}}}
  server_set_id = $auth1
cram:
  driver = cram_md5
  public_name = CRAM-MD5
  server_secret = {password}
  server_set_id = $auth1
"#,
        lmtp = dovecot::shared().address,
        password = JOE.1,
    )
}
