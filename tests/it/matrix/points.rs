//! The dialogues as they go when all is well, step by step: what the client says, what the backend is asked and answers,
//! what the client hears. A fault stands in for a backend's answer.

use super::bench::opening;
use crate::mail::plain;
use gatepost::proto::Service;

/// Where in the dialogue a backend's answer is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Point {
    Greeting,
    Capabilities,
    /// The `+` for the literal with the password.
    Literal,
    User,
    /// The first prompt of AUTH LOGIN, and the second.
    LoginUser,
    LoginPassword,
    Challenge,
    Verdict,
    Relay,
    Mail,
    Rcpt,
    Data,
    /// Nothing is due: the message is under way.
    InData,
    Final,
    Rset,
    Quit,
}

/// In which part of a session a point is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// The server is asked who it is: what goes wrong here tells of its health.
    Opening,
    Login,
    Relay,
    Mail,
}

impl Point {
    pub(crate) fn part(self) -> Part {
        match self {
            Point::Greeting | Point::Capabilities => Part::Opening,
            Point::Literal
            | Point::User
            | Point::LoginUser
            | Point::LoginPassword
            | Point::Challenge
            | Point::Verdict => Part::Login,
            Point::Relay => Part::Relay,
            Point::Mail | Point::Rcpt | Point::Data | Point::InData | Point::Final | Point::Rset | Point::Quit => {
                Part::Mail
            }
        }
    }
}

/// A step of a dialogue. What is empty is not said.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) point: Point,
    pub(crate) client: String,
    pub(crate) ask: String,
    pub(crate) answer: String,
    pub(crate) reply: String,
}

/// How a session goes.
#[derive(Debug, Clone)]
pub(crate) struct Dialogue {
    pub(crate) service: Service,
    pub(crate) name: &'static str,
    /// The mechanisms the backend offers.
    pub(crate) mechanisms: &'static str,
    /// What the client says and hears before the backend is dialled.
    pub(crate) before: Vec<(String, &'static str)>,
    pub(crate) steps: Vec<Step>,
}

const CHALLENGE: &str = "PDEuMkBvbGQ+";
const RESPONSE: &str = "am9lIDAxMjM0NTY3ODlhYmNkZWYwMTIzNDU2Nzg5YWJjZGVm";

/// All dialogues of a service.
pub(crate) fn dialogues(service: Service) -> Vec<Dialogue> {
    let step = |point, client: &str, ask: &str, answer: &str, reply: &str| Step {
        point,
        client: client.to_owned(),
        ask: ask.to_owned(),
        answer: answer.to_owned(),
        reply: reply.to_owned(),
    };
    let dialogue = |name, mechanisms, before: &[(&str, &'static str)], first: &str, rest: Vec<Step>| {
        let opening = opening(service, mechanisms).into_iter().zip([Point::Greeting, Point::Capabilities]);
        let mut steps: Vec<Step> = opening.map(|((ask, answer), point)| step(point, "", ask, &answer, "")).collect();
        steps[0].client = first.to_owned();
        steps.extend(rest);
        let before = before.iter().map(|(say, hear)| ((*say).to_owned(), *hear)).collect();
        Dialogue { service, name, mechanisms, before, steps }
    };
    let long = "p".repeat(300);
    match service {
        Service::Imap => {
            let relay = step(Point::Relay, "b NOOP", "b NOOP", "b OK done", "b OK done");
            vec![
                dialogue(
                    "login",
                    "CRAM-MD5",
                    &[],
                    "a LOGIN joe secret",
                    vec![
                        step(Point::Verdict, "", "g2 LOGIN \"joe\" \"secret\"", "g2 OK in", "a OK <*>"),
                        relay.clone(),
                    ],
                ),
                dialogue(
                    "literal",
                    "CRAM-MD5",
                    &[],
                    &format!("a LOGIN joe {long}"),
                    vec![
                        step(Point::Literal, "", "g2 LOGIN \"joe\" {300}", "+ go", ""),
                        step(Point::Verdict, "", &long, "g2 OK in", "a OK <*>"),
                        relay.clone(),
                    ],
                ),
                dialogue(
                    "cram-md5",
                    "CRAM-MD5",
                    &[],
                    "a AUTHENTICATE CRAM-MD5",
                    vec![
                        step(
                            Point::Challenge,
                            "",
                            "g2 AUTHENTICATE CRAM-MD5",
                            &format!("+ {CHALLENGE}"),
                            &format!("+ {CHALLENGE}"),
                        ),
                        step(Point::Verdict, RESPONSE, RESPONSE, "g2 OK in", "a OK <*>"),
                        relay,
                    ],
                ),
            ]
        }
        Service::Pop3 => {
            let relay = step(Point::Relay, "STAT", "STAT", "+OK 0 0", "+OK 0 0");
            vec![
                dialogue(
                    "user",
                    "CRAM-MD5",
                    &[("USER joe", "+OK <*>")],
                    "PASS secret",
                    vec![
                        step(Point::User, "", "USER joe", "+OK", ""),
                        step(Point::Verdict, "", "PASS secret", "+OK in", "+OK <*>"),
                        relay.clone(),
                    ],
                ),
                dialogue(
                    "cram-md5",
                    "CRAM-MD5",
                    &[],
                    "AUTH CRAM-MD5",
                    vec![
                        step(
                            Point::Challenge,
                            "",
                            "AUTH CRAM-MD5",
                            &format!("+ {CHALLENGE}"),
                            &format!("+ {CHALLENGE}"),
                        ),
                        step(Point::Verdict, RESPONSE, RESPONSE, "+OK in", "+OK <*>"),
                        relay,
                    ],
                ),
            ]
        }
        Service::Submission | Service::Smtp => {
            let same = |point, line: &str, answer: &str| step(point, line, line, answer, answer);
            let mail = vec![
                same(Point::Mail, "MAIL FROM:<joe@example.net>", "250 Ok"),
                same(Point::Rcpt, "RCPT TO:<ann@example.net>", "250 Ok"),
                same(Point::Data, "DATA", "354 Go"),
                step(Point::InData, "Subject: x\r\n\r\nhal", "Subject: x\n", "", ""),
                step(Point::Final, "f\r\n.", "half\n.", "250 queued", "250 queued"),
                same(Point::Rset, "RSET", "250 Ok"),
                step(Point::Quit, "QUIT", "QUIT", "221 bye", "221 2.0.0 Bye"),
            ];
            if service == Service::Smtp {
                let mut mail = mail;
                let first = std::mem::take(&mut mail[0].client);
                return vec![dialogue("stranger", "PLAIN", &[("EHLO mx.example.com", "")], &first, mail)];
            }
            let ehlo = ("EHLO pc", "");
            let with_mail = |steps: Vec<Step>| [steps, mail.clone()].concat();
            let auth = format!("AUTH PLAIN {}", plain("joe", "secret"));
            vec![
                dialogue(
                    "plain",
                    "PLAIN CRAM-MD5",
                    &[ehlo],
                    &auth,
                    with_mail(vec![step(Point::Verdict, "", &auth, "235 ok", "235 2.7.0 <*>")]),
                ),
                dialogue(
                    "login",
                    "LOGIN",
                    &[ehlo],
                    &auth,
                    with_mail(vec![
                        step(Point::LoginUser, "", "AUTH LOGIN", "334 VXNlcm5hbWU6", ""),
                        step(Point::LoginPassword, "", "am9l", "334 UGFzc3dvcmQ6", ""),
                        step(Point::Verdict, "", "c2VjcmV0", "235 ok", "235 2.7.0 <*>"),
                    ]),
                ),
                dialogue(
                    "cram-md5",
                    "CRAM-MD5",
                    &[ehlo],
                    "AUTH CRAM-MD5",
                    with_mail(vec![
                        step(
                            Point::Challenge,
                            "",
                            "AUTH CRAM-MD5",
                            &format!("334 {CHALLENGE}"),
                            &format!("334 {CHALLENGE}"),
                        ),
                        step(Point::Verdict, RESPONSE, RESPONSE, "235 ok", "235 2.7.0 <*>"),
                    ]),
                ),
            ]
        }
    }
}
