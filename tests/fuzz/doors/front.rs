//! The server halves: a client says anything, the engine answers anything it may.
//!
//! Holds for every input: no panic; any cut gives the same words, steps and rest; what is said is whole lines; no
//! more is kept than the bound of one line and its literals; a login has no NUL, CR or LF in it, and goes by a mechanism
//! that is allowed; nothing is taken that stood behind STARTTLS.

use super::wire::{Log, assert_lines, assert_words};
use super::{Cuts, Dice, Input};
use bytes::BytesMut;
use gatepost::proto::line::MAX_SASL;
use gatepost::proto::{
    Answer, Capabilities, Credentials, Front, FrontSettings, Goodbye, Login, MAX_ANSWERS, MAX_ERRORS, Mechanism,
    Mechanisms, Protocol, Refusal, Reply, Service, Step, TlsRule, UserName, Violation, front,
};

/// What one command may add to the answers: the longest list of capabilities this door shows, and a line.
const ONE_ANSWER: usize = 2048;

/// The most a front leaves in the input while it waits for more (the bound of a line, on IMAP of a command with its
/// literals), with a line end.
pub fn most_kept(service: Service) -> usize {
    match service {
        Service::Imap => 16 * 1024 + 2,
        Service::Pop3 | Service::Submission | Service::Smtp => MAX_SASL + 2,
    }
}

/// The door for IMAP.
pub fn imap(data: &[u8]) {
    door(Service::Imap, data);
}

/// The door for POP3.
pub fn pop3(data: &[u8]) {
    door(Service::Pop3, data);
}

/// The door for submission and SMTP.
pub fn smtp(data: &[u8]) {
    let stranger = data.get(2).is_some_and(|byte| byte & 1 == 1);
    door(if stranger { Service::Smtp } else { Service::Submission }, data);
}

fn door(service: Service, data: &[u8]) {
    let Some(input) = Input::read(data) else { return };
    let whole = Run::new(service, &input).play(&input, Cuts::Whole);
    for cuts in input.cuts() {
        whole.assert_same(&Run::new(service, &input).play(&input, cuts), cuts);
    }
}

/// The listener that the first settings make.
pub fn settings(service: Service, [tls, ways, ..]: [u8; 4]) -> FrontSettings {
    let passwords = || Mechanisms::Only(vec![Mechanism::PLAIN, Mechanism::LOGIN, Mechanism::USER]);
    let challenges = || Mechanisms::Only(vec![Mechanism::CRAM_MD5, Mechanism::APOP]);
    FrontSettings {
        hostname: "mail.example.net".to_owned(),
        service,
        tls: [TlsRule::Off, TlsRule::Implicit, TlsRule::StartTls, TlsRule::Optional][usize::from(tls % 4)],
        mechanisms: if ways & 6 == 2 { passwords() } else { Mechanisms::All },
        without_tls: if ways & 8 == 8 { challenges() } else { Mechanisms::All },
        user_first: ways & 6 == 4,
        may_be_granted: ways & 6 == 2,
        believes_origin: ways & 16 == 16,
        max_message: 1000,
    }
}

/// What the backend can do, little or much.
pub fn capabilities(service: Service, [_, ways, ..]: [u8; 4]) -> Capabilities {
    if ways & 1 == 1 {
        return Capabilities::minimum(service.protocol());
    }
    let lines: &[&str] = match service.protocol() {
        Protocol::Imap => &["IMAP4rev1", "LITERAL+", "SASL-IR", "IDLE", "STARTTLS", "AUTH=CRAM-MD5"],
        Protocol::Pop3 => &["USER", "TOP", "UIDL", "STLS", "SASL PLAIN CRAM-MD5"],
        Protocol::Smtp => &["SIZE 5000", "PIPELINING", "8BITMIME", "CHUNKING", "STARTTLS", "AUTH PLAIN CRAM-MD5"],
    };
    let names = ["PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS", "XOAUTH2", "GSSAPI", "EXTERNAL"];
    Capabilities {
        lines: lines.iter().map(ToString::to_string).collect(),
        mechanisms: names.iter().filter_map(|name| Mechanism::parse(name.as_bytes())).collect(),
        login_command: service.protocol() != Protocol::Smtp,
        apop: (service == Service::Pop3).then(|| "<1.2@backend.example.net>".to_owned()),
    }
}

struct Run {
    settings: FrontSettings,
    capabilities: Capabilities,
    front: Box<dyn Front>,
    tls: bool,
    input: BytesMut,
    out: BytesMut,
    answers: Dice,
    log: Log,
}

enum Next {
    /// The front waits for input.
    Wait,
    /// The go-ahead for TLS was given.
    Tls,
    /// The session goes another way from here, with what is left of the input.
    Over { handed_on: bool },
}

impl Run {
    fn new(service: Service, input: &Input<'_>) -> Self {
        let settings = settings(service, input.settings);
        Self {
            capabilities: capabilities(service, input.settings),
            front: front(settings.clone()),
            tls: settings.tls == TlsRule::Implicit,
            settings,
            input: BytesMut::new(),
            out: BytesMut::new(),
            answers: Dice::new(u32::from(input.settings[3])),
            log: Log::default(),
        }
    }

    fn play(mut self, input: &Input<'_>, cuts: Cuts) -> Log {
        self.front.greet(&self.capabilities.clone().into(), &mut self.out);
        self.flush();
        for segment in input.segments() {
            let mut rest = segment.len();
            for piece in cuts.pieces(segment) {
                rest -= piece.len();
                self.input.extend_from_slice(piece);
                match self.ask() {
                    Next::Wait => {}
                    Next::Tls if rest > 0 => {
                        // Said in the clear behind the command: that it came too late to be seen there is chance.
                        self.take_back_a_line();
                        self.flush();
                        self.log.did("bytes behind STARTTLS");
                        return self.log;
                    }
                    Next::Tls => {
                        self.flush();
                        self.log.did("TLS");
                        self.tls = true;
                        self.front.secured(&self.capabilities.clone().into());
                    }
                    Next::Over { handed_on } => {
                        self.flush();
                        if handed_on {
                            let tail = &segment[segment.len() - rest..];
                            let left = [&self.input, tail].concat();
                            self.log.did(format!("left {}", left.escape_ascii()));
                        }
                        self.assert_bounded();
                        return self.log;
                    }
                }
            }
        }
        self.assert_bounded();
        self.log
    }

    /// Asks the front until it waits for input.
    fn ask(&mut self) -> Next {
        loop {
            let (kept, said) = (self.input.len(), self.out.len());
            let step = self.front.next(&mut self.input, &mut self.out);
            assert!(self.out.len() - said <= MAX_ANSWERS + ONE_ANSWER, "{} octets at once", self.out.len() - said);
            match step {
                Ok(Step::More) if self.out.len() > MAX_ANSWERS => {
                    assert!(self.input.len() < kept, "nothing was looked at");
                    self.flush();
                }
                Ok(Step::More) => {
                    self.flush();
                    let most = most_kept(self.settings.service);
                    assert!(self.input.len() <= most, "{} octets are kept", self.input.len());
                    return Next::Wait;
                }
                Ok(Step::StartTls) => {
                    assert!(!self.tls && self.settings.tls.offers_upgrade(), "an upgrade that was not offered");
                    assert!(self.input.is_empty(), "bytes behind STARTTLS are kept");
                    return Next::Tls;
                }
                Ok(Step::Login(login)) => {
                    self.log_login(&login);
                    if let Some(over) = self.decide(Some(&login)) {
                        return over;
                    }
                }
                Ok(Step::Respond(response)) => {
                    self.flush();
                    self.log.did(format!("response {}", response.declassify().escape_ascii()));
                    if let Some(over) = self.decide(None) {
                        return over;
                    }
                }
                Ok(Step::Mail) => {
                    self.flush();
                    if let Some(over) = self.stranger() {
                        return over;
                    }
                }
                Ok(Step::Cancelled) => self.did("cancelled"),
                Ok(Step::Denied { refusal, mechanism }) => self.did(format!("denied {refusal} {mechanism}")),
                Ok(Step::Leave) => {
                    self.did("leave");
                    return Next::Over { handed_on: false };
                }
                Err(Violation::PipelinedStartTls) => {
                    assert!(!self.tls && self.settings.tls.offers_upgrade(), "an upgrade that was not offered");
                    self.did("bytes behind STARTTLS");
                    return Next::Over { handed_on: false };
                }
                Err(violation) => {
                    self.did(violation.to_string());
                    return Next::Over { handed_on: false };
                }
            }
        }
    }

    fn log_login(&mut self, login: &Login) {
        self.flush();
        assert!(self.settings.allows(&login.mechanism, self.tls), "{} is not allowed here", login.mechanism);
        assert!(self.capabilities.can_take(&login.mechanism), "the backend cannot take {}", login.mechanism);
        let fields: Vec<&[u8]> = match &login.credentials {
            Credentials::Password { authzid, user, password } => {
                let authzid = authzid.as_ref().map(UserName::as_bytes);
                [authzid, Some(user.as_bytes()), Some(password.declassify())].into_iter().flatten().collect()
            }
            Credentials::Apop { user, digest } => vec![user.as_bytes(), digest.declassify()],
            Credentials::Sasl { initial } => {
                let shown = initial.as_ref().map(|initial| initial.declassify().escape_ascii().to_string());
                self.log.did(format!("login {} {shown:?}", login.mechanism));
                return;
            }
        };
        for field in &fields {
            let clean = !field.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0));
            assert!(clean, "a line break or NUL in a credential: {}", field.escape_ascii());
        }
        let fields: Vec<String> = fields.iter().map(|field| field.escape_ascii().to_string()).collect();
        self.log.did(format!("login {} {fields:?}", login.mechanism));
    }

    /// The engine's word on a login, or on a response in it.
    fn decide(&mut self, login: Option<&Login>) -> Option<Next> {
        const REFUSALS: [Refusal; 9] = [
            Refusal::Banned,
            Refusal::RateLimited,
            Refusal::NotAllowed,
            Refusal::TooManySessions,
            Refusal::TlsRequired,
            Refusal::MechanismDisabled,
            Refusal::BadSyntax,
            Refusal::Timeout,
            Refusal::Cancelled,
        ];
        let passes_through = login.is_none_or(|login| matches!(login.credentials, Credentials::Sasl { .. }));
        let reply = Reply {
            code: [None, Some("AUTHENTICATIONFAILED"), Some("IN-USE"), Some("SYS/TEMP"), Some("535 5.7.8")]
                [self.answers.below(5)]
            .map(str::to_owned),
            text: "gr\u{fc}\u{df}e".to_owned(),
            capabilities: (self.answers.below(2) == 0).then(|| vec!["IMAP4rev1".to_owned(), "IDLE".to_owned()]),
        };
        let mut over = None;
        let answer = match self.answers.below(16) {
            0..6 if passes_through => Answer::Challenge(b"<1.2@backend.example.net>"),
            0..8 => Answer::Rejected(&reply),
            8..10 => Answer::Unavailable(None),
            10 => Answer::Unavailable(Some(&reply)),
            11..13 => {
                let refusal = *self.answers.pick(&REFUSALS);
                let ends = refusal.ends_the_session() || refusal == Refusal::Timeout;
                over = ends.then_some(Next::Over { handed_on: false });
                Answer::Refused(refusal)
            }
            13 => {
                over = Some(Next::Over { handed_on: false });
                let goodbyes =
                    [Goodbye::TooManyAttempts, Goodbye::Timeout, Goodbye::ShuttingDown, Goodbye::BackendLost];
                Answer::Goodbye(*self.answers.pick(&goodbyes))
            }
            _ => {
                over = Some(Next::Over { handed_on: true });
                Answer::Accepted(&reply)
            }
        };
        self.front.answer(answer, &mut self.out);
        over
    }

    /// A stranger's MAIL stands in the input, fit to be read by the follower.
    fn stranger(&mut self) -> Option<Next> {
        let granted = self.settings.service == Service::Submission && self.settings.may_be_granted;
        assert!(granted || self.settings.service == Service::Smtp);
        assert!(self.front.helo().is_some(), "MAIL before EHLO");
        let end = self.input.windows(2).position(|pair| pair == b"\r\n").expect("a whole line") + 2;
        let line = &self.input[..end];
        assert_lines(line, "a stranger's MAIL");
        assert!(line[..5].eq_ignore_ascii_case(b"MAIL ") || line[..5].eq_ignore_ascii_case(b"MAIL\t"));
        self.log.did(format!("mail {}", line.escape_ascii()));
        let answer = match self.answers.below(4) {
            0 => Answer::Unavailable(None),
            1 => Answer::Refused(Refusal::RelayDenied),
            2 => Answer::Unavailable(Some(&Reply::default())),
            _ => {
                self.front.answer(Answer::Accepted(&Reply::default()), &mut self.out);
                assert!(self.out.is_empty(), "the follower answers MAIL");
                return Some(Next::Over { handed_on: true });
            }
        };
        self.front.answer(answer, &mut self.out);
        None
    }

    fn did(&mut self, what: impl Into<String>) {
        self.flush();
        self.log.did(what);
    }

    fn flush(&mut self) {
        assert_words(&self.out, "what the client hears");
        self.log.said(&self.out);
        self.out.clear();
    }

    fn take_back_a_line(&mut self) {
        let before = self.out.len().saturating_sub(2);
        let start = self.out[..before].iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        self.out.truncate(start);
    }

    fn assert_bounded(&self) {
        let most = usize::try_from(MAX_ERRORS).expect("a small number") + 1;
        assert!(self.log.count("denied") <= most && self.log.count("mail") <= most, "errors without end");
    }
}
