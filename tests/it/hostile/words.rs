//! What is said before a login and is no way to log in: too much, too often, malformed. It is cut off or answered, it
//! reaches no backend, and whoever errs within reason may still log in.

use super::{base64, gateway, service};
use crate::gateway::Gateway;
use crate::mail::{PROTOCOLS, greeting, log_in, welcome};
use crate::talk::Talk;
use gatepost::proto::{Protocol, TlsRule};

/// The same session logs in, and that is all a backend has heard.
async fn logs_in(gateway: &Gateway, mut client: Talk, protocol: Protocol, what: &str) {
    log_in(&mut client, protocol, "secret").await;
    let heard = client.next_line().await.unwrap_or_else(|end| panic!("{what}: {end}"));
    let word = welcome(protocol).trim_end_matches("<*>");
    assert!(heard.starts_with(word), "{protocol:?} {what}: {heard}");
    gateway.event("auth.ok", "user=joe").await;
    client.end().await;
    let _ = client.rest().await;
}

fn is_only_a_login(line: &str) -> bool {
    let login = [r#" LOGIN \"joe\" \"secret\""#, "USER joe", "PASS secret", "AUTH PLAIN AGpvZQBzZWNyZXQ="];
    login.iter().any(|login| line.ends_with(login))
}

#[tokio::test]
async fn ten_thousand_commands_that_are_none_are_cut_off_after_twenty() {
    for protocol in PROTOCOLS {
        for tls in [TlsRule::Off, TlsRule::StartTls] {
            let (gateway, old) = gateway(service(protocol), tls).await;
            let commands = match protocol {
                Protocol::Imap => ["a FROBNICATE\r\n", "a SELECT inbox\r\n", "a LOGIN\r\n", "(\r\n", "\r\n"],
                Protocol::Pop3 => ["FROBNICATE\r\n", "RETR 1\r\n", "PASS\r\n", "(\r\n", "\r\n"],
                Protocol::Smtp => ["FROBNICATE\r\n", "MAIL FROM:<>\r\n", "AUTH\r\n", "(\r\n", "\r\n"],
            };
            for command in commands {
                let mut client = gateway.plain().await;
                client.hear(greeting(protocol)).await;
                client.say(command.repeat(10_000)).await;
                client.end().await;
                let mut answers = 0;
                // The end may be a reset: most of what was sent is not read.
                while client.next_line().await.is_ok() {
                    answers += 1;
                }
                assert!((20..=22).contains(&answers), "{protocol:?} {command:?}: {answers}");
                gateway.event("session.closed", "").await;
            }
            gateway.is_empty().await;
            assert_eq!((old.commands(), old.dialled()), (Vec::new(), 1), "{protocol:?}");
        }
    }
}

#[tokio::test]
async fn a_literal_of_no_size_or_any_size_is_answered_and_the_session_logs_in() {
    let (gateway, old) = gateway(service(Protocol::Imap), TlsRule::Off).await;
    for (size, answer) in [
        ("{4097}", "x NO [TOOBIG] <*>"),
        ("{2147483647}", "x NO [TOOBIG] <*>"),
        ("{2147483648}", "x NO [TOOBIG] <*>"),
        ("{4294967295}", "x NO [TOOBIG] <*>"),
        ("{4294967296}", "x NO [TOOBIG] <*>"),
        ("{4294967301}", "x NO [TOOBIG] <*>"),
        ("{18446744073709551615}", "x NO [TOOBIG] <*>"),
        ("{18446744073709551616}", "x NO [TOOBIG] <*>"),
        ("{18446744073709551621}", "x NO [TOOBIG] <*>"),
        ("{100000000000000000000}", "x NO [TOOBIG] <*>"),
        ("{00000000000000005000}", "x NO [TOOBIG] <*>"),
        ("{-1}", "x BAD <*>"),
        ("{-4294967291}", "x BAD <*>"),
        ("{}", "x BAD <*>"),
        ("{+}", "x BAD <*>"),
        ("{ 5}", "x BAD <*>"),
        ("{5 }", "x BAD <*>"),
        ("{+5}", "x BAD <*>"),
        ("{5-}", "x BAD <*>"),
        ("{0x5}", "x BAD <*>"),
        ("{5", "x BAD <*>"),
        ("~{5", "x BAD <*>"),
        ("{\u{ff15}}", "x BAD <*>"),
    ] {
        for command in ["x LOGIN ", "x LOGIN joe "] {
            let mut client = gateway.plain().await;
            client.hear(greeting(Protocol::Imap)).await;
            client.line(&format!("{command}{size}")).await;
            if *answer == *"x BAD <*>" && command.ends_with("joe ") {
                // A password may look like that: it is one of four octets or so, and wrong or not for the backend to say.
                let heard = client.next_line().await.expect("an answer");
                assert!(heard.starts_with("x "), "{size}: {heard}");
                client.end().await;
                let _ = client.rest().await;
                continue;
            }
            client.hear(answer).await;
            logs_in(&gateway, client, Protocol::Imap, size).await;
        }
    }
    // Octets that come unasked are not waited for: nobody reads four gigabytes to say no.
    for size in ["{4097+}", "{4294967295+}", "{18446744073709551616+}", "{100000000000000000000+}"] {
        let mut client = gateway.plain().await;
        client.hear(greeting(Protocol::Imap)).await;
        client.line(&format!("x LOGIN {size}")).await;
        client.hear("x BAD <*>\n* BYE <*>").await;
        client.end().await;
        client.closed().await;
        gateway.event("session.closed", "reason=too_large").await;
    }
    gateway.is_empty().await;
    assert!(old.commands().iter().all(|line| line.contains(" LOGIN ")), "{:?}", old.commands());
}

#[tokio::test]
async fn ten_thousand_parentheses_or_spaces_are_one_error_and_the_session_logs_in() {
    for protocol in PROTOCOLS {
        let (gateway, old) = gateway(service(protocol), TlsRule::Off).await;
        for mark in ["(", ")", " ", "\"", "{", "*", "%", "\\", "<", "=", "[", "\t", "\x7f", "\u{e4}"] {
            for before in match protocol {
                Protocol::Imap => ["x LOGIN ", "x ID ", ""],
                Protocol::Pop3 => ["APOP ", "AUTH ", ""],
                Protocol::Smtp => ["AUTH ", "EHLO", ""],
            } {
                for count in [10_000, 8_000] {
                    let mut client = gateway.plain().await;
                    client.hear(greeting(protocol)).await;
                    client.line(&format!("{before}{}", mark.repeat(count / mark.len()))).await;
                    // An ID is answered whatever it says; its list comes first.
                    let heard = match client.next_line().await.expect("an answer").as_str() {
                        "* ID NIL" => client.next_line().await.expect("an answer"),
                        heard => heard.to_owned(),
                    };
                    let answers = ["x BAD", "x OK", "x NO", "* BAD", "-ERR", "+OK", "50"];
                    assert!(answers.iter().any(|start| heard.starts_with(start)), "{before}{mark}: {heard}");
                    // `AUTH` and spaces is AUTH alone: a list.
                    if heard == "+OK Supported mechanisms follow" || heard.starts_with("+OK") {
                        while client.next_line().await.expect("a list") != "." {}
                    }
                    logs_in(&gateway, client, protocol, &format!("{before}{mark}")).await;
                }
            }
        }
        gateway.is_empty().await;
        assert!(old.commands().iter().all(|line| is_only_a_login(line)), "{:?}", old.commands());
    }
}

#[tokio::test]
async fn a_megabyte_of_base64_is_an_error_and_the_session_logs_in() {
    let megabyte = base64(vec![b'x'; 3 << 18]);
    for protocol in PROTOCOLS {
        let (gateway, old) = gateway(service(protocol), TlsRule::Off).await;
        let auth = if protocol == Protocol::Imap { "x AUTHENTICATE" } else { "AUTH" };
        for (lines, challenges) in [
            (vec![format!("{auth} PLAIN {megabyte}")], 0),
            (vec![format!("{auth} PLAIN"), megabyte.clone()], 1),
            (vec![format!("{auth} LOGIN"), megabyte.clone()], 1),
            (vec![format!("{auth} LOGIN"), base64("joe"), megabyte.clone()], 2),
        ] {
            let mut client = gateway.plain().await;
            client.hear(greeting(protocol)).await;
            for (number, line) in lines.iter().enumerate() {
                client.line(line).await;
                let heard = client.next_line().await.expect("an answer");
                let asked = heard.starts_with("+ ") || heard.starts_with("334");
                assert_eq!(asked, number < challenges, "{heard}");
                let refused = ["x BAD", "* BAD", "-ERR", "500 5.5.2"].iter().any(|no| heard.starts_with(no));
                assert_eq!(refused, number == challenges, "{heard}");
            }
            logs_in(&gateway, client, protocol, "a megabyte").await;
        }
        gateway.is_empty().await;
        assert!(old.commands().iter().all(|line| is_only_a_login(line)), "{:?}", old.commands());
    }
}

#[tokio::test]
async fn a_response_that_is_none_is_an_error_and_the_session_logs_in() {
    for protocol in PROTOCOLS {
        let (gateway, old) = gateway(service(protocol), TlsRule::Off).await;
        let auth = if protocol == Protocol::Imap { "x AUTHENTICATE" } else { "AUTH" };
        let mut wrong: Vec<Vec<u8>> =
            ["!", "*", "=", "====", "A", "AAA=A", "AAAA=", "AGpvZQBzZWNyZ-Q_", "AGpv ZQBzZWNyZXQ="]
                .map(|text| text.as_bytes().to_vec())
                .into();
        wrong.extend([b"AGpv\xe4".to_vec(), b"\xff\xfe".to_vec(), b"* ".to_vec(), b"AGpvZQBz\0ZWNyZXQ=".to_vec()]);
        for fields in [
            &b""[..],
            b"joe",
            b"\0joe",
            b"\0\0",
            b"\0\0secret",
            b"joe\0\0secret",
            b"\0joe\0secret\0",
            b"\0joe\0sec\0ret",
            b"\0\0\0\0\0\0\0",
            b"\0joe\r\n\0secret",
            b"\0joe\0sec\nret",
            b"boss\r\0joe\0secret",
        ] {
            wrong.push(base64(fields).into_bytes());
        }
        for response in wrong {
            for initial in [true, false] {
                // An empty line is an empty response, and no argument is none.
                if initial && (response.is_empty() || response.starts_with(b"*")) {
                    continue;
                }
                let mut client = gateway.plain().await;
                client.hear(greeting(protocol)).await;
                if initial {
                    client.say([auth.as_bytes(), b" PLAIN ", &response, b"\r\n"].concat()).await;
                } else {
                    client.line(&format!("{auth} PLAIN")).await;
                    client.next_line().await.expect("an empty challenge");
                    client.say([&response[..], b"\r\n"].concat()).await;
                }
                let heard = client.next_line().await.expect("an answer");
                let refused = ["x BAD", "-ERR", "501", "500 5.5.2"].iter().any(|no| heard.starts_with(no));
                assert!(refused, "{}: {heard}", response.escape_ascii());
                logs_in(&gateway, client, protocol, &response.escape_ascii().to_string()).await;
            }
        }
        gateway.is_empty().await;
        assert!(old.commands().iter().all(|line| is_only_a_login(line)), "{:?}", old.commands());
    }
}

#[tokio::test]
async fn a_mechanism_nobody_has_is_an_error_and_the_session_logs_in() {
    for protocol in PROTOCOLS {
        let (gateway, old) = gateway(service(protocol), TlsRule::Off).await;
        let auth = if protocol == Protocol::Imap { "x AUTHENTICATE" } else { "AUTH" };
        let long = "A".repeat(41);
        for mechanism in [
            "EXTERNAL",
            "EXTERNAL =",
            "ANONYMOUS",
            "GSSAPI",
            "GSS-SPNEGO",
            "NTLM",
            "SCRAM-SHA-256-PLUS",
            "-PLUS",
            "PLAIN-PLUS",
            "XCLIENT",
            "USER",
            "APOP",
            "X\x01Y",
            "\u{e4}",
            "{5}",
            "../PLAIN",
            "PLAIN,LOGIN",
            &long,
        ] {
            let mut client = gateway.plain().await;
            client.hear(greeting(protocol)).await;
            client.line(&format!("{auth} {mechanism}")).await;
            let heard = client.next_line().await.expect("an answer");
            let refused = ["x NO [CANNOT]", "x BAD", "-ERR", "504 5.5.4"].iter().any(|no| heard.starts_with(no));
            assert!(refused, "{mechanism}: {heard}");
            logs_in(&gateway, client, protocol, mechanism).await;
        }
        gateway.is_empty().await;
        assert!(old.commands().iter().all(|line| is_only_a_login(line)), "{:?}", old.commands());
    }
}

#[tokio::test]
async fn a_bad_login_of_one_session_is_nothing_to_another() {
    for protocol in PROTOCOLS {
        let (gateway, old) = gateway(service(protocol), TlsRule::Off).await;
        let auth = if protocol == Protocol::Imap { "x AUTHENTICATE" } else { "AUTH" };
        let mut bad = gateway.plain().await;
        bad.hear(greeting(protocol)).await;
        // A third in the middle of an exchange with the backend, and a fourth in the middle of one with us.
        let mut challenged = gateway.plain().await;
        challenged.hear(greeting(protocol)).await;
        challenged.line(&format!("{auth} CRAM-MD5")).await;
        let challenge = challenged.next_line().await.expect("a challenge");
        assert!(challenge.ends_with("PDEuMkBvbGQ+"), "{challenge}");
        bad.line(&format!("{auth} LOGIN")).await;
        bad.next_line().await.expect("Username:");
        for wrong in ["!", "*"] {
            let mut good = gateway.plain().await;
            good.hear(greeting(protocol)).await;
            bad.line(wrong).await;
            bad.next_line().await.expect("an error");
            logs_in(&gateway, good, protocol, wrong).await;
            bad.line(&format!("{auth} LOGIN")).await;
            bad.next_line().await.expect("Username:");
        }
        // Its answer goes to its own challenge, whatever the others did meanwhile.
        challenged.line(&base64("ann b913a602c7eda7a495b4e6e7334d3890")).await;
        gateway.event("auth.ok", "user=ann mechanism=CRAM-MD5").await;
        assert_eq!(old.dialled(), 4, "the health check, and each login its own");
    }
}
