//! The client half: greeting, EHLO, and a login brought to what the backend offers.

use super::reply::{ReplyReader, SmtpReply};
use crate::proto::line::printable;
use crate::proto::sasl::{Script, Way, decode};
use crate::proto::{Back, BackFault, BackSettings, BackStep, Capabilities, Introduction, Login, Mechanism, Reply};
use bytes::{BufMut, BytesMut};
use core::net::IpAddr;
use zeroize::Zeroize as _;

/// The longest command an old server must take (RFC 5321 section 4.5.3.1.4), with its line end: an AUTH past it goes
/// without its initial response.
const MAX_OLD_COMMAND: usize = 512;
/// Bounds on what is kept of an EHLO answer.
const MAX_LINES: usize = 128;
const MAX_LINE: usize = 512;

/// Speaks SMTP to a backend until the verdict on a login, or until a stranger's session may begin. See the module for
/// its states.
#[derive(Debug)]
pub struct SmtpBack {
    settings: BackSettings,
    replies: ReplyReader,
    capabilities: Capabilities,
    state: State,
    /// TLS is up.
    is_secured: bool,
    /// It knows who the client is.
    is_introduced: bool,
}

#[derive(Debug)]
enum State {
    Greeting,
    Ehlo,
    Helo,
    /// STARTTLS was sent.
    Upgrading,
    /// The go-ahead for TLS came.
    Handshake,
    /// XCLIENT was sent: who the client is. The server greets anew.
    Introducing,
    /// Nothing was asked.
    Idle,
    /// AUTH or a response was sent.
    Auth(Script),
    /// A challenge is the client's to answer.
    Challenged(Script),
    /// The exchange was broken off by us.
    Cancelled,
}

impl SmtpBack {
    /// The client half for one connection.
    pub fn new(settings: BackSettings) -> Self {
        Self {
            settings,
            replies: ReplyReader::default(),
            capabilities: Capabilities::default(),
            state: State::Greeting,
            is_secured: false,
            is_introduced: false,
        }
    }
}

impl Back for SmtpBack {
    fn next(&mut self, input: &mut BytesMut, out: &mut BytesMut) -> Result<BackStep, BackFault> {
        loop {
            let Some(reply) = self.replies.next(input)? else { return Ok(BackStep::More) };
            if reply.code() == 421 {
                return Err(turned_away(&reply));
            }
            let step = match std::mem::replace(&mut self.state, State::Idle) {
                State::Greeting => self.greeting(&reply, input, out)?,
                State::Ehlo => self.ehlo(&reply, input, out)?,
                State::Helo if reply.is_positive() => self.known(Capabilities::default(), input, out)?,
                State::Upgrading => self.upgrading(&reply, input)?,
                State::Introducing => self.introducing(&reply, input, out)?,
                State::Helo => return Err(turned_away(&reply)),
                State::Auth(script) => self.auth(script, &reply, input, out)?,
                State::Cancelled => BackStep::Unavailable(reply.summary()),
                State::Idle | State::Handshake | State::Challenged(_) => return Err(BackFault::Unsolicited),
            };
            match step {
                BackStep::More => {}
                step => return Ok(step),
            }
        }
    }

    fn secured(&mut self, out: &mut BytesMut) {
        self.replies = ReplyReader::default();
        self.is_secured = true;
        self.hello("EHLO", out);
        self.state = State::Ehlo;
    }

    fn login(&mut self, login: &Login, out: &mut BytesMut) -> Result<(), BackFault> {
        let Some(Way::Sasl(mechanism)) = Way::choose(login, &self.capabilities) else {
            let has_none = self.capabilities.mechanisms.is_empty();
            return Err(if has_none { BackFault::NoAuth } else { BackFault::NoWayIn(login.mechanism.to_string()) });
        };
        let start = out.len();
        let command = |out: &mut BytesMut| {
            out.put_slice(b"AUTH ");
            out.put_slice(mechanism.as_str().as_bytes());
        };
        let mut script = Script::new(&mechanism, &login.credentials);
        command(out);
        script.initial(&mechanism, out);
        if out.len() - start + 2 > MAX_OLD_COMMAND {
            out[start..].zeroize();
            out.truncate(start);
            script = Script::new(&mechanism, &login.credentials);
            command(out);
        }
        out.put_slice(b"\r\n");
        self.state = State::Auth(script);
        Ok(())
    }

    fn respond(&mut self, response: &[u8], out: &mut BytesMut) {
        if let State::Challenged(mut script) = std::mem::replace(&mut self.state, State::Idle) {
            script.forward(response, out);
            self.state = State::Auth(script);
        }
    }

    fn quit(&mut self, out: &mut BytesMut) {
        out.put_slice(b"QUIT\r\n");
    }
}

impl SmtpBack {
    fn greeting(&mut self, reply: &SmtpReply, input: &BytesMut, out: &mut BytesMut) -> Result<BackStep, BackFault> {
        match reply.code() {
            400..=599 => return Err(turned_away(reply)),
            220 => {}
            _ => return Err(BackFault::Garbage("SMTP", reply.summary().to_line())),
        }
        unasked(input)?;
        self.hello("EHLO", out);
        self.state = State::Ehlo;
        Ok(BackStep::More)
    }

    fn ehlo(&mut self, reply: &SmtpReply, input: &BytesMut, out: &mut BytesMut) -> Result<BackStep, BackFault> {
        if reply.is_permanent() {
            unasked(input)?;
            self.hello("HELO", out);
            self.state = State::Helo;
            return Ok(BackStep::More);
        }
        if !reply.is_positive() {
            return Err(turned_away(reply));
        }
        self.known(capabilities(reply), input, out)
    }

    /// The capabilities are in: TLS first, then who the client is, where either is due.
    fn known(&mut self, known: Capabilities, input: &BytesMut, out: &mut BytesMut) -> Result<BackStep, BackFault> {
        unasked(input)?;
        if self.settings.starttls && !self.is_secured {
            if !known.has("STARTTLS") {
                return Err(BackFault::NoStartTls("it does not list STARTTLS".to_owned()));
            }
            out.put_slice(b"STARTTLS\r\n");
            self.state = State::Upgrading;
            return Ok(BackStep::More);
        }
        self.capabilities = known;
        if !self.is_introduced && self.introduce(out)? {
            self.state = State::Introducing;
            return Ok(BackStep::More);
        }
        self.ready(input)
    }

    fn upgrading(&mut self, reply: &SmtpReply, input: &BytesMut) -> Result<BackStep, BackFault> {
        if reply.code() != 220 {
            return Err(BackFault::NoStartTls(format!("STARTTLS is answered with {}", reply.summary().to_line())));
        }
        unasked(input)?;
        self.state = State::Handshake;
        Ok(BackStep::StartTls)
    }

    /// Says who the client is, where the server is to hear it (Postfix' `XCLIENT_README`); `false` where nothing was said.
    /// Only attributes go that it lists. The name is said to be unknown, for nobody has looked it up: without a word the
    /// server would take ours for the client's.
    fn introduce(&mut self, out: &mut BytesMut) -> Result<bool, BackFault> {
        let attributes = self.capabilities.argument("XCLIENT").unwrap_or_default();
        let lists = |name: &str| attributes.split(' ').any(|listed| listed.eq_ignore_ascii_case(name));
        let (address, login) = match &self.settings.introduction {
            Introduction::None => return Ok(false),
            _ if !lists("ADDR") => {
                return Err(BackFault::NoIntroduction("XCLIENT with ADDR, which it does not list".to_owned()));
            }
            Introduction::Possible => return Ok(false),
            Introduction::Client { address, login } => (address, login),
        };
        let ip = match address.ip() {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("IPV6:{ip}"),
        };
        let login = login.as_ref().map(|login| xtext(login.as_bytes()));
        let said = [
            ("NAME", Some("[UNAVAILABLE]".to_owned())),
            ("ADDR", Some(ip)),
            ("PORT", Some(address.port().to_string())),
            ("LOGIN", login),
        ];
        out.put_slice(b"XCLIENT");
        for (name, value) in said {
            if let Some(value) = value.filter(|_| lists(name)) {
                out.put_slice(format!(" {name}={value}").as_bytes());
            }
        }
        out.put_slice(b"\r\n");
        Ok(true)
    }

    /// The server greets anew, and forgets the EHLO.
    fn introducing(&mut self, reply: &SmtpReply, input: &BytesMut, out: &mut BytesMut) -> Result<BackStep, BackFault> {
        if reply.code() != 220 {
            let said = reply.summary().to_line();
            return Err(BackFault::NoIntroduction(format!("XCLIENT, but says {said}")));
        }
        unasked(input)?;
        self.is_introduced = true;
        self.hello("EHLO", out);
        self.state = State::Ehlo;
        Ok(BackStep::More)
    }

    fn ready(&mut self, input: &BytesMut) -> Result<BackStep, BackFault> {
        unasked(input)?;
        Ok(BackStep::Ready(self.capabilities.clone()))
    }

    /// The name is a client's on `smtp`: no line end or space of it may begin a command of its own.
    fn hello(&self, verb: &str, out: &mut BytesMut) {
        out.put_slice(verb.as_bytes());
        out.put_u8(b' ');
        let name: String = self.settings.ehlo.chars().filter(|c| !c.is_control() && !c.is_whitespace()).collect();
        out.put_slice(if name.is_empty() { "localhost" } else { &name }.as_bytes());
        out.put_slice(b"\r\n");
    }

    fn auth(
        &mut self,
        mut script: Script,
        reply: &SmtpReply,
        input: &BytesMut,
        out: &mut BytesMut,
    ) -> Result<BackStep, BackFault> {
        match reply.code() {
            // Nobody gets a session for credentials that were not said.
            235 if !script.is_said() => Err(BackFault::Garbage("SMTP", "235 before all of the credentials".to_owned())),
            235 => Ok(BackStep::Accepted(reply.summary())),
            334 => {
                // It waits for us now: what stands behind it is no answer to what we say next.
                unasked(input)?;
                if script.answer(out) {
                    self.state = State::Auth(script);
                    return Ok(BackStep::More);
                }
                let challenge = reply.lines().next().unwrap_or_default();
                match decode(challenge.trim_ascii()) {
                    Ok(challenge) if script.passes_through() => {
                        self.state = State::Challenged(script);
                        Ok(BackStep::Challenge(challenge.declassify().clone()))
                    }
                    _ => {
                        out.put_slice(b"*\r\n");
                        self.state = State::Cancelled;
                        Ok(BackStep::More)
                    }
                }
            }
            code if is_verdict(code) => Ok(BackStep::Rejected(reply.summary())),
            400..=599 => Ok(BackStep::Unavailable(reply.summary())),
            _ => Err(BackFault::Garbage("SMTP", reply.summary().to_line())),
        }
    }
}

/// Whether a code is about the credentials. What remains of 5yz says that our command does not suit the server: its
/// syntax (500, 501), its order (503), its mechanism (502, 504), the lack of TLS (530, 538). Nobody's password is wrong.
fn is_verdict(code: u16) -> bool {
    (500..=599).contains(&code) && !matches!(code, 500..=504 | 530 | 538)
}

/// The encoding of an attribute's value (RFC 3461 section 4): what is no printable ASCII, `+` and `=` by their numbers.
fn xtext(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for &byte in bytes {
        match byte {
            b'!'..=b'~' if byte != b'+' && byte != b'=' => text.push(char::from(byte)),
            _ => text.push_str(&format!("+{byte:02X}")),
        }
    }
    text
}

/// Bytes behind an answer, where nothing was asked.
fn unasked(input: &BytesMut) -> Result<(), BackFault> {
    if input.is_empty() { Ok(()) } else { Err(BackFault::Unsolicited) }
}

fn turned_away(reply: &SmtpReply) -> BackFault {
    let Reply { text, code, .. } = reply.summary();
    BackFault::TurnedAway(format!("{} {text}", code.unwrap_or_default()).trim_end().to_owned())
}

/// The lines behind the first. `AUTH=` is how Outlook Express wanted it; servers that list only that exist.
fn capabilities(reply: &SmtpReply) -> Capabilities {
    let lines: Vec<String> = reply
        .lines()
        .skip(1)
        .filter(|line| line.len() <= MAX_LINE)
        .take(MAX_LINES)
        .map(|line| printable(line.trim_ascii(), MAX_LINE))
        .filter(|line| !line.is_empty())
        .collect();
    let mut mechanisms: Vec<Mechanism> = Vec::new();
    let named = lines.iter().filter(|line| line.get(..5).is_some_and(matches_auth));
    for name in named.flat_map(|line| line[5..].split([' ', '\t'])) {
        mechanisms.extend(Mechanism::parse(name.as_bytes()).filter(|mechanism| !mechanisms.contains(mechanism)));
    }
    Capabilities { lines, mechanisms, login_command: false, apop: None }
}

fn matches_auth(word: &str) -> bool {
    word.eq_ignore_ascii_case("AUTH ") || word.eq_ignore_ascii_case("AUTH=")
}

#[cfg(test)]
mod tests {
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
            assert_eq!(
                seen[..4],
                ["> EHLO gate", said, "> EHLO gate", "= ready [\"AUTH PLAIN\"] [Mechanism(\"PLAIN\")]"]
            );
        }
        let not_listed =
            "= fault the backend does not take the client's address by XCLIENT with ADDR, which it does not list";
        for introduction in [client("192.0.2.7:1", None), Introduction::Possible] {
            assert_eq!(play(introduction, &["220 old\r\n", "250 old\r\n"])[1..], [not_listed]);
        }
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
            let seen =
                logged_in_with(&password(b"secret"), "250-old\r\n250 AUTH PLAIN\r\n", &[&format!("{reply}\r\n")]);
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
        let mut back = machine("x");
        let seen = play(&mut back, &["220 old\r\n", &ehlo]);
        assert!(seen[1].starts_with("= ready"));
        assert_eq!(back.capabilities.lines.len(), MAX_LINES);
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
}
