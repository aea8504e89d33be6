//! The client's side: at each point of the dialogue it goes away, falls silent, or speaks something else.

use super::bench::{Bench, a_moment, on_a_runtime, pass, step_to};
use super::client_expected::Expected;
use super::end::End;
use super::playing::{HALF, hello};
use super::points::{Dialogue, Point, dialogues};
use super::{Row, play};
use gatepost::proto::{Protocol, Service, TlsRule};
use std::time::Duration;
use tokio::time::Instant;

/// How far the client has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// On a port that begins with TLS: nothing, and half of what begins a handshake.
    Connected,
    HalfHello,
    /// The go-ahead for TLS was given.
    GoneAhead,
    Greeted,
    HalfCommand,
    HalfLiteral,
    HalfResponse,
    /// The backend's challenge was shown.
    Challenged,
    /// The backend has heard the password, and thinks.
    Verdict,
    Relay,
    /// A message was begun.
    Mail,
    /// Inside its text, inside a line or between two.
    HalfText,
    TextLine,
    /// Behind its end, before the backend's answer.
    AfterDot,
}

const STAGES: [Stage; 14] = [
    Stage::Connected,
    Stage::HalfHello,
    Stage::GoneAhead,
    Stage::Greeted,
    Stage::HalfCommand,
    Stage::HalfLiteral,
    Stage::HalfResponse,
    Stage::Challenged,
    Stage::Verdict,
    Stage::Relay,
    Stage::Mail,
    Stage::HalfText,
    Stage::TextLine,
    Stage::AfterDot,
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    Close,
    Reset,
    Hang,
    /// A byte each second.
    Slow,
    Http,
    Ssh,
    Binary,
    Nul,
    Megabyte,
}

const FAULTS: [Fault; 9] = [
    Fault::Close,
    Fault::Reset,
    Fault::Hang,
    Fault::Slow,
    Fault::Http,
    Fault::Ssh,
    Fault::Binary,
    Fault::Nul,
    Fault::Megabyte,
];

#[test]
fn imap_with_an_ill_client() {
    play("matrix::client::imap_with_an_ill_client", || rows(Service::Imap), 80);
}

#[test]
fn pop3_with_an_ill_client() {
    play("matrix::client::pop3_with_an_ill_client", || rows(Service::Pop3), 72);
}

#[test]
fn submission_with_an_ill_client() {
    play("matrix::client::submission_with_an_ill_client", || rows(Service::Submission), 90);
}

#[test]
fn smtp_with_an_ill_client() {
    play("matrix::client::smtp_with_an_ill_client", || rows(Service::Smtp), 70);
}

fn rows(service: Service) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for stage in STAGES.into_iter().filter(|stage| is_reached(service, *stage)) {
        for tls in rules(stage) {
            for fault in FAULTS.into_iter().filter(|fault| fits(stage, *fault)) {
                let name = format!("{} {} {stage:?} {fault:?}", service.as_str(), tls.as_str());
                rows.push((name, Box::new(move || on_a_runtime(row(service, *tls, stage, fault)))));
            }
        }
    }
    rows
}

fn is_reached(service: Service, stage: Stage) -> bool {
    let smtp = service.protocol() == Protocol::Smtp;
    match stage {
        Stage::HalfLiteral => service == Service::Imap,
        // Strangers say no password.
        Stage::HalfResponse | Stage::Challenged | Stage::Verdict => service != Service::Smtp,
        Stage::Relay => !smtp,
        Stage::Mail | Stage::HalfText | Stage::TextLine | Stage::AfterDot => smtp,
        Stage::Connected | Stage::HalfHello | Stage::GoneAhead | Stage::Greeted | Stage::HalfCommand => true,
    }
}

fn rules(stage: Stage) -> &'static [TlsRule] {
    match stage {
        Stage::Connected | Stage::HalfHello => &[TlsRule::Implicit],
        Stage::GoneAhead => &[TlsRule::StartTls],
        _ => &[TlsRule::Off, TlsRule::Implicit],
    }
}

fn fits(stage: Stage, fault: Fault) -> bool {
    match fault {
        Fault::Close | Fault::Reset => true,
        // A client may be silent while the backend thinks.
        Fault::Hang => !matches!(stage, Stage::Verdict | Stage::AfterDot),
        // The relay and a message's text may take their time.
        Fault::Slow => !matches!(
            stage,
            Stage::Greeted | Stage::Verdict | Stage::Relay | Stage::HalfText | Stage::TextLine | Stage::AfterDot
        ),
        Fault::Http | Fault::Ssh | Fault::Binary | Fault::Nul | Fault::Megabyte => {
            matches!(stage, Stage::Connected | Stage::GoneAhead | Stage::Greeted)
        }
    }
}

async fn row(service: Service, tls: TlsRule, stage: Stage, fault: Fault) {
    // Where the way in does not matter, the shortest is gone.
    let way = if stage == Stage::Challenged { "cram-md5" } else { "" };
    let dialogue = dialogues(service).into_iter().find(|dialogue| dialogue.name.starts_with(way)).expect("a way in");
    let bench = Bench::new(service, tls, dialogue.mechanisms).await;
    let mut expected = Expected::of(service, stage, fault);
    let (mut client, mut backend) = reach(&bench, &dialogue, stage).await;
    let began = Instant::now();
    let mut held = None;
    if fault == Fault::Reset {
        client.reset();
        backend_parts(&mut backend, &dialogue, stage, fault).await;
    } else if fault == Fault::Slow {
        let (hello, due) = (hello(&bench), expected.due);
        for second in 0.. {
            let byte = match stage {
                Stage::Connected | Stage::GoneAhead => hello[second],
                Stage::HalfHello => hello[HALF + second],
                _ => b'A',
            };
            client.say([byte]).await;
            tokio::select! {
                biased;
                () = expected.is_heard(&mut client) => break,
                () = a_moment(began, due) => {}
            }
            assert!(began.elapsed() <= due + Duration::from_secs(5), "nothing after {:?}", began.elapsed());
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        backend_parts(&mut backend, &dialogue, stage, fault).await;
        held = Some(client);
    } else {
        if let Some(said) = fault.says() {
            client.say(said).await;
        }
        if fault != Fault::Hang {
            client.end().await;
        }
        let mut hears = expected.clone();
        let both =
            async { tokio::join!(hears.is_heard(&mut client), backend_parts(&mut backend, &dialogue, stage, fault)) };
        if expected.due.is_zero() {
            both.await;
        } else {
            pass(expected.due, async || {}, both).await;
        }
        held = (fault == Fault::Hang).then_some(client);
    }
    assert!(began.elapsed() + step_to(expected.due) >= expected.due, "after {:?} already", began.elapsed());
    drop(backend);
    for (event, reason) in &expected.events {
        let reason = reason.map(|reason| ("reason", reason));
        bench.event(event, reason.as_slice()).await;
    }
    let mut next = bench.client().await;
    dialogue.begin(&mut next).await;
    dialogue.goes_well(&bench, next).await;
    bench.is_as_before(usize::from(held.is_some())).await;
    for event in ["tls.failed", "auth.error", "auth.refused", "backend.down", "message.refused"] {
        assert_eq!(bench.gateway.left(event).await, [] as [serde_json::Value; 0]);
    }
    let taken = usize::from(bench.protocol() == Protocol::Smtp);
    assert_eq!(bench.gateway.left("message.accepted").await.len(), taken);
}

/// Brings a client to a stage, and the backend with it where it has been dialled.
async fn reach(bench: &Bench, dialogue: &Dialogue, stage: Stage) -> (End, Option<End>) {
    let plain = async || End::connect(bench.gateway.address()).await;
    match stage {
        Stage::Connected => return (plain().await, None),
        Stage::HalfHello => {
            let mut client = plain().await;
            client.say(&hello(bench)[..HALF]).await;
            return (client, None);
        }
        Stage::GoneAhead => return (bench.gone_ahead().await, None),
        _ => {}
    }
    let mut client = bench.client().await;
    if stage == Stage::Greeted {
        return (client, None);
    }
    dialogue.begin(&mut client).await;
    let protocol = bench.protocol();
    let step = |point| dialogue.steps.iter().position(|step| step.point == point).expect("a step of it");
    let until = match stage {
        Stage::HalfCommand => {
            client.say(if protocol == Protocol::Imap { "a LOG" } else { "AUTH" }).await;
            return (client, None);
        }
        Stage::HalfLiteral => {
            client.line("a LOGIN joe {2000}").await;
            client.hear("+ <*>").await;
            client.say("sec").await;
            return (client, None);
        }
        Stage::HalfResponse => {
            let tag = if protocol == Protocol::Imap { "a AUTHENTICATE" } else { "AUTH" };
            client.line(&format!("{tag} PLAIN")).await;
            client.hear(if protocol == Protocol::Smtp { "334 " } else { "+ " }).await;
            client.say("AGpv").await;
            return (client, None);
        }
        Stage::Challenged => step(Point::Challenge) + 1,
        Stage::Verdict => step(Point::Verdict),
        Stage::Relay => step(Point::Relay),
        Stage::Mail => step(Point::Rcpt),
        Stage::HalfText | Stage::TextLine => step(Point::InData),
        _ => step(Point::Final),
    };
    let mut backend = dialogue.go(bench, &mut client, until).await;
    match stage {
        Stage::HalfText | Stage::TextLine => {
            client.say(if stage == Stage::HalfText { "Subject: x\r\n\r\n.." } else { "Subject: x\r\n" }).await;
            backend.hear("Subject: x").await;
        }
        Stage::Relay => client.line("LAST WORDS").await,
        Stage::Verdict | Stage::AfterDot => {
            let step = &dialogue.steps[until];
            step.client_says(&mut client).await;
            step.backend_hears(&mut backend).await;
        }
        _ => {}
    }
    (client, Some(backend))
}

/// What becomes of the backend: it answers what it was asked, and sees the end of a session, never of a message.
async fn backend_parts(backend: &mut Option<End>, dialogue: &Dialogue, stage: Stage, fault: Fault) {
    let Some(backend) = backend else { return };
    let answers = match stage {
        Stage::Verdict => Some(Point::Verdict),
        Stage::AfterDot => Some(Point::Final),
        _ => None,
    };
    if let Some(step) = dialogue.steps.iter().find(|step| Some(step.point) == answers) {
        backend.line(&step.answer).await;
    }
    let (rest, _) = backend.rest().await;
    match stage {
        // What was under way is delivered; a reset may overtake it.
        Stage::Relay => assert!(rest == "LAST WORDS\\r\\n" || fault == Fault::Reset && rest.is_empty(), "{rest}"),
        _ => assert!(["", "\\r\\n", "\\r\\n.."].contains(&rest.as_str()), "{rest}"),
    }
}
