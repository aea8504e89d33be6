use super::*;
use crate::proto::{Goodbye, Mechanisms, Reply};
use proptest::prelude::*;

fn settings(service: Service, tls: TlsRule) -> FrontSettings {
    FrontSettings {
        hostname: "mail.example.net".to_owned(),
        service,
        tls,
        mechanisms: Mechanisms::All,
        without_tls: Mechanisms::All,
        user_first: false,
        may_be_granted: false,
        believes_origin: false,
        max_message: 1000,
    }
}

fn greeted(service: Service, tls: TlsRule) -> SmtpFront {
    let mut front = SmtpFront::new(settings(service, tls));
    let lines = ["SIZE 500", "AUTH PLAIN LOGIN CRAM-MD5 GSSAPI SCRAM-SHA-256-PLUS"].map(str::to_owned).to_vec();
    let names = ["PLAIN", "LOGIN", "CRAM-MD5", "GSSAPI", "SCRAM-SHA-256-PLUS"];
    let mechanisms = names.iter().filter_map(|name| Mechanism::parse(name.as_bytes())).collect();
    let known = Capabilities { lines, mechanisms, ..Capabilities::default() };
    front.greet(&known.into(), &mut BytesMut::new());
    front
}

/// Feeds pieces, answers every login with no; what was written, and the steps as `= Step`.
fn play(front: &mut SmtpFront, pieces: &[&[u8]]) -> Vec<String> {
    let (mut input, mut seen) = (BytesMut::new(), Vec::new());
    for piece in pieces {
        input.extend_from_slice(piece);
        loop {
            let mut out = BytesMut::new();
            let step = front.next(&mut input, &mut out);
            seen.extend(String::from_utf8_lossy(&out).lines().map(str::to_owned));
            out.clear();
            match step {
                Ok(Step::More) => break,
                Ok(Step::Login(login)) => {
                    seen.push(format!("= Login {}", login.user().map(|user| user.display()).unwrap_or_default()));
                    front.answer(Answer::Rejected(&Reply::default()), &mut out);
                }
                Ok(Step::Mail) => {
                    assert!(input.starts_with(b"MAIL "));
                    seen.push("= Mail".to_owned());
                    front.answer(Answer::Unavailable(None), &mut out);
                }
                Ok(step) => seen.push(format!("= {step:?}")),
                Err(violation) => {
                    seen.push(format!("= {violation:?}"));
                    return seen;
                }
            }
            seen.extend(String::from_utf8_lossy(&out).lines().map(str::to_owned));
        }
    }
    seen
}

fn codes(seen: &[String]) -> Vec<&str> {
    seen.iter().map(|line| if line.starts_with('=') { line } else { line.get(..9).unwrap_or(line) }).collect()
}

#[test]
fn what_follows_on_a_long_line_is_no_first_byte() {
    let mut front = greeted(Service::Submission, TlsRule::StartTls);
    let seen = play(&mut front, &[&[b'x'; MAX_COMMAND + 2], b"\x16", b"\x03\x01\r\nNOOP\r\n"]);
    assert_eq!(seen, [words::TOO_LONG, words::OK]);
}

#[test]
fn mechanisms_are_shown_where_they_may_be_used() {
    let last = |service, tls| play(&mut greeted(service, tls), &[b"EHLO pc\r\n"]).pop();
    let all = Some("250 AUTH PLAIN LOGIN CRAM-MD5".to_owned());
    assert_eq!(last(Service::Submission, TlsRule::Implicit), all);
    assert_eq!(last(Service::Submission, TlsRule::Optional), all);
    assert_eq!(last(Service::Submission, TlsRule::StartTls), Some("250 STARTTLS".to_owned()));
    assert_eq!(last(Service::Smtp, TlsRule::StartTls), Some("250 STARTTLS".to_owned()));
    assert_eq!(last(Service::Smtp, TlsRule::Off), all);
}

#[test]
fn a_mechanism_kept_for_tls_is_refused_in_the_clear_and_taken_behind_starttls() {
    let mut front = greeted(Service::Submission, TlsRule::Optional);
    front.settings.without_tls = Mechanisms::Only(vec![Mechanism::CRAM_MD5]);
    let seen = play(&mut front, &[b"AUTH PLAIN AGpvZQB4\r\n"]);
    assert_eq!(codes(&seen), ["538 5.7.1", "= Denied { refusal: TlsRequired, mechanism: Mechanism(\"PLAIN\") }"]);
    let known = front.capabilities.clone();
    front.secured(&known);
    assert_eq!(codes(&play(&mut front, &[b"AUTH PLAIN AGpvZQB4\r\n"])), ["= Login joe", "535 5.7.8"]);
}

#[test]
fn what_is_no_smtp_is_recognized_by_its_first_bytes() {
    let cases: &[(&[&[u8]], &[&str])] = &[
        (&[b"\x16\x03\x01\x02\x00"], &["= TlsOnPlaintextPort"]),
        (&[b"\x16", b"\x03"], &["= TlsOnPlaintextPort"]),
        (&[b"\x16x\r\n"], &["500 5.5.1"]),
        (&[b"NOOP\r\n\x16\x03\r\n"], &["250 2.0.0", "500 5.5.1"]),
        (&[b"GET / HTTP/1.1\r\n"], &["= Http"]),
        (&[b"post /", b" HTTP/1.1\r\nMAIL FROM:<>\r\n"], &["= Http"]),
    ];
    for (pieces, expected) in cases {
        assert_eq!(codes(&play(&mut greeted(Service::Smtp, TlsRule::Optional), pieces)), *expected);
    }
}

#[test]
fn no_answer_of_the_engine_is_without_words() {
    for (answer, code) in [
        (Answer::Accepted(&Reply::default()), "235 2.7.0 "),
        (Answer::Rejected(&Reply::default()), "535 5.7.8 "),
        (Answer::Unavailable(None), "454 4.7.0 "),
        (Answer::Refused(Refusal::RateLimited), "421 4.7.0 "),
        (Answer::Refused(Refusal::Denied), "554 5.7.1 "),
        (Answer::Goodbye(Goodbye::ShuttingDown), "421 4.3.2 "),
        (Answer::Goodbye(Goodbye::Timeout), "421 4.4.2 "),
        (Answer::Goodbye(Goodbye::BackendLost), "421 4.3.0 "),
    ] {
        let (mut front, mut out) = (greeted(Service::Submission, TlsRule::Implicit), BytesMut::new());
        let mut input = BytesMut::from("AUTH PLAIN AGpvZQB4\r\nNOOP\r\n");
        assert!(matches!(front.next(&mut input, &mut out), Ok(Step::Login(_))));
        assert!(matches!(front.next(&mut input, &mut out), Ok(Step::More)), "nothing before the answer");
        front.answer(answer, &mut out);
        assert!(out.starts_with(code.as_bytes()), "{out:?}");
    }
    let mut out = BytesMut::new();
    greeted(Service::Smtp, TlsRule::StartTls).turn_away(Refusal::NotAllowed, &mut out);
    assert_eq!(&out[..], b"554 5.7.1 Access denied\r\n");
}

#[test]
fn a_mail_that_was_answered_is_not_read_again() {
    let mut front = greeted(Service::Smtp, TlsRule::StartTls);
    let seen = play(&mut front, &[b"HELO mx\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nMAIL FROM:<>\r\nNOOP\r\n"]);
    let expected = ["250 mail.", "= Mail", "451 4.3.0", "503 5.5.1", "= Mail", "451 4.3.0", "250 2.0.0"];
    assert_eq!(codes(&seen), expected);
    assert_eq!(front.helo(), Some("mx"));
}

#[test]
fn a_session_of_errors_ends() {
    let line = [b"WHAT\r\n".as_slice(); MAX_ERRORS as usize + 5].concat();
    let seen = play(&mut greeted(Service::Submission, TlsRule::Implicit), &[&line]);
    assert_eq!(seen.len(), MAX_ERRORS as usize + 2);
    assert_eq!(codes(&seen)[MAX_ERRORS as usize..], ["421 4.7.0", "= TooManyErrors"]);
    let mail = [b"HELO a\r\n".as_slice(), &b"MAIL FROM:<>\r\n".repeat(50)].concat();
    let seen = play(&mut greeted(Service::Smtp, TlsRule::Off), &[&mail]);
    assert_eq!(seen.iter().filter(|step| *step == "= Mail").count(), MAX_ERRORS as usize);
    assert_eq!(seen.last().map(String::as_str), Some("= TooManyErrors"));
    let hello = [b"EHLO a\r\n".as_slice(); 2000].concat();
    assert_eq!(play(&mut greeted(Service::Smtp, TlsRule::Off), &[&hello]).pop().as_deref(), Some("= TooManyErrors"));
}

#[test]
fn the_third_line_past_the_bound_ends_the_session() {
    let long = [&[b'x'; MAX_COMMAND + 1][..], b"\r\n"].concat();
    let seen = play(&mut greeted(Service::Submission, TlsRule::Implicit), &[&long, &long, &long]);
    assert_eq!(codes(&seen), ["500 5.5.2", "500 5.5.2", "421 4.7.0", "= TooLarge"]);
}

#[test]
fn a_response_may_be_longer_than_a_command() {
    let token = |length: usize| format!("AUTH PLAIN {}\r\n", "A".repeat(length));
    let answers = |line: &str| {
        let seen = play(&mut greeted(Service::Submission, TlsRule::Implicit), &[line.as_bytes()]);
        codes(&seen).first().map(ToString::to_string)
    };
    assert_eq!(answers(&token(12_000)).as_deref(), Some("501 5.5.2"), "too many fields, but read");
    assert_eq!(answers(&token(13_000)).as_deref(), Some("500 5.5.2"));
    let mut front = greeted(Service::Submission, TlsRule::Implicit);
    let seen = play(&mut front, &[b"AUTH PLAIN\r\n", &[b'A'; MAX_SASL + 1], b"\r\nNOOP\r\n"]);
    let denied = "= Denied { refusal: TooLarge, mechanism: Mechanism(\"PLAIN\") }";
    assert_eq!(codes(&seen), ["334 ", "500 5.5.2", denied, "250 2.0.0"]);
}

fn session() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        Just("EHLO pc\r\n"),
        Just("NOOP\r\n"),
        Just("NOOP\n"),
        Just("RSET\r\n"),
        Just("AUTH PLAIN AGpvZQB4\r\n"),
        Just("AUTH LOGIN\r\n"),
        Just("am9l\r\n"),
        Just("*\r\n"),
        Just("MAIL FROM:<a@b>\r\n"),
        Just("WHAT\r\n"),
        Just("a\rb\r\n"),
        Just("RCPT TO:<a@b>\r\n"),
        Just("QUIT\r\n"),
    ];
    proptest::collection::vec(line, 0..12).prop_map(|lines| lines.concat().into_bytes())
}

proptest! {
    #[test]
    fn any_split_gives_the_same_steps(text in session(), cuts in proptest::collection::vec(1usize..20, 0..40)) {
        let whole = play(&mut greeted(Service::Smtp, TlsRule::Optional), &[&text]);
        let (mut pieces, mut rest, mut cuts) = (Vec::new(), &text[..], cuts.into_iter());
        while !rest.is_empty() {
            let (piece, tail) = rest.split_at(cuts.next().unwrap_or(1).min(rest.len()));
            pieces.push(piece);
            rest = tail;
        }
        prop_assert_eq!(play(&mut greeted(Service::Smtp, TlsRule::Optional), &pieces), whole);
    }

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        play(&mut greeted(Service::Submission, TlsRule::StartTls), &[&bytes]);
    }
}
