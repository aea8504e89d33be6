use super::testing::{Client, Server, WAYS, shaken};
use super::*;
use rustls::ContentType;
use rustls::version::{TLS12, TLS13};

#[test]
fn nothing_is_asked_of_the_library_after_a_fault() {
    for way in WAYS {
        for (fault, has_alert) in [(text as fn(&mut Client) -> Vec<u8>, false), (broken_record, true)] {
            let (mut server, mut client) = shaken(way);
            // rustls has no alert for text between two halves of a message.
            let has_alert = has_alert || server.is_ours();
            let mut incoming = client.seal(ContentType::Handshake, &[24]);
            incoming.extend(fault(&mut client));
            let came = server.drive(&mut incoming, Then::Wait);
            assert!(matches!(came.outcome, Err(Fault::Client(_))), "{:?}", came.outcome);
            assert_eq!(!came.out.is_empty(), has_alert);

            // What came is gone by then, as it is for a session that only writes its last words.
            for then in [Then::Write(b"* BYE\r\n"), Then::Wait] {
                let came = server.drive(&mut [], then);
                assert!(matches!(came.outcome, Err(Fault::Over)), "{:?}", came.outcome);
                assert!(came.out.is_empty(), "nothing is said any more");
                let came = server.drive(&mut [], Then::Close);
                assert!(came.outcome.expect("nothing to say").done);
                assert!(came.out.is_empty(), "nothing is said any more");
            }
            // Nor is what still comes looked at.
            let came = server.drive(&mut client.text(b"a NOOP\r\n"), Then::Wait);
            assert!(matches!(came.outcome, Err(Fault::Over)), "{:?}", came.outcome);
            assert!(came.text.is_empty());
        }
    }
}

#[test]
fn a_fault_is_found_too_where_half_a_message_was_kept_from_before() {
    for way in WAYS {
        let (mut server, mut client) = shaken(way);
        let mut incoming = client.seal(ContentType::Handshake, &[24]);
        let driven = server.drive(&mut incoming, Then::Wait).outcome.expect("half a message");
        incoming.drain(..driven.used);
        incoming.extend(client.text(b"a NOOP\r\n"));
        let came = server.drive(&mut incoming, Then::Wait);
        assert!(matches!(came.outcome, Err(Fault::Client(_))), "{:?}", came.outcome);
        assert!(server.drive(&mut [], Then::Close).outcome.expect("nothing to say").done);
    }
}

#[test]
fn what_was_said_before_a_fault_is_heard() {
    for way in WAYS {
        let (mut server, mut client) = shaken(way);
        let mut incoming = client.text(b"a LOGOUT\r\n");
        incoming.extend(client.seal(ContentType::Handshake, &[24]));
        incoming.extend(client.text(b"b NOOP\r\n"));
        let came = server.drive(&mut incoming, Then::Wait);
        assert!(matches!(came.outcome, Err(Fault::Client(_))), "{:?}", came.outcome);
        assert_eq!(came.text, [b"a LOGOUT\r\n"]);
    }
}

#[test]
fn a_reader_that_has_enough_is_given_the_rest_later() {
    for way in WAYS {
        let (mut server, mut client) = shaken(way);
        let mut incoming = client.text(b"first");
        let first = incoming.len();
        incoming.extend(client.text(b"second"));

        server.has_enough = true;
        let came = server.drive(&mut incoming, Then::Write(b"not yet"));
        let driven = came.outcome.expect("good records");
        assert_eq!((driven.used, driven.stopped, driven.done), (first, true, false));
        assert_eq!((came.text, came.out), (vec![b"first".to_vec()], Vec::new()));

        server.has_enough = false;
        let came = server.drive(&mut incoming[first..], Then::Wait);
        let driven = came.outcome.expect("a good record");
        assert_eq!((driven.used, driven.stopped, driven.done), (incoming.len() - first, false, true));
        assert_eq!(came.text, [b"second"]);
    }
}

#[test]
fn what_is_written_is_read_by_the_client() {
    for way in WAYS {
        let (mut server, mut client) = shaken(way);
        let words: Vec<u8> = (0..100_000).map(|at| b"0123456789abcde\n"[at % 16]).collect();
        let came = server.drive(&mut [], Then::Write(&words));
        assert!(came.outcome.expect("room").done);
        assert!((words.len()..=Outgoing::room_for(words.len())).contains(&came.out.len()), "{}", came.out.len());
        assert!(client.hear(&came.out) == (words, false), "the same words, and no end");

        let came = server.drive(&mut [], Then::Close);
        assert!(came.outcome.expect("room").done);
        assert_eq!(client.hear(&came.out), (Vec::new(), true));
    }
}

/// The change of a key that asks for the same of us (RFC 8446 section 4.6.3).
const UPDATE_TOO: [u8; 5] = [24, 0, 0, 1, 1];

#[test]
fn the_records_become_ours_behind_words_of_ours_and_go_on_where_rustls_was() {
    let (mut server, mut client) = shaken((&TLS13, false));
    server.records.take_over(&[]);
    assert!(!server.is_ours(), "what the client said behind its handshake may want an answer");
    write(&mut server, &mut client);
    let mut incoming = client.text(b"a IDLE\r\n");
    let came = server.drive(&mut incoming, Then::Wait);
    assert_eq!((came.outcome.expect("a good record").used, came.text), (incoming.len(), vec![b"a IDLE\r\n".to_vec()]));
    // Of the next one a part has come.
    let mut incoming = client.text(b"DONE\r\n");
    for length in [1, HEADER, HEADER + 1, incoming.len() - 1] {
        assert_eq!(server.drive(&mut incoming[..length], Then::Wait).outcome.expect("a part").used, 0);
    }
    server.records.take_over(&incoming[..incoming.len() - 1]);
    assert!(server.is_ours());
    assert_eq!(server.drive(&mut incoming, Then::Wait).text, [b"DONE\r\n"]);
    write(&mut server, &mut client);
}

#[test]
fn the_records_stay_with_rustls_while_it_owes_an_answer() {
    let (mut server, mut client) = shaken((&TLS13, false));
    write(&mut server, &mut client);
    let mut incoming = client.text(b"a NOOP\r\n");
    incoming.extend(client.seal(ContentType::Handshake, &UPDATE_TOO));
    client.change_key();
    incoming.extend(client.text(b"b NOOP\r\n"));
    let came = server.drive(&mut incoming, Then::Wait);
    assert_eq!((came.outcome.expect("good records").used, came.text.len()), (incoming.len(), 2));
    server.records.take_over(&[]);
    assert!(!server.is_ours());
    // The answer goes with the next words, and behind those nothing is owed.
    let came = server.drive(&mut [], Then::Write(b"a OK\r\n"));
    assert_eq!(client.open(&came.out).first(), Some(&(ContentType::Handshake, vec![24, 0, 0, 1, 0])));
    server.records.take_over(&[]);
    assert!(server.is_ours());
    assert_eq!(server.drive(&mut client.text(b"c NOOP\r\n"), Then::Wait).text, [b"c NOOP\r\n"]);
    write(&mut server, &mut client);
}

#[test]
fn the_records_stay_with_rustls_while_it_has_seen_some_that_are_not_used_up() {
    // Half a message: it was opened, and waits in our memory for its other half.
    let (mut server, mut client) = shaken((&TLS13, false));
    write(&mut server, &mut client);
    let mut incoming = client.seal(ContentType::Handshake, &UPDATE_TOO[..2]);
    let used = server.drive(&mut incoming, Then::Wait).outcome.expect("half a message").used;
    incoming.drain(..used);
    server.records.take_over(&incoming);
    assert!(!server.is_ours());
    incoming.extend(client.seal(ContentType::Handshake, &UPDATE_TOO[2..]));
    client.change_key();
    incoming.extend(client.text(b"a NOOP\r\n"));
    assert_eq!(server.drive(&mut incoming, Then::Wait).text, [b"a NOOP\r\n"]);

    // Whole records that the reader did not want yet.
    let (mut server, mut client) = shaken((&TLS13, false));
    write(&mut server, &mut client);
    server.has_enough = true;
    let mut incoming = [client.text(b"a"), client.text(b"b")].concat();
    let used = server.drive(&mut incoming, Then::Wait).outcome.expect("good records").used;
    server.records.take_over(&incoming[used..]);
    assert!(!server.is_ours());
    assert_eq!(server.drive(&mut incoming[used..], Then::Wait).text, [b"b"]);
}

#[test]
fn the_records_of_tls_1_2_stay_with_rustls() {
    let (mut server, mut client) = shaken((&TLS12, false));
    write(&mut server, &mut client);
    server.records.take_over(&[]);
    assert!(!server.is_ours());
    write(&mut server, &mut client);
}

fn write(server: &mut Server, client: &mut Client) {
    let came = server.drive(&mut [], Then::Write(b"* OK\r\n"));
    assert!(came.outcome.expect("room").done);
    assert_eq!(client.hear(&came.out), (b"* OK\r\n".to_vec(), false));
}

fn text(client: &mut Client) -> Vec<u8> {
    client.text(b"a NOOP\r\n")
}

/// What nobody with the keys wrote.
fn broken_record(client: &mut Client) -> Vec<u8> {
    let mut record = client.seal(ContentType::Handshake, &[0, 0]);
    *record.last_mut().expect("a tag") ^= 1;
    record
}
