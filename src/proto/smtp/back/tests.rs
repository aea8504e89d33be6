use super::*;
use crate::proto::{Credentials, Secret, UserName};
use proptest::prelude::*;

fn machine(ehlo: &str) -> SmtpBack {
    SmtpBack::new(BackSettings { ehlo: ehlo.to_owned(), ..BackSettings::default() })
}

/// Feeds pieces and shows what was written and said: `> line` for the backend, `= step` otherwise.
fn play(back: &mut SmtpBack, pieces: &[&str]) -> Vec<String> {
    let (mut input, mut seen) = (BytesMut::new(), Vec::new());
    for piece in pieces {
        input.extend_from_slice(piece.as_bytes());
        loop {
            let mut out = BytesMut::new();
            let step = back.next(&mut input, &mut out);
            seen.extend(String::from_utf8_lossy(&out).lines().map(|line| format!("> {line}")));
            match step {
                Ok(BackStep::More) => break,
                Ok(BackStep::StartTls) => {
                    seen.push("= TLS".to_owned());
                    // What is left of a piece came behind the go-ahead.
                    let mut out = BytesMut::new();
                    back.secured(&mut out);
                    seen.extend(String::from_utf8_lossy(&out).lines().map(|line| format!("> {line}")));
                }
                Ok(BackStep::Ready(known)) => {
                    seen.push(format!("= ready {:?} {:?}", known.lines, known.mechanisms));
                }
                Ok(BackStep::Accepted(reply)) => seen.push(format!("= accepted {}", reply.to_line())),
                Ok(BackStep::Rejected(reply)) => seen.push(format!("= rejected {}", reply.to_line())),
                Ok(BackStep::Unavailable(reply) | BackStep::InUse(reply)) => {
                    seen.push(format!("= unavailable {}", reply.to_line()));
                }
                Ok(BackStep::Challenge(bytes)) => seen.push(format!("= challenge {}", bytes.escape_ascii())),
                Err(fault) => {
                    seen.push(format!("= fault {fault}"));
                    return seen;
                }
            }
        }
    }
    seen
}

fn logged_in_with(login: &Login, ehlo: &str, replies: &[&str]) -> Vec<String> {
    let mut back = machine("mail.example.net");
    play(&mut back, &["220 old\r\n", ehlo]);
    let mut out = BytesMut::new();
    if let Err(fault) = back.login(login, &mut out) {
        assert!(out.is_empty());
        return vec![format!("= fault {fault}")];
    }
    let mut seen: Vec<String> = String::from_utf8_lossy(&out).lines().map(|line| format!("> {line}")).collect();
    seen.extend(play(&mut back, replies));
    seen
}

fn password(password: &[u8]) -> Login {
    Login::password(Mechanism::PLAIN, b"joe", password).expect("plain words")
}

#[test]
fn the_way_to_ready() {
    let cases: &[(&[&str], &[&str])] = &[
        (
            &[
                "220-old\r\n220 ready\r\n",
                "250-old\r\n250-SIZE 10\r\n250-AUTH PLAIN login\r\n250 AUTH=LOGIN CRAM-MD5\r\n",
            ],
            &[
                "> EHLO mail.example.net",
                "= ready [\"SIZE 10\", \"AUTH PLAIN login\", \"AUTH=LOGIN CRAM-MD5\"] \
                 [Mechanism(\"PLAIN\"), Mechanism(\"LOGIN\"), Mechanism(\"CRAM-MD5\")]",
            ],
        ),
        (
            &["220 old\r\n", "500 what\r\n", "250 old\r\n"],
            &["> EHLO mail.example.net", "> HELO mail.example.net", "= ready [] []"],
        ),
        (&["554 go away\r\n"], &["= fault the backend turned us away: 554 go away"]),
        (&["421 4.3.2 full\r\n"], &["= fault the backend turned us away: 421 4.3.2 full"]),
        (
            &["220 old\r\n", "452 later\r\n"],
            &["> EHLO mail.example.net", "= fault the backend turned us away: 452 later"],
        ),
        (&["HTTP/1.1 200 OK\r\n"], &["= fault the backend does not speak SMTP: HTTP/1.1 200 OK"]),
        (&["250 what\r\n"], &["= fault the backend does not speak SMTP: 250 what"]),
        (&["220 old\r\n250 more\r\n"], &["= fault the backend spoke without being asked"]),
        (
            &["220 old\r\n", "250 old\r\n250"],
            &["> EHLO mail.example.net", "= fault the backend spoke without being asked"],
        ),
        (
            &["220 old\r\n", "250 old\r\n", "250 and more\r\n"],
            &["> EHLO mail.example.net", "= ready [] []", "= fault the backend spoke without being asked"],
        ),
    ];
    for (pieces, expected) in cases {
        assert_eq!(play(&mut machine("mail.example.net"), pieces), *expected, "{pieces:?}");
    }
}

fn play_with(settings: BackSettings, pieces: &[&str]) -> Vec<String> {
    play(&mut SmtpBack::new(BackSettings { ehlo: "gate".to_owned(), ..settings }), pieces)
}

#[test]
fn nothing_goes_in_the_clear_where_tls_is_asked_for_and_nothing_of_it_is_believed() {
    let play = |pieces: &[&str]| play_with(BackSettings { starttls: true, ..BackSettings::default() }, pieces);
    assert_eq!(
        play(&[
            "220 old\r\n",
            "250-old\r\n250-STARTTLS\r\n250 AUTH PLAIN\r\n",
            "220 go ahead\r\n",
            "250-old\r\n250 SIZE 10\r\n"
        ]),
        ["> EHLO gate", "> STARTTLS", "= TLS", "> EHLO gate", "= ready [\"SIZE 10\"] []"]
    );
    for (pieces, end) in [
        (&["220 old\r\n", "250 old\r\n"][..], "= fault the backend takes no TLS: it does not list STARTTLS"),
        (
            &["220 old\r\n", "500 what\r\n", "250 old\r\n"],
            "= fault the backend takes no TLS: it does not list STARTTLS",
        ),
        (
            &["220 old\r\n", "250-old\r\n250 STARTTLS\r\n", "454 4.7.0 no key\r\n"],
            "= fault the backend takes no TLS: STARTTLS is answered with 454 4.7.0 no key",
        ),
        (
            &["220 old\r\n", "250-old\r\n250 STARTTLS\r\n", "220 go\r\n250 AUTH PLAIN\r\n"],
            "= fault the backend spoke without being asked",
        ),
    ] {
        assert_eq!(play(pieces).last().map(String::as_str), Some(end), "{pieces:?}");
    }
}

#[test]
fn a_server_is_told_of_the_client_in_the_attributes_that_it_lists() {
    let client = |address: &str, login: Option<&[u8]>| Introduction::Client {
        address: address.parse().expect("an address of the test"),
        login: login.and_then(|login| UserName::new(login).ok()),
    };
    let play =
        |introduction, pieces: &[&str]| play_with(BackSettings { introduction, ..BackSettings::default() }, pieces);
    let all = "250-old\r\n250 XCLIENT NAME ADDR PROTO HELO REVERSE_NAME PORT LOGIN DESTADDR DESTPORT\r\n";
    for (introduction, ehlo, said) in [
        (client("192.0.2.7:4711", None), all, "> XCLIENT NAME=[UNAVAILABLE] ADDR=192.0.2.7 PORT=4711"),
        (client("[2001:db8::7]:4711", None), "250-old\r\n250 xclient addr\r\n", "> XCLIENT ADDR=IPV6:2001:db8::7"),
        (
            client("192.0.2.7:4711", Some(b"joe+x =\xc3\xbc")),
            "250-old\r\n250 XCLIENT ADDR LOGIN\r\n",
            "> XCLIENT ADDR=192.0.2.7 LOGIN=joe+2Bx+20+3D+C3+BC",
        ),
    ] {
        let seen = play(introduction, &["220 old\r\n", ehlo, "220 anew\r\n", "250-old\r\n250 AUTH PLAIN\r\n"]);
        assert_eq!(seen[..4], ["> EHLO gate", said, "> EHLO gate", "= ready [\"AUTH PLAIN\"] [Mechanism(\"PLAIN\")]"]);
    }
    let not_listed =
        "= fault the backend does not take the client's address by XCLIENT with ADDR, which it does not list";
    for introduction in [client("192.0.2.7:1", None), Introduction::Possible] {
        assert_eq!(play(introduction, &["220 old\r\n", "250 old\r\n"])[1..], [not_listed]);
    }
    let longest = client("[2001:db8::7]:4711", Some(&[b'x'; 255]));
    assert!(play(longest, &["220 old\r\n", all])[1].ends_with(&"x".repeat(255)));
    assert_eq!(
        play(client("192.0.2.7:1", Some(&[0xfc; 255])), &["220 old\r\n", all])[1..],
        ["= fault the name or the password does not fit into the 512 octets of a command"],
        "a user is not made a stranger"
    );
    assert_eq!(play(Introduction::Possible, &["220 old\r\n", all]).len(), 2, "a health check introduces nobody");
    assert_eq!(
        play(client("192.0.2.7:1", None), &["220 old\r\n", all, "550 5.7.0 insufficient authorization\r\n"])[2..],
        [
            "= fault the backend does not take the client's address by XCLIENT, but says 550 5.7.0 insufficient authorization"
        ]
    );
}

#[test]
fn a_name_cannot_bring_a_command_of_its_own() {
    assert_eq!(play(&mut machine("a\r\nMAIL FROM:<>"), &["220 x\r\n"]), ["> EHLO aMAILFROM:<>"]);
    assert_eq!(play(&mut machine(""), &["220 x\r\n"]), ["> EHLO localhost"]);
}

#[test]
fn only_a_word_on_the_credentials_is_a_verdict() {
    for (reply, outcome) in [
        ("235 2.7.0 welcome", "= accepted 235 2.7.0 welcome"),
        ("535 5.7.8 no", "= rejected 535 5.7.8 no"),
        ("550 no", "= rejected 550 no"),
        ("500 what", "= unavailable 500 what"),
        ("501 what", "= unavailable 501 what"),
        ("503 order", "= unavailable 503 order"),
        ("504 5.5.4 mechanism", "= unavailable 504 5.5.4 mechanism"),
        ("530 tls", "= unavailable 530 tls"),
        ("538 tls", "= unavailable 538 tls"),
        ("454 4.7.0 later", "= unavailable 454 4.7.0 later"),
        ("432 change it", "= unavailable 432 change it"),
        ("250 what", "= fault the backend does not speak SMTP: 250 what"),
        ("421 bye", "= fault the backend turned us away: 421 bye"),
    ] {
        let seen = logged_in_with(&password(b"secret"), "250-old\r\n250 AUTH PLAIN\r\n", &[&format!("{reply}\r\n")]);
        assert_eq!(seen, ["> AUTH PLAIN AGpvZQBzZWNyZXQ=", outcome]);
    }
}

#[test]
fn a_login_is_brought_to_what_is_offered() {
    let login = ["> AUTH LOGIN", "> am9l", "> c2VjcmV0", "= accepted 235 ok"];
    let replies = ["334 VXNlcm5hbWU6\r\n", "334 UGFzc3dvcmQ6\r\n", "235 ok\r\n"];
    assert_eq!(logged_in_with(&password(b"secret"), "250-old\r\n250 AUTH LOGIN\r\n", &replies), login);
    let none = "= fault the backend offers no way to take a login by PLAIN";
    assert_eq!(logged_in_with(&password(b"secret"), "250-old\r\n250 AUTH CRAM-MD5\r\n", &[]), [none]);

    let cram = Login { mechanism: Mechanism::CRAM_MD5, credentials: Credentials::Sasl { initial: None } };
    let seen = logged_in_with(&cram, "250-old\r\n250 AUTH CRAM-MD5\r\n", &["334 PDFAeD4=\r\n"]);
    assert_eq!(seen, ["> AUTH CRAM-MD5", "= challenge <1@x>"]);
}

#[test]
fn a_challenge_past_the_script_is_broken_off() {
    let replies = ["334 \r\n", "501 cancelled\r\n"];
    let seen = logged_in_with(&password(b"x"), "250-old\r\n250 AUTH PLAIN\r\n", &replies);
    assert_eq!(seen, ["> AUTH PLAIN AGpvZQB4", "> *", "= unavailable 501 cancelled"]);

    let initial = Some(Secret::new(b"n,,n=joe,r=x".to_vec()));
    let scram = Mechanism::parse(b"SCRAM-SHA-256").expect("a name");
    let login = Login { mechanism: scram, credentials: Credentials::Sasl { initial } };
    let seen = logged_in_with(&login, "250-old\r\n250 AUTH SCRAM-SHA-256\r\n", &["334 !!!\r\n"]);
    assert_eq!(seen, ["> AUTH SCRAM-SHA-256 biwsbj1qb2Uscj14", "> *"]);
}

#[test]
fn nobody_gets_in_by_credentials_that_were_not_said() {
    let cram = Login { mechanism: Mechanism::CRAM_MD5, credentials: Credentials::Sasl { initial: None } };
    let seen = logged_in_with(&cram, "250-old\r\n250 AUTH CRAM-MD5\r\n", &["235 ok\r\n"]);
    assert_eq!(seen[1..], ["= fault the backend does not speak SMTP: 235 before all of the credentials"]);
    for (replies, fault) in [
        (&["235 ok\r\n"][..], "= fault the backend does not speak SMTP: 235 before all of the credentials"),
        (
            &["334 VXNlcm5hbWU6\r\n", "235 ok\r\n"],
            "= fault the backend does not speak SMTP: 235 before all of the credentials",
        ),
        (&["334 VXNlcm5hbWU6\r\n235 ok\r\n"], "= fault the backend spoke without being asked"),
    ] {
        let seen = logged_in_with(&password(b"secret"), "250-old\r\n250 AUTH LOGIN\r\n", replies);
        assert_eq!(seen.last().map(String::as_str), Some(fault), "{replies:?}");
    }
}

#[test]
fn a_long_initial_response_goes_on_a_line_of_its_own() {
    let seen = logged_in_with(&password(&[b'x'; 400]), "250-old\r\n250 AUTH PLAIN\r\n", &["334\r\n", "235 ok\r\n"]);
    assert_eq!(seen[0], "> AUTH PLAIN");
    assert!(seen[1].len() > 500);
    assert_eq!(seen[2], "= accepted 235 ok");
}

#[test]
fn a_server_that_hangs_up_behind_its_verdict_gave_it_first() {
    let seen = logged_in_with(&password(b"x"), "250-old\r\n250 AUTH PLAIN\r\n", &["535 no\r\n421 too many\r\n"]);
    assert_eq!(seen[1..], ["= rejected 535 no", "= fault the backend turned us away: 421 too many"]);
}

#[test]
fn an_endless_list_is_cut() {
    let ehlo = format!("250-old\r\n{}250 END\r\n", "250-X\r\n".repeat(1000));
    let (mut back, mut out) = (machine("x"), BytesMut::new());
    assert!(matches!(back.next(&mut BytesMut::from("220 old\r\n"), &mut out), Ok(BackStep::More)));
    let ready = back.next(&mut BytesMut::from(ehlo.as_str()), &mut out);
    assert!(matches!(ready, Ok(BackStep::Ready(known)) if known.lines.len() == MAX_LINES));
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80), state in 0..3usize) {
        let mut back = machine("x");
        let mut input = BytesMut::from(["", "220 x\r\n", "220 x\r\n250 x\r\n"][state]);
        let mut out = BytesMut::new();
        let _ = back.next(&mut input, &mut out);
        input.extend_from_slice(&bytes);
        while let Ok(step) = back.next(&mut input, &mut out) {
            if matches!(step, BackStep::More) { break; }
        }
    }
}
