//! The follower alone, in every variant, cut at every byte.

use super::{Asked, MESSAGES, Manner, Quirk, Server, Submission, replies};
use bytes::{Buf, BytesMut};
use gatepost::proto::smtp::{
    BareNewline, Progress, Recipients, Transaction, TransactionSettings, Turn, shown_extensions,
};
use gatepost::proto::{Capabilities, Goodbye};

/// One run's circumstances.
#[derive(Debug, Clone, Copy)]
struct Case {
    #[expect(dead_code, reason = "shown where a check fails")]
    manner: Manner,
    pipelining: bool,
    bare_newline: BareNewline,
    stranger: bool,
    quirk: Quirk,
    /// The most that moves at once, in each direction.
    step: usize,
    cut: Cut,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    /// The client sends so many bytes and ends its side; what it sent is worked off.
    ClientEnds(usize),
    /// Or its connection breaks, and nothing more can be said to it.
    ClientBreaks(usize),
    /// The backend's connection is gone behind so many bytes of what it says.
    BackendGone(usize),
}

/// What was seen.
struct Books {
    /// The codes the client read.
    heard: Vec<u16>,
    /// What it had sent.
    sent: usize,
    /// What was reported as taken.
    reported: usize,
    server: Server,
    /// How much of what the server said arrived.
    arrived: usize,
}

fn capabilities(pipelining: bool) -> Capabilities {
    let lines = ["8BITMIME", "PIPELINING"].into_iter().take(if pipelining { 2 } else { 1 });
    Capabilities { lines: lines.map(str::to_owned).collect(), ..Capabilities::default() }
}

fn play(case: Case, submission: &Submission) -> Books {
    let backend = capabilities(case.pipelining);
    let mut follower = Transaction::new(TransactionSettings {
        hostname: "mail.example.net".to_owned(),
        max_message: 0,
        bare_newline: case.bare_newline,
        recipients: if case.stranger { Recipients::Only(["example.net".to_owned()].into()) } else { Recipients::All },
        extensions: shown_extensions(&backend, 0),
        backend,
        helo: None,
    });
    let mut server = Server::new(case.quirk);
    let (mut from_client, mut from_backend) = (BytesMut::new(), BytesMut::new());
    let (mut to_client, mut to_backend) = (BytesMut::new(), BytesMut::new());
    let (mut sent, mut arrived, mut reported, mut told) = (0, 0, 0, Vec::new());
    let (client_has, backend_has) = match case.cut {
        Cut::ClientEnds(at) | Cut::ClientBreaks(at) => (at, usize::MAX),
        Cut::BackendGone(at) => (submission.bytes.len(), at),
    };
    let (mut client_gone, mut backend_gone, mut over) = (false, false, false);
    while !over {
        // What the session does with the follower; see `session/submission.rs`.
        loop {
            let mut progress = follower.backend(&mut from_backend, &mut to_backend, &mut to_client);
            if matches!(progress, Progress::More) {
                progress = follower.client(&mut from_client, &mut to_backend, &mut to_client);
            }
            match progress {
                Progress::More => break,
                Progress::Sender(_) | Progress::Recipient(_) => {
                    follower.decide(None, &mut to_backend, &mut to_client);
                }
                Progress::Redial => follower.unavailable(&mut to_client),
                Progress::Abandon(_) => {
                    backend_gone = true;
                    (from_backend, to_backend) = (BytesMut::new(), BytesMut::new());
                }
                Progress::Accepted(_) => reported += 1,
                Progress::Data | Progress::Refused(_) => {}
                Progress::Over(_) => {
                    over = true;
                    break;
                }
            }
        }
        if backend_gone && !over {
            follower.backend_lost(&mut to_client);
        }
        over |= follower.turn() == Turn::Nobody;
        over |= client_gone && matches!(follower.turn(), Turn::Client | Turn::ClientData);
        // What came before the break was looked at, and may have been passed on.
        over |= client_gone && matches!(case.cut, Cut::ClientBreaks(_));
        if over {
            break;
        }

        let mut moved = false;
        for _ in 0..case.step.min(to_backend.len()) {
            server.hear(to_backend.get_u8());
            moved = true;
        }
        told.extend_from_slice(&to_client.split());
        let more = &server.said[arrived..server.said.len().min(backend_has).max(arrived)];
        let more = &more[..more.len().min(case.step)];
        if !backend_gone && !more.is_empty() {
            from_backend.extend_from_slice(more);
            arrived += more.len();
            moved = true;
        }
        let may = submission.may_send(&replies(&told)).min(client_has).max(sent);
        let more = &submission.bytes[sent..may.min(sent.saturating_add(case.step))];
        if !more.is_empty() {
            from_client.extend_from_slice(more);
            sent += more.len();
            moved = true;
        }
        if sent == client_has && !client_gone && !matches!(case.cut, Cut::BackendGone(_)) {
            client_gone = true;
        } else if arrived == backend_has && !backend_gone {
            backend_gone = true;
        } else if !moved {
            // Both wait: time passes.
            match follower.turn() {
                Turn::Client | Turn::ClientData => follower.goodbye(Goodbye::Timeout, &mut to_client),
                _ => follower.backend_lost(&mut to_client),
            }
            over = true;
        }
    }
    // Last words, both ways.
    if !backend_gone {
        to_backend.iter().for_each(|byte| server.hear(*byte));
    }
    if !matches!(case.cut, Cut::ClientBreaks(_)) {
        told.extend_from_slice(&to_client);
    }
    Books { heard: replies(&told), sent, reported, server, arrived }
}

/// Holds the books against each other.
fn check(case: Case, submission: &Submission, messages: &[Vec<u8>], books: &Books) {
    let Books { heard, sent, reported, server, arrived } = books;
    let yes = submission.accepted(heard);
    let said: Vec<&Vec<u8>> = server.taken.iter().filter(|(_, end)| end <= arrived).map(|(text, _)| text).collect();
    // In order, so the message of a number is the one that was taken at that number.
    assert!(
        yes.len() <= said.len(),
        "claimed: the client heard yes to {yes:?}, the backend said it {} times: {case:?} {heard:?}",
        said.len()
    );
    for number in yes {
        assert_eq!(
            said.get(number).map(|text| text.escape_ascii().to_string()),
            Some(messages[number].escape_ascii().to_string()),
            "{case:?}"
        );
    }
    assert!(*reported <= said.len(), "{reported} events, {} times yes: {case:?}", said.len());
    assert!(server.taken.len() <= submission.whole(*sent), "a message ended that the client did not end: {case:?}");
    for ((text, _), message) in server.taken.iter().zip(messages) {
        assert_eq!(text.escape_ascii().to_string(), message.escape_ascii().to_string(), "{case:?}");
    }
    // Whatever else a message was answered with sends the client to try again, or says why not.
    let answers = submission.asked.iter().zip(heard).filter(|(asked, _)| matches!(asked, Asked::Message(_)));
    assert!(answers.into_iter().all(|(_, code)| *code == 250 || *code >= 400), "{heard:?} {case:?}");
}

fn every_byte(quirk: Quirk, messages: &[&[u8]], as_taken: &[Vec<u8>], bare: BareNewline) -> usize {
    let mut runs = 0;
    for manner in [Manner::OneByOne, Manner::Pipelined, Manner::Blind] {
        let submission = Submission::new(&["EHLO pc"], messages, manner);
        let variants = [
            (true, false, usize::MAX),
            (true, true, 7),
            (false, false, 1),
            (false, true, usize::MAX),
            (true, false, 1),
        ];
        let few = if quirk == Quirk::None { variants.len() } else { 3 };
        for (pipelining, stranger, step) in variants.into_iter().take(few) {
            let case = |cut| Case { manner, pipelining, bare_newline: bare, stranger, quirk, step, cut };
            let whole = play(case(Cut::ClientEnds(submission.bytes.len())), &submission);
            if quirk == Quirk::None {
                assert_eq!(
                    submission.accepted(&whole.heard).len(),
                    messages.len(),
                    "uncut, it goes through: {:?}",
                    whole.heard
                );
                assert_eq!(whole.reported, messages.len());
            }
            let ends = (0..=submission.bytes.len()).map(Cut::ClientEnds);
            let breaks = (0..=submission.bytes.len()).map(Cut::ClientBreaks);
            for cut in ends.chain(breaks).chain((0..=whole.server.said.len()).map(Cut::BackendGone)) {
                let case = case(cut);
                check(case, &submission, as_taken, &play(case, &submission));
                runs += 1;
            }
        }
    }
    runs
}

fn owned(messages: &[&[u8]]) -> Vec<Vec<u8>> {
    messages.iter().map(|message| message.to_vec()).collect()
}

#[test]
fn a_submission_cut_at_any_byte_loses_and_claims_nothing() {
    let mut runs = 0;
    for bare in [BareNewline::Reject, BareNewline::Normalize] {
        runs += every_byte(Quirk::None, &MESSAGES, &owned(&MESSAGES), bare);
    }
    println!("{runs} submissions cut");
    assert!(runs > 10_000, "{runs}");
}

#[test]
fn a_message_made_whole_on_the_way_is_cut_no_better() {
    let messages: [&[u8]; 2] = [b"Subject: x\n\n.\nMAIL FROM:<a@b>\r.\r\n", b"..\n.\r\r\nend\r\n"];
    let taken = [b"Subject: x\r\n\r\n..\r\nMAIL FROM:<a@b>\r\n..\r\n".to_vec(), b"..\r\n..\r\n\r\nend\r\n".to_vec()];
    assert!(every_byte(Quirk::None, &messages, &taken, BareNewline::Normalize) > 5_000);
}

#[test]
fn a_backend_that_answers_out_of_turn_claims_nothing_either() {
    for quirk in
        [Quirk::YesBeforeTheDot, Quirk::YesTwice, Quirk::YesToData, Quirk::GoAfterTheDot, Quirk::No, Quirk::YesInLines]
    {
        assert!(every_byte(quirk, &MESSAGES, &owned(&MESSAGES), BareNewline::Reject) > 5_000, "{quirk:?}");
    }
}
