//! Who guesses passwords, through the whole program.

use super::client::Client;
use super::crowd::source;
use super::gateway::{Folder, Gateway};
use super::hostile::{Act, perform, runtime};
use super::turn;
use nix::sys::signal::Signal;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// An old IMAP server that counts the passwords it is asked about; each takes it a moment.
fn counting_server() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let (address, asked) = (listener.local_addr().expect("bound"), Arc::<AtomicUsize>::default());
    let counted = Arc::clone(&asked);
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let counted = Arc::clone(&counted);
            // It ends when the gateway leaves.
            std::thread::spawn(move || -> std::io::Result<()> {
                (&client).write_all(b"* OK [CAPABILITY IMAP4rev1] old server\r\n")?;
                for line in BufReader::new(&client).lines() {
                    let line = line?;
                    let (tag, command) = line.split_once(' ').unwrap_or((&line, ""));
                    let answer = match command.split(' ').next() {
                        Some("LOGIN") if command.contains("secret") => "OK in",
                        Some("LOGIN") => {
                            counted.fetch_add(1, Ordering::SeqCst);
                            std::thread::sleep(std::time::Duration::from_millis(20));
                            "NO [AUTHENTICATIONFAILED] no"
                        }
                        _ => "OK done",
                    };
                    (&client).write_all(format!("{tag} {answer}\r\n").as_bytes())?;
                }
                Ok(())
            });
        }
    });
    (address, asked)
}

fn gateway(old: SocketAddr, limits: &str) -> Gateway {
    let folder = Folder::new();
    folder.write(
        "gatepost.yaml",
        format!(
            "hostname: mail.example.net\nstate_dir: state\nadmin: {{ address: null, socket: run/admin.sock }}\n\
             backends: {{ main: {{ imap: \"{old}\" }} }}\n\
             listeners: {{ imap: {{ address: \"127.0.0.1:0\", protocol: imap, tls: optional }} }}\n\
             limits: {{ exempt: [], {limits} }}\n"
        ),
    );
    Gateway::start_in(&folder)
}

/// What a client at 127.0.0.1 meets first.
fn first_line(gateway: &Gateway) -> String {
    Client::plain(gateway.address("imap")).expect("the kernel completes it").line()
}

#[test]
fn a_ban_holds_over_a_reload() {
    let _turn = turn::take();
    let (old, asked) = counting_server();
    let gateway = gateway(old, "failure_delay: 10ms, auth_failures_per_ip: 2/h");
    let mut attacker = Client::plain(gateway.address("imap")).expect("connects");
    attacker.line();
    for guess in ["one", "two", "three"] {
        attacker.ask(&format!("a LOGIN joe {guess}"), "a NO [AUTHENTICATIONFAILED]");
    }
    let banned = gateway.event("ban.added");
    assert_eq!(banned["client_ip"], "127.0.0.1", "{banned}");
    assert!(first_line(&gateway).starts_with("* BYE"));

    for limits in
        ["failure_delay: 10ms, auth_failures_per_ip: 2/h", "failure_delay: 10ms, auth_failures_per_ip: 1000/h"]
    {
        let before = gateway.lines_so_far();
        let text = std::fs::read_to_string(gateway.folder.at("gatepost.yaml")).expect("ours");
        let kept = text.split("limits:").next().expect("a beginning");
        gateway.folder.write("gatepost.yaml", format!("{kept}limits: {{ exempt: [], {limits} }}\n"));
        gateway.signal(Signal::SIGHUP);
        gateway.event_after(before, "config.reloaded");
        assert!(first_line(&gateway).starts_with("* BYE"), "after a reload with {limits}");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 3);
    // The neighbour has done nothing.
    let login = [Act::Say(b"a LOGIN joe secret\r\n"[..].into()), Act::Until("a OK")];
    let neighbour = perform(source(9), gateway.address("imap"), None, true, &login);
    runtime().block_on(neighbour).expect("it gets in");
}

#[test]
fn of_pipelined_guesses_few_reach_the_server_and_others_are_not_held_up() {
    let _turn = turn::take();
    let (old, asked) = counting_server();
    let gateway = gateway(old, "failure_delay: 100ms");
    let to = gateway.address("imap");
    let runtime = runtime();
    let attackers: Vec<_> = (0..60)
        .map(|connection| {
            let guesses: String = (0..100).map(|n| format!("a LOGIN joe guess{connection}-{n}\r\n")).collect();
            let acts = [Act::ReadOn, Act::Say(guesses.into_bytes().into()), Act::Drain];
            // Its end is all there is to wait for.
            runtime.spawn(async move { perform(source(5), to, None, true, &acts).await.is_ok() })
        })
        .collect();
    let login = [Act::Say(b"a LOGIN ann secret\r\n"[..].into()), Act::Until("a OK")];
    for number in 0..10 {
        let customer = perform(source(100 + number), to, None, true, &login);
        let customer = runtime.block_on(async { tokio::time::timeout(super::outcome::PATIENCE, customer).await });
        customer.expect("in time").expect("it gets in");
    }
    for attacker in attackers {
        // Refused at the door once the ban has fallen, or cut off after three guesses.
        let _ = runtime.block_on(attacker).expect("no panic");
    }
    let asked = asked.load(Ordering::SeqCst);
    println!("{asked} of 6,000 guesses reached the server");
    assert!((20..=50).contains(&asked), "{asked}");
    gateway.event("ban.added");
}

#[test]
fn a_bad_exchange_never_touches_another_sessions() {
    let _turn = turn::take();
    let (old, _) = counting_server();
    let gateway = gateway(old, "failure_delay: 10ms");
    let connect = || {
        let mut client = Client::plain(gateway.address("imap")).expect("connects");
        client.line();
        client
    };
    let (mut good, mut bad) = (connect(), connect());
    good.ask("a AUTHENTICATE PLAIN", "+");
    for words in ["*", "====", "AGpvZQ==", "AGpvZQBndWVzcw=="] {
        bad.ask("b AUTHENTICATE PLAIN", "+");
        bad.ask(words, "b ");
    }
    drop(bad);
    // NUL joe NUL secret
    good.ask("AGpvZQBzZWNyZXQ=", "a OK");
    good.noop();
}
