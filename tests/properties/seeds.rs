//! Inputs out of what the project has: the sessions of `tests/transcripts`, the configurations of `tests/config`, and a
//! few texts by hand for what no session shows. They go through the doors here, and are the fuzzers' first corpora.

use crate::doors::{DOORS, PAUSE};
use gatepost::tls::provider;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// With `GATEPOST_SEEDS=FOLDER` they are written to `FOLDER/TARGET`, too.
#[test]
fn every_session_and_every_configuration_goes_through_its_door() {
    let seeds = seeds();
    let folder = std::env::var_os("GATEPOST_SEEDS").map(PathBuf::from);
    for (name, door) in DOORS {
        let mine: Vec<&Vec<u8>> = seeds.0.iter().filter(|(target, _)| *target == name).map(|(_, seed)| seed).collect();
        assert!(mine.len() >= 4, "{} seeds for {name}", mine.len());
        for (index, seed) in mine.into_iter().enumerate() {
            if let Some(folder) = &folder {
                fs::create_dir_all(folder.join(name)).expect("a folder");
                fs::write(folder.join(name).join(format!("seed-{index:04}")), seed).expect("written");
            }
            door(seed);
        }
    }
}

/// What the fuzzers once found, and what they keep because it goes where nothing else does.
#[test]
fn what_was_found_once_is_found_no_more() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz");
    let mut played = 0;
    for kind in ["regressions", "corpus"] {
        for folder in fs::read_dir(fuzz.join(kind)).expect("a folder").map(|entry| entry.expect("an entry").path()) {
            let target = folder.file_name().expect("a name").to_string_lossy().into_owned();
            let (_, door) = DOORS.into_iter().find(|(name, _)| *name == target).expect("a door");
            for file in fs::read_dir(&folder).expect("a folder") {
                door(&fs::read(file.expect("an entry").path()).expect("readable"));
                played += 1;
            }
        }
    }
    assert!(played > 100, "{played} inputs");
}

fn seeds() -> Seeds {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let mut seeds = Seeds::default();
    for protocol in ["imap", "pop3", "smtp"] {
        for text in texts(&tests.join("transcripts").join(protocol), "txt") {
            seeds.session(protocol, &String::from_utf8_lossy(&text));
        }
    }
    for folder in ["valid", "invalid"] {
        for text in texts(&tests.join("config").join(folder), "yaml") {
            seeds.add("config", [0; 4], &text);
        }
    }
    seeds.by_hand();
    seeds
}

fn texts(folder: &Path, extension: &str) -> Vec<Vec<u8>> {
    let mut paths: Vec<_> =
        fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|found| found == extension));
    paths.sort();
    assert!(!paths.is_empty(), "nothing in {}", folder.display());
    paths.iter().map(|path| fs::read(path).expect("readable")).collect()
}

#[derive(Default)]
struct Seeds(Vec<(&'static str, Vec<u8>)>);

impl Seeds {
    fn add(&mut self, target: &'static str, settings: [u8; 4], text: &[u8]) {
        let seed = u32::try_from(self.0.len()).expect("few seeds").wrapping_mul(0x9e37_79b9);
        self.0.push((target, [&settings[..], &seed.to_le_bytes(), text].concat()));
    }

    /// A session's two sides, each for the machine that hears it.
    fn session(&mut self, service: &str, text: &str) {
        let listener = text.lines().find_map(|line| line.strip_prefix("= listener ")).unwrap_or_default();
        let tls = match listener.rsplit(' ').next() {
            Some("implicit") => 1,
            Some("starttls") => 2,
            Some("optional") => 3,
            _ => 0,
        };
        let stranger = u8::from(listener.starts_with("smtp "));
        let (mut client, mut backend, mut both) = (Vec::new(), b"joe\0secret".to_vec(), Vec::new());
        let (mut from_client, mut mail) = (true, false);
        for line in text.lines() {
            let Some((mark, rest)) = line.split_at_checked(2) else { continue };
            let rest = rest.strip_prefix(' ').unwrap_or(rest);
            let bytes = if mark.ends_with('~') { unescape(rest) } else { [rest.as_bytes(), b"\r\n"].concat() };
            match mark {
                "C:" | "C~" => {
                    client.extend_from_slice(&bytes);
                    mail |= rest.starts_with("MAIL ");
                    if mail {
                        both.extend((!from_client).then_some(PAUSE));
                        both.extend_from_slice(&bytes);
                        from_client = true;
                    }
                }
                "B:" | "B~" => {
                    backend.extend_from_slice(&bytes);
                    if mail {
                        both.extend(from_client.then_some(PAUSE));
                        both.extend_from_slice(&bytes);
                        from_client = false;
                    }
                }
                "G:" | "G~" => backend.push(PAUSE),
                "= " if rest == "tls" => client.push(PAUSE),
                _ => {}
            }
        }
        // The backend speaks first, and waits behind its greeting and every answer.
        let greeting = backend.iter().position(|&byte| byte != PAUSE).map_or(0, |_| b"joe\0secret".len());
        backend.insert(greeting, PAUSE);
        let (front, back, number) = match service {
            "imap" => ("imap_front", "imap_back", 0),
            "pop3" => ("pop3_front", "pop3_back", 1),
            _ => ("smtp_front", "smtp_back", 2),
        };
        if !client.is_empty() {
            self.add(front, [tls, 0, stranger, 5], &client);
            self.add(front, [1, 0, stranger, 2], &client);
        }
        if backend.len() > greeting + 1 {
            for way in [0, 1, 6] {
                self.add(back, [way, 0, 0, 0], &backend);
            }
            self.add("replies", [number, 0, 0, 0], &backend[greeting + 1..]);
        }
        if mail {
            for rules in [2, 6, 10, 14] {
                self.add("transaction", [1, rules, 0, 1], &both);
                self.add("transaction", [0, rules, 0, 1], &client);
            }
            self.add("data", [0; 4], &client);
            self.add("data", [1, 0, 0, 0], &client);
        }
        for line in text.lines().filter(|line| line.starts_with("C: ")) {
            if let Some(word) = line.split(' ').next_back().filter(|word| word.len() > 3 && word.ends_with('=')) {
                self.add("sasl", [0, 1, 0, 0], word.as_bytes());
                self.add("sasl", [1, 0, 0, 0], &[&[PAUSE], word.as_bytes(), &[PAUSE], word.as_bytes()].concat());
            }
        }
    }

    fn by_hand(&mut self) {
        let lists: [&[u8]; 6] = [
            b"# ours\n10.0.0.0/8\n2001:db8::/32\n::ffff:10.0.0.0/104\n[::1]\n",
            b"10.1.0.0/255.255.0.0\n0.0.0.0/0\n::/0\n",
            b"ipop3d: 10.1. : deny\nALL: 10. : allow\npops: ALL EXCEPT 10.2.0.0/16 EXCEPT 10.2.3.4\n",
            b"ALL EXCEPT sshd: [2001:db8::]/32, 192.168. \\\n 10.0.0.1\n",
            b"mail.example.net\nALL: LOCAL\nALL: joe@10.0.0.1\nALL:\n",
            b"sshd: ALL\ngatepost@10.0.0.1: ALL\n",
        ];
        for (list, purpose) in lists.iter().flat_map(|list| [(list, 0), (list, 1)]) {
            self.add("access_list", [purpose, 0, 0, 0], list);
        }
        let headers: [&[u8]; 6] = [
            b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 993\r\na NOOP\r\n",
            b"PROXY TCP6 2001:db8::7 ::1 1 65535\r\n",
            b"PROXY UNKNOWN ffff:f 0\r\nQUIT\r\n",
            b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00EHLO x\r\n",
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0f\xc0\x00\x02\x07\xc6\x33\x64\x01\xdc\x04\x03\xe1\x04\x00\x00",
            b"\r\n\r\n\0\r\nQUIT\n\x21\x21\x00\x24aaaaaaaaaaaaaaaabbbbbbbbbbbbbbbb\x01\x02\x03\x04x",
        ];
        for header in headers {
            self.add("proxy_header", [9, 0, 0, 0], header);
        }
        let hello = hello();
        self.add("tls_hello", [9, 100, 0, 0], &hello);
        self.add("tls_hello", [9, 100, 0, 0], &hello[5..]);
        self.add("tls_hello", [9, 1, 0, 0], b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10");
        let mut old = b"\x01\x00\x00\x2b\x03\x01".to_vec();
        old.extend([7; 32]);
        old.extend(b"\x00\x00\x02\x00\x0a\x01\x00\x00\x00");
        self.add("tls_hello", [9, 3, 0, 0], &old);
        for (index, text) in
            ["user=joe\x01auth=Bearer x\x01\x01", "n,a=jo=2Ce,\x01host=x", "n,,n=joe,r=x", "joe b913a6"]
                .iter()
                .enumerate()
        {
            self.add("sasl", [[4, 5, 3, 2][index], 0, 0, 0], text.as_bytes());
        }
        let replies: [(u8, &[u8]); 7] = [
            (0, b"* OK [CAPABILITY IMAP4rev1 ID] x\r\n\xfe* ID NIL\r\ng1 OK x\r\n"),
            (0, b"* OK x\r\n\xfeg1 OK go\r\n\xfe* CAPABILITY IMAP4rev1 ID\r\ng2 OK x\r\n\xfeg3 OK x\r\n"),
            (1, b"+OK x [XCLIENT] <1.2@x>\r\n\xfe+OK\r\nSASL PLAIN\r\n.\r\n\xfe+OK x\r\n"),
            (1, b"+OK x\r\n\xfe+OK go\r\n\xfe+OK\r\nXCLIENT\r\n.\r\n\xfe-ERR no\r\n"),
            (2, b"220 x\r\n\xfe250-x\r\n250 XCLIENT NAME ADDR PORT LOGIN\r\n\xfe220 x\r\n\xfe250 x\r\n"),
            (2, b"220 x\r\n\xfe250-x\r\n250-STARTTLS\r\n250 XCLIENT ADDR\r\n\xfe220 x\r\n\xfe250 XCLIENT ADDR\r\n\xfe220 x\r\n\xfe250 x\r\n"),
            (2, b"220 x\r\n\xfe500 x\r\n\xfe250 x\r\n\xfe550 no\r\n"),
        ];
        for ((protocol, said), how) in replies.iter().flat_map(|reply| (0..16).map(move |how| (reply, how))) {
            self.add("introduction", [*protocol, how, 0, 0], &[&b"jo+e=\xc3\xbc\xfe"[..], said].concat());
        }
        let own = "http://schemas.microsoft.com/exchange/autodiscover/outlook/requestschema/2006";
        let questions: [&str; 6] = [
            &format!(
                "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?><Autodiscover xmlns=\"{own}\"><Request><EMailAddress>joe@example.net</EMailAddress></Request></Autodiscover>"
            ),
            "<a><EMailAddress>&#106;oe@example.net</EMailAddress></a>",
            "<a><EMailAddress>jo<!-- x -->e@example.net</EMailAddress></a>",
            "<a><EMailAddress><![CDATA[joe@example.net]]></EMailAddress></a>",
            "<!DOCTYPE a [<!ENTITY x \"joe@example.net\">]><a><EMailAddress>&x;</EMailAddress></a>",
            "<x:a xmlns:x=\"y\"><x:EMailAddress>o'joe@ex\u{e4}mple.net</x:EMailAddress></x:a>",
        ];
        for (question, user) in questions.iter().flat_map(|question| [(question, 0), (question, 1)]) {
            self.add("outlook", [user, 0, 0, 0], question.as_bytes());
        }
        let messages: [&[u8]; 5] = [
            b"Subject: x\r\n\r\ntext\r\n.\r\nNOOP\r\n",
            b"..\r\n..a\r\n.\r\n",
            b"a\n.\r\nMAIL FROM:<>\r\n.\r\n",
            b"a\r\n.\rb\r\r\n.\n\r\n.\r\n",
            b"a\r\n.\0\r\n\r\n.\r\n",
        ];
        for (message, rule) in messages.iter().flat_map(|message| [0, 1, 2, 3].map(|rule| (message, rule))) {
            self.add("data", [rule, 1, 0, 0], message);
        }
    }
}

/// What our own client says first.
fn hello() -> Vec<u8> {
    let config = rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let name = "mail.example.net".try_into().expect("a name");
    let mut client = rustls::ClientConnection::new(config.into(), name).expect("a client");
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).expect("a vector takes all");
    bytes
}

fn unescape(text: &str) -> Vec<u8> {
    let marks: BTreeMap<char, u8> = [('r', b'\r'), ('n', b'\n'), ('t', b'\t'), ('\\', b'\\')].into();
    let (mut bytes, mut chars) = (Vec::new(), text.chars());
    while let Some(c) = chars.next() {
        if c != '\\' {
            bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        match chars.next() {
            Some('x') => {
                let digits: String = chars.by_ref().take(2).collect();
                bytes.extend(u8::from_str_radix(&digits, 16));
            }
            Some(mark) => bytes.extend(marks.get(&mark)),
            None => {}
        }
    }
    bytes
}
