//! What must hold of both halves whatever is said to them; the sessions under `tests/transcripts/pop3` show the words.

use super::capability::{Listing, timestamp};
use super::{Pop3Back, Pop3Front};
use crate::proto::line::{MAX_COMMAND, MAX_SASL};
use crate::proto::{
    Answer, Back, BackFault, BackSettings, BackStep, Capabilities, Front, FrontSettings, Goodbye, Login, Mechanism,
    Mechanisms, Refusal, Reply, Service, Step, TlsRule, Violation,
};
use bytes::BytesMut;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// Lines a client may send, good and bad, to be mixed and cut in any way. STLS stands here as a command that is
/// refused: whether it is one that is granted depends on the cut by design.
const CLIENT: [&[u8]; 26] = [
    b"CAPA\r\n",
    b"USER joe\r\n",
    b"PASS secret\r\n",
    b"PASS \xff\xfe \r\n",
    b"PASS a\0b\r\n",
    b"APOP joe c4c9334bac560ecc979e58001b3e22fb\r\n",
    b"APOP joe\r\n",
    b"AUTH\r\n",
    b"AUTH PLAIN\r\n",
    b"AUTH PLAIN AGpvZQBzZWNyZXQ=\r\n",
    b"AUTH LOGIN\r\n",
    b"AUTH LOGIN am9l\r\n",
    b"AUTH CRAM-MD5\r\n",
    b"AUTH NOPE =\r\n",
    b"am9l\r\n",
    b"*\r\n",
    b"\r\n",
    b"\n",
    b"\r\r\n",
    b"=\r\n",
    b"NOOP\r\n",
    b"STLS\r\n",
    b"GET / HTTP/1.1\r\n",
    b"\x16\x03\x01",
    &[b'x'; MAX_COMMAND + 3],
    b"QUIT\r\n",
];

fn settings(tls: TlsRule) -> FrontSettings {
    FrontSettings {
        hostname: "mail.example.net".to_owned(),
        service: Service::Pop3,
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
    Capabilities {
        mechanisms: vec![Mechanism::PLAIN, Mechanism::CRAM_MD5],
        apop: Some("<1.2@backend>".to_owned()),
        ..Capabilities::minimum(crate::proto::Protocol::Pop3)
    }
}

/// A front that has greeted, what it wrote, and what it reported.
struct Client {
    front: Pop3Front,
    input: BytesMut,
    out: BytesMut,
    steps: Vec<String>,
    challenged: bool,
    over: bool,
}

impl Client {
    fn greeted(settings: FrontSettings) -> Self {
        let mut front = Pop3Front::new(settings);
        let mut out = BytesMut::new();
        front.greet(&backend().into(), &mut out);
        Self { front, input: BytesMut::new(), out, steps: Vec::new(), challenged: false, over: false }
    }

    /// Feeds a piece; logins through an exchange get one challenge, and every login is rejected.
    fn say(&mut self, piece: &[u8]) {
        if self.over {
            return;
        }
        self.input.extend_from_slice(piece);
        loop {
            let step = self.front.next(&mut self.input, &mut self.out);
            if let Ok(Step::More) = step {
                return;
            }
            self.steps.push(match &step {
                Ok(Step::Login(login)) => format!("{login:?} {:?}", login.secret().map(|s| s.declassify().clone())),
                Ok(Step::Respond(response)) => format!("{:?}", response.declassify()),
                other => format!("{other:?}"),
            });
            match step {
                Ok(Step::Login(login)) if login.mechanism == Mechanism::CRAM_MD5 && !self.challenged => {
                    self.challenged = true;
                    self.front.answer(Answer::Challenge(b"<1@h>"), &mut self.out);
                }
                Ok(Step::Login(_) | Step::Respond(_)) => {
                    self.challenged = false;
                    self.front.answer(Answer::Rejected(&Reply::default()), &mut self.out);
                }
                Ok(Step::More | Step::Cancelled | Step::Denied { .. }) => self.challenged = false,
                _ => {
                    self.over = true;
                    return;
                }
            }
        }
    }

    fn heard(&self) -> String {
        self.out.escape_ascii().to_string()
    }
}

/// A server's answers, each sent when the one before was understood.
fn talk(answers: &[&[u8]], login: &Login, cuts: &[usize]) -> (Vec<String>, String) {
    let mut back = Pop3Back::new(back_settings());
    let (mut input, mut out, mut steps) = (BytesMut::new(), BytesMut::new(), Vec::new());
    let mut cuts = cuts.iter().cycle();
    for answer in answers {
        let mut rest = *answer;
        while !rest.is_empty() {
            let (piece, tail) = rest.split_at(cuts.next().copied().unwrap_or(usize::MAX).min(rest.len()));
            rest = tail;
            input.extend_from_slice(piece);
            loop {
                let step = back.next(&mut input, &mut out);
                if let Ok(BackStep::More) = step {
                    break;
                }
                // A garbage text holds as much as had come.
                steps.push(match &step {
                    Err(BackFault::Garbage(..)) => "garbage".to_owned(),
                    other => format!("{other:?}"),
                });
                match step {
                    Ok(BackStep::Ready(_) | BackStep::Rejected(_) | BackStep::Unavailable(_) | BackStep::InUse(_)) => {
                        if let Err(fault) = back.login(login, &mut out) {
                            steps.push(format!("{fault:?}"));
                            return (steps, out.escape_ascii().to_string());
                        }
                    }
                    Ok(BackStep::Challenge(_)) => back.respond(b"response", &mut out),
                    _ => return (steps, out.escape_ascii().to_string()),
                }
            }
        }
    }
    (steps, out.escape_ascii().to_string())
}

fn back_settings() -> BackSettings {
    BackSettings { temporary_replies: ["lock".to_owned()].into(), ..BackSettings::default() }
}

fn logins() -> Vec<Login> {
    let credentials = crate::proto::Credentials::Sasl { initial: None };
    vec![
        Login::password(Mechanism::USER, b"joe", b"secret").expect("plain words"),
        Login::password(Mechanism::PLAIN, b"joe", b"secret").expect("plain words"),
        Login { mechanism: Mechanism::CRAM_MD5, credentials },
    ]
}

proptest! {
    #[test]
    fn any_split_of_a_clients_lines_gives_the_same_steps_and_words(
        lines in vec(select(&CLIENT[..]), 0..40),
        cuts in vec(1usize..3000, 1..12),
        fine in any::<bool>(),
    ) {
        let text = lines.concat();
        let mut whole = Client::greeted(settings(TlsRule::Implicit));
        whole.say(&text);
        let mut split = Client::greeted(settings(TlsRule::Implicit));
        let (mut rest, mut cuts) = (&text[..], cuts.iter().cycle());
        while !rest.is_empty() {
            let cut = cuts.next().copied().unwrap_or(1);
            let (piece, tail) = rest.split_at((if fine { cut % 7 + 1 } else { cut }).min(rest.len()));
            split.say(piece);
            rest = tail;
        }
        prop_assert_eq!(split.steps, whole.steps);
        prop_assert_eq!(split.out.escape_ascii().to_string(), whole.out.escape_ascii().to_string());
    }

    #[test]
    fn no_bytes_from_a_client_panic_or_are_kept(
        pieces in vec(prop_oneof![select(&CLIENT[..]).prop_map(<[u8]>::to_vec), vec(any::<u8>(), 0..200)], 0..60),
        rule in select(vec![TlsRule::Implicit, TlsRule::StartTls, TlsRule::Optional, TlsRule::Off]),
    ) {
        let mut client = Client::greeted(settings(rule));
        for piece in &pieces {
            client.say(piece);
            prop_assert!(client.over || client.input.len() <= MAX_SASL + 1);
        }
        for line in client.out.split_inclusive(|&b| b == b'\n') {
            prop_assert!(line.ends_with(b"\r\n") && line.len() <= 512, "{}", line.escape_ascii());
        }
    }

    #[test]
    fn any_split_of_a_servers_answers_gives_the_same_steps_and_commands(
        list in select(vec![&b"-ERR\r\n"[..], b"+OK\r\nUSER\r\nSASL CRAM-MD5 PLAIN\r\n.\r\n", b"+OK\nTOP\nSASL PLAIN\n.\n"]),
        answers in vec(select(vec![
            &b"+OK\r\n"[..], b"-ERR no\r\n", b"-ERR [IN-USE] locked\n", b"+ PDFAaD4=\r\n", b"+\r\n", b"+ !\r\n", b"what\r\n",
        ]), 0..8),
        login in select(logins()),
        cuts in vec(1usize..6, 1..12),
    ) {
        let answers: Vec<&[u8]> = [&[&b"+OK hello <1.2@backend> there\r\n"[..], list][..], &answers].concat();
        prop_assert_eq!(talk(&answers, &login, &cuts), talk(&answers, &login, &[usize::MAX]));
    }

    #[test]
    fn no_bytes_from_a_server_panic_or_are_kept(
        beginning in select(vec![&b""[..], b"+OK\r\n", b"+OK\r\n+OK\r\nSASL PLAIN\r\n", b"+OK\r\n-ERR\r\n"]),
        pieces in vec(prop_oneof![
            vec(any::<u8>(), 0..200),
            select(vec![&b"+OK\r\n"[..], b".\r\n", b"+ \r\n", b"-ERR [AUTH]\r\n", b"-ERR [[\xff", &[b'y'; 5000]]).prop_map(<[u8]>::to_vec),
        ], 0..20),
        login in select(logins()),
    ) {
        let mut back = Pop3Back::new(back_settings());
        let (mut input, mut out) = (BytesMut::new(), BytesMut::new());
        'pieces: for piece in beginning.split_inclusive(|&b| b == b'\n').chain(pieces.iter().map(Vec::as_slice)) {
            input.extend_from_slice(piece);
            loop {
                match back.next(&mut input, &mut out) {
                    Ok(BackStep::More) => break,
                    Ok(BackStep::Challenge(_)) => back.respond(b"", &mut out),
                    Ok(BackStep::Accepted(_)) | Err(_) => break 'pieces,
                    Ok(_) if back.login(&login, &mut out).is_err() => break 'pieces,
                    Ok(_) => {}
                }
            }
            prop_assert!(input.len() <= MAX_COMMAND + 1);
        }
    }
}

#[test]
fn megabytes_without_a_line_end_are_not_kept() {
    for opening in [&b""[..], b"AUTH ", b"AUTH PLAIN\r\n"] {
        let mut client = Client::greeted(settings(TlsRule::Implicit));
        client.say(opening);
        for _ in 0..2000 {
            client.say(&[b'x'; 2048]);
            assert!(client.input.len() <= MAX_SASL + 1);
        }
        assert!(client.out.len() < 200, "{}", client.heard());
        client.say(b"\r\nQUIT\r\n");
        assert!(client.heard().ends_with("-ERR Line too long.\\r\\n+OK Goodbye.\\r\\n"), "{}", client.heard());
    }
}

#[test]
fn megabytes_of_commands_cost_few_answers() {
    for command in ["CAPA\r\n", "AUTH\r\n", "x\r\n", "USER\r\n", "AUTH PLAIN\r\n*\r\n", "\n", "STLS\r\n"] {
        let mut client = Client::greeted(settings(TlsRule::Implicit));
        client.say(command.repeat(500_000).as_bytes());
        assert_eq!(client.steps.last().map(String::as_str), Some("Err(TooManyErrors)"), "{command}");
        assert!(client.out.len() < 8192, "{command}: {}", client.out.len());
    }
}

#[test]
fn an_answer_without_end_is_cut_off() {
    let line = [&b"X"[..], &[b'y'; 600], b"\r\n"].concat();
    for (before, endless) in [
        (&[][..], &[b'+'; 512][..]),
        (&[&b"+OK"[..]], &[b' '; 512]),
        (&[b"+OK\r\n", b"+OK\r\n"], &line),
        (&[b"+OK\r\n", b"+OK\r\n"], &[b'z'; 512]),
        (&[b"+OK\r\n", b"-ERR\r\n"], &[b'+'; 512]),
    ] {
        let mut back = Pop3Back::new(back_settings());
        let (mut input, mut out) = (BytesMut::new(), BytesMut::new());
        for answer in before {
            input.extend_from_slice(answer);
            if let Ok(BackStep::Ready(_)) = back.next(&mut input, &mut out) {
                back.login(&logins()[0], &mut out).expect("a way in");
            }
        }
        let fault = (0..200).find_map(|_| {
            input.extend_from_slice(endless);
            back.next(&mut input, &mut out).err()
        });
        assert!(matches!(fault, Some(BackFault::TooLarge | BackFault::Garbage(..))), "{before:?}: {fault:?}");
    }
}

#[test]
fn a_foreign_protocol_is_known_by_its_first_bytes_and_hears_nothing() {
    let cases = [
        (TlsRule::StartTls, &[&b"\x16\x03\x01"[..]][..], Some(Violation::TlsOnPlaintextPort)),
        (TlsRule::Off, &[b"\x16", b"\x03"], Some(Violation::TlsOnPlaintextPort)),
        (TlsRule::Implicit, &[b"\x16\x03\x01"], None),
        (TlsRule::Optional, &[b"CAPA\r\n", b"\x16\x03\x01"], None),
        (TlsRule::Implicit, &[b"PO", b"ST / HTTP/1.1\r\n"], Some(Violation::Http)),
        (TlsRule::Off, &[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"], Some(Violation::Http)),
        (TlsRule::Off, &[b"GETTING\r\n"], None),
        (TlsRule::Off, &[b"CAPA\r\n", b"GET / HTTP/1.1\r\n"], None),
    ];
    for (rule, pieces, violation) in cases {
        let mut client = Client::greeted(settings(rule));
        client.out.clear();
        for piece in pieces {
            client.say(piece);
        }
        let expected: Vec<String> = violation.iter().map(|violation| format!("Err({violation:?})")).collect();
        assert_eq!(client.steps, expected, "{pieces:?}");
        assert!(violation.is_none() || client.out.is_empty(), "{}", client.heard());
    }
}

#[test]
fn where_the_user_chooses_the_backend_only_ways_that_name_one_are_shown() {
    let mut client = Client::greeted(FrontSettings { user_first: true, ..settings(TlsRule::Implicit) });
    assert_eq!(client.heard(), "+OK mail.example.net ready\\r\\n");
    client.out.clear();
    client.say(b"AUTH\r\nAUTH CRAM-MD5\r\n");
    assert_eq!(
        client.heard(),
        "+OK Mechanisms follow\\r\\nPLAIN\\r\\nLOGIN\\r\\n.\\r\\n-ERR This way to log in is not offered here.\\r\\n"
    );
}

#[test]
fn neither_half_prints_a_password() {
    let bytes = format!("{:?}", b"hunter2").replace(['[', ']'], "");
    let hides = |text: String| assert!(!text.contains("hunter2") && !text.contains(&bytes), "{text}");

    let mut client = Client::greeted(settings(TlsRule::Implicit));
    client.input.extend_from_slice(b"USER joe\r\nPASS hunter2\r\n");
    let step = client.front.next(&mut client.input, &mut client.out);
    assert!(matches!(step, Ok(Step::Login(_))));
    hides(format!("{step:?} {:?}", client.front));

    let (mut back, mut input, mut out) = (Pop3Back::new(back_settings()), BytesMut::new(), BytesMut::new());
    for answer in [&b"+OK\r\n"[..], b"-ERR\r\n"] {
        input.extend_from_slice(answer);
        back.next(&mut input, &mut out).expect("a step");
    }
    back.login(&Login::password(Mechanism::USER, b"joe", b"hunter2").expect("plain words"), &mut out).expect("a way");
    hides(format!("{back:?}"));
}

#[test]
fn a_refusal_is_one_line_with_the_code_its_case_has() {
    for (refusal, begins) in [
        (Refusal::NotAllowed, "-ERR [SYS/PERM] "),
        (Refusal::Denied, "-ERR [SYS/PERM] "),
        (Refusal::Banned, "-ERR [SYS/TEMP] "),
        (Refusal::RateLimited, "-ERR [SYS/TEMP] "),
        (Refusal::TooManySessions, "-ERR [SYS/TEMP] "),
        (Refusal::TlsRequired, "-ERR TLS is required: send STLS first"),
        (Refusal::MechanismDisabled, "-ERR This way"),
    ] {
        let (mut before, mut after) = (BytesMut::new(), BytesMut::new());
        let mut front = Pop3Front::new(settings(TlsRule::Off));
        front.turn_away(refusal, &mut before);
        front.answer(Answer::Refused(refusal), &mut after);
        assert_eq!(before, after);
        let text = String::from_utf8_lossy(&before);
        assert!(text.starts_with(begins) && text.ends_with("\r\n") && text.lines().count() == 1, "{text}");
    }
}

#[test]
fn a_goodbye_is_said_only_where_it_is_not_taken_for_an_answer() {
    for (goodbye, said) in [
        (Goodbye::TooManyAttempts, ""),
        (Goodbye::Timeout, ""),
        (Goodbye::BackendLost, ""),
        (Goodbye::ShuttingDown, "-ERR [SYS/TEMP] The server is going down, try again later.\r\n"),
    ] {
        let mut out = BytesMut::new();
        Pop3Front::new(settings(TlsRule::Off)).answer(Answer::Goodbye(goodbye), &mut out);
        assert_eq!(out, said, "{goodbye:?}");
    }
}

#[test]
fn a_servers_long_text_is_cut_to_a_pop3_line() {
    let mut out = BytesMut::new();
    let reply = Reply { text: "ü".repeat(256), ..Reply::default() };
    Pop3Front::new(settings(TlsRule::Off)).answer(Answer::Accepted(&reply), &mut out);
    assert!(out.len() <= 512 && std::str::from_utf8(&out).is_ok_and(|text| text.ends_with("ü\r\n")));
}

#[test]
fn the_timestamp_is_the_last_one_in_the_greeting() {
    let long = format!("<{}@h>", "1".repeat(300));
    for (greeting, stamp) in [
        ("POP3 server ready <1896.697170952@dbc.mtview.ca.us>", Some("<1896.697170952@dbc.mtview.ca.us>")),
        ("<no stamp> <1@h> ready", Some("<1@h>")),
        ("<<1@h>", Some("<1@h>")),
        ("<1.2.3>", None),
        ("<1 2@h>", None),
        ("<1\x072@h>", None),
        ("> <", None),
        ("ready", None),
        (long.as_str(), None),
    ] {
        assert_eq!(timestamp(greeting.as_bytes()).as_deref(), stamp, "{greeting}");
    }
}

#[test]
fn a_servers_list_is_bounded_and_says_how_to_log_in() {
    let listed = |lines: &[&str]| {
        let mut listing = Listing::default();
        for line in lines {
            assert!(!listing.take(line.as_bytes()).expect("within the bound"), "{line}");
        }
        assert!(listing.take(b".").expect("the end"));
        listing.into_capabilities(None)
    };
    for (lines, user, mechanisms) in [
        (&["USER"][..], true, ""),
        (&["TOP", "UIDL"], true, ""),
        (&["SASL PLAIN"], false, "PLAIN"),
        (&["sasl  login {bad} cram-md5 "], false, "LOGIN CRAM-MD5"),
        (&["SASL CRAM-MD5", "STLS"], true, "CRAM-MD5"),
        (&["SASL PLAIN", "USER"], true, "PLAIN"),
    ] {
        let capabilities = listed(lines);
        let names: Vec<&str> = capabilities.mechanisms.iter().map(Mechanism::as_str).collect();
        assert_eq!((capabilities.login_command, names.join(" ").as_str()), (user, mechanisms), "{lines:?}");
    }
    assert_eq!(listed(&["X"; 500]).lines.len(), 128);
    assert_eq!(listed(&["", " A", "..B", "C\x1b[31m", "Dé", &"E".repeat(600), "F"]).lines, ["F"]);
}

#[test]
fn a_login_is_sent_only_where_one_is_awaited() {
    let mut back = Pop3Back::new(back_settings());
    let mut out = BytesMut::new();
    assert_eq!(back.login(&logins()[0], &mut out), Err(BackFault::NoWayIn("USER".to_owned())));
    let mut input = BytesMut::from(&b"+OK\r\n"[..]);
    back.next(&mut input, &mut out).expect("a greeting");
    input.extend_from_slice(b"-ERR\r\n");
    back.next(&mut input, &mut out).expect("no list");
    assert_eq!(back.login(&logins()[2], &mut out), Err(BackFault::NoWayIn("CRAM-MD5".to_owned())));
    back.quit(&mut out);
    assert_eq!(&out[..], b"CAPA\r\nQUIT\r\n");
    input.extend_from_slice(b"+OK bye\r\n");
    assert!(matches!(back.next(&mut input, &mut out), Ok(BackStep::More)) && input.is_empty());
}

/// A server that reads 512 octets at a time heard NOOP in `USER AAA…ANOOP` and answered twice; the second answer stood for
/// one to PASS, and whoever it was had a session.
#[test]
fn no_name_and_no_password_makes_a_line_that_could_be_two_commands() {
    let longest = "a".repeat(248);
    for (user, password, fits) in
        [(&*longest, &*longest, true), (&*format!("{longest}a"), "pw", false), ("joe", &*format!("{longest}a"), false)]
    {
        let (mut back, mut input, mut out) = (Pop3Back::new(back_settings()), BytesMut::new(), BytesMut::new());
        for answer in ["+OK\r\n", "-ERR\r\n"] {
            input.extend_from_slice(answer.as_bytes());
            back.next(&mut input, &mut out).expect("a server of the first kind");
        }
        out.clear();
        let login = Login::password(Mechanism::USER, user.as_bytes(), password.as_bytes()).expect("plain words");
        let sent = back.login(&login, &mut out);
        assert_eq!(sent, if fits { Ok(()) } else { Err(BackFault::TooLong(255)) });
        assert_eq!(out.len(), if fits { 255 } else { 0 });
    }
}

#[test]
fn nobody_is_in_before_the_credentials_were_said() {
    let capa = b"+OK list\r\nSASL LOGIN CRAM-MD5\r\n.\r\n";
    let name = Login::password(Mechanism::LOGIN, b"joe", b"secret").expect("plain words");
    for (login, answers) in [
        (&name, &[&b"+OK ready\r\n"[..], capa, b"+OK in\r\n"][..]),
        (&name, &[b"+OK ready\r\n", capa, b"+ VXNlcm5hbWU6\r\n", b"+OK in\r\n"]),
        (&logins()[2], &[b"+OK ready\r\n", capa, b"+OK in\r\n"]),
    ] {
        let (steps, said) = talk(answers, login, &[usize::MAX]);
        assert_eq!(steps.last().map(String::as_str), Some("garbage"), "{said}");
    }
}

#[test]
fn what_stands_behind_an_acceptance_is_left_to_the_session() {
    let (mut back, mut input, mut out) = (Pop3Back::new(back_settings()), BytesMut::new(), BytesMut::new());
    for answer in ["+OK\r\n", "-ERR\r\n", "+OK\r\n"] {
        input.extend_from_slice(answer.as_bytes());
        if let Ok(BackStep::Ready(_)) = back.next(&mut input, &mut out) {
            back.login(&logins()[0], &mut out).expect("a way in");
        }
    }
    input.extend_from_slice(b"+OK in\r\n+OK 1 2\r\n");
    assert!(matches!(back.next(&mut input, &mut out), Ok(BackStep::Accepted(_))));
    assert!(matches!(back.next(&mut input, &mut out), Ok(BackStep::More)));
    assert_eq!(&input[..], b"+OK 1 2\r\n");
}

#[test]
fn a_connection_on_which_more_came_behind_a_verdict_takes_no_second_login() {
    let login = &logins()[0];
    let answers = [&b"+OK\r\n"[..], b"-ERR\r\n", b"+OK\r\n", b"-ERR wrong\r\n+OK signing off\r\n"];
    let (steps, said) = talk(&answers, login, &[usize::MAX]);
    assert!(steps[1].starts_with("Ok(Rejected"), "{steps:?}");
    assert_eq!(steps[2], "Unsolicited");
    assert_eq!(said, "CAPA\\r\\nUSER joe\\r\\nPASS secret\\r\\n");
}
