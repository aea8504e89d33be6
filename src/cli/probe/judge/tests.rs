use super::*;
use crate::cli::probe::versions::Version;
use crate::tls::Facts;

fn target(text: &str) -> Target {
    text.parse().expect("a server")
}

/// What the protocol's list with these words comes to.
fn list(words: &str, mechanisms: &[Mechanism], login_command: bool) -> Capabilities {
    let lines = words.split(',').filter(|line| !line.is_empty()).map(str::to_owned).collect();
    Capabilities { lines, mechanisms: mechanisms.to_vec(), login_command, apop: None }
}

fn judged(url: &str, seen: &Seen) -> Vec<Finding> {
    judge(&target(url), seen, SystemTime::UNIX_EPOCH)
}

/// The grade of what was looked at under this name; there must be one finding of that name.
#[track_caller]
fn grade(findings: &[Finding], code: &str) -> Grade {
    let mut named = findings.iter().filter(|finding| finding.code == code);
    let found = named.next().unwrap_or_else(|| panic!("no {code} in {findings:?}"));
    assert_eq!(named.next(), None, "{code} once");
    found.grade
}

#[test]
fn passwords_in_the_clear_are_bad_on_every_protocol() {
    use Grade::{Bad, Ok};
    let [plain, login, cram] = [Mechanism::PLAIN, Mechanism::LOGIN, Mechanism::CRAM_MD5];
    for (url, before, expected) in [
        ("imap://h", list("IMAP4rev1,STARTTLS,LOGINDISABLED", &[], false), Ok),
        ("imap://h", list("IMAP4rev1,STARTTLS", &[], true), Bad),
        ("imap://h", list("IMAP4rev1,STARTTLS,LOGINDISABLED,AUTH=PLAIN", std::slice::from_ref(&plain), false), Bad),
        ("pop3://h", list("STLS,USER", &[], true), Bad),
        ("pop3://h", list("STLS,SASL PLAIN", std::slice::from_ref(&plain), false), Bad),
        ("pop3://h", list("STLS", &[], false), Ok),
        ("submission://h", list("STARTTLS,AUTH LOGIN", &[login], false), Bad),
        ("submission://h", list("STARTTLS,AUTH CRAM-MD5", &[cram], false), Ok),
        ("smtp://h", list("STARTTLS,AUTH PLAIN", &[plain], false), Bad),
        ("smtp://h", list("STARTTLS", &[], false), Ok),
    ] {
        let seen = Seen { before: Some(before), ..Seen::default() };
        let findings = judged(url, &seen);
        assert_eq!(grade(&findings, "plaintext_login"), expected, "{url} {seen:?}");
        assert_eq!(grade(&findings, "starttls"), Ok);
    }
}

#[test]
fn no_starttls_is_bad_for_customers_and_worth_a_look_for_the_world() {
    for (url, expected) in
        [("imap://h", Grade::Bad), ("pop3://h", Grade::Bad), ("submission://h", Grade::Bad), ("smtp://h", Grade::Warn)]
    {
        let seen = Seen { before: Some(list("", &[], false)), ..Seen::default() };
        assert_eq!(grade(&judged(url, &seen), "starttls"), expected, "{url}");
    }
}

fn facts(version: &'static str) -> Option<Facts> {
    let cipher = "TLS_AES_128_GCM_SHA256";
    Some(Facts { version, cipher, group: None, sni: None, alpn: None, resumed: false, client: None })
}

#[test]
fn old_versions_are_bad_named_together_and_silence_is_no_refusal() {
    use Answer::{Refused, Taken, Unknown};
    let answers = |answers: [Answer; 4]| Version::ALL.into_iter().zip(answers).collect::<Vec<_>>();
    for (given, grades, words) in [
        ([Refused, Refused, Refused, Taken], &[Grade::Ok][..], "it refuses SSL 3.0, TLS 1.0 and TLS 1.1"),
        ([Refused, Taken, Taken, Taken], &[Grade::Bad], "it still speaks TLS 1.0 and TLS 1.1,"),
        ([Taken, Refused, Refused, Refused], &[Grade::Bad], "it still speaks SSL 3.0,"),
        ([Unknown, Refused, Refused, Taken], &[Grade::Warn, Grade::Ok], "whether it speaks SSL 3.0 is not known"),
    ] {
        let seen = Seen { versions: answers(given), tls: facts("1.3"), ..Seen::default() };
        let findings = judged("imaps://h", &seen);
        let old: Vec<_> = findings.iter().filter(|finding| finding.code == "old_tls").collect();
        assert_eq!(old.iter().map(|finding| finding.grade).collect::<Vec<_>>(), grades, "{old:?}");
        assert!(old[0].text.starts_with(words), "{old:?}");
    }
    let seen = Seen { versions: answers([Refused; 4]), tls: facts("1.2"), ..Seen::default() };
    assert_eq!(grade(&judged("imaps://h", &seen), "tls13"), Grade::Warn);
}

fn presented(trusted: bool, findings: Vec<ChainFinding>) -> Seen {
    let link = tls::Link {
        subject: "mail.example.net".to_owned(),
        issuer: "CN=Somebody".to_owned(),
        not_before: SystemTime::UNIX_EPOCH,
        not_after: SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(40 * 24 * 3600),
        key: "ECDSA P-256".to_owned(),
        signature: "ECDSA with SHA-256".to_owned(),
    };
    let trust = if trusted { Ok(()) } else { Err("its certificate leads nowhere".to_owned()) };
    let presented = Presented { names: Vec::new(), covers: true, trust, chain: vec![link], findings };
    Seen { presented: Some(Ok(presented)), ..Seen::default() }
}

#[test]
fn a_certificate_is_weighed_as_a_client_weighs_it() {
    use Grade::{Bad, Ok, Warn};
    let (file, subject, not_after) = (std::path::PathBuf::from("it"), "s".to_owned(), SystemTime::UNIX_EPOCH);
    let [own, stranger, order, soon, over, alone] = [
        ChainFinding::SelfSigned { file: file.clone(), subject: subject.clone() },
        ChainFinding::Stranger { file: file.clone(), subject: subject.clone() },
        ChainFinding::WrongOrder { file: file.clone() },
        ChainFinding::ExpiresSoon { file: file.clone(), subject: subject.clone(), not_after },
        ChainFinding::Expired { file: file.clone(), subject, not_after },
        ChainFinding::Incomplete { file, issuer: "CN=Somebody".to_owned() },
    ];
    for (trusted, wrong, expected) in [
        (true, vec![], &[(Ok, "certificate")][..]),
        (false, vec![], &[(Bad, "unknown_issuer")]),
        (true, vec![own.clone()], &[(Ok, "certificate")]),
        (false, vec![own], &[(Bad, "self_signed")]),
        (true, vec![alone.clone()], &[(Ok, "certificate")]),
        (false, vec![alone], &[(Bad, "incomplete_chain")]),
        (true, vec![stranger, soon.clone()], &[(Warn, "stranger_in_chain"), (Warn, "expires_soon")]),
        (true, vec![order], &[(Warn, "wrong_order")]),
        (false, vec![over, soon], &[(Bad, "expired"), (Bad, "unknown_issuer"), (Warn, "expires_soon")]),
    ] {
        let findings = judged("imaps://mail.example.net", &presented(trusted, wrong));
        let seen: Vec<_> = findings.iter().map(|finding| (finding.grade, finding.code)).collect();
        assert_eq!(seen, expected, "trusted: {trusted}");
    }
    let good = judged("imaps://mail.example.net", &presented(true, vec![]));
    assert!(good[0].text.ends_with("good for 40 more days"), "{good:?}");
    let none = Seen { presented: Some(Err(Vec::new())), ..Seen::default() };
    assert_eq!(grade(&judged("imaps://h", &none), "no_certificate"), Bad);
}

#[test]
fn what_is_missed_under_tls() {
    let whole = "SIZE 10,8BITMIME,PIPELINING,AUTH PLAIN";
    let plain = [Mechanism::PLAIN];
    for (url, after, code, expected) in [
        ("smtps://h", list(whole, &[], false), "login", Some(Grade::Bad)),
        ("smtps://h", list(whole, &[Mechanism::CRAM_MD5], false), "login", Some(Grade::Warn)),
        ("smtps://h", list(whole, &plain, false), "login", None),
        ("smtp://h", list(whole, &[], false), "login", None),
        ("smtps://h", list(whole, &plain, false), "capabilities", None),
        ("smtps://h", list("SIZE", &plain, false), "capabilities", Some(Grade::Warn)),
        ("imaps://h", list("IMAP4rev1,LOGINDISABLED", &[], false), "login", Some(Grade::Bad)),
        ("imaps://h", list("IMAP4rev1,IDLE", &[], true), "capabilities", Some(Grade::Ok)),
        ("imaps://h", list("IMAP4rev1,IDLE,UIDPLUS", &[], true), "capabilities", None),
        ("pop3s://h", list("USER", &[], true), "capabilities", Some(Grade::Warn)),
        ("pop3s://h", list("USER,UIDL", &[], true), "capabilities", None),
        ("pop3s://h", list("", &[], true), "capabilities", None),
        ("imap://h", list("IMAP4rev1,STARTTLS", &[], true), "starttls_under_tls", Some(Grade::Warn)),
        ("pop3://h", list("STLS,USER,UIDL", &[], true), "starttls_under_tls", Some(Grade::Warn)),
        ("imap://h", list("IMAP4rev1", &[], true), "starttls_under_tls", None),
    ] {
        let findings = judged(url, &Seen { after: Some(after), ..Seen::default() });
        let found = findings.iter().find(|finding| finding.code == code).map(|finding| finding.grade);
        assert_eq!(found, expected, "{url} {code}: {findings:?}");
    }
}

#[test]
fn the_worst_comes_first_and_counts() {
    let seen = Seen {
        tls: facts("1.2"),
        versions: vec![(Version::Tls10, Answer::Refused)],
        injection: Some(Injection::Run),
        relay: Some(Relay::Unknown("450 later".to_owned())),
        ..Seen::default()
    };
    let findings = judged("submission://h", &seen);
    let codes: Vec<_> = findings.iter().map(|finding| finding.code).collect();
    assert_eq!(codes, ["starttls_injection", "tls13", "old_tls", "open_relay"]);
    assert_eq!(worst(&findings), Grade::Bad);
    assert_eq!(worst(&findings[1..]), Grade::Warn);
    assert_eq!(worst(&[]), Grade::Ok);
}

#[test]
fn a_fault_is_bad_and_says_what_to_do() {
    let tls = || Fault::Tls(std::io::ErrorKind::UnexpectedEof.into());
    let no_tls = || {
        let error = rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType);
        Fault::Tls(std::io::Error::other(error))
    };
    for (fault, code, words) in [
        (Fault::Unreachable("cannot connect".to_owned()), "unreachable", "firewall"),
        (Fault::Timeout("take a connection"), "unreachable", "--timeout"),
        (Fault::Timeout("answer"), "unreachable", "DNS"),
        (Fault::TurnedAway("421 busy".to_owned()), "turned_away", "421 busy"),
        (Fault::Garbage("IMAP", "SSH-2.0".to_owned()), "wrong_protocol", "right port"),
        (Fault::NoStartTls("454 no".to_owned()), "starttls", "certificate or key"),
        (Fault::Unsolicited, "starttls", "in the clear"),
        (tls(), "tls", "TLS 1.2 or 1.3"),
        (no_tls(), "tls", "STARTTLS"),
        (Fault::Closed, "broken_off", "closed"),
    ] {
        let findings = judged("imaps://h", &Seen { fault: Some(fault), ..Seen::default() });
        assert_eq!(grade(&findings, code), Grade::Bad);
        assert!(findings[0].text.contains(words), "{findings:?}");
    }
    let preauth = Seen { greeting: Some("* PREAUTH hello".to_owned()), ..Seen::default() };
    assert_eq!(grade(&judged("imap://h", &preauth), "preauth"), Grade::Bad);
}

#[test]
fn a_relay_open_from_here_is_bad() {
    for (relay, expected) in [
        (Relay::Open("250 ok".to_owned()), Grade::Bad),
        (Relay::Closed("554 no".to_owned()), Grade::Ok),
        (Relay::Unknown("450 later".to_owned()), Grade::Ok),
    ] {
        let findings = judged("smtp://h", &Seen { relay: Some(relay), ..Seen::default() });
        assert_eq!(grade(&findings, "open_relay"), expected);
    }
}
