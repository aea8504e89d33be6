//! One attempt to log in: the gate, the dial, the backend's verdict, one AUTH event.

use super::Who;
use super::entered::{Identity, Proof};
use super::login::{Engine, Gone, back_settings};
use super::unspoken::Unspoken;
use crate::backend::{Dialogue, Lost};
use crate::gate::{Attempt, Gate, Ruling, Ticket, User, Verdict};
use crate::observe::{Event, Kind};
use crate::policy::Checker;
use crate::proto::sasl;
use crate::proto::{
    Answer, BackStep, Goodbye, Login, Mechanism, Protocol, Refusal, Reply, Secret, Service, Step, UserName,
};
use crate::route::Destination;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long an attempt waits for the verdicts on others from its address before it hears "temporary".
const PATIENCE: Duration = Duration::from_secs(30);

/// Which part of the time for the login there is for the response to a challenge: it comes from a program, and the backend
/// holds a connection for it.
const SHARE_OF_A_RESPONSE: u32 = 4;

/// What came of an attempt, for the dialogue.
pub(super) enum Outcome {
    /// The client may try again.
    Go,
    /// The words are said; the connection ends for this reason.
    End(&'static str),
    /// The client went away over it.
    Gone(Gone),
    /// In.
    LoggedIn(Box<Dialogue>, Identity),
}

/// The facts of the attempt under way.
pub(super) struct Try {
    pub(super) login: Login,
    pub(super) user: Option<UserName>,
    /// The user's name as it is counted.
    pub(super) counted: Option<User>,
    /// When the last byte of a credential came.
    pub(super) heard: Instant,
    pub(super) server: Option<String>,
    /// What the exchange was about.
    pub(super) unspoken: Unspoken,
    /// The name that is sent to the backend, where it is not the one the client gave.
    pub(super) sent_as: Option<UserName>,
    /// The user as the gate counted one before a service said who he is.
    pub(super) typed_as: Option<User>,
    /// The password the client gave, where another is sent to the backend.
    pub(super) typed: Option<Secret<Vec<u8>>>,
    /// The answer waits at least so long, by the word of a service.
    pub(super) hold: Duration,
    /// A service has said that the password is right, and is believed.
    pub(super) is_vouched_for: bool,
    /// Leave to ask the backend, until the verdict.
    pub(super) ticket: Option<Ticket>,
}

impl Engine<'_> {
    /// Brings a login to the backend and its verdict to the client.
    pub(super) async fn attempt(&mut self, login: Login) -> Outcome {
        let mut attempt = Try::new(login);
        // The backend may take its time: what was answered before must not wait for it.
        if let Err(gone) = self.flush().await {
            return Outcome::Gone(gone);
        }
        if let Err(outcome) = self.find_the_way(&mut attempt).await {
            return outcome;
        }
        if let Err(outcome) = self.look_up(&mut attempt).await {
            return outcome;
        }
        if attempt.is_vouched_for || self.has_just_proved(&attempt).await {
            // The attempt is over before it reaches anybody, and counts neither way.
            return self.accepted(attempt, None, &Reply::default()).await;
        }
        let mut dialogue = match self.reach(&attempt.login.mechanism, attempt.counted.as_ref()).await {
            Ok(dialogue) => dialogue,
            Err(lost) => return self.unreached(&mut attempt, &lost).await,
        };
        attempt.server = Some(dialogue.server.name.to_string());
        if let Err(fault) = dialogue.login(&attempt.login) {
            self.keep(dialogue).await;
            return self.unreached(&mut attempt, &Lost::Fault(fault)).await;
        }
        loop {
            let began = Instant::now();
            let step = dialogue.next(began + self.session.policy.timeouts.backend_login).await;
            self.give_back(began);
            match step {
                Ok(BackStep::Accepted(reply)) => return self.accepted(attempt, Some(dialogue), &reply).await,
                Ok(BackStep::Rejected(reply)) => {
                    let outcome = self.rejected(&mut attempt, &reply).await;
                    self.keep(dialogue).await;
                    return outcome;
                }
                // The mailbox is in use by whoever fetches mail at the moment; the password was right.
                Ok(BackStep::InUse(reply)) if self.only_checks() => {
                    return self.accepted(attempt, Some(dialogue), &reply).await;
                }
                Ok(BackStep::Unavailable(reply) | BackStep::InUse(reply)) => {
                    self.settle(&mut attempt, Verdict::NoVerdict).await;
                    self.unavailable(&attempt, "backend_temporary", None, Some(&reply)).await;
                    self.keep(dialogue).await;
                    return Outcome::Go;
                }
                Ok(BackStep::Challenge(_)) if !self.may_wait().await => {
                    attempt.ticket = None;
                    self.gate().denied(self.session.client.ip()).await;
                    return self.refuse(&attempt, Refusal::RateLimited).await;
                }
                Ok(BackStep::Challenge(challenge)) => {
                    attempt.unspoken.add(&challenge);
                    self.front.answer(Answer::Challenge(&challenge), &mut self.out);
                    match self.response(&mut attempt).await {
                        Ok(response) => {
                            attempt.unspoken.add(response.declassify());
                            dialogue.respond(response.declassify());
                        }
                        Err(outcome) => return outcome,
                    }
                }
                Ok(BackStep::More | BackStep::StartTls | BackStep::Ready(_)) => {}
                Err(lost) => {
                    drop(dialogue);
                    self.settle(&mut attempt, Verdict::NoVerdict).await;
                    return self.lost(&attempt, &lost).await;
                }
            }
        }
    }

    /// Asks the gate for leave to bring the attempt to the backend. Other attempts from the address may have to come to
    /// their verdicts first; that is waited for within a bound.
    pub(super) async fn ask(&mut self, attempt: &mut Try) -> Result<(), Outcome> {
        let began = Instant::now();
        let (gate, leave) = (self.gate(), self.session.leave.clone());
        let answer = {
            let question = self.question(attempt);
            tokio::select! {
                answer = tokio::time::timeout(PATIENCE, gate.login(&question)) => {
                    answer.unwrap_or(Err(Refusal::RateLimited))
                }
                () = leave.cancelled() => return Err(Outcome::Gone(Gone::Asked)),
            }
        };
        self.give_back(began);
        match answer {
            Ok(ticket) => {
                attempt.ticket = Some(ticket);
                Ok(())
            }
            Err(refusal) => Err(self.refuse(attempt, refusal).await),
        }
    }

    /// Waits for the client's answer to a challenge. The gate's leave is given back meanwhile and asked for anew, now
    /// that the user is known: whoever lets a challenge lie must not hold up others at the address.
    async fn response(&mut self, attempt: &mut Try) -> Result<crate::proto::Secret<Vec<u8>>, Outcome> {
        attempt.ticket = None;
        let due = Instant::now() + self.session.policy.timeouts.login / SHARE_OF_A_RESPONSE;
        loop {
            let step = self.front.next(&mut self.input, &mut self.out);
            if !matches!(step, Ok(Step::More)) {
                self.forget();
            }
            match step {
                Ok(Step::More) => {
                    let exchange = tokio::time::timeout_at(due, self.exchange()).await;
                    if let Err(gone) = exchange.unwrap_or(Err(Gone::Timeout)) {
                        let refusal = if gone == Gone::Timeout { Refusal::Timeout } else { Refusal::Cancelled };
                        self.refused(refusal, Some(&attempt.login.mechanism), attempt.name()).await;
                        return Err(Outcome::Gone(gone));
                    }
                }
                Ok(Step::Respond(response)) => {
                    attempt.heard = Instant::now();
                    if attempt.user.is_none() {
                        attempt.user = sasl::user_of(&attempt.login.mechanism, response.declassify());
                        attempt.counted = attempt.user.as_ref().map(|user| self.counted(user));
                    }
                    self.ask(attempt).await?;
                    return Ok(response);
                }
                Ok(Step::Cancelled) => {
                    self.refused(Refusal::Cancelled, Some(&attempt.login.mechanism), attempt.name()).await;
                    return Err(Outcome::Go);
                }
                Ok(Step::Denied { refusal, mechanism }) => {
                    self.refused(refusal, Some(&mechanism), attempt.name()).await;
                    return Err(Outcome::Go);
                }
                Ok(_) => return Err(self.broken_off(Refusal::BadSyntax, attempt).await),
                Err(violation) => return Err(self.broken_off(violation.refusal(), attempt).await),
            }
        }
    }

    /// The client did something else in the middle of an exchange; its connection ends.
    async fn broken_off(&mut self, refusal: Refusal, attempt: &Try) -> Outcome {
        self.refused(refusal, Some(&attempt.login.mechanism), attempt.name()).await;
        Outcome::End(refusal.as_str())
    }

    /// The dialogue that is open already, if it is with this user's server, or a new one. APOP's digest fits the timestamp
    /// we greeted with and no other.
    async fn reach(&mut self, mechanism: &Mechanism, user: Option<&User>) -> Result<Dialogue, Lost> {
        let is_apop = *mechanism == Mechanism::APOP;
        if let Some(mut dialogue) = self.dialogue.take()
            && dialogue.is_open()
            && (is_apop || self.suits(&dialogue, user))
        {
            return Ok(dialogue);
        }
        let who = Who { counted: user, checked: None };
        if is_apop { Err(Lost::Closed) } else { self.open(self.session.login_protocol(), who).await }
    }

    /// Whether a dialogue that is open leads where the session goes now.
    fn suits(&self, dialogue: &Dialogue, user: Option<&User>) -> bool {
        let Destination { backend, server } = &self.session.destination;
        if let Some(name) = server {
            return dialogue.server.backend == backend.name && dialogue.server.name == *name;
        }
        let settings = back_settings(self.session, self.front.helo());
        let who = Who { counted: user, checked: None };
        let wanted = self.session.wanted(self.session.login_protocol(), &settings, who);
        dialogue.server.backend == backend.name && self.session.shared.backends.suits(backend, &wanted, dialogue)
    }

    pub(super) fn gate(&self) -> Arc<Gate> {
        Arc::clone(&self.session.shared.gate)
    }

    /// The user as the gate counts one.
    pub(super) fn counted(&self, name: &UserName) -> User {
        User::new(&self.session.destination.backend.name, self.session.login_protocol(), name)
    }

    pub(super) fn question<'a>(&'a self, attempt: &'a Try) -> Attempt<'a> {
        Attempt {
            client: self.session.client.ip(),
            user: attempt.counted.as_ref(),
            password: attempt.secret(),
            backend: &self.session.destination.backend.name,
        }
    }

    /// Hands the verdict to the gate.
    pub(super) async fn settle(&self, attempt: &mut Try, verdict: Verdict) -> Ruling {
        match attempt.ticket.take() {
            Some(ticket) => self.gate().outcome(ticket, &self.question(attempt), verdict).await,
            None => Ruling::NoVerdict,
        }
    }

    /// Lets the user in. `dialogue`: where the password was checked, if a server was asked.
    async fn accepted(&mut self, mut attempt: Try, dialogue: Option<Dialogue>, reply: &Reply) -> Outcome {
        if dialogue.is_some() || attempt.is_vouched_for {
            self.settle(&mut attempt, Verdict::Accepted).await;
            if let Some(typed) = &attempt.typed_as {
                // By that name he will come again, and others may guess at it.
                let question = Attempt { user: Some(typed), ..self.question(&attempt) };
                self.gate().vouch(&question).await;
            }
        }
        if matches!(self.session.listener.service, Service::Imap | Service::Pop3) {
            // Where addresses are not granted anything, this one is not either.
            let _ = self.gate().grant(self.session.client.ip()).await;
        }
        let (dialogue, proof) = match dialogue {
            Some(dialogue) if !self.only_checks() => (dialogue, None),
            checker => {
                if let Some(dialogue) = checker {
                    tokio::spawn(dialogue.quit());
                }
                let checked = self.name_at_checker(&attempt);
                let who = Who { counted: attempt.counted.as_ref(), checked: checked.as_ref() };
                match self.open(self.session.listener.service.protocol(), who).await {
                    Ok(dialogue) => (dialogue, Some(Proof::Elsewhere(checked))),
                    Err(lost) => return self.unreached(&mut attempt, &lost).await,
                }
            }
        };
        attempt.server.get_or_insert_with(|| dialogue.server.name.to_string());
        let slot = match attempt.counted.as_ref().map(|user| self.gate().user_session(user)) {
            Some(Err(refusal)) => {
                self.record(&attempt, Kind::AuthRefused, refusal.as_str());
                self.front.answer(Answer::Refused(refusal), &mut self.out);
                return Outcome::End(refusal.as_str());
            }
            Some(Ok(slot)) => Some(slot),
            None => None,
        };
        self.record_with(&attempt, Kind::AuthOk, None, Some(reply), None);
        self.front.answer(Answer::Accepted(reply), &mut self.out);
        let user = attempt.name().unwrap_or_default();
        let proof = match (proof, self.session.listener.service.protocol()) {
            (Some(elsewhere), _) => elsewhere,
            (None, Protocol::Smtp) => Proof::Login(Box::new(attempt.login)),
            (None, Protocol::Imap | Protocol::Pop3) => Proof::Unneeded,
        };
        let (name, login_name, counted) = (attempt.user, attempt.sent_as, attempt.counted);
        let identity = Identity { user, name, login_name, counted, proof, slot };
        Outcome::LoggedIn(Box::new(dialogue), identity)
    }

    /// The user by the name that went to who checked the password, and never by that of whom he wants to act for, which a file or
    /// a memory of passwords knows nothing about. Of `joe x` one POP3 server takes all and another `joe`: he is named to nobody.
    fn name_at_checker(&self, attempt: &Try) -> Option<UserName> {
        let name = attempt.sent_as.as_ref().or(attempt.user.as_ref())?;
        if let Checker::File(file) = &self.session.policy.auth.submission
            && let Some(spelt) = file.spelling(name)
        {
            // The server may have rules by the name, and need not take every spelling for the same.
            return Some(spelt);
        }
        let whole = name.as_taken(Protocol::Smtp);
        UserName::new(whole).ok().filter(|_| name.as_taken(self.session.login_protocol()) == whole)
    }

    pub(super) async fn rejected(&mut self, attempt: &mut Try, reply: &Reply) -> Outcome {
        self.turn_down(attempt, reply, Answer::Rejected(reply)).await
    }

    /// Counts, records and answers a verdict against the client.
    pub(super) async fn turn_down(&mut self, attempt: &mut Try, reply: &Reply, answer: Answer<'_>) -> Outcome {
        let reason = match self.settle(attempt, Verdict::Rejected).await {
            Ruling::Failed(reason) => reason,
            Ruling::Accepted | Ruling::Outage | Ruling::NoVerdict => {
                self.unavailable(
                    attempt,
                    "backend_temporary",
                    Some("known-good passwords fail: the backend is ill"),
                    None,
                )
                .await;
                return Outcome::Go;
            }
        };
        self.record_with(attempt, Kind::AuthFailed, Some(reason.as_str()), Some(reply), None);
        self.failures += 1;
        self.hold_back(attempt).await;
        self.front.answer(answer, &mut self.out);
        if self.failures >= self.session.policy.limits.auth_attempts_per_session {
            self.front.answer(Answer::Goodbye(Goodbye::TooManyAttempts), &mut self.out);
            return Outcome::End("too_many_attempts");
        }
        Outcome::Go
    }

    pub(super) async fn refuse(&mut self, attempt: &Try, refusal: Refusal) -> Outcome {
        self.record(attempt, Kind::AuthRefused, refusal.as_str());
        self.hold_back(attempt).await;
        self.front.answer(Answer::Refused(refusal), &mut self.out);
        if refusal.ends_the_session() { Outcome::End(refusal.as_str()) } else { Outcome::Go }
    }

    /// Nothing of the credentials was said to a backend: the attempt counts as never made.
    async fn unreached(&mut self, attempt: &mut Try, lost: &Lost) -> Outcome {
        attempt.ticket = None;
        self.lost(attempt, lost).await
    }

    async fn lost(&mut self, attempt: &Try, lost: &Lost) -> Outcome {
        self.unavailable(attempt, lost.reason(), Some(&lost.to_string()), None).await;
        if attempt.login.mechanism == Mechanism::APOP {
            // The timestamp the client holds died with the backend's connection.
            self.front.answer(Answer::Goodbye(Goodbye::BackendLost), &mut self.out);
            return Outcome::End(lost.reason());
        }
        Outcome::Go
    }

    pub(super) async fn unavailable(
        &mut self,
        attempt: &Try,
        reason: &str,
        detail: Option<&str>,
        reply: Option<&Reply>,
    ) {
        self.record_with(attempt, Kind::AuthError, Some(reason), reply, detail);
        self.hold_back(attempt).await;
        self.front.answer(Answer::Unavailable(reply), &mut self.out);
    }

    /// The answer leaves no sooner than `failure_delay` after the last byte of the credentials, whatever was found out
    /// meanwhile: an unknown user and a wrong password take equally long, and so does "not now", which a backend may say
    /// to a wrong password too.
    pub(super) async fn hold_back(&mut self, attempt: &Try) {
        let began = Instant::now();
        let delay = self.session.policy.limits.failure_delay.max(attempt.hold);
        tokio::select! {
            () = tokio::time::sleep_until(attempt.heard + delay) => {}
            () = self.session.leave.cancelled() => {}
        }
        self.give_back(began);
    }

    fn record(&self, attempt: &Try, kind: Kind, reason: &str) {
        self.record_with(attempt, kind, Some(reason), None, None);
    }

    pub(super) fn record_with(
        &self,
        attempt: &Try,
        kind: Kind,
        reason: Option<&str>,
        reply: Option<&Reply>,
        detail: Option<&str>,
    ) {
        let mut event: Event = self.session.event(kind);
        event.user = attempt.name();
        event.login = attempt.sent_as.as_ref().map(UserName::display).or_else(|| attempt.login.authorized_as());
        event.mechanism = Some(attempt.login.mechanism.clone());
        event.backend = Some(self.session.destination.backend.name.clone());
        event.server.clone_from(&attempt.server);
        event.reason = reason.map(str::to_owned);
        event.reply = reply.map(|reply| attempt.unspoken.hide(&attempt.login, &reply.to_line()));
        event.detail = detail.map(|detail| attempt.unspoken.hide(&attempt.login, detail));
        event.duration = Some(attempt.heard.elapsed());
        self.session.record(&event);
    }
}

impl Try {
    fn new(login: Login) -> Self {
        let user = login.user();
        Self {
            login,
            user,
            counted: None,
            heard: Instant::now(),
            server: None,
            unspoken: Unspoken::default(),
            sent_as: None,
            typed_as: None,
            typed: None,
            hold: Duration::ZERO,
            is_vouched_for: false,
            ticket: None,
        }
    }

    /// The password the client gave, where one was seen.
    pub(super) fn secret(&self) -> Option<&Secret<Vec<u8>>> {
        self.typed.as_ref().or_else(|| self.login.secret())
    }

    fn name(&self) -> Option<String> {
        self.user.as_ref().map(UserName::display)
    }
}
