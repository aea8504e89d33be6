//! Bytes in names, passwords, tags and greetings that mean something to whoever reads them next: the server behind, the
//! log, the metrics, the control socket, the client itself.

use super::old::{Old, Reads};
use super::{base64, gateway, service};
use crate::gateway::{Gateway, Log, Setup};
use crate::mail::{PROTOCOLS, greeting};
use gatepost::observe::{Observe, Style};
use gatepost::proto::{Protocol, Service, TlsRule};
use regex::Regex;
use serde_json::Value;
use tracing::Level;

/// Stands in everything that is tried, and may come back in no answer, label or status.
const MARK: &str = "zqxj";

/// What somebody may put into a name.
fn evils() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> =
        (0x00..0x20).chain(0x7f..0xa0).chain([0xff, 0xfe, 0xc0]).map(|byte| vec![byte]).collect();
    let texts = [
        "\u{85}",
        "\u{2028}",
        "\u{2029}",
        "\u{202e}",
        "\u{200f}",
        "\u{e4}\u{4e2d}\u{1f600}",
        "\x1b]0;owned\x07\x1b[2J\x1b[31m",
        "\"",
        "\\",
        "\\\"",
        "\" \"secret\"",
        "\\\" \\\"secret\\\"",
        "{5}",
        "{5+}",
        "{0}\r\nx LOGOUT",
        "\r\nDELE 1",
        "\nDELE 1",
        "\rDELE 1",
        "\r\nMAIL FROM:<>",
        "\r\nXCLIENT ADDR=127.0.0.1",
        "\0",
        "\0root\0",
        "%s%n%00",
        "${jndi:ldap://x}",
        "$(id)",
        "`id`",
        "' OR 1=1 --",
        "*)(uid=*",
        "*",
        "(",
        "joe smith",
        "\",\"event\":\"auth.ok\",\"x\":\"",
        "\"}\n{\"event\":\"auth.ok\",\"user\":\"root\"}",
        "\n2027-01-01T00:00:00Z auth.ok root",
        "\"} 1\ngatepost_auth_total{listener=\"x",
        "<script>alert(1)</script>",
        "../../etc/passwd",
    ];
    all.extend(texts.map(|text| text.as_bytes().to_vec()));
    all.push(vec![b'y'; 300]);
    all.iter().map(|evil| [MARK.as_bytes(), evil, b"e"].concat()).collect()
}

/// What a client sends, and the lines a server behind may hear of it.
struct Attempt {
    wire: Vec<u8>,
    heard: Vec<Vec<u8>>,
}

/// The ways to hand over a name or a password.
fn attempts(protocol: Protocol, evil: &[u8]) -> Vec<Attempt> {
    let splits = evil.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0));
    let (joe, good) = (&b"joe"[..], &b"secret"[..]);
    let mut all = Vec::new();
    let mut add = |wire: Vec<u8>, heard: Vec<Vec<u8>>| {
        // Where such a byte is inside a line of the client's own, it ends it: what is behind is another command.
        all.push(Attempt { wire, heard: if splits { Vec::new() } else { heard } });
    };
    let auth = if protocol == Protocol::Imap { &b"a AUTHENTICATE"[..] } else { b"AUTH" };
    for (user, password) in [(evil, good), (joe, evil)] {
        let heard = || match protocol {
            Protocol::Imap => vec![[b"g1 LOGIN ", &imap_string(user)[..], b" ", &imap_string(password)].concat()],
            // A line past RFC 2449's 255 octets could be two commands to an old server.
            Protocol::Pop3 if user.len().max(password.len()) > 248 => Vec::new(),
            Protocol::Pop3 => vec![[b"USER ", user].concat(), [b"PASS ", password].concat()],
            Protocol::Smtp => {
                vec![format!("AUTH PLAIN {}", base64([b"\0", user, b"\0", password].concat())).into_bytes()]
            }
        };
        let plain = base64([b"\0", user, b"\0", password].concat());
        add([auth, b" PLAIN ", plain.as_bytes(), b"\r\n"].concat(), heard());
        add([auth, b" PLAIN\r\n", plain.as_bytes(), b"\r\n"].concat(), heard());
        let (user64, password64) = (base64(user), base64(password));
        add([auth, b" LOGIN\r\n", user64.as_bytes(), b"\r\n", password64.as_bytes(), b"\r\n"].concat(), heard());
        match protocol {
            Protocol::Imap => {
                add([b"a LOGIN ", &literal(user)[..], b" ", &literal(password), b"\r\n"].concat(), heard());
                add([b"a LOGIN ", &quoted(user)[..], b" ", &quoted(password), b"\r\n"].concat(), heard());
            }
            Protocol::Pop3 if !splits => {
                add([b"USER ", user, b"\r\nPASS ", password, b"\r\n"].concat(), heard());
            }
            _ => {}
        }
    }
    // The digest of CRAM-MD5 belongs to the backend's challenge: its line passes as base64, whatever is in it.
    let response = base64([evil, b" b913a602c7eda7a495b4e6e7334d3890"].concat()).into_bytes();
    let asked = match protocol {
        Protocol::Imap => "g1 AUTHENTICATE CRAM-MD5",
        _ => "AUTH CRAM-MD5",
    };
    all.push(Attempt {
        wire: [auth, b" CRAM-MD5\r\n", &response, b"\r\n"].concat(),
        heard: vec![asked.into(), response],
    });
    // Another's name beside one's own: a server behind that takes passwords alone is not told.
    let as_other = base64([evil, b"\0joe\0secret"].concat());
    let heard =
        if protocol == Protocol::Smtp && !splits { vec![format!("AUTH PLAIN {as_other}").into()] } else { vec![] };
    all.push(Attempt { wire: [auth, b" PLAIN ", as_other.as_bytes(), b"\r\n"].concat(), heard });
    // What is no login at all.
    for (before, behind) in match protocol {
        Protocol::Imap => [("a AUTHENTICATE ", ""), ("a ", ""), ("a ID (\"name\" \"", "\")")],
        Protocol::Pop3 => [("AUTH ", ""), ("", ""), ("CAPA ", "")],
        Protocol::Smtp => [("AUTH ", ""), ("", ""), ("EHLO ", "")],
    } {
        let wire = [before.as_bytes(), evil, behind.as_bytes(), b"\r\n"].concat();
        all.push(Attempt { wire, heard: Vec::new() });
    }
    all
}

fn literal(string: &[u8]) -> Vec<u8> {
    [format!("{{{}+}}\r\n", string.len()).as_bytes(), string].concat()
}

fn quoted(string: &[u8]) -> Vec<u8> {
    let escaped = string.iter().flat_map(|&b| if b"\"\\".contains(&b) { vec![b'\\', b] } else { vec![b] });
    [vec![b'"'], escaped.collect(), vec![b'"']].concat()
}

/// As a server behind hears it: a literal, its announcement before it, where quotes could be misread.
fn imap_string(string: &[u8]) -> Vec<u8> {
    let plain = string.len() <= 256 && string.iter().all(|b| (b' '..=b'~').contains(b) && !b"\"\\".contains(b));
    if plain { quoted(string) } else { [format!("{{{}}}", string.len()).as_bytes(), string].concat() }
}

/// Plays all of them, and gives what the backend should have heard.
async fn play_all(gateway: &Gateway, protocol: Protocol) -> Vec<String> {
    let mut expected = Vec::new();
    for evil in evils() {
        for attempt in attempts(protocol, &evil) {
            let mut client = gateway.plain().await;
            client.hear(greeting(protocol)).await;
            client.say(&attempt.wire).await;
            client.end().await;
            let heard = client.rest().await.expect("a proper end");
            let heard = String::from_utf8(heard).expect("our words are text");
            assert!(!heard.contains(MARK), "{} is reflected in {heard}", attempt.wire.escape_ascii());
            assert!(!heard.chars().any(|c| c.is_control() && !"\r\n".contains(c)), "{heard:?}");
            expected.extend(attempt.heard.iter().map(|line| line.escape_ascii().to_string()));
        }
    }
    gateway.is_empty().await;
    expected.sort();
    expected
}

#[tokio::test]
async fn no_byte_in_a_name_or_password_builds_a_command_a_log_line_a_label_or_an_answer() {
    for protocol in PROTOCOLS {
        let (gateway, old) = gateway(service(protocol), TlsRule::Off).await;
        let expected = play_all(&gateway, protocol).await;
        let mut heard = old.commands();
        heard.sort();
        for (heard, expected) in heard.iter().zip(&expected) {
            assert_eq!(heard, expected, "{protocol:?}");
        }
        assert_eq!(heard.len(), expected.len(), "{protocol:?}");

        let logged = gateway.logged();
        let mut accepted = 0;
        for line in logged.split_terminator('\n') {
            let event: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            assert!(event.is_object() && event["time"].is_string(), "{line}");
            assert!(!line.chars().any(is_unfit), "{line:?}");
            assert!(!line.contains("\"user\":\"root\""), "{line}");
            accepted += usize::from(event["event"] == "auth.ok");
            assert!(event["user"].as_str().is_none_or(|user| user.len() <= 255), "{line}");
        }
        // Each login one event: none was forged, none swallowed.
        let logins = match protocol {
            Protocol::Pop3 => expected.iter().filter(|line| line.starts_with("PASS ") || is_cram(line)).count(),
            _ => expected
                .iter()
                .filter(|line| line.contains(" LOGIN ") || line.contains(" PLAIN ") || is_cram(line))
                .count(),
        };
        assert_eq!(accepted, logins, "{protocol:?}");

        check_metrics(&gateway.rendered());
        let status = serde_json::to_string(&gateway.server.status().await).expect("plain data");
        assert!(!status.contains(MARK) && !status.chars().any(is_unfit), "{status}");
        serde_json::from_str::<Value>(&status).expect("JSON");
    }
}

fn is_cram(line: &str) -> bool {
    line.ends_with("CRAM-MD5")
}

/// What turns a terminal or begins another line.
fn is_unfit(c: char) -> bool {
    c.is_control() || ('\u{2028}'..='\u{202e}').contains(&c) || c == '\u{200f}'
}

#[tokio::test]
async fn no_byte_in_a_name_or_password_turns_a_line_of_text() {
    let begins = Regex::new(r"^\d\d:\d\d:\d\d\.\d{3} (auth|session|backend|certificate|config|message|tls|connection|ban|info|debug|warn|trace)[. ]")
        .expect("a pattern");
    for protocol in PROTOCOLS {
        let old = Old::serve(protocol, Reads::Sloppy).await;
        let log = Log::default();
        let observe = Observe::with_style(Box::new(log.clone()), Style::Text { color: false }, Level::TRACE);
        let setup = Setup::one(service(protocol), TlsRule::Off, old.address);
        let gateway = setup.start_observed(observe, log).await;
        gateway.has_learned().await;
        play_all(&gateway, protocol).await;
        let logged = gateway.logged();
        for line in logged.split_terminator('\n') {
            assert!(begins.is_match(line), "{line:?}");
            assert!(!line.chars().any(is_unfit), "{line:?}");
        }
        let ended = logged.lines().filter(|line| line.contains(" session.closed ")).count();
        let attempts: usize = evils().iter().map(|evil| attempts(protocol, evil).len()).sum();
        assert_eq!(ended, attempts, "{protocol:?}");
    }
}

/// Each line of the exposition format, and nothing a client chose in a label.
fn check_metrics(rendered: &str) {
    let sample = Regex::new(r#"^[a-z_]+(\{([a-z]+="[A-Za-z0-9_.:+\- ()/]*",?)*\})? (NaN|[+-]?Inf|[0-9.e+-]+)$"#)
        .expect("a pattern");
    assert!(rendered.lines().count() > 50);
    for line in rendered.lines() {
        assert!(line.starts_with("# HELP ") || line.starts_with("# TYPE ") || sample.is_match(line), "{line}");
        assert!(!line.to_ascii_lowercase().contains(MARK), "{line}");
    }
}

#[tokio::test]
async fn a_mechanism_of_a_clients_making_is_other_in_the_metrics() {
    let (gateway, _old) = gateway(Service::Submission, TlsRule::Off).await;
    let mut client = gateway.plain().await;
    client.hear(greeting(Protocol::Smtp)).await;
    for name in ["ZQXJ-1", "ZQXJ-2", "ZQXJ_3", "1", "-"] {
        client.line(&format!("AUTH {name}")).await;
        client.hear("504 5.5.4 <*>").await;
    }
    client.end().await;
    client.closed().await;
    gateway.is_empty().await;
    check_metrics(&gateway.rendered());
    assert_eq!(gateway.metric("gatepost_auth_total{listener=\"submission-off\",mechanism=\"other\""), 5.0);
}

#[tokio::test]
async fn a_tag_is_sent_back_whole_or_not_at_all() {
    let (gateway, old) = gateway(Service::Imap, TlsRule::Off).await;
    for evil in evils() {
        for command in ["NOOP", "FROBNICATE", "LOGIN joe", "AUTHENTICATE X"] {
            let mut client = gateway.plain().await;
            client.hear(greeting(Protocol::Imap)).await;
            client.say([&evil[..], b" ", command.as_bytes(), b"\r\n"].concat()).await;
            client.end().await;
            let heard = String::from_utf8(client.rest().await.expect("a proper end")).expect("text");
            let fits = evil.len() <= 64 && evil.iter().all(|b| b.is_ascii_graphic() && !b"(){%*\"\\+".contains(b));
            for line in heard.split_terminator("\r\n") {
                assert!(!line.chars().any(|c| c.is_control() || !c.is_ascii()), "{line:?}");
                // The tag of a line of its own behind a line end in it is a tag, too.
                let echoed = line.contains(MARK);
                assert!(
                    !echoed
                        || fits && line.starts_with(&*String::from_utf8_lossy(&evil))
                        || evil.contains(&b'\n')
                        || evil.contains(&b'\r')
                        || evil.contains(&b' '),
                    "{line:?} for {}",
                    evil.escape_ascii()
                );
            }
        }
    }
    gateway.is_empty().await;
    assert_eq!(old.commands(), [] as [String; 0]);
}

/// On port 25 the client's name goes to the backend as ours.
#[tokio::test]
async fn no_name_in_an_ehlo_is_more_than_a_name_at_the_backend() {
    let old = Old::serve(Protocol::Smtp, Reads::Sloppy).await;
    let gateway = Setup::one(Service::Smtp, TlsRule::Off, old.address).start().await;
    gateway.has_learned().await;
    for evil in evils() {
        for word in ["EHLO", "HELO"] {
            let mut client = gateway.plain().await;
            client.hear("220 <*>").await;
            let mail = b"\r\nMAIL FROM:<ann@example.org>\r\nQUIT\r\n";
            client.say([word.as_bytes(), b" ", &evil, mail].concat()).await;
            client.end().await;
            let heard = String::from_utf8(client.rest().await.expect("a proper end")).expect("text");
            assert!(!heard.contains(MARK), "{heard}");
        }
    }
    gateway.is_empty().await;
    for line in old.commands() {
        // None of it is a control character, and none would be one without its eighth bit.
        let name = line.strip_prefix("EHLO ");
        let unfit = |name: &str| [" ", "\\x", "\\r", "\\n", "\\t"].iter().any(|mark| name.contains(mark));
        let is_one_word = name.is_some_and(|name| name.starts_with(MARK) && !unfit(name));
        assert!(is_one_word || line == "MAIL FROM:<ann@example.org>", "{line}");
    }
    assert!(old.commands().len() > 50);
}

/// After a login an address is what is left to choose.
#[tokio::test]
async fn no_address_is_more_than_an_address_at_the_backend_or_in_the_log() {
    let (gateway, old) = gateway(Service::Submission, TlsRule::Off).await;
    for evil in evils() {
        let mut client = gateway.plain().await;
        client.hear(greeting(Protocol::Smtp)).await;
        client.say("AUTH PLAIN AGpvZQBzZWNyZXQ=\r\n").await;
        client.hear("235 <*>").await;
        for (before, behind) in [("", "@example.net"), ("\"", "\"@example.net"), ("joe@", ""), ("joe@[", "]")] {
            for word in ["MAIL FROM:", "RCPT TO:"] {
                let parts = [word.as_bytes(), b"<", before.as_bytes(), &evil, behind.as_bytes(), b">\r\n"];
                client.say(parts.concat()).await;
            }
        }
        client.say("QUIT\r\n").await;
        client.end().await;
        let heard = String::from_utf8(client.rest().await.expect("a proper end")).expect("text");
        assert!(!heard.contains(MARK), "{heard}");
    }
    gateway.is_empty().await;
    let envelope =
        Regex::new(r#"^(MAIL FROM|RCPT TO):<([!#-;=?-~]+|\\"[ -~]+\\")(@[!-;=?-~]+)?>$"#).expect("a pattern");
    for line in old.commands() {
        assert!(envelope.is_match(&line) || line.starts_with("AUTH PLAIN ") || line == "RSET", "{line}");
        assert!(!line.contains("\\x") && !line.contains("\\r") && !line.contains("\\n"), "{line}");
    }
    for line in gateway.logged().split_terminator('\n') {
        serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(!line.chars().any(is_unfit), "{line:?}");
    }
}
