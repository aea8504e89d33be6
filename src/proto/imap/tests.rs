//! What must hold for any input, and the words that no session of `tests/transcripts` can bring about.

use super::command::{Command, Scan, Scanner};
use super::{ImapBack, ImapFront, Literal, capability};
use crate::proto::line::MAX_COMMAND;
use crate::proto::{
    Answer, Back, BackFault, BackSettings, BackStep, Capabilities, Front, FrontSettings, Goodbye, Login, Mechanism,
    Mechanisms, Refusal, Reply, Service, Step, TlsRule, Violation,
};
use bytes::BytesMut;
use proptest::prelude::*;

/// The most a machine may leave in its input.
const RETAINED: usize = 24 * 1024;

fn settings(tls: TlsRule) -> FrontSettings {
    FrontSettings {
        hostname: "mail.example.net".to_owned(),
        service: Service::Imap,
        tls,
        mechanisms: Mechanisms::All,
        without_tls: Mechanisms::All,
        user_first: false,
        may_be_granted: false,
        believes_origin: false,
        max_message: 0,
    }
}

fn backend() -> Capabilities {
    capability::understand(capability::parse(b"IMAP4rev1 LITERAL+ SASL-IR AUTH=PLAIN AUTH=CRAM-MD5 IDLE"))
}

/// A front that has greeted, with an engine behind it that rejects every login and writes all down.
struct Session {
    front: ImapFront,
    input: BytesMut,
    out: BytesMut,
    steps: Vec<String>,
    over: bool,
}

impl Session {
    fn new(tls: TlsRule) -> Self {
        let mut session = Self {
            front: ImapFront::new(settings(tls)),
            input: BytesMut::new(),
            out: BytesMut::new(),
            steps: Vec::new(),
            over: false,
        };
        session.front.greet(&backend().into(), &mut session.out);
        session.out.clear();
        session
    }

    fn feed(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
        while !self.over {
            match self.front.next(&mut self.input, &mut self.out) {
                Ok(Step::More) => break,
                Ok(step) => {
                    self.steps.push(format!("{step:?}"));
                    match step {
                        Step::Login(login) if login.mechanism == Mechanism::CRAM_MD5 => {
                            self.front.answer(Answer::Challenge(b"<1@x>"), &mut self.out);
                        }
                        Step::Login(_) | Step::Respond(_) => {
                            self.front.answer(Answer::Rejected(&Reply::default()), &mut self.out);
                        }
                        Step::StartTls | Step::Leave => self.over = true,
                        _ => {}
                    }
                }
                Err(violation) => {
                    self.steps.push(format!("{violation:?}"));
                    self.over = true;
                }
            }
        }
    }

    fn said(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }
}

/// Feeds the text in pieces of the given lengths, again and again.
fn pieces<'a>(mut text: &'a [u8], cuts: &'a [usize]) -> impl Iterator<Item = &'a [u8]> {
    let mut cuts = cuts.iter().copied().cycle();
    std::iter::from_fn(move || {
        let length = cuts.next().unwrap_or(usize::MAX).clamp(1, text.len().max(1));
        let (piece, rest) = text.split_at_checked(length)?;
        text = rest;
        Some(piece)
    })
}

/// Parts of sessions, well and badly made.
fn session_text() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        Just(b"a NOOP\r\n".to_vec()),
        Just(b"b LOGIN joe secret\r\n".to_vec()),
        Just(b"c LOGIN {3+}\r\njoe {6}\r\nsecret\r\n".to_vec()),
        Just(b"d LOGIN {3+}\r\nj\ne \"s\\\"t\"\r\n".to_vec()),
        Just(b"e AUTHENTICATE CRAM-MD5\r\nam9l\r\n".to_vec()),
        Just(b"f AUTHENTICATE PLAIN\r\n*\r\n".to_vec()),
        Just(b"g AUTHENTICATE LOGIN\r\nam9l\r\nc2Vj\r\n".to_vec()),
        Just(b"h SELECT {12+}\r\nx LOGIN a b\r\n y\r\n".to_vec()),
        Just(b"i NOOP {9999}\r\n".to_vec()),
        Just(b"j ID {5000}\r\n".to_vec()),
        Just([b"k LOGIN ", &[b'x'; 9000][..], b" {4+}\r\nabcd\r\n"].concat()),
        Just(b"l NO\0OP\n\r\n\r\n".to_vec()),
        Just(b"GET".to_vec()),
        proptest::collection::vec(any::<u8>(), 0..20),
        "[a-c ]{0,3}(LOGIN|ID|NOOP)( \"?[a-z{}+0-9\\\\]{0,6}){0,3}\r?\n".prop_map(String::into_bytes),
    ];
    proptest::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn any_split_of_what_a_client_says_gives_the_same_session(
        text in session_text(),
        cuts in proptest::collection::vec(1usize..200, 1..8),
    ) {
        let mut whole = Session::new(TlsRule::Implicit);
        whole.feed(&text);
        let mut split = Session::new(TlsRule::Implicit);
        for piece in pieces(&text, &cuts) {
            split.feed(piece);
        }
        prop_assert_eq!(&split.steps, &whole.steps);
        prop_assert_eq!(split.said(), whole.said());
    }

    #[test]
    fn a_client_says_what_it_likes(
        rule in prop_oneof![Just(TlsRule::Implicit), Just(TlsRule::StartTls), Just(TlsRule::Optional)],
        text in session_text(),
        noise in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let mut session = Session::new(rule);
        session.feed(&[text, noise].concat());
        prop_assert!(session.over || session.input.len() <= RETAINED);
    }

    #[test]
    fn any_split_of_what_a_backend_says_gives_the_same_verdict(
        text in backend_text(),
        cuts in proptest::collection::vec(1usize..60, 1..8),
    ) {
        let whole = talk([&text[..]].into_iter());
        // What stands behind a challenge in the same breath is a fault; in the next one it may be an answer.
        if whole.0 != "Unsolicited" {
            prop_assert_eq!(talk(pieces(&text, &cuts)), whole);
        }
    }
}

#[test]
fn a_yes_in_the_same_breath_as_a_challenge_lets_nobody_in() {
    let (verdict, said) = talk([&b"+ go on\r\ng1 OK in\r\n"[..]].into_iter());
    assert_eq!((verdict.as_str(), said.as_str()), ("Unsolicited", "g1 LOGIN \"joe\" {8}\r\n"));
}

/// What a backend may say to a login.
fn backend_text() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        Just(b"* CAPABILITY IMAP4rev1 IDLE\r\n".to_vec()),
        Just(b"* OK [ALERT] hello {3}\r\n".to_vec()),
        Just(b"* LIST (x {7}\r\ng1 OK\r\n\r\n y)\r\n".to_vec()),
        Just(b"+ go on\r\n".to_vec()),
        Just(b"g1 NO [UNAVAILABLE] later\r\n".to_vec()),
        Just(b"g1 NO wrong\n".to_vec()),
        Just(b"g1 OK [CAPABILITY IMAP4rev1] in\r\n* 3 EXISTS\r\n".to_vec()),
        Just(b"g1 BAD what\r\n".to_vec()),
        Just(b"* BYE now\r\n".to_vec()),
        Just(b"* X {70000}\r\n".to_vec()),
        proptest::collection::vec(any::<u8>(), 0..20),
    ];
    proptest::collection::vec(part, 0..8).prop_map(|parts| parts.concat())
}

/// A backend that has greeted and was sent a LOGIN with a literal; what comes of its words, up to the first verdict.
fn talk<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (String, String) {
    let (mut back, mut input, mut out) = ready_back("IMAP4rev1");
    let login = Login::password(Mechanism::LOGIN, b"joe", b"\"quoted\"").expect("plain words");
    back.login(&login, &mut out).expect("LOGIN is open");
    for piece in pieces {
        input.extend_from_slice(piece);
        let verdict = match back.next(&mut input, &mut out) {
            Ok(BackStep::More) => continue,
            Ok(step) => format!("{step:?}"),
            Err(fault) => format!("{fault:?}"),
        };
        return (verdict, String::from_utf8_lossy(&out).into_owned());
    }
    assert!(input.len() <= RETAINED);
    ("nothing".to_owned(), String::from_utf8_lossy(&out).into_owned())
}

fn ready_back(capabilities: &str) -> (ImapBack, BytesMut, BytesMut) {
    let settings = BackSettings { temporary_replies: ["lock".to_owned()].into(), ..BackSettings::default() };
    let (mut back, mut out) = (ImapBack::new(settings), BytesMut::new());
    let mut input = BytesMut::from(format!("* OK [CAPABILITY {capabilities}] hello\r\n").as_bytes());
    assert!(matches!(back.next(&mut input, &mut out), Ok(BackStep::Ready(_))));
    (back, input, out)
}

#[test]
fn a_client_without_end_costs_no_more_than_the_bound() {
    let stories: [(&str, &[u8], &[u8]); 6] = [
        ("a line without end", b"a NOOP ", b"xxxxxxxxxxxxxxxx"),
        ("an initial response without end", b"a AUTHENTICATE PLAIN ", b"AAAAAAAAAAAAAAAA"),
        ("a response without end", b"a AUTHENTICATE PLAIN\r\n", b"AAAAAAAAAAAAAAAA"),
        ("literals without end", b"a ID ", b"{4000+}\r\n"),
        ("refused literals without end", b"a SELECT ", b"{4+}\r\nabcd "),
        ("a number without end", b"a SELECT {", b"0000000000000000"),
    ];
    for (story, first, again) in stories {
        let mut session = Session::new(TlsRule::Implicit);
        session.feed(first);
        let chunk = again.repeat(4096 / again.len());
        for _ in 0..512 {
            session.feed(&chunk);
            if session.over {
                break;
            }
            assert!(session.input.len() <= RETAINED, "{story}: {}", session.input.len());
        }
    }
}

#[test]
fn a_backend_without_end_is_left() {
    let stories: [(&str, &[u8]); 4] = [
        ("a line without end", b"xxxxxxxxxxxxxxxx"),
        ("lines without end", b"* 1 FETCH (x)\r\n"),
        ("a literal without end", b"* X {60000}\r\n"),
        ("no line of IMAP", b"\0\0\0\0"),
    ];
    for (story, again) in stories {
        let (mut back, mut input, mut out) = ready_back("IMAP4rev1");
        let login = Login::password(Mechanism::LOGIN, b"joe", b"pw").expect("plain words");
        back.login(&login, &mut out).expect("LOGIN is open");
        let chunk = again.repeat(4096 / again.len());
        let fault = (0..64).find_map(|_| {
            input.extend_from_slice(&chunk);
            assert!(input.len() <= RETAINED, "{story}");
            back.next(&mut input, &mut out).err()
        });
        assert_eq!(fault, Some(BackFault::TooLarge), "{story}");
    }
}

#[test]
fn an_overlong_line_does_not_hide_a_literal() {
    let long = "x".repeat(9000);
    let rows = [
        // What stands behind the line, what is said to it all.
        ("{8+}\r\nb NOOP\r\n\r\nc NOOP\r\n", "a BAD The line is too long.\r\nc OK Done.\r\n"),
        ("{8}\r\nb NOOP\r\n", "a BAD The line is too long.\r\nb OK Done.\r\n"),
        (
            "{5000+}\r\nb NOOP\r\n",
            "a BAD The line is too long.\r\n* BAD This is too long.\r\n* BYE Too much at once.\r\n",
        ),
        (
            "{00000000000000000000000000000000000000000000000008+}\r\nb NOOP\r\n",
            "a BAD The line is too long.\r\n* BAD This is too long.\r\n* BYE Too much at once.\r\n",
        ),
    ];
    for (behind, said) in rows {
        let mut session = Session::new(TlsRule::Implicit);
        session.feed(format!("a NOOP {long}{behind}").as_bytes());
        assert_eq!(session.said(), said, "{behind}");
    }
}

#[test]
fn a_long_line_is_judged_alike_however_much_of_it_comes_at_once() {
    let line = format!("{} AUTHENTICATE PLAIN AGpvZQBzZWNyZXQ=\r\n", "x".repeat(MAX_COMMAND));
    for cuts in [usize::MAX, 1, 1000, MAX_COMMAND + 3] {
        let mut session = Session::new(TlsRule::Implicit);
        pieces(line.as_bytes(), &[cuts]).for_each(|piece| session.feed(piece));
        assert_eq!(session.said(), "* BAD The line is too long.\r\n", "{cuts}");
    }
}

#[test]
fn refused_literals_are_thrown_away_only_so_long() {
    let mut session = Session::new(TlsRule::Implicit);
    session.feed(b"a SELECT {1+}\r\n");
    for _ in 0..9 {
        session.feed(b"x {1+}\r\n");
    }
    assert_eq!(session.steps, ["TooLarge"]);
    assert!(session.said().ends_with("* BYE Too much at once.\r\n"), "{}", session.said());
}

#[test]
fn nothing_heard_in_the_clear_survives_starttls() {
    let mut session = Session::new(TlsRule::Optional);
    session.feed(b"a AUTHENTICATE LOGIN\r\n");
    session.front.secured(&backend().into());
    session.out.clear();
    session.feed(b"b CAPABILITY\r\n");
    let said = session.said();
    assert!(said.starts_with("* CAPABILITY IMAP4rev1") && said.ends_with("b OK Done.\r\n"), "{said}");
    assert!(!said.contains("STARTTLS") && !said.contains("LOGINDISABLED"), "{said}");
}

#[test]
fn bytes_behind_starttls_get_no_word() {
    for behind in [&b"b LOGIN joe pw\r\n"[..], b"\n", b"b", b"b LOGIN {3+}\r\njoe"] {
        let mut session = Session::new(TlsRule::StartTls);
        session.feed(&[b"a STARTTLS\r\n", behind].concat());
        assert_eq!(
            (session.steps, session.out.as_ref()),
            (vec![format!("{:?}", Violation::PipelinedStartTls)], &b""[..])
        );
    }
}

#[test]
fn a_route_by_user_leaves_only_what_names_the_user() {
    let mut front = ImapFront::new(FrontSettings { user_first: true, ..settings(TlsRule::Implicit) });
    let mut out = BytesMut::new();
    front.greet(&backend().into(), &mut out);
    assert_eq!(
        String::from_utf8_lossy(&out),
        "* OK [CAPABILITY IMAP4rev1 IDLE LITERAL- SASL-IR AUTH=PLAIN AUTH=LOGIN] mail.example.net ready\r\n"
    );
}

#[test]
fn what_is_refused_is_told_as_it_should_be() {
    let rows = [
        (Refusal::TlsRequired, "a NO [PRIVACYREQUIRED] ", None),
        (Refusal::MechanismDisabled, "a NO [CANNOT] ", None),
        (Refusal::Banned, "a NO [UNAVAILABLE] ", Some("* BYE ")),
        (Refusal::RateLimited, "a NO [UNAVAILABLE] ", Some("* BYE ")),
        (Refusal::TooManySessions, "a NO [LIMIT] ", Some("* BYE ")),
        (Refusal::NotAllowed, "a NO [NOPERM] ", Some("* BYE ")),
        (Refusal::BadSyntax, "a BAD ", None),
    ];
    for (refusal, first, second) in rows {
        let (mut front, mut out) = (ImapFront::new(settings(TlsRule::Implicit)), BytesMut::new());
        front.greet(&backend().into(), &mut out);
        let mut input = BytesMut::from(&b"a LOGIN joe pw\r\nb NOOP\r\n"[..]);
        out.clear();
        assert!(matches!(front.next(&mut input, &mut out), Ok(Step::Login(_))));
        front.answer(Answer::Refused(refusal), &mut out);
        let said = String::from_utf8_lossy(&out).into_owned();
        let mut lines = said.split_terminator("\r\n");
        assert!(lines.next().is_some_and(|line| line.starts_with(first)), "{refusal}: {said}");
        match second {
            Some(second) => assert!(lines.next().is_some_and(|line| line.starts_with(second)), "{refusal}: {said}"),
            None => assert_eq!(lines.next(), None, "{refusal}: {said}"),
        }
        out.clear();
        assert!(matches!(front.next(&mut input, &mut out), Ok(Step::More)));
        assert_eq!(out.is_empty(), second.is_some(), "{refusal}: a session that has ended says no more");
    }
}

#[test]
fn who_may_not_come_in_hears_bye() {
    let rows = [
        (Refusal::Banned, "* BYE [UNAVAILABLE] "),
        (Refusal::RateLimited, "* BYE [UNAVAILABLE] "),
        (Refusal::TooManySessions, "* BYE [UNAVAILABLE] "),
        (Refusal::NotAllowed, "* BYE Your"),
        (Refusal::Denied, "* BYE Your"),
    ];
    for (refusal, words) in rows {
        let (mut front, mut out) = (ImapFront::new(settings(TlsRule::StartTls)), BytesMut::new());
        front.turn_away(refusal, &mut out);
        let said = String::from_utf8_lossy(&out);
        assert!(said.starts_with(words) && said.ends_with("\r\n"), "{refusal}: {said}");
    }
    for goodbye in [Goodbye::TooManyAttempts, Goodbye::Timeout, Goodbye::ShuttingDown, Goodbye::BackendLost] {
        let mut session = Session::new(TlsRule::Implicit);
        session.front.answer(Answer::Goodbye(goodbye), &mut session.out);
        assert!(session.said().starts_with("* BYE "), "{goodbye:?}");
    }
}

#[test]
fn an_announcement_is_seen_wherever_it_stands() {
    let rows = [
        ("a LOGIN {5}", Some((5, true))),
        ("a LOGIN {5+}", Some((5, false))),
        ("{0}", Some((0, true))),
        ("a LOGIN \"x {7+}", Some((7, false))),
        ("a {1000000000000000000000000000000}", Some((usize::MAX, true))),
        ("a {-5}", None),
        ("a {5 }", None),
        ("a {+}", None),
        ("a {}", None),
        ("a 5}", None),
        ("a {5} ", None),
        ("}", None),
    ];
    for (line, expected) in rows {
        let found = Literal::at_end_of(line.as_bytes()).map(|literal| (literal.size, literal.synchronising));
        assert_eq!(found, expected, "{line}");
    }
}

type Strings<'a> = Option<&'a [&'a [u8]]>;

#[test]
fn arguments_are_read_in_every_form() {
    let rows: [(&[u8], Strings<'_>); 14] = [
        (b" joe secret", Some(&[b"joe", b"secret"])),
        (b"   joe   secret  ", Some(&[b"joe", b"secret"])),
        (b" \"joe\" \"a \\\"b\\\" \\\\\"", Some(&[b"joe", b"a \"b\" \\"])),
        (b" \"\" \"\"", Some(&[b"", b""])),
        (b" \"a\\b\" x", Some(&[b"ab", b"x"])),
        (b" {3+}\r\nj\r\n {0+}\r\n", Some(&[b"j\r\n", b""])),
        (b" {3+}\r\njoe \"x\" {1+}\r\n{", Some(&[b"joe", b"x", b"{"])),
        (b" j\xc3\xb6 p%{", Some(&[b"j\xc3\xb6", b"p%{"])),
        (b" \"joe\"\"pw\"", None),
        (b" \"joe", None),
        (b" \"joe\\", None),
        (b" joe{3+}\r\nabc", None),
        (b" \"joe {3+}\r\nabc\"", None),
        (b" j\x01oe", None),
    ];
    for (text, expected) in rows {
        let command = whole(&[b"a LOGIN", text, b"\r\n"].concat());
        let arguments = command.arguments();
        let arguments: Option<Vec<&[u8]>> =
            arguments.as_ref().map(|list| list.iter().map(|argument| argument.declassify().as_slice()).collect());
        assert_eq!(arguments.as_deref(), expected, "{}", text.escape_ascii());
    }
}

/// The command, every literal of it accepted.
fn whole(text: &[u8]) -> Command {
    let (mut scanner, mut input) = (Scanner::default(), BytesMut::from(text));
    loop {
        match scanner.next(&mut input) {
            Scan::Announced(_) => scanner.accept(),
            Scan::Command(command) => return command,
            _ => panic!("no command in {}", text.escape_ascii()),
        }
    }
}

#[test]
fn a_password_is_in_no_debug_text() {
    let mut session = Session::new(TlsRule::Implicit);
    session.feed(b"a LOGIN joe hunter2\r\nb AUTHENTICATE LOGIN\r\nam9l\r\naHVudGVyMg==\r\nc LOGIN {3+}\r\njoe hunt");
    let mut texts = vec![format!("{:?}", session.front), session.steps.join(" ")];
    for echo in ["g1 BAD unknown command", "g9 BAD unknown command", "what is"] {
        let (mut back, mut input, mut out) = ready_back("IMAP4rev1");
        let login = Login::password(Mechanism::LOGIN, b"joe", b"\\hunter2").expect("plain words");
        back.login(&login, &mut out).expect("LOGIN is open");
        texts.push(format!("{back:?}"));
        input.extend_from_slice(format!("+ \r\n{echo} LOGIN joe hunter2\r\n").as_bytes());
        let fault = back.next(&mut input, &mut out).expect_err("no verdict");
        texts.push(format!("{back:?} {fault}"));
    }
    for text in texts {
        assert!(!text.contains("hunt") && !text.contains("104, 117, 110, 116"), "{text}");
    }
}

#[test]
fn a_backends_list_is_kept_within_bounds() {
    let list = format!("IMAP4rev1 {} {} A(B X]Y {}", "x".repeat(600), "Y\u{e9}", "Z ".repeat(300));
    let atoms = capability::parse(list.as_bytes());
    assert_eq!(atoms.len(), 128);
    assert!(atoms.iter().all(|atom| atom == "IMAP4rev1" || atom == "Z"), "{atoms:?}");
}
