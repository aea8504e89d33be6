//! The backend's side: at each point where its answer is due, something else comes, or nothing.

use super::backend_expected::{Expected, LAST_WORDS, turned_away, turns_down};
use super::bench::{Bench, on_a_runtime, pass, step_to};
use super::end::{End, Ended};
use super::points::{Dialogue, Part, Point, Step, dialogues};
use super::{Row, play};
use gatepost::proto::{Protocol, Service, TlsRule};
use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Nobody listens.
    Refused,
    /// FIN.
    Close,
    /// RST.
    Reset,
    /// Nothing.
    Hang,
    /// What begins like an answer, a byte each second and without an end.
    Slow,
    Http,
    Ssh,
    Binary,
    Nul,
    /// A megabyte without a line end.
    Megabyte,
    /// The same behind the beginning of an answer.
    LongAnswer,
    /// An announcement of a literal that would never fit.
    LyingLiteral,
    /// The answer twice.
    Twice,
    /// The answer, and behind it the yes to a login.
    AndYes,
    /// The temporary goodbye of the protocol.
    TurnedAway,
}

const FAULTS: [Fault; 15] = [
    Fault::Refused,
    Fault::Close,
    Fault::Reset,
    Fault::Hang,
    Fault::Slow,
    Fault::Http,
    Fault::Ssh,
    Fault::Binary,
    Fault::Nul,
    Fault::Megabyte,
    Fault::LongAnswer,
    Fault::LyingLiteral,
    Fault::Twice,
    Fault::AndYes,
    Fault::TurnedAway,
];

/// What no backend of ours says but by a fault: none of it may reach a client.
const GARBAGE: &[u8] = b"\x15\x03\x03\x00\x02\x02\x0a\xff\xfe garbage\r\n";

#[test]
fn imap_with_an_ill_backend() {
    play("matrix::backend::imap_with_an_ill_backend", || rows(Service::Imap), 154);
}

#[test]
fn pop3_with_an_ill_backend() {
    play("matrix::backend::pop3_with_an_ill_backend", || rows(Service::Pop3), 102);
}

#[test]
fn submission_with_an_ill_backend() {
    play("matrix::backend::submission_with_an_ill_backend", || rows(Service::Submission), 473);
}

#[test]
fn smtp_with_an_ill_backend() {
    play("matrix::backend::smtp_with_an_ill_backend", || rows(Service::Smtp), 187);
}

/// The product, without what makes no sense.
fn rows(service: Service) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for dialogue in dialogues(service) {
        for (at, step) in dialogue.steps.iter().enumerate() {
            // What lies behind the login does not depend on the way in, and nothing before it on TLS.
            let behind_login = matches!(step.point.part(), Part::Relay | Part::Mail);
            if behind_login && !matches!(dialogue.name, "login" | "user" | "plain" | "stranger") {
                continue;
            }
            let both = [TlsRule::Off, TlsRule::Implicit];
            for tls in both.into_iter().take(if behind_login { 2 } else { 1 }) {
                for fault in FAULTS.into_iter().filter(|fault| fits(service, step.point, *fault)) {
                    let name =
                        format!("{} {} {} {:?} {fault:?}", service.as_str(), tls.as_str(), dialogue.name, step.point);
                    let dialogue = dialogue.clone();
                    rows.push((name, Box::new(move || on_a_runtime(row(dialogue, at, tls, fault)))));
                }
            }
        }
    }
    rows
}

fn fits(service: Service, point: Point, fault: Fault) -> bool {
    let part = point.part();
    match fault {
        Fault::Refused => point == Point::Greeting,
        Fault::Close | Fault::Reset => true,
        // The relay passes on whatever comes; so it does in a message's midst, where a backend has nothing to say.
        Fault::Hang => point != Point::InData,
        Fault::Slow => part != Part::Relay && point != Point::InData,
        Fault::Http | Fault::Ssh | Fault::Binary | Fault::Nul | Fault::Megabyte => part != Part::Relay,
        Fault::LongAnswer => part != Part::Relay && point != Point::InData,
        Fault::LyingLiteral => service == Service::Imap && part != Part::Relay && !matches!(point, Point::Greeting),
        // Behind the verdict the session's own bytes may stand.
        Fault::Twice => part != Part::Relay && !matches!(point, Point::Verdict | Point::InData),
        Fault::AndYes => matches!(part, Part::Opening | Part::Login) && point != Point::Verdict,
        Fault::TurnedAway => match service.protocol() {
            Protocol::Imap => part != Part::Relay,
            Protocol::Pop3 => point == Point::Greeting,
            Protocol::Smtp => true,
        },
    }
}

async fn row(dialogue: Dialogue, at: usize, tls: TlsRule, fault: Fault) {
    let mut bench = Bench::new(dialogue.service, tls, dialogue.mechanisms).await;
    let step = &dialogue.steps[at];
    let expected = Expected::of(dialogue.service, step, fault);
    let mut client = bench.client().await;
    dialogue.begin(&mut client).await;

    let (backend, took) = if fault == Fault::Refused {
        bench.down();
        step.client_says(&mut client).await;
        expected.is_heard(&mut client).await;
        (None, Duration::ZERO)
    } else {
        let mut backend = dialogue.go(&bench, &mut client, at).await;
        if at > 0 {
            step.client_says(&mut client).await;
        }
        step.backend_hears(&mut backend).await;
        let hears = expected.is_heard(&mut client);
        if fault == Fault::Slow {
            backend.say(&step.answer[..step.answer.len().min(4)]).await;
            let ((), took) = pass(expected.due, async || backend.say("x").await, hears).await;
            (Some(backend), took)
        } else {
            let hears = async {
                if expected.due.is_zero() {
                    hears.await;
                    return Duration::ZERO;
                }
                pass(expected.due, async || {}, hears).await.1
            };
            tokio::join!(harm(backend, step, fault, dialogue.service), hears)
        }
    };
    assert!(took + step_to(expected.due) >= expected.due, "after {took:?} already");
    expected.is_recorded(&bench, step).await;

    // A backend that was ill is let go, whatever it does. It is held open to the end of the row.
    let mut held = backend;
    if let Some(backend) = &mut held {
        pass(Duration::from_secs(2), async || {}, backend.rest()).await;
    }
    bench.up();
    let goes_on = matches!(step.point.part(), Part::Opening | Part::Login);
    if !goes_on {
        let mut reason = expected.reason;
        if !expected.ends {
            client.line("QUIT").await;
            client.hear("221 <*>").await;
            reason = "logout";
        }
        assert_eq!(client.rest().await, (String::new(), Ended::Properly));
        bench.event("session.closed", &[("reason", reason)]).await;
        client = bench.client().await;
    }
    dialogue.begin(&mut client).await;
    dialogue.goes_well(&bench, client).await;
    if turns_down(dialogue.service, step) {
        bench.event("backend.up", &[]).await;
    }
    bench.is_as_before(usize::from(held.is_some())).await;
    expected.nothing_else_is_recorded(&bench, step.point).await;
}

/// Does the harm. What is left of the connection is given back.
async fn harm(mut backend: End, step: &Step, fault: Fault, service: Service) -> Option<End> {
    let answer = step.answer.as_str();
    let begun = &answer[..answer.len().min(4)];
    let yes = match service.protocol() {
        Protocol::Imap if step.point == Point::Greeting => "g1 OK in",
        Protocol::Imap => "g2 OK in",
        Protocol::Pop3 => "+OK in",
        Protocol::Smtp => "235 ok",
    };
    match fault {
        Fault::Refused | Fault::Slow | Fault::Hang => {}
        Fault::Close => {
            if step.point == Point::Relay {
                backend.line(LAST_WORDS).await;
            }
            return None;
        }
        Fault::Reset => {
            backend.reset();
            return None;
        }
        Fault::Http => backend.say("HTTP/1.1 400 Bad Request\r\nServer: x\r\n\r\n").await,
        Fault::Ssh => backend.say("SSH-2.0-OpenSSH_9.6\r\n").await,
        Fault::Binary => backend.say(GARBAGE).await,
        Fault::Nul => backend.say("\0\0\0\r\n").await,
        Fault::Megabyte => backend.say(vec![b'x'; 1 << 20]).await,
        Fault::LongAnswer => backend.say([begun.as_bytes(), &vec![b'x'; 1 << 20]].concat()).await,
        Fault::LyingLiteral => backend.say("* 1 FETCH {999999999}\r\n").await,
        Fault::Twice => backend.say(format!("{answer}\r\n{answer}\r\n")).await,
        Fault::AndYes => backend.say(format!("{answer}\r\n{yes}\r\n")).await,
        Fault::TurnedAway => backend.line(turned_away(service)).await,
    }
    Some(backend)
}
