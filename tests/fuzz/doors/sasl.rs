//! SASL as it passes through: base64, both sides of an exchange, the user's name.
//!
//! The text's first segment is the initial response, if the settings have one; the others are the client's lines.

use super::{Input, wire};
use bytes::BytesMut;
use gatepost::proto::sasl::{Exchange, Outcome, Script, Way, decode, encode, user_of};
use gatepost::proto::{Capabilities, Credentials, Login, Mechanism};

const MECHANISMS: [&str; 8] =
    ["PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-256", "XOAUTH2", "OAUTHBEARER", "NTLM", "X-UNKNOWN"];

/// The door. Holds for every input: base64 is what a plain reading of RFC 4648 makes of it; a password that comes out
/// of an exchange is the one that went in, without NUL, CR and LF; a name that is read in passing has none either; what
/// the backend's side then says is the same login again.
pub fn door(data: &[u8]) {
    let Some(input) = Input::read(data) else { return };
    let name = MECHANISMS[usize::from(input.settings[0] % 8)];
    let mechanism = Mechanism::parse(name.as_bytes()).expect("a name");
    Mechanism::parse(input.text).inspect(|mechanism| assert!(mechanism.as_str().len() <= 40));
    if let Some(user) = user_of(&mechanism, input.text) {
        assert!(!user.as_bytes().is_empty() && !forbidden(user.as_bytes()));
        wire::assert_harmless(&user.display(), 255);
    }
    let mut segments = input.segments();
    let initial = segments.next().filter(|_| input.settings[1] & 1 == 1);
    initial.into_iter().for_each(base64);
    let mut fields = Vec::new();
    let (mut exchange, mut outcome) = Exchange::begin(mechanism.clone(), initial);
    fields.extend(initial.map(<[u8]>::to_vec));
    loop {
        match outcome {
            Outcome::Ask(_) => {}
            Outcome::Login(login) => {
                let passes_through = matches!(login.credentials, Credentials::Sasl { .. });
                attempt(name, &login, &fields);
                if !passes_through {
                    return;
                }
            }
            Outcome::Respond(response) => {
                let last = fields.last().expect("a line");
                assert_eq!(Some(response.declassify().clone()), plain_base64(last));
            }
            Outcome::Cancelled => {
                assert_eq!(fields.last().map(Vec::as_slice), Some(&b"*"[..]));
                return;
            }
            Outcome::Bad => return,
        }
        let Some(line) = segments.next() else { return };
        base64(line);
        fields.push(line.to_vec());
        outcome = exchange.line(line);
    }
}

/// Reads base64 and writes it again.
fn base64(text: &[u8]) {
    let read = decode(text).ok().map(|secret| secret.declassify().clone());
    assert_eq!(read, plain_base64(text), "{}", text.escape_ascii());
    let mut out = BytesMut::new();
    encode(text, &mut out);
    assert_eq!(decode(&out).ok().map(|secret| secret.declassify().clone()).as_deref(), Some(text));
    if let Some(bytes) = read {
        out.clear();
        encode(&bytes, &mut out);
        let unpadded = |text: &[u8]| text.iter().copied().take_while(|&byte| byte != b'=').collect::<Vec<_>>();
        assert_eq!(unpadded(&out), unpadded(text), "one text for some bytes, and no other");
    }
}

/// RFC 4648 section 4, symbol by symbol, the padding whole or not there; the bits behind the last octet are zero.
fn plain_base64(text: &[u8]) -> Option<Vec<u8>> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let symbols: Vec<u8> = text.iter().copied().take_while(|&byte| byte != b'=').collect();
    let padding = &text[symbols.len()..];
    let missing = (4 - symbols.len() % 4) % 4;
    if padding.iter().any(|&byte| byte != b'=') || missing == 3 || padding.len() > missing {
        return None;
    }
    let mut bits = Vec::new();
    for symbol in symbols {
        let value = ALPHABET.iter().position(|&known| known == symbol)?;
        bits.extend((0..6).rev().map(|bit| value >> bit & 1));
    }
    let (octets, left) = bits.as_chunks::<8>();
    let octet = |bits: &[usize; 8]| u8::try_from(bits.iter().fold(0, |octet, bit| octet << 1 | bit)).ok();
    if left.contains(&1) { None } else { octets.iter().map(octet).collect() }
}

fn forbidden(bytes: &[u8]) -> bool {
    bytes.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0))
}

/// A login came out of `lines`: it is what they say, and is said to a backend as that.
fn attempt(name: &str, login: &Login, lines: &[Vec<u8>]) {
    let read = |line: &Vec<u8>| if line == b"=" { Vec::new() } else { plain_base64(line).expect("base64") };
    let said: Vec<Vec<u8>> = lines.iter().map(read).collect();
    let expected = match &login.credentials {
        Credentials::Password { authzid, user, password } => {
            let (user, password) = (user.as_bytes(), password.declassify().as_slice());
            let others = authzid.as_ref().map_or(&[][..], |name| name.as_bytes());
            assert!(!user.is_empty() && ![user, password, others].into_iter().any(forbidden));
            if name == "PLAIN" {
                let fields: Vec<&[u8]> = said[0].split(|&byte| byte == 0).collect();
                assert!(fields.len() == 3 && fields[1..] == [user, password], "{said:?}");
                assert!(fields[0] == others || fields[0] == user && others.is_empty(), "{said:?}");
                vec![[others, b"\0", user, b"\0", password].concat()]
            } else {
                assert_eq!((name, said.as_slice()), ("LOGIN", &[user.to_vec(), password.to_vec()][..]));
                said
            }
        }
        Credentials::Sasl { initial } => {
            assert_eq!(
                initial.as_ref().map(|initial| initial.declassify().clone()).into_iter().collect::<Vec<_>>(),
                said
            );
            said
        }
        Credentials::Apop { .. } => panic!("APOP is no SASL"),
    };
    let offered = Capabilities { mechanisms: vec![login.mechanism.clone()], ..Capabilities::default() };
    assert_eq!(Way::choose(login, &offered), Some(Way::Sasl(login.mechanism.clone())));
    let (mut script, mut out) = (Script::new(&login.mechanism, &login.credentials), BytesMut::new());
    script.initial(&login.mechanism, &mut out);
    let mut heard = Vec::new();
    if let Some(initial) = out.strip_prefix(b" ") {
        heard.push(if initial == b"=" { Vec::new() } else { plain_base64(initial).expect("base64") });
    }
    out.clear();
    while script.answer(&mut out) {
        heard.push(plain_base64(out.strip_suffix(b"\r\n").expect("a line")).expect("base64"));
        out.clear();
    }
    assert_eq!(heard, expected);
    assert_eq!(script.passes_through(), matches!(login.credentials, Credentials::Sasl { .. }));
}
