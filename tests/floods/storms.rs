//! After everything: the same process, no descriptor more, and memory that does not go on growing.

use super::cost;
use super::crowd::source;
use super::gateway::{Folder, Gateway};
use super::hostile::{Act, client_hello, perform, runtime, trusting};
use super::old_server::{self, Speaks};
use super::turn;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// Sessions of a storm, and how many are under way at a time.
const SESSIONS: usize = 600;
const AT_A_TIME: usize = 60;
/// So many threads beside those of the sessions may be there for a moment.
const FOR_FILES: usize = 4;

fn say(text: impl AsRef<[u8]>) -> Act {
    Act::Say(text.as_ref().into())
}

/// A listener, whether the client speaks TLS there, whether it is greeted then, and what it does. Whoever ends without
/// a goodbye has gone away in the middle.
fn sessions() -> Vec<(&'static str, bool, bool, Vec<Act>)> {
    let imap = |password: &str, verdict| vec![say(format!("a LOGIN joe {password}\r\n")), Act::Until(verdict)];
    let pop3 = |password: &str, verdict| {
        vec![say("USER joe\r\n"), Act::Until("+OK"), say(format!("PASS {password}\r\n")), Act::Until(verdict)]
    };
    let smtp = || {
        let mut acts =
            vec![say("EHLO x\r\n"), Act::Until("250 "), say("AUTH PLAIN AGpvZQBzZWNyZXQ=\r\n"), Act::Until("235")];
        acts.extend([
            say("MAIL FROM:<joe@example.net>\r\nRCPT TO:<ann@example.org>\r\n"),
            Act::Until("250"),
            Act::Until("250"),
        ]);
        acts.extend([say("DATA\r\n"), Act::Until("354")]);
        acts
    };
    let then = |mut acts: Vec<Act>, words: &str, answer| {
        acts.extend([say(words), Act::Until(answer)]);
        acts
    };
    vec![
        ("imaps", true, true, then(imap("secret", "a OK"), "b LOGOUT\r\n", "b OK")),
        ("imaps", true, true, imap("secret", "a OK")),
        ("imap", false, true, imap("wrong", "a NO")),
        ("imap", false, true, vec![say("a LOGIN joe {9}\r\n"), Act::Until("+"), say("half")]),
        ("pop3s", true, true, then(pop3("secret", "+OK"), "QUIT\r\n", "+OK")),
        ("pop3", false, true, pop3("wrong", "-ERR")),
        ("submissions", true, true, then(then(smtp(), "Subject: x\r\n\r\nx\r\n.\r\n", "250"), "QUIT\r\n", "221")),
        ("submission", false, true, [smtp(), vec![say("Subject: cut off\r\n")]].concat()),
        ("imaps", false, false, vec![say(client_hello())]),
        ("imaps", false, false, vec![say("GET / HTTP/1.1\r\n")]),
        ("imap", false, true, vec![say("a STARTTLS\r\n"), Act::Until("a OK"), say("no TLS at all\r\n")]),
        ("pop3", false, true, vec![]),
    ]
}

fn gateway() -> Gateway {
    let folder = Folder::new();
    let mut listeners = String::new();
    for protocol in ["imap", "pop3", "submission"] {
        listeners += &format!("  {protocol}: {{ address: \"127.0.0.1:0\", protocol: {protocol}, tls: optional }}\n");
        listeners += &format!("  {protocol}s: {{ address: \"127.0.0.1:0\", protocol: {protocol}, tls: implicit }}\n");
    }
    folder.write(
        "gatepost.yaml",
        format!(
            "hostname: mail.example.net\nstate_dir: state\nadmin: {{ address: null, socket: run/admin.sock }}\n\
             backends: {{ main: {{ imap: \"{}\", pop3: \"{}\", smtp: \"{}\" }} }}\n\
             limits: {{ failure_delay: 20ms, auth_failures_per_user: 0 }}\nlisteners:\n{listeners}",
            old_server::serve(Speaks::Imap),
            old_server::serve(Speaks::Pop3),
            old_server::serve(Speaks::Smtp),
        ),
    );
    Gateway::start_in(&folder)
}

#[test]
fn after_storms_of_sessions_everything_is_as_before_and_no_storm_leaves_more_than_the_last() {
    let _turn = turn::take();
    let gateway = gateway();
    let runtime = runtime();
    let (descriptors, threads) = (gateway.descriptors(), threads(&gateway));
    let mut memory = Vec::new();
    for storm in 0..4 {
        let (began, cpu) = (Instant::now(), gateway.cpu_time());
        rage(&runtime, &gateway);
        let raged = began.elapsed();
        let deadline = Instant::now() + Duration::from_secs(30);
        // Threads that read files for the rest, or sweep, sleep a while before they end.
        while gateway.descriptors() > descriptors || self::threads(&gateway) > threads + FOR_FILES {
            let now = (gateway.descriptors(), self::threads(&gateway));
            assert!(Instant::now() < deadline, "storm {storm}: {now:?}, {:?} before", (descriptors, threads));
            std::thread::sleep(Duration::from_millis(50));
        }
        memory.push(cost::memory(&gateway));
        println!(
            "storm {storm}: {SESSIONS} sessions in {:?}, at rest after {:?}, with {:?} of the processors, {} octets behind it",
            raged,
            began.elapsed(),
            gateway.cpu_time() - cpu,
            memory[storm]
        );
    }
    // The first fills what is kept on purpose: buffers of threads, tickets, marks, the heap's own holes.
    let growth = memory[3].saturating_sub(memory[1]) / (2 * SESSIONS);
    assert!(growth < 1024, "{growth} octets a session: {memory:?}");
    gateway.terminate();
}

fn threads(gateway: &Gateway) -> usize {
    gateway.proc_status("Threads")[0].parse().expect("a number")
}

/// All of it, and its end.
fn rage(runtime: &tokio::runtime::Runtime, gateway: &Gateway) {
    let trust = trusting(&gateway.folder.root());
    let kinds = sessions();
    let turns = Arc::new(Semaphore::new(AT_A_TIME));
    let storm: Vec<_> = (0..SESSIONS)
        .map(|number| {
            let (listener, tls, greeted, acts) = kinds[number % kinds.len()].clone();
            let (to, trust) = (gateway.address(listener), tls.then(|| Arc::clone(&trust)));
            let turns = Arc::clone(&turns);
            runtime.spawn(async move {
                let _turn = turns.acquire().await.expect("never closed");
                perform(source(number), to, trust, greeted, &acts)
                    .await
                    .map(drop)
                    .unwrap_or_else(|error| panic!("{listener}: {error}"));
            })
        })
        .collect();
    for session in storm {
        runtime.block_on(session).expect("every session goes as it is meant to");
    }
    let deadline = Instant::now() + Duration::from_secs(30);
    while !gateway.folder.gatepost(&["status", "--json"]).ends(0, &[]).out.contains("\"sessions\":0,") {
        assert!(Instant::now() < deadline, "sessions are left");
        std::thread::sleep(Duration::from_millis(50));
    }
}
