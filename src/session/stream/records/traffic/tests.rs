use super::super::Layer;
use super::super::testing::{Client, Opened, Server, shaken, shaken_with};
use super::*;
use proptest::prelude::*;
use rustls::CipherSuite;
use rustls::version::TLS13;

/// What a client may send: by rustls' record layer, or by ours.
const BOTH: [(&rustls::SupportedProtocolVersion, bool); 2] = [(&TLS13, false), (&TLS13, true)];
const UPDATE: [u8; 5] = [24, 0, 0, 1, 0];
const UPDATE_TOO: [u8; 5] = [24, 0, 0, 1, 1];

#[test]
fn each_cipher_carries_both_directions_through_many_changes_of_key() {
    let suites = [
        CipherSuite::TLS13_AES_128_GCM_SHA256,
        CipherSuite::TLS13_AES_256_GCM_SHA384,
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
    ];
    for suite in suites {
        let (mut server, mut client) = shaken_with((&TLS13, true), Some(suite));
        for round in 0..5_usize {
            let words = vec![b'a'; 40_000 * round + 1];
            let came = server.drive(&mut [], Then::Write(&words));
            assert!(came.outcome.expect("room").done);
            assert!(client.hear(&came.out) == (words, false));

            let mut incoming = client.text(b"a NOOP\r\n");
            incoming.extend(client.seal(ContentType::Handshake, &UPDATE_TOO));
            client.change_key();
            incoming.extend(client.text(b"b NOOP\r\n"));
            let came = server.drive(&mut incoming, Then::Wait);
            assert_eq!(came.outcome.expect("good records").used, incoming.len());
            assert_eq!(came.text, [b"a NOOP\r\n", b"b NOOP\r\n"]);
            assert!(came.out.is_empty(), "the answer goes with the next words");
        }
    }
}

#[test]
fn our_key_changes_before_the_next_words_and_once_however_often_it_was_asked_for() {
    let (mut server, mut client) = shaken((&TLS13, true));
    let mut incoming = Vec::new();
    for _ in 0..3 {
        incoming.extend(client.seal(ContentType::Handshake, &UPDATE_TOO));
        client.change_key();
    }
    let came = server.drive(&mut incoming, Then::Write(b"* OK\r\n"));
    assert!(came.outcome.expect("good records").done);
    let expected = [(ContentType::Handshake, UPDATE.to_vec()), (ContentType::ApplicationData, b"* OK\r\n".to_vec())];
    assert_eq!(client.open(&came.out), expected);
    let came = server.drive(&mut [], Then::Close);
    assert_eq!(client.open(&came.out), [(ContentType::Alert, vec![1, 0])]);
}

#[test]
fn the_change_of_a_key_may_come_octet_by_octet() {
    let (mut server, mut client) = shaken((&TLS13, true));
    let mut incoming: Vec<u8> =
        UPDATE.iter().flat_map(|octet| client.seal(ContentType::Handshake, &[*octet])).collect();
    client.change_key();
    incoming.extend(client.text(b"a NOOP\r\n"));
    let mut text = Vec::new();
    // Nor do records come whole.
    let mut came_in = Vec::new();
    for octet in incoming {
        came_in.push(octet);
        let came = server.drive(&mut came_in, Then::Wait);
        came_in.drain(..came.outcome.expect("good records").used);
        text.extend(came.text);
    }
    assert_eq!(text, [b"a NOOP\r\n"]);
}

#[test]
fn a_worn_key_is_changed_and_the_client_asked_for_the_same() {
    let (mut server, mut client) = shaken((&TLS13, true));
    let Layer::Ours(traffic) = &mut server.records.layer else { panic!("rustls' records") };
    traffic.most_written = traffic.write.sequence() + 2;
    let mut all = Vec::new();
    for _ in 0..3 {
        let came = server.drive(&mut [], Then::Write(b"* 1 EXISTS\r\n"));
        assert!(came.outcome.expect("room").done);
        all.extend(client.open(&came.out));
    }
    let text = || (ContentType::ApplicationData, b"* 1 EXISTS\r\n".to_vec());
    assert_eq!(all, [text(), text(), (ContentType::Handshake, UPDATE_TOO.to_vec()), text()]);
}

#[test]
fn what_is_no_record_is_the_end_with_the_alert_that_the_rfc_names() {
    use AlertDescription as Alert;
    type Wrong = fn(&mut Client) -> Vec<u8>;
    let cases: &[(&str, Wrong, Alert)] = &[
        ("a record too large", |_| vec![23, 3, 3, 0x41, 0x01], Alert::RecordOverflow),
        (
            "text too large",
            |client| client.padded(ContentType::ApplicationData, &[b'a'; 16_385], 0),
            Alert::RecordOverflow,
        ),
        (
            "padding too large",
            |client| client.padded(ContentType::ApplicationData, &[b'a'; 16_384], 1),
            Alert::RecordOverflow,
        ),
        ("padding alone", |client| client.seal(ContentType::from(0), &[0; 20]), Alert::UnexpectedMessage),
        ("nothing at all", |_| vec![23, 3, 3, 0, 0], Alert::BadRecordMac),
        ("too short for a tag", |_| vec![23, 3, 3, 0, 3, 1, 2, 3], Alert::BadRecordMac),
        ("text in the clear", |_| b"\x17\x03\x03\x00\x18a NOOP in the clear \r\n  ".to_vec(), Alert::BadRecordMac),
        ("a record twice", |client| client.text(b"a").repeat(2), Alert::BadRecordMac),
        ("a record left out", |client| (client.text(b"a"), client.text(b"b")).1, Alert::BadRecordMac),
        ("a length that was changed", |client| flipped(client.text(b"a NOOP\r\n"), 4, 1), Alert::BadRecordMac),
        ("a version that was changed", |client| flipped(client.text(b"a NOOP\r\n"), 2, 1), Alert::BadRecordMac),
        ("another handshake", |client| client.seal(ContentType::Handshake, &[1, 0, 0, 0]), Alert::UnexpectedMessage),
        (
            "a certificate nobody asked for",
            |client| client.seal(ContentType::Handshake, &[11, 0, 0, 1, 0]),
            Alert::UnexpectedMessage,
        ),
        ("no message", |client| client.seal(ContentType::Handshake, &[]), Alert::UnexpectedMessage),
        ("a long message", |client| client.seal(ContentType::Handshake, &[24, 0, 0, 2, 0, 0]), Alert::DecodeError),
        (
            "a key changed in an unknown way",
            |client| client.seal(ContentType::Handshake, &[24, 0, 0, 1, 2]),
            Alert::IllegalParameter,
        ),
        (
            "two changes under one key",
            |client| client.seal(ContentType::Handshake, &[UPDATE, UPDATE].concat()),
            Alert::UnexpectedMessage,
        ),
        (
            "text within a message",
            |client| [client.seal(ContentType::Handshake, &[24, 0]), client.text(b"a")].concat(),
            Alert::UnexpectedMessage,
        ),
        ("change_cipher_spec", |_| vec![20, 3, 3, 0, 1, 1], Alert::UnexpectedMessage),
        (
            "change_cipher_spec inside",
            |client| client.seal(ContentType::ChangeCipherSpec, &[1]),
            Alert::UnexpectedMessage,
        ),
        ("an alert in the clear", |_| vec![21, 3, 3, 0, 2, 1, 0], Alert::UnexpectedMessage),
        ("a heartbeat", |client| client.seal(ContentType::Heartbeat, &[1, 0, 0]), Alert::UnexpectedMessage),
        ("TLS 1.2 again", |client| flipped(client.text(b"a"), 0, 23 ^ 22), Alert::UnexpectedMessage),
        ("half an alert", |client| client.seal(ContentType::Alert, &[1]), Alert::DecodeError),
        ("no alert", |client| client.seal(ContentType::Alert, &[]), Alert::UnexpectedMessage),
        ("an alert of no level", |client| client.seal(ContentType::Alert, &[3, 10]), Alert::IllegalParameter),
        ("a warning", |client| client.seal(ContentType::Alert, &[1, 112]), Alert::DecodeError),
        (
            "warnings without end",
            |client| (0..5).flat_map(|_| client.seal(ContentType::Alert, &[1, 90])).collect(),
            Alert::UnexpectedMessage,
        ),
        ("nothing without end", |client| (0..33).flat_map(|_| client.text(b"")).collect(), Alert::UnexpectedMessage),
        ("keys without end", keys_without_end, Alert::UnexpectedMessage),
    ];
    for (name, wrong, alert) in cases {
        let (mut server, mut client) = shaken((&TLS13, true));
        let mut incoming = client.text(b"a NOOP\r\n");
        incoming.extend(wrong(&mut client));
        incoming.extend(client.text(b"b NOOP\r\n"));
        let came = server.drive(&mut incoming, Then::Wait);
        assert!(matches!(came.outcome, Err(Fault::Client(_))), "{name}: {:?}", came.outcome);
        assert_eq!(came.text.first().map(Vec::as_slice), Some(b"a NOOP\r\n".as_slice()), "{name}");
        assert!(!came.text.contains(&b"b NOOP\r\n".to_vec()), "{name}");
        assert_eq!(client.open(&came.out), [(ContentType::Alert, vec![2, u8::from(*alert)])], "{name}");
        let after = server.drive(&mut client.text(b"c NOOP\r\n"), Then::Wait);
        assert!(matches!(after.outcome, Err(Fault::Over)) && after.text.is_empty(), "{name}: {:?}", after.outcome);
    }
}

#[test]
fn an_end_of_the_clients_is_the_last_that_is_looked_at() {
    let (mut server, mut client) = shaken((&TLS13, true));
    let mut incoming = client.text(b"a LOGOUT\r\n");
    incoming.extend(client.seal(ContentType::Alert, &[1, 0]));
    incoming.extend(b"what is no record");
    let came = server.drive(&mut incoming, Then::Write(b"a OK bye\r\n"));
    let driven = came.outcome.expect("an end is no fault");
    assert_eq!((driven.used, driven.done, server.records.is_closed()), (incoming.len(), true, true));
    assert_eq!(client.hear(&came.out), (b"a OK bye\r\n".to_vec(), false));
}

#[test]
fn a_clients_fatal_alert_is_the_end_and_not_answered() {
    let (mut server, mut client) = shaken((&TLS13, true));
    let came = server.drive(&mut client.seal(ContentType::Alert, &[2, 20]), Then::Wait);
    assert!(matches!(came.outcome, Err(Fault::Client(Error::AlertReceived(AlertDescription::BadRecordMac)))));
    assert!(came.out.is_empty());
}

fn flipped(mut record: Vec<u8>, at: usize, bits: u8) -> Vec<u8> {
    record[at] ^= bits;
    record
}

fn keys_without_end(client: &mut Client) -> Vec<u8> {
    let mut all = Vec::new();
    for _ in 0..33 {
        all.extend(client.seal(ContentType::Handshake, &UPDATE));
        client.change_key();
    }
    all
}

/// What one of the two sides does.
#[derive(Clone, Debug)]
enum Step {
    /// The client says something, with padding.
    Text(Vec<u8>, usize),
    /// It changes its key, in two parts.
    Update { cut: usize, asks: bool },
    /// It seals something else.
    Other(u8, Vec<u8>),
    /// A record in which an octet was changed behind the header.
    Changed(usize, u8),
    /// The server says something.
    Write(usize),
    /// The server says that this was all.
    Close,
}

fn step() -> impl Strategy<Value = Step> {
    let some_text = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..40),
        proptest::collection::vec(any::<u8>(), 16_380..16_388)
    ];
    let kind = prop_oneof![Just(20_u8), Just(21), Just(24), Just(0), any::<u8>()]
        .prop_filter("messages have a step", |kind| *kind != 22);
    prop_oneof![
        8 => (some_text, prop_oneof![Just(0_usize), 0..300_usize]).prop_map(|(text, padding)| Step::Text(text, padding)),
        4 => (0..6_usize, any::<bool>()).prop_map(|(cut, asks)| Step::Update { cut, asks }),
        1 => (kind, proptest::collection::vec(prop_oneof![Just(0_u8), Just(1), Just(2), Just(90), any::<u8>()], 0..4)).prop_map(|(kind, text)| Step::Other(kind, text)),
        1 => (0..25_usize, 1..=255_u8).prop_map(|(at, bits)| Step::Changed(at, bits)),
        4 => (0..40_000_usize).prop_map(Step::Write),
        1 => Just(Step::Close),
    ]
}

/// What is seen of a step.
#[derive(Debug, PartialEq)]
struct Seen {
    text: Vec<u8>,
    said: Vec<Opened>,
    is_closed: bool,
    /// The client's fault.
    fault: Option<Error>,
}

fn take(server: &mut Server, client: &mut Client, pending: &mut Vec<u8>, step: &Step) -> Seen {
    let then = match step {
        Step::Text(text, padding) => {
            let record = client.padded(ContentType::ApplicationData, text, *padding);
            pending.extend(record);
            Then::Wait
        }
        Step::Update { cut, asks } => {
            let message = if *asks { UPDATE_TOO } else { UPDATE };
            for part in [&message[..*cut.min(&5)], &message[*cut.min(&5)..]] {
                if !part.is_empty() {
                    pending.extend(client.seal(ContentType::Handshake, part));
                }
            }
            client.change_key();
            Then::Wait
        }
        Step::Other(kind, text) => {
            pending.extend(client.seal(ContentType::from(*kind), text));
            Then::Wait
        }
        Step::Changed(at, bits) => {
            pending.extend(flipped(client.text(b"a NOOP\r\n"), HEADER + at.min(&24), *bits));
            Then::Wait
        }
        Step::Write(length) => Then::Write(&[b'a'; 40_000][..*length]),
        Step::Close => Then::Close,
    };
    let came = server.drive(pending, then);
    let fault = match came.outcome {
        Ok(driven) => {
            pending.drain(..driven.used);
            None
        }
        Err(Fault::Client(error)) => Some(error),
        Err(fault) => panic!("{fault}"),
    };
    let is_closed = server.records.is_closed();
    Seen { text: came.text.concat(), said: client.open(&came.out), is_closed, fault }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever a client sends, rustls and we hear the same, say the same, and end at the same record.
    #[test]
    fn rustls_would_have_done_the_same(steps in proptest::collection::vec(step(), 1..12)) {
        let mut sides = BOTH.map(|way| (shaken(way), Vec::new()));
        for step in &steps {
            let [theirs, ours] = sides.each_mut().map(|((server, client), pending)| take(server, client, pending, step));
            // Of a fault rustls has another alert than the RFC sometimes, or none.
            if theirs.fault.is_none() {
                prop_assert_eq!(&theirs.said, &ours.said);
            }
            prop_assert_eq!(&theirs.text, &ours.text);
            prop_assert_eq!(theirs.is_closed, ours.is_closed);
            prop_assert_eq!(theirs.fault.is_some(), ours.fault.is_some(), "{:?} {:?}", theirs.fault, ours.fault);
            // Behind our end nothing is read any more.
            if theirs.fault.is_some() || theirs.is_closed || matches!(step, Step::Close) {
                break;
            }
        }
    }
}
