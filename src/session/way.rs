//! Where a login goes, and who checks its password: routes, services, files.

use super::attempt::{Outcome, Try};
use super::login::{Engine, Gone, back_settings};
use crate::gate::Verdict;
use crate::observe::Kind;
use crate::policy::route::AuthHttp;
use crate::policy::{Checker, ClientCertificate};
use crate::proto::{Answer, Credentials, Refusal, Reply, Service, UserName};
use crate::route::{self, Astray, Destination, Found, Inquiry, Way};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// How long a password that another server than the sender's own has found right is not asked about again.
const FRESH: Duration = Duration::from_secs(60);
/// How many hashes of passwords are checked at once.
static HASHING: Semaphore = Semaphore::const_new(4);
/// How long an attempt waits for its turn there.
const A_TURN: Duration = Duration::from_secs(10);

impl Engine<'_> {
    /// Finds where the user belongs and asks the gate for leave to go there. A service is asked once the gate has said yes.
    pub(super) async fn find_the_way(&mut self, attempt: &mut Try) -> Result<(), Outcome> {
        let (policy, fallback) = (Arc::clone(&self.session.policy), Arc::clone(&self.session.listener.backend));
        let client = self.session.client.ip();
        let Some(user) = attempt.user.clone() else {
            if route::may_go(&policy.routes, &self.session.traveller(), client).is_err() {
                self.gate().denied(client).await;
                return Err(self.refuse(attempt, Refusal::NotAllowed).await);
            }
            return self.ask(attempt).await;
        };
        let found = route::of_user(&policy.routes, &self.session.traveller(), client, &user, &fallback);
        match found {
            Ok(Found::Way(way)) => {
                self.take(way, attempt);
                let counted = attempt.sent_as.as_ref().unwrap_or(&user);
                attempt.counted = Some(self.counted(counted));
                self.ask(attempt).await
            }
            Ok(Found::Ask(service)) => {
                self.session.destination = Destination::any_of(service.backend.as_ref().unwrap_or(&fallback));
                attempt.counted = Some(self.counted(&user));
                self.ask(attempt).await?;
                match self.inquire(service, attempt, &user).await {
                    Ok(way) => {
                        self.take(way, attempt);
                        // Whatever a customer calls himself, behind the service he is one user.
                        let counted = self.counted(attempt.sent_as.as_ref().unwrap_or(&user));
                        attempt.typed_as =
                            attempt.counted.replace(counted).filter(|typed| Some(typed) != attempt.counted.as_ref());
                        let is_sender = self.session.listener.service == Service::Submission;
                        attempt.is_vouched_for = is_sender && policy.auth.submission == Checker::AuthHttp;
                        if attempt.typed_as.is_some() && !attempt.is_vouched_for {
                            // Leave was given for another name than the one that is guessed at now.
                            attempt.ticket = None;
                            self.ask(attempt).await?;
                        }
                        Ok(())
                    }
                    Err(astray) => Err(self.astray(attempt, astray).await),
                }
            }
            Err(Astray::NotAllowed) => {
                self.gate().denied(client).await;
                Err(self.refuse(attempt, Refusal::NotAllowed).await)
            }
            Err(astray) => {
                attempt.counted = Some(self.counted(&user));
                self.ask(attempt).await?;
                Err(self.astray(attempt, astray).await)
            }
        }
    }

    /// Asks a service where the user belongs. The time that takes is not the client's.
    async fn inquire(&mut self, service: &AuthHttp, attempt: &Try, user: &UserName) -> Result<Way, Astray> {
        let began = Instant::now();
        let session = &*self.session;
        let asked = session.listener.client_certificate != ClientCertificate::Off;
        let inquiry = Inquiry {
            protocol: session.listener.service.protocol(),
            password: attempt.secret(),
            attempt: self.inquiries,
            client: session.client,
            is_proxied: session.proxy.is_some(),
            tls: session.tls.as_ref().map(|tls| route::Tls {
                version: tls.version,
                cipher: tls.cipher,
                certificate: asked.then_some(tls.client.is_some()),
            }),
        };
        let asking = route::ask(service, &inquiry, user, &session.destination.backend);
        let answer = tokio::select! {
            answer = asking => answer,
            () = session.leave.cancelled() => Err(Astray::Unavailable("we are going down".to_owned())),
        };
        self.inquiries += 1;
        self.give_back(began);
        answer
    }

    /// Goes a way: the place, and what is sent there.
    fn take(&mut self, way: Way, attempt: &mut Try) {
        self.session.destination = way.destination;
        let by_service = self.session.destination.server.is_some();
        if let Credentials::Password { authzid, user, password } = &mut attempt.login.credentials {
            if by_service {
                // The service has seen the user, and nobody else whom he may want to be.
                *authzid = None;
            }
            if let Some(login) = &way.login {
                user.clone_from(login);
            }
            if let Some(new) = way.password {
                let typed = std::mem::replace(password, new);
                attempt.unspoken.add(typed.declassify());
                attempt.typed = Some(typed);
            }
        }
        attempt.sent_as = way.login;
    }

    /// Answers a login that leads nowhere.
    async fn astray(&mut self, attempt: &mut Try, astray: Astray) -> Outcome {
        match astray {
            Astray::NotAllowed => self.refuse(attempt, Refusal::NotAllowed).await,
            Astray::NoSuchUser => self.rejected(attempt, &Reply::default()).await,
            Astray::Unavailable(detail) => {
                attempt.ticket = None;
                self.unavailable(attempt, "backend_down", Some(&detail), None).await;
                Outcome::Go
            }
            Astray::Rejected { reply, wait } => {
                attempt.hold = wait.unwrap_or_default();
                let settings = back_settings(self.session, None);
                let is_temporary = reply.code.as_deref().is_some_and(|code| code.starts_with('4'))
                    || settings.is_temporary(&reply.text, attempt.user.as_ref());
                let outcome = if is_temporary {
                    self.settle(attempt, Verdict::NoVerdict).await;
                    self.record_with(attempt, Kind::AuthError, Some("backend_temporary"), Some(&reply), None);
                    self.hold_back(attempt).await;
                    self.front.answer(Answer::Worded { reply: &reply, is_temporary }, &mut self.out);
                    Outcome::Go
                } else {
                    self.turn_down(attempt, &reply, Answer::Worded { reply: &reply, is_temporary }).await
                };
                let is_goodbye = reply.code.as_deref().is_some_and(|code| code.starts_with("421"));
                match outcome {
                    // As nginx has it: who gives no time for another try wants none.
                    Outcome::Go if wait.is_none() || is_goodbye => Outcome::End("auth_http"),
                    outcome => outcome,
                }
            }
        }
    }

    /// Looks the password up in the file of passwords, if that is where a sender's is.
    pub(super) async fn look_up(&mut self, attempt: &mut Try) -> Result<(), Outcome> {
        let policy = Arc::clone(&self.session.policy);
        let Checker::File(file) = &policy.auth.submission else { return Ok(()) };
        let (Service::Submission, Some(user), Some(password)) =
            (self.session.listener.service, attempt.user.clone(), attempt.secret().cloned())
        else {
            return Ok(());
        };
        if self.gate().has_just_proved(&self.question(attempt), FRESH).await {
            return Ok(());
        }
        let began = Instant::now();
        // Each takes a processor and some 20 MiB for a while, and a crowd of strangers must not have customers wait for ever.
        let turn = tokio::select! {
            turn = tokio::time::timeout(A_TURN, HASHING.acquire()) => turn,
            () = self.session.leave.cancelled() => return Err(Outcome::Gone(Gone::Asked)),
        };
        self.give_back(began);
        let Ok(Ok(_turn)) = turn else {
            attempt.ticket = None;
            let why = "too many passwords are being checked at once";
            self.unavailable(attempt, "backend_temporary", Some(why), None).await;
            return Err(Outcome::Go);
        };
        let began = Instant::now();
        let file = Arc::clone(file);
        let verified = tokio::task::spawn_blocking(move || file.verify(&user, password.declassify())).await;
        self.give_back(began);
        match verified {
            Ok(true) => {
                attempt.is_vouched_for = true;
                Ok(())
            }
            Ok(false) => Err(self.rejected(attempt, &Reply::default()).await),
            Err(error) => {
                self.unavailable(attempt, "backend_down", Some(&format!("checking a hash failed: {error}")), None)
                    .await;
                Err(Outcome::Go)
            }
        }
    }

    /// Whether the server that is asked is there for the password alone.
    pub(super) fn only_checks(&self) -> bool {
        self.session.login_protocol() != self.session.listener.service.protocol()
    }

    /// Whether the password worked a moment ago, so that a program that sends many mails does not log in elsewhere for each.
    pub(super) async fn has_just_proved(&self, attempt: &Try) -> bool {
        let checks =
            self.only_checks() || self.is_sender() && matches!(self.session.policy.auth.submission, Checker::File(_));
        checks && self.gate().has_just_proved(&self.question(attempt), FRESH).await
    }

    fn is_sender(&self) -> bool {
        self.session.listener.service == Service::Submission
    }
}
