//! Postfix as the old MTA, in two tempers: one that relays for whoever logs in, one that trusts its network and knows no AUTH.

use super::dovecot::{self, Dovecot};
use super::known::greeted;
use crate::command::{client, output_of};
use crate::kept::{Kept, directory, own_address, write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::chown;
use std::path::PathBuf;
use std::sync::OnceLock;

/// A running Postfix that delivers what is for `example.net` to the shared Dovecot and discards what is for elsewhere.
pub struct Postfix {
    pub address: Ipv4Addr,
    pub directory: PathBuf,
    pub kept: Kept,
}

/// The instance with AUTH (checked by the shared Dovecot), which relays for nobody else.
pub fn shared() -> &'static Postfix {
    static SHARED: OnceLock<Postfix> = OnceLock::new();
    SHARED.get_or_init(with_auth)
}

/// The instance without AUTH that relays for all of 127.0.0.0/8, the gateway in front of it included.
pub fn trusting() -> &'static Postfix {
    static SHARED: OnceLock<Postfix> = OnceLock::new();
    SHARED.get_or_init(|| {
        Postfix::start(
            "mynetworks = 127.0.0.0/8\nsmtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination\n",
        )
    })
}

/// The same with a rule against whoever calls himself a user of `example.net` and has not logged in: it goes before the trust.
pub fn trusting_but_for_our_senders() -> &'static Postfix {
    static SHARED: OnceLock<Postfix> = OnceLock::new();
    SHARED.get_or_init(|| {
        Postfix::start(
            "mynetworks = 127.0.0.0/8\n\
             smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination\n\
             smtpd_sender_restrictions = check_sender_access inline:{ { example.net = REJECT log in } }\n",
        )
    })
}

/// One without AUTH that relays for whoever was let in by the word of its network, each with the sender that is his.
pub fn told_of_logins(senders: &[(&str, &str)]) -> Postfix {
    let senders: Vec<String> = senders.iter().map(|(sender, login)| format!("{sender}={login}")).collect();
    Postfix::start(&format!(
        "mynetworks =\n\
         smtpd_sasl_auth_enable = yes\n\
         smtpd_sasl_exceptions_networks = 0.0.0.0/0\n\
         smtpd_authorized_xclient_hosts = 127.0.0.0/8\n\
         smtpd_relay_restrictions = permit_sasl_authenticated, reject_unauth_destination\n\
         smtpd_sender_restrictions = reject_sender_login_mismatch\n\
         smtpd_sender_login_maps = inline:{{ {} }}\n",
        senders.join(", ")
    ))
}

/// One more instance with AUTH, for tests that stop it.
pub fn with_auth() -> Postfix {
    with_auth_by(dovecot::shared(), "")
}

/// One whose logins `dovecot` checks and whose mail it takes, with `more` at the end of its configuration.
pub fn with_auth_by(dovecot: &Dovecot, more: &str) -> Postfix {
    Postfix::start_for(
        dovecot,
        &format!(
            "mynetworks =\n\
             smtpd_relay_restrictions = permit_sasl_authenticated, reject_unauth_destination\n\
             smtpd_sasl_auth_enable = yes\n\
             smtpd_sasl_type = dovecot\n\
             smtpd_sasl_path = {}\n\
             {more}",
            dovecot.auth_socket().display()
        ),
    )
}

/// One that takes its clients' mail to a gateway's submission port, as a site's own MTA does with its provider.
pub fn smarthost_client(gateway: Ipv4Addr, authority: &std::path::Path, login: &str) -> Postfix {
    Postfix::start(&format!(
        "mynetworks = 127.0.0.0/8\n\
         smtpd_relay_restrictions = permit_mynetworks, reject\n\
         virtual_mailbox_domains =\n\
         default_transport = smtp\n\
         relayhost = [{gateway}]:587\n\
         smtp_tls_security_level = secure\n\
         smtp_tls_secure_cert_match = mail.example.net\n\
         smtp_tls_CAfile = {}\n\
         smtp_sasl_auth_enable = yes\n\
         smtp_sasl_password_maps = inline:{{ [{gateway}]:587={login} }}\n\
         smtp_sasl_security_options = noanonymous\n",
        authority.display()
    ))
}

impl Postfix {
    fn start(more: &str) -> Self {
        Self::start_for(dovecot::shared(), more)
    }

    fn start_for(dovecot: &Dovecot, more: &str) -> Self {
        let (address, directory) = (own_address(), directory("postfix"));
        let at = directory.display();
        for name in ["queue", "data"] {
            std::fs::create_dir_all(directory.join(name)).expect("a directory of ours");
        }
        let owner = nix::unistd::User::from_name("postfix").ok().flatten().expect("Debian's postfix made its user");
        chown(directory.join("data"), Some(owner.uid.as_raw()), None).expect("root");
        // `more` may say again what stands here: the later line counts.
        write(
            &directory.join("main.cf"),
            format!(
                "compatibility_level = 3.6\n\
                 queue_directory = {at}/queue\n\
                 data_directory = {at}/data\n\
                 maillog_file_prefixes = {at}\n\
                 maillog_file = {at}/log\n\
                 myhostname = mx.example.net\n\
                 mydestination =\n\
                 inet_interfaces = loopback-only\n\
                 inet_protocols = ipv4\n\
                 alias_maps =\n\
                 local_recipient_maps =\n\
                 local_header_rewrite_clients =\n\
                 virtual_mailbox_domains = example.net\n\
                 virtual_transport = lmtp:inet:{lmtp}\n\
                 default_transport = discard\n\
                 lmtp_host_lookup = native\n\
                 smtp_host_lookup = native\n\
                 disable_dns_lookups = yes\n\
                 smtpd_client_connection_rate_limit = 0\n\
                 smtpd_client_connection_count_limit = 0\n\
                 smtpd_error_sleep_time = 0\n\
                 default_process_limit = 100\n\
                 message_size_limit = 100000000\n\
                 mailbox_size_limit = 0\n\
                 virtual_mailbox_limit = 0\n\
                 {more}",
                lmtp = dovecot.lmtp(),
            ),
        );
        write(&directory.join("master.cf"), format!("{address}:{BEHIND_A_PROXY}{address}:{MASTER}"));
        let mut check = client("postfix");
        check.arg("-c").arg(&directory).arg("check");
        output_of(check, b"");
        let kept = Self::run(&directory);
        let postfix = Self { address, directory, kept };
        greeted(postfix.smtp(), "220", &postfix.kept);
        postfix
    }

    /// Ends it, as when the machine behind a gateway goes down.
    pub fn stop(&mut self) {
        self.kept.stop();
    }

    /// Brings it up again at the same address.
    pub fn start_again(&mut self) {
        self.kept.leave_directory();
        self.kept = Self::run(&self.directory);
        greeted(self.smtp(), "220", &self.kept);
    }

    fn run(directory: &std::path::Path) -> Kept {
        let (at, log) = (directory.to_str().expect("ASCII"), directory.join("start.log"));
        Kept::start("/usr/lib/postfix/sbin/master", &["-c", at, "-d"], &log, Some(directory))
    }

    pub fn smtp(&self) -> SocketAddr {
        (self.address, 25).into()
    }

    /// Where it waits for a PROXY header first.
    pub fn smtp_behind_a_proxy(&self) -> SocketAddr {
        (self.address, 1025).into()
    }

    /// What Postfix logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }
}

/// Follows the address to listen on: a port for proxies.
const BEHIND_A_PROXY: &str = "1025 inet  n  -  n  -  -  smtpd -o smtpd_upstream_proxy_protocol=haproxy\n";

/// Follows the address to listen on. Nothing runs in a chroot, so that no files need to be copied into one.
const MASTER: &str = "25 inet  n  -  n  -  -  smtpd
pickup     unix  n  -  n  60 1  pickup
cleanup    unix  n  -  n  -  0  cleanup
qmgr       unix  n  -  n  300 1 qmgr
tlsmgr     unix  -  -  n  1000? 1 tlsmgr
rewrite    unix  -  -  n  -  -  trivial-rewrite
bounce     unix  -  -  n  -  0  bounce
defer      unix  -  -  n  -  0  bounce
trace      unix  -  -  n  -  0  bounce
verify     unix  -  -  n  -  1  verify
flush      unix  n  -  n  1000? 0 flush
proxymap   unix  -  -  n  -  -  proxymap
proxywrite unix  -  -  n  -  1  proxymap
smtp       unix  -  -  n  -  -  smtp
relay      unix  -  -  n  -  -  smtp
showq      unix  n  -  n  -  -  showq
error      unix  -  -  n  -  -  error
retry      unix  -  -  n  -  -  error
discard    unix  -  -  n  -  -  discard
lmtp       unix  -  -  n  -  -  lmtp
anvil      unix  -  -  n  -  1  anvil
scache     unix  -  -  n  -  1  scache
postlog    unix-dgram n - n -  1  postlogd
";
