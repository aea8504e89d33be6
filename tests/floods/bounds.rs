//! Before a login a connection costs at most 64 KiB of ours, whatever it sends.

use super::cost;
use super::gateway::{Folder, Gateway};
use super::hostile::{Act, Parked, client_hello, perform_on_a_small_one, runtime, small, trusting};
use super::old_server::{self, Speaks};
use super::turn;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

/// What a connection may cost.
const BOUND: usize = 64 * 1024;
/// How long the gateway may work on all of them.
const PATIENCE: Duration = Duration::from_secs(60);
/// So many do the same at a time.
const MANY: usize = 100;
/// And so many before them.
const FIRST: usize = 30;

/// A gateway with a listener of each protocol, in the clear and with TLS, whose deadlines are out of the way.
fn gateway() -> Gateway {
    let folder = Folder::new();
    let old = old_server::serve;
    let smtp = sleepy_server();
    let listener = |name: &str, protocol: &str, tls: &str| {
        format!("  {name}: {{ address: \"127.0.0.1:0\", protocol: {protocol}, tls: {tls} }}\n")
    };
    let mut listeners = String::new();
    for protocol in ["imap", "pop3", "submission", "smtp"] {
        listeners += &listener(protocol, protocol, "optional");
        listeners += &listener(&format!("{protocol}s"), protocol, "implicit");
    }
    folder.write(
        "gatepost.yaml",
        format!(
            "hostname: mail.example.net\nstate_dir: state\nadmin: {{ address: null, socket: run/admin.sock }}\n\
             backends: {{ main: {{ imap: \"{}\", pop3: \"{}\", smtp: \"{smtp}\" }} }}\n\
             submission: {{ accept_domains: [example.net], bare_newline: normalize }}\n\
             timeouts: {{ tls_handshake: 10min, login: 10min, idle_submission: 10min }}\n\
             listeners:\n{listeners}",
            old(Speaks::Imap),
            old(Speaks::Pop3),
        ),
    );
    Gateway::start_in(&folder)
}

/// What many clients do at the same time on one listener.
struct Kind {
    name: &'static str,
    listener: &'static str,
    /// The client makes a whole handshake first, then hears the greeting inside.
    tls: bool,
    acts: Vec<Act>,
}

fn say(text: impl AsRef<[u8]>) -> Act {
    Act::Say(text.as_ref().into())
}

/// About so many octets of it.
fn pour(text: impl AsRef<[u8]>, octets: usize) -> Act {
    let text = text.as_ref();
    let piece = text.repeat(16 * 1024 / text.len() + 1);
    let times = octets / piece.len() + 1;
    Act::Pour(piece.into(), times)
}

/// More than the buffers in between hold, unless the gateway takes it in.
const LOTS: usize = 8 * 1024 * 1024;
/// More than any bound.
const MUCH: usize = 256 * 1024;

/// What is said before a login, in the clear and inside TLS.
fn said_before_login() -> Vec<Kind> {
    let mut kinds = Vec::new();
    let mut add = |listener: [&'static str; 2], name, acts: Vec<Act>| {
        for (listener, tls) in [(listener[0], false), (listener[1], true)] {
            kinds.push(Kind { name, listener, tls, acts: acts.clone() });
        }
    };
    let (imap, pop3) = (["imap", "imaps"], ["pop3", "pop3s"]);
    let (submission, smtp) = (["submission", "submissions"], ["smtp", "smtps"]);
    for (listener, auth) in [
        (imap, "a AUTHENTICATE PLAIN\r\n"),
        (pop3, "AUTH PLAIN\r\n"),
        (submission, "EHLO x\r\nAUTH PLAIN\r\n"),
        (smtp, "EHLO x\r\nAUTH PLAIN\r\n"),
    ] {
        add(listener, "a line without end", vec![Act::ReadOn, pour("x", MUCH)]);
        add(listener, "almost a line, a byte at a time", vec![Act::Drip(2000, b'x'), say("y".repeat(6190))]);
        add(listener, "base64 without end", vec![Act::ReadOn, say(auth), pour("QUFB", MUCH)]);
        add(listener, "half an AUTH", vec![say(auth), say("QUFB".repeat(3000))]);
    }
    add(imap, "a literal of 4 GiB", vec![Act::ReadOn, say("a LOGIN {4294967295}\r\n"), pour("x", MUCH)]);
    add(imap, "a literal of 4 GiB that does not wait", vec![say("a LOGIN {4294967295+}\r\n"), pour("x", MUCH)]);
    let literals = format!("a LOGIN {{4096+}}\r\n{} {{4096+}}\r\n{}", "u".repeat(4096), "p".repeat(4095));
    add(imap, "literals up to the bound", vec![say(literals)]);
    add(imap, "parentheses", vec![Act::ReadOn, say("a ID "), pour("(", MUCH)]);
    add(imap, "spaces", vec![Act::ReadOn, say("a LOGIN"), pour(" ", MUCH)]);
    add(imap, "commands, and the answers not read", vec![pour("a CAPABILITY\r\n", LOTS)]);
    add(pop3, "commands, and the answers not read", vec![pour("USER joe\r\n", LOTS)]);
    add(submission, "commands, and the answers not read", vec![pour("NOOP\r\n", LOTS)]);
    add(smtp, "commands, and the answers not read", vec![pour("NOOP\r\n", LOTS)]);
    kinds
}

/// Handshakes that are not brought to an end.
fn half_handshakes() -> Vec<Kind> {
    // A ClientHello that says of itself that it has 60,000 octets, in records as large as they may be, and as small.
    let message = [&[1, 0, 0xea, 0x60, 3, 3][..], &[0; 59_000]].concat();
    let in_records = |size: usize| -> Vec<u8> {
        let record = |part: &[u8]| {
            [&[0x16, 3, 1][..], &u16::try_from(part.len()).expect("a record").to_be_bytes(), part].concat()
        };
        message.chunks(size).flat_map(record).collect()
    };
    let kind = |name, acts| Kind { name, listener: "imaps", tls: false, acts };
    vec![
        kind("a ClientHello, and no more", vec![say(client_hello())]),
        kind("half a ClientHello", vec![say(&client_hello()[..300])]),
        kind("a long ClientHello in large records", vec![say(in_records(16 * 1024))]),
        kind("a long ClientHello in records of an octet", vec![say(in_records(1))]),
        kind("records without content", vec![pour([0x16, 3, 1, 0, 0], MUCH)]),
    ]
}

/// What a stranger who brings mail can do, before an old server that stops listening where the sender says so.
fn strangers() -> Vec<Kind> {
    let long = |n: usize| format!("RCPT TO:<{n:0>480}@example.net>\r\n");
    let start = |sender: &str| {
        vec![say(format!("EHLO x\r\nMAIL FROM:<{sender}@example.org>\r\nRCPT TO:<joe@example.net>\r\n"))]
    };
    let in_data = |sender: &str, body: &str| {
        let mut acts = start(sender);
        acts.extend([Act::Until("250 2.1.5"), say("DATA\r\n"), Act::Until("354"), pour(body, LOTS)]);
        acts
    };
    let line = format!("{}\r\n", "x".repeat(70));
    let mut kinds = Vec::new();
    let mut add = |name, acts: Vec<Act>| {
        for (listener, tls) in [("smtp", false), ("smtps", true)] {
            kinds.push(Kind { name, listener, tls, acts: acts.clone() });
        }
    };
    add("a stranger's silence", vec![]);
    add("a stranger's silence behind MAIL", start("joe"));
    add("a stranger's mail, and the server does not read", in_data("stall-in-data", &line));
    add("a stranger's mail of bare newlines, and the server does not read", in_data("stall-in-data", "\n\n.\n"));
    let recipients: String = (0..1000).map(long).collect();
    let mut many = start("joe");
    many.extend([Act::ReadOn, say(&recipients)]);
    add("a stranger's thousand recipients", many);
    let mut waiting = start("stall");
    waiting.push(pour(&recipients, LOTS));
    add("a stranger's recipients, and the server does not answer", waiting);
    let mut unread = start("joe");
    unread.push(pour("NOOP\r\n", LOTS));
    add("a stranger's commands, and the answers not read", unread);
    kinds
}

#[test]
fn a_connection_before_login_costs_at_most_64_kib_whatever_it_says() {
    all_cost_at_most_the_bound(&said_before_login());
}

#[test]
fn half_a_handshake_costs_at_most_64_kib() {
    all_cost_at_most_the_bound(&half_handshakes());
}

#[test]
fn a_stranger_who_brings_mail_costs_at_most_64_kib_even_before_a_server_that_does_not_read() {
    all_cost_at_most_the_bound(&strangers());
}

fn all_cost_at_most_the_bound(kinds: &[Kind]) {
    let _turn = turn::take();
    let runtime = runtime();
    let mut too_much = Vec::new();
    for kind in kinds {
        // What one kind leaves behind in the heap must not hide what another costs: each has a gateway of its own.
        let gateway = gateway();
        let cost = Costs { runtime: &runtime, gateway: &gateway }.of(kind);
        println!("{:>5} KiB  {}: {}", cost / 1024, kind.listener, kind.name);
        if cost > BOUND {
            too_much.push(format!("{}: {}: {cost}", kind.listener, kind.name));
        }
    }
    assert!(too_much.is_empty(), "{too_much:#?}");
}

/// Measures a gateway.
struct Costs<'g> {
    runtime: &'g tokio::runtime::Runtime,
    gateway: &'g Gateway,
}

impl Costs<'_> {
    /// The most memory that a connection of this kind took, of many at a time, while they came and when all were there.
    /// The first few make what is for all, and are not counted: the threads' own buffers, tables of metrics.
    fn of(&self, kind: &Kind) -> usize {
        let (first, before) = self.parked(kind, FIRST);
        let (parked, peak) = self.parked(kind, MANY);
        drop((first, parked));
        peak.saturating_sub(before) / MANY
    }

    fn parked(&self, kind: &Kind, many: usize) -> (Vec<Parked>, usize) {
        let to = self.gateway.address(kind.listener);
        let config = kind.tls.then(|| trusting(&self.gateway.folder.root()));
        let acts: Arc<[Act]> = kind.acts.as_slice().into();
        let greeted = kind.tls || !kind.listener.ends_with('s');
        let clients: Vec<_> = (0..many)
            .map(|_| {
                let (config, acts) = (config.clone(), Arc::clone(&acts));
                self.runtime.spawn(async move {
                    perform_on_a_small_one(to, config, greeted, &acts).await.expect("a connection")
                })
            })
            .collect();
        let peak = cost::peak_until(self.gateway, || clients.iter().all(tokio::task::JoinHandle::is_finished));
        let parked = clients.into_iter().map(|client| self.runtime.block_on(client).expect("no panic")).collect();
        cost::is_quiet(self.gateway, PATIENCE);
        (parked, peak.max(cost::memory(self.gateway)))
    }
}

/// An old SMTP server that takes every recipient. It stops reading at the MAIL of a sender `stall`, and behind the 354
/// for `stall-in-data`.
fn sleepy_server() -> SocketAddr {
    let listener = small().expect("a socket");
    listener.listen(1024).expect("it listens");
    let listener = TcpListener::from(listener);
    let address = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            std::thread::Builder::new().stack_size(64 * 1024).spawn(move || sleepy_session(&client)).expect("a thread");
        }
    });
    address
}

fn sleepy_session(mut client: &TcpStream) -> std::io::Result<()> {
    let mut stalls_in_data = false;
    client.write_all(b"220 old.example.net ESMTP\r\n")?;
    for line in BufReader::new(client).lines() {
        let line = line?.to_ascii_uppercase();
        let answer: &[u8] = match line.split([' ', ':']).next().unwrap_or_default() {
            "EHLO" => b"250-old.example.net\r\n250-PIPELINING\r\n250-AUTH PLAIN LOGIN\r\n250 8BITMIME\r\n",
            "MAIL" if line.contains("<STALL@") => park(),
            "MAIL" => {
                stalls_in_data = line.contains("<STALL-IN-DATA@");
                b"250 2.1.0 ok\r\n"
            }
            "RCPT" => b"250 2.1.5 ok\r\n",
            "DATA" => b"354 go on\r\n",
            "QUIT" => b"221 bye\r\n",
            _ => b"250 ok\r\n",
        };
        client.write_all(answer)?;
        if answer.starts_with(b"354") && stalls_in_data {
            park();
        }
    }
    Ok(())
}

/// Holds a connection, and reads nothing, to the end of the tests.
fn park() -> ! {
    loop {
        std::thread::park();
    }
}
