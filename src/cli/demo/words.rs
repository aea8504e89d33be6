//! What `gatepost demo` says when it is up: where everything is, and commands to paste.

use super::server::{PASSWORD, USER};
use std::fmt;
use std::path::Path;

/// The port from which the demo's are counted, unless `--port-base` says otherwise.
pub const DEFAULT_PORT_BASE: u16 = 10_000;
/// The highest base at which port 995 of it is still a port.
pub const MAX_PORT_BASE: u16 = u16::MAX - 995;

/// Where the gateway listens: each service's own port, added to a base that needs no privileges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    /// IMAP with TLS from the first byte: 993.
    pub imaps: u16,
    /// POP3 with TLS from the first byte: 995.
    pub pop3s: u16,
    /// Submission with TLS from the first byte: 465.
    pub submissions: u16,
    /// Submission with STARTTLS: 587.
    pub submission: u16,
    /// IMAP with STARTTLS: 143.
    pub imap: u16,
    /// POP3 with STLS: 110.
    pub pop3: u16,
}

impl Ports {
    /// Counts from `base`; `None` above [`MAX_PORT_BASE`].
    pub fn from_base(base: u16) -> Option<Self> {
        let port = |offset| base.checked_add(offset);
        Some(Self {
            imaps: port(993)?,
            pop3s: port(995)?,
            submissions: port(465)?,
            submission: port(587)?,
            imap: port(143)?,
            pop3: port(110)?,
        })
    }
}

/// The block printed at start; AUTH events follow below it. Ends with a line end.
#[derive(Debug, Clone, Copy)]
pub struct Words<'a> {
    /// Where the gateway listens.
    pub ports: Ports,
    /// The private CA's certificate, PEM. The certificate it signed must name `localhost`.
    pub ca: &'a Path,
}

impl fmt::Display for Words<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ports { imaps, pop3s, submissions, submission, imap, pop3 } = self.ports;
        let ca = shell_word(&self.ca.to_string_lossy());
        write!(
            f,
            "\
gatepost demo: an old plaintext mail server, with gatepost in front of it.

    your mail program  --TLS-->  gatepost  --plaintext-->  the old server

  user         {USER}
  password     {PASSWORD}
  CA           {}

  imaps        localhost:{imaps:<5}   TLS from the first byte
  pop3s        localhost:{pop3s:<5}   TLS from the first byte
  submissions  localhost:{submissions:<5}   TLS from the first byte
  submission   localhost:{submission:<5}   STARTTLS
  imap         localhost:{imap:<5}   STARTTLS
  pop3         localhost:{pop3:<5}   STLS

List the folders, read the newest letter:

  curl --cacert {ca} -u {USER}:{PASSWORD} 'imaps://localhost:{imaps}/'
  curl --cacert {ca} -u {USER}:{PASSWORD} 'imaps://localhost:{imaps}/INBOX;MAILINDEX=*'

The same with STARTTLS, and over POP3:

  curl --cacert {ca} -u {USER}:{PASSWORD} --ssl-reqd 'imap://localhost:{imap}/INBOX' -X 'FETCH 1:* ENVELOPE'
  curl --cacert {ca} -u {USER}:{PASSWORD} 'pop3s://localhost:{pop3s}/'

Send a letter to yourself (it arrives at once), and one into the world (it goes nowhere):

  printf 'From: {USER}\\r\\nTo: {USER}\\r\\nSubject: hello\\r\\n\\r\\nHello.\\r\\n' |
    curl --cacert {ca} -u {USER}:{PASSWORD} 'smtps://localhost:{submissions}' --mail-from {USER} --mail-rcpt {USER} -T -
  printf 'From: {USER}\\r\\nTo: world@example.com\\r\\nSubject: hello\\r\\n\\r\\nHello.\\r\\n' |
    curl --cacert {ca} -u {USER}:{PASSWORD} --ssl-reqd 'smtp://localhost:{submission}' --mail-from {USER} --mail-rcpt world@example.com -T -

See what is refused: a wrong password, a login without TLS, mail from a stranger:

  curl --cacert {ca} -u {USER}:wrong 'imaps://localhost:{imaps}/'
  curl -u {USER}:{PASSWORD} 'imap://localhost:{imap}/'
  printf 'Subject: hello\\r\\n\\r\\nHello.\\r\\n' |
    curl --cacert {ca} 'smtps://localhost:{submissions}' --mail-from stranger@example.com --mail-rcpt {USER} -T -

Speak the protocols by hand:

  openssl s_client -quiet -crlf -CAfile {ca} -verify_hostname localhost -verify_return_error -connect localhost:{imaps}
  openssl s_client -quiet -crlf -CAfile {ca} -verify_hostname localhost -verify_return_error -starttls smtp -connect localhost:{submission}

In Thunderbird: import the CA (Settings, Privacy & Security, Certificates, Manage Certificates, Authorities, Import; trust
it for websites), then add an account by hand:

  incoming     IMAP, localhost, port {imaps}, SSL/TLS, Normal password, user name {USER}
  outgoing     SMTP, localhost, port {submissions}, SSL/TLS, Normal password, user name {USER}

Every login shows here. Ctrl-C ends the demo, and all mail in it.
",
            self.ca.display()
        )
    }
}

/// A word as a shell takes it.
fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,=@".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ports_are_the_usual_ones_counted_from_the_base() {
        let ports = Ports::from_base(DEFAULT_PORT_BASE).unwrap();
        assert_eq!((ports.imaps, ports.pop3s, ports.submissions), (10_993, 10_995, 10_465));
        assert_eq!((ports.submission, ports.imap, ports.pop3), (10_587, 10_143, 10_110));
        assert!(Ports::from_base(MAX_PORT_BASE).is_some());
        assert_eq!(Ports::from_base(MAX_PORT_BASE + 1), None);
    }

    #[test]
    fn every_command_names_the_ca_the_user_and_a_port() {
        let words = Words { ports: Ports::from_base(20_000).unwrap(), ca: Path::new("/tmp/it's here/ca.pem") };
        let text = words.to_string();
        let curls: Vec<_> = text.lines().filter(|line| line.trim_start().starts_with("curl ")).collect();
        assert_eq!(curls.len(), 9);
        for line in curls {
            assert!(line.contains("//localhost:20"), "{line}");
            let in_the_clear = line.contains("'imap://") && !line.contains("--ssl-reqd");
            assert!(in_the_clear || line.contains(r"--cacert '/tmp/it'\''s here/ca.pem'"), "{line}");
        }
        for port in ["20993", "20995", "20465", "20587", "20143", "20110"] {
            assert!(text.contains(port), "{port}");
        }
    }

    #[test]
    fn a_shell_reads_back_the_word_it_was_given() {
        for (text, word) in
            [("/a/ca.pem", "/a/ca.pem"), ("a b", "'a b'"), ("it's", r"'it'\''s'"), ("", "''"), ("$x", "'$x'")]
        {
            assert_eq!(shell_word(text), word);
        }
    }
}
