//! `gatepost connect`: programs without TLS before a server with it.

use super::careless;
use super::client::{Client, NAME};
use super::gateway::{Gateway, IMAP, IMAPS};
use super::old_server::{self, Speaks};
use super::outcome::{gatepost, outcome, program, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};

/// A running `gatepost connect`; it is killed when this goes.
struct Connect {
    child: Child,
    address: SocketAddr,
    said: Arc<Mutex<Vec<String>>>,
}

impl Connect {
    /// Listens on loopback, and waits until it does.
    fn start(arguments: &[&str]) -> Self {
        let mut command = program();
        command.args(["connect", "--listen", "127.0.0.1:0"]).args(arguments);
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the program starts");
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines().map_while(Result::ok);
        let first = lines.next().expect("a line");
        let address = first.strip_prefix("listening on ").and_then(|rest| rest.split(' ').next()?.parse().ok());
        let address = address.unwrap_or_else(|| panic!("{first}"));
        let said = Arc::new(Mutex::new(Vec::new()));
        let ours = Arc::clone(&said);
        std::thread::spawn(move || lines.for_each(|line| ours.lock().expect("nobody panics with it").push(line)));
        Self { child, address, said }
    }

    fn client(&self) -> Client {
        Client::plain(self.address).expect("it listens")
    }

    /// Waits for a line in its log with these words.
    #[track_caller]
    fn logs(&self, words: &[&str]) {
        let said = || self.said.lock().expect("nobody panics with it").clone();
        until(&format!("a line with {words:?}"), || {
            said().iter().any(|line| words.iter().all(|word| line.contains(word))).then_some(())
        });
    }

    fn ends_by(mut self, signal: Signal) -> Option<i32> {
        kill(Pid::from_raw(self.child.id().try_into().expect("a pid")), signal).expect("it runs");
        until("it to end", || self.child.try_wait().expect("our child")).code()
    }
}

impl Drop for Connect {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn root(gateway: &Gateway) -> String {
    gateway.folder.at("state/ca/root.pem").display().to_string()
}

#[test]
fn a_program_without_tls_logs_in_through_tls_from_the_first_byte() {
    let gateway = Gateway::start(IMAPS, "");
    let url = format!("imaps://{}", gateway.address("imaps"));
    let connect = Connect::start(&["--ca", &root(&gateway), "--name", NAME, &url]);
    let mut session = connect.client().imap_login("joe");
    session.noop();
    let ok = gateway.event("auth.ok");
    assert_eq!((&ok["user"], &ok["tls"]["version"]), (&"joe".into(), &"1.3".into()), "{ok}");
    session.ask("q LOGOUT", "q OK");
    drop(session);
    connect.logs(&["127.0.0.1:", &url, "TLS 1.3", "octets there"]);
}

#[test]
fn starttls_is_done_for_the_program_and_hidden_from_it() {
    let gateway = Gateway::start(IMAP, "");
    let connect =
        Connect::start(&["--ca", &root(&gateway), "--name", NAME, &format!("imap://{}", gateway.address("imap"))]);
    let mut client = connect.client();
    let greeting = client.line();
    assert!(greeting.starts_with("* OK") && !greeting.contains("CAPABILITY"), "{greeting}");
    let capabilities = client.ask("a CAPABILITY", "a OK").join(" ");
    assert!(capabilities.contains("AUTH=PLAIN"), "{capabilities}");
    assert!(!capabilities.contains("STARTTLS") && !capabilities.contains("LOGINDISABLED"), "{capabilities}");
    client.ask("b LOGIN joe secret", "b OK");
    client.noop();
}

#[test]
fn the_other_protocols_are_greeted_in_their_words() {
    // The careless server's certificate is its own, so that the handshake ends where it has to; what is said of it is the
    // protocol's word for "not the password".
    for (scheme, words, begins) in [
        ("imap", careless::IMAP, "* BYE [UNAVAILABLE] "),
        ("pop3", careless::POP3, "-ERR [SYS/TEMP] "),
        ("submission", careless::SMTP, "421 4.7.0 "),
    ] {
        let connect = Connect::start(&["--name", NAME, &format!("{scheme}://{}", careless::serve(words, false))]);
        let mut client = connect.client();
        let line = client.line();
        assert!(line.starts_with(begins) && line.contains("--ca FILE"), "{line}");
        assert_eq!(client.rest(), "", "and that was all");
        connect.logs(&["refused", scheme, "signed by nobody who is trusted"]);
    }
}

#[test]
fn a_wrong_certificate_is_refused_and_nothing_reaches_the_server() {
    let gateway = Gateway::start(IMAPS, "");
    let (root, address) = (root(&gateway), gateway.address("imaps"));
    let cases: [(&[&str], &str); 3] = [
        (&[], "signed by nobody who is trusted"),
        (&["--ca", &root, "--name", "imap.example.org"], "not for imap.example.org"),
        (&["--ca", &root], "not for 127.0.0.1"),
    ];
    for (options, words) in cases {
        for (scheme, begins) in [("imaps", "* BYE"), ("pop3s", "-ERR"), ("smtps", "421")] {
            let url = format!("{scheme}://{address}");
            let connect = Connect::start(&[options, &[&url]].concat());
            let mut client = connect.client();
            let line = client.line();
            assert!(line.starts_with(begins) && line.contains(words), "{options:?}: {line}");
            assert_eq!(client.rest(), "");
            connect.logs(&["refused", words]);
        }
    }
}

#[test]
fn a_server_that_will_not_begin_tls_is_not_spoken_to_in_the_clear() {
    for (scheme, speaks, begins) in
        [("imap", Speaks::Imap, "* BYE"), ("pop3", Speaks::Pop3, "-ERR"), ("smtp", Speaks::Smtp, "421")]
    {
        // To some of these it says yes, and then speaks on in the clear.
        let connect = Connect::start(&[&format!("{scheme}://{}", old_server::serve(speaks)), "--timeout", "2s"]);
        let mut client = connect.client();
        let line = client.line();
        assert!(line.starts_with(begins), "{line}");
        assert_eq!(client.rest(), "");
        connect.logs(&["refused", scheme]);
    }
}

#[test]
fn a_server_that_is_not_there_is_said_so() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
    let connect = Connect::start(&[&format!("pop3s://{gone}")]);
    let line = connect.client().line();
    assert!(line.starts_with("-ERR [SYS/TEMP] ") && line.contains("refused"), "{line}");
}

#[test]
fn other_machines_may_not_come_in_unless_it_is_said() {
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:1143"] {
        gatepost(["connect", "--listen", address, "imaps://h"]).ends(2, &[address, "--allow-remote", "in the clear"]);
    }
    // Said so, it goes on to bind, and that is no address of ours.
    gatepost(["connect", "--listen", "192.0.2.1:1143", "--allow-remote", "imaps://h"])
        .ends(1, &["cannot listen on 192.0.2.1:1143"]);
}

#[test]
fn it_runs_until_it_is_told_to_end_and_wrong_usage_is_told_apart() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let connect = Connect::start(&["imaps://mail.example.net"]);
        assert_eq!(connect.ends_by(signal), Some(0));
    }
    gatepost(["connect", "imaps://h"]).ends(2, &["--listen"]);
    gatepost(["connect", "--listen", "127.0.0.1:0", "--name", "a b", "imaps://h"]).ends(2, &["--name"]);
    gatepost(["connect", "--listen", "127.0.0.1:0", "--ca", "/absent.pem", "imaps://h"]).ends(2, &["/absent.pem"]);
    let mut help = program();
    help.args(["connect", "--help"]);
    assert!(outcome(help).ends(0, &[]).out.contains("--allow-remote"));
}
