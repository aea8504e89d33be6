//! Passwords pass through; none may stay. The gateway's memory is read and searched, as whoever takes over the process or
//! finds a page of it could.

use super::client::Client;
use super::gateway::{Folder, Gateway};
use super::old_server::{Speaks, serve};
use super::outcome::{PATIENCE, is_root_for};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use memchr::memmem;
use rand::Rng;
use std::fmt::Write as _;
use std::os::unix::fs::FileExt;
use std::time::Instant;

const LISTENERS: &str = r#"
  imaps: { address: "127.0.0.1:0", protocol: imap }
  imap: { address: "127.0.0.1:0", protocol: imap, tls: optional, allow: [127.0.0.0/8] }
  pop3s: { address: "127.0.0.1:0", protocol: pop3 }
  pop3: { address: "127.0.0.1:0", protocol: pop3, tls: optional, allow: [127.0.0.0/8] }
  submissions: { address: "127.0.0.1:0", protocol: submission, tls: implicit }
  submission: { address: "127.0.0.1:0", protocol: submission, tls: optional, allow: [127.0.0.0/8] }
  starttls: { address: "127.0.0.1:0", protocol: imap, tls: starttls }
"#;

/// Before servers of all protocols.
fn start() -> Gateway {
    let folder = Folder::new();
    let [imap, pop3, smtp] = [Speaks::Imap, Speaks::Pop3, Speaks::Smtp].map(serve);
    folder.write(
        "gatepost.yaml",
        format!(
            "hostname: mail.example.net\nstate_dir: state\nadmin: {{ address: null, socket: run/admin.sock }}\n\
             backends: {{ main: {{ imap: \"{imap}\", pop3: \"{pop3}\", smtp: \"{smtp}\" }} }}\n\
             listeners:{LISTENERS}limits: {{ failure_delay: 0s }}\n"
        ),
    );
    let gateway = Gateway::start_in(&folder);
    // What is offered is known once they have been asked.
    for protocol in ["imap", "pop3", "smtp"] {
        gateway.line_after(0, protocol, |line| line["event"] == "backend.up" && line["protocol"] == protocol);
    }
    gateway
}

/// A way to log in.
#[derive(Clone, Copy, Debug)]
enum Way {
    ImapQuoted,
    ImapAtom,
    ImapLiteral,
    ImapPlain,
    ImapPlainAtOnce,
    ImapLogin,
    Pop3Pass,
    Pop3Plain,
    SmtpPlain,
    SmtpPlainInTwo,
    SmtpLogin,
}

const WAYS: [Way; 11] = [
    Way::ImapQuoted,
    Way::ImapAtom,
    Way::ImapLiteral,
    Way::ImapPlain,
    Way::ImapPlainAtOnce,
    Way::ImapLogin,
    Way::Pop3Pass,
    Way::Pop3Plain,
    Way::SmtpPlain,
    Way::SmtpPlainInTwo,
    Way::SmtpLogin,
];

impl Way {
    fn listener(self, tls: bool) -> &'static str {
        match (self, tls) {
            (Way::Pop3Pass | Way::Pop3Plain, true) => "pop3s",
            (Way::Pop3Pass | Way::Pop3Plain, false) => "pop3",
            (Way::SmtpPlain | Way::SmtpPlainInTwo | Way::SmtpLogin, true) => "submissions",
            (Way::SmtpPlain | Way::SmtpPlainInTwo | Way::SmtpLogin, false) => "submission",
            (_, true) => "imaps",
            (_, false) => "imap",
        }
    }

    /// Talks up to the verdict.
    fn log_in(self, client: &mut Client, password: &str, is_right: bool) {
        let encode = |text: &str| BASE64_STANDARD.encode(text);
        let plain = encode(&format!("\0joe\0{password}"));
        let (imap, pop3, smtp) = if is_right { ("a OK", "+OK", "235 ") } else { ("a NO", "-ERR", "535 ") };
        client.line();
        if self.listener(false) == "submission" {
            client.ask("EHLO client", "250 ");
        }
        match self {
            Way::ImapQuoted => drop(client.ask(&format!("a LOGIN joe \"{password}\""), imap)),
            Way::ImapAtom => drop(client.ask(&format!("a LOGIN joe {password}"), imap)),
            Way::ImapLiteral => {
                client.ask("a LOGIN {3}", "+");
                client.ask(&format!("joe {{{}}}", password.len()), "+");
                client.ask(password, imap);
            }
            Way::ImapPlain => {
                client.ask("a AUTHENTICATE PLAIN", "+");
                client.ask(&plain, imap);
            }
            Way::ImapPlainAtOnce => drop(client.ask(&format!("a AUTHENTICATE PLAIN {plain}"), imap)),
            Way::ImapLogin => {
                client.ask("a AUTHENTICATE LOGIN", "+");
                client.ask(&encode("joe"), "+");
                client.ask(&encode(password), imap);
            }
            Way::Pop3Pass => {
                client.ask("USER joe", "+OK");
                client.ask(&format!("PASS {password}"), pop3);
            }
            Way::Pop3Plain => drop(client.ask(&format!("AUTH PLAIN {plain}"), pop3)),
            Way::SmtpPlain => drop(client.ask(&format!("AUTH PLAIN {plain}"), smtp)),
            Way::SmtpPlainInTwo => {
                client.ask("AUTH PLAIN", "334");
                client.ask(&plain, smtp);
            }
            Way::SmtpLogin => {
                client.ask("AUTH LOGIN", "334");
                client.ask(&encode("joe"), "334");
                client.ask(&encode(password), smtp);
            }
        }
    }
}

/// A password that stands nowhere else, and what of it would be too much.
struct Password {
    text: String,
    needles: Vec<Vec<u8>>,
}

impl Password {
    /// As much of a password, or of its base64, is searched for at a time: parts of it count too.
    const PART: usize = 12;

    fn new(is_right: bool) -> Self {
        let mut random = rand::rng();
        let mut text = String::from(if is_right { "secret" } else { "wrongs" });
        while text.len() < 6 + 5 * Self::PART {
            text.push(random.random_range(b'a'..=b'z').into());
        }
        // Without what comes before it, and so without what is the same in every one.
        let mut needles: Vec<_> = text.as_bytes()[6..].chunks_exact(Self::PART).map(<[u8]>::to_vec).collect();
        for before in ["", "\0joe\0"] {
            let encoded = BASE64_STANDARD.encode(format!("{before}{text}"));
            // 6 octets of the beginning are 8 characters, 11 are up to 16; at the end one group is not whole.
            let inner = &encoded.as_bytes()[16..encoded.len() - 4];
            needles.extend(inner.chunks_exact(Self::PART).map(<[u8]>::to_vec));
        }
        Self { text, needles }
    }

    /// Where in the memory of the gateway something of it stands.
    fn found(&self, gateway: &Gateway) -> String {
        let maps = std::fs::read_to_string(format!("/proc/{}/maps", gateway.pid())).expect("it runs");
        let memory = std::fs::File::open(format!("/proc/{}/mem", gateway.pid())).expect("root may");
        let mut found = String::new();
        let mut searched = 0;
        for map in maps.lines().filter(|map| map.split(' ').nth(1).is_some_and(|rights| rights.starts_with("rw"))) {
            let (begin, end) = map.split(' ').next().and_then(|range| range.split_once('-')).expect("a range");
            let [begin, end] = [begin, end].map(|number| u64::from_str_radix(number, 16).expect("a number"));
            let mut bytes = vec![0; usize::try_from(end - begin).expect("64 bits")];
            // It may be given back to the system while it is read.
            let Ok(()) = memory.read_exact_at(&mut bytes, begin) else { continue };
            searched += bytes.len();
            for needle in &self.needles {
                for at in memmem::find_iter(&bytes, needle) {
                    let around = &bytes[at.saturating_sub(48)..(at + 64).min(bytes.len())];
                    let _ = writeln!(found, "{map}\n    at {at:#x}: {}", around.escape_ascii());
                }
            }
        }
        assert!(searched > 1_000_000, "only {searched} octets");
        found
    }

    /// Waits until nothing of it is left: what a session held goes a moment after its last event.
    #[track_caller]
    fn is_gone(&self, gateway: &Gateway, what: &str) {
        let deadline = Instant::now() + PATIENCE / 2;
        loop {
            let found = self.found(gateway);
            if found.is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "{what}: of {} there is\n{found}", self.text);
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }
}

fn connect(gateway: &Gateway, listener: &str, tls: bool) -> Client {
    if tls { gateway.tls(listener) } else { Client::plain(gateway.address(listener)).expect("connects") }
}

#[test]
fn no_password_is_left_behind_by_a_session() {
    if !is_root_for("reading another process's memory") {
        return;
    }
    let gateway = start();
    let mut failures = String::new();
    for way in WAYS {
        for (tls, is_right) in [(true, true), (true, false), (false, true), (false, false)] {
            let what = format!("{way:?}, TLS {tls}, right {is_right}");
            let password = Password::new(is_right);
            let before = gateway.lines_so_far();
            let mut client = connect(&gateway, way.listener(tls), tls);
            way.log_in(&mut client, &password.text, is_right);
            if !way.listener(false).starts_with("sub") || !is_right {
                let found = settled(&password, &gateway);
                if !found.is_empty() {
                    let _ = writeln!(failures, "--- while the session is open: {what}\n{found}");
                }
            }
            drop(client);
            gateway.event_after(before, "session.closed");
            let found = settled(&password, &gateway);
            if !found.is_empty() {
                let _ = writeln!(failures, "--- after it: {what}\n{found}");
            }
        }
    }
    assert!(failures.is_empty(), "{failures}");
}

fn settled(password: &Password, gateway: &Gateway) -> String {
    let deadline = Instant::now() + std::time::Duration::from_millis(300);
    loop {
        let found = password.found(gateway);
        if found.is_empty() || Instant::now() > deadline {
            return found;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

#[test]
fn a_password_said_too_early_is_not_kept() {
    if !is_root_for("reading another process's memory") {
        return;
    }
    let gateway = start();
    let password = Password::new(true);
    let mut client = connect(&gateway, "starttls", false);
    client.line();
    client.ask(&format!("a LOGIN joe \"{}\"", password.text), "a NO [PRIVACYREQUIRED]");
    password.is_gone(&gateway, "while the session waits for STARTTLS");
    client.ask("b NOOP", "b OK");
}

#[test]
fn a_submission_keeps_its_login_as_long_as_it_lasts() {
    if !is_root_for("reading another process's memory") {
        return;
    }
    let gateway = start();
    let password = Password::new(true);
    let before = gateway.lines_so_far();
    let mut client = connect(&gateway, "submissions", true);
    Way::SmtpPlain.log_in(&mut client, &password.text, true);
    // To log in anew after a message that had to be abandoned. It also shows that this search finds what is there.
    assert!(!password.found(&gateway).is_empty());
    drop(client);
    gateway.event_after(before, "session.closed");
    password.is_gone(&gateway, "after the submission");
}
