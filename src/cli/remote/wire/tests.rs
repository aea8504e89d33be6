use super::*;
use tokio::io::{DuplexStream, duplex};

/// A wire whose server says `script` as soon as something is read from it, and then waits or hangs up.
fn wire(protocol: Protocol, script: &str, hangs_up: bool) -> (Wire<DuplexStream>, DuplexStream) {
    let (ours, mut theirs) = duplex(1 << 20);
    let script = script.as_bytes().to_vec();
    let (held, kept) = duplex(1);
    tokio::spawn(async move {
        theirs.write_all(&script).await.expect("room for it");
        if !hangs_up {
            // Silent until the test is over.
            let _ = { held }.read_u8().await;
        }
    });
    (Wire::over(ours, protocol, Duration::from_secs(5)), kept)
}

async fn greeting(protocol: Protocol, script: &str) -> Result<String, Fault> {
    let (mut wire, _kept) = wire(protocol, script, true);
    wire.greeting().await
}

#[tokio::test(start_paused = true)]
async fn a_greeting_is_the_protocols_or_a_fault_with_its_name() {
    for (protocol, script, expected) in [
        (Protocol::Imap, "* OK hello\r\n", "* OK hello"),
        (Protocol::Imap, "* OK Waiting for authentication process to respond..\r\n* OK hello\r\n", "* OK hello"),
        (Protocol::Pop3, "+OK <1@h>\r\n", "+OK <1@h>"),
        (Protocol::Smtp, "220-a\r\n220 b\r\n", "220 a b"),
        (Protocol::Imap, "* OK \x1b[2J\r\n", "* OK \\u{1b}[2J"),
    ] {
        assert_eq!(greeting(protocol, script).await.expect(script), expected);
    }
    for (protocol, script, expected) in [
        (Protocol::Imap, "* BYE busy\r\n", "turns us away: * BYE busy"),
        (Protocol::Pop3, "-ERR busy\r\n", "turns us away: -ERR busy"),
        (Protocol::Smtp, "421 busy\r\n", "turns us away: 421 busy"),
        (Protocol::Imap, "220 hello\r\n", "does not speak IMAP: 220 hello"),
        (Protocol::Smtp, "HTTP/1.1 400\r\n", "does not speak SMTP: HTTP/1.1 400"),
        (Protocol::Pop3, "", "closed the connection"),
        (Protocol::Pop3, "+OK half", "closed the connection"),
    ] {
        let fault = greeting(protocol, script).await.expect_err(script).to_string();
        assert!(fault.contains(expected), "{script}: {fault}");
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_waited_for_or_read_without_end() {
    for protocol in [Protocol::Imap, Protocol::Pop3, Protocol::Smtp] {
        let (mut silent, _kept) = wire(protocol, "", false);
        assert!(matches!(silent.greeting().await, Err(Fault::Timeout("answer"))));
        let (mut endless, _kept) = wire(protocol, &"2".repeat(100_000), false);
        assert!(matches!(endless.greeting().await, Err(Fault::TooLarge)), "{protocol:?}");
    }
    for (protocol, line) in [(Protocol::Imap, "* X\r\n"), (Protocol::Pop3, "+OK\r\n"), (Protocol::Smtp, "250-x\r\n")] {
        let (mut endless, _kept) = wire(protocol, &line.repeat(20_000), false);
        assert!(matches!(endless.capabilities("x").await, Err(Fault::TooLarge)), "{protocol:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_lists_are_understood() {
    for (protocol, script, lines, mechanisms, login) in [
        (Protocol::Imap, "* CAPABILITY IMAP4rev1 AUTH=PLAIN LOGINDISABLED\r\nc OK\r\n", 3, "PLAIN", false),
        (Protocol::Imap, "* capability IMAP4\r\nc OK\r\n", 1, "", true),
        (Protocol::Imap, "c BAD what?\r\n", 0, "", true),
        (Protocol::Pop3, "+OK\r\nSASL PLAIN LOGIN\r\nUIDL\r\n.\r\n", 2, "PLAIN LOGIN", false),
        (Protocol::Pop3, "+OK\r\nUSER\r\n.\r\n", 1, "", true),
        (Protocol::Pop3, "-ERR what?\r\n", 0, "", true),
        (Protocol::Smtp, "250-h\r\n250-SIZE 10\r\n250 AUTH CRAM-MD5 PLAIN\r\n", 2, "CRAM-MD5 PLAIN", false),
        (Protocol::Smtp, "250-h\r\n250 AUTH=LOGIN\r\n", 1, "LOGIN", false),
        (Protocol::Smtp, "500 what?\r\n250 h\r\n", 0, "", false),
    ] {
        let (mut wire, _kept) = wire(protocol, script, false);
        let known = wire.capabilities("x").await.expect(script);
        let names: Vec<_> = known.mechanisms.iter().map(Mechanism::as_str).collect();
        assert_eq!(
            (known.lines.len(), names.join(" ").as_str(), known.login_command),
            (lines, mechanisms, login),
            "{script}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_goodbye_gathers_what_comes_and_ends() {
    let (imap, _kept) = wire(Protocol::Imap, "x OK NOOP\r\n* BYE\r\nq OK\r\n", false);
    assert_eq!(imap.goodbye().await, ["x OK NOOP", "* BYE", "q OK"]);
    let (gone, _kept) = wire(Protocol::Smtp, "", true);
    assert!(gone.goodbye().await.is_empty());
}
