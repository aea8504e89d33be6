//! A webmail behind the page: a browser's request on its way to an old web server, and the answer on its way back.
//!
//! ```text
//!   request ── ours? ── a seat ── headers, path ── dial ── hyper ──▶ old server
//!                                                                       │
//!   answer ◀─ Location, Set-Cookie ─ body, piece by piece ──────────────┘   or 101: octets both ways
//! ```
//!
//! Each exchange has a connection of its own to the old server: what is left over from one can never become part of another's, and
//! servers that know HTTP/1.0 alone are spoken to as they like it. Bodies are not gathered. Nothing of a request is logged: paths and
//! queries of old webmails hold session ids, and passwords.

mod body;
mod cookies;
mod headers;
mod place;
mod socket;

pub(super) use body::Passed;
pub(super) use socket::Socket;

use super::answer::{Answer, own};
use super::seats::{Room, Seats};
use super::traffic::Traffic;
use super::trouble::Trouble;
use crate::backend::Lost;
use crate::policy::ServerName;
use crate::policy::webmail::{Webmail, host_name, is_authority};
use crate::session::Visitor;
use body::{Pace, Sent};
use http_body_util::Either;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Uri, Version};
use hyper_util::rt::TokioIo;
use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

/// The most exchanges at once, and of one address: old servers have some 150 processes. Browsers open about six connections, so ten
/// of them behind one router have room.
const ROOM: Room = Room { most: 256, most_of_one: 64 };
/// The largest head of an answer.
const MOST_HEAD: usize = 64 * 1024;
/// How long each of the two messages about a server stays the only one of its kind.
const SAID: Duration = Duration::from_secs(60);
/// How long a change of protocols may take once both sides have agreed on it.
const CHANGE: Duration = Duration::from_secs(5);

/// What is known of the old web servers. One for the process, shared.
#[derive(Debug, Default)]
pub(super) struct WebServers {
    seats: Seats,
    /// Those that did not answer once.
    known: Mutex<HashMap<ServerName, Known>>,
}

/// What the log has been told of a server.
#[derive(Debug, Default, PartialEq, Eq)]
struct Known {
    is_away: bool,
    away: Option<Instant>,
    back: Option<Instant>,
}

impl Known {
    /// Whether to say that it is away, or back: it is something new, and was not said a moment ago. What was not said is so later, if
    /// it still holds.
    fn says(&mut self, is_away: bool, now: Instant) -> bool {
        let last = if is_away { &mut self.away } else { &mut self.back };
        if self.is_away == is_away || last.is_some_and(|last| now.duration_since(last) < SAID) {
            return false;
        }
        (self.is_away, *last) = (is_away, Some(now));
        true
    }
}

/// One request's way.
pub(super) struct Passage<'a> {
    pub(super) visitor: &'a Visitor,
    pub(super) webmail: &'a Webmail,
    pub(super) servers: &'a WebServers,
    pub(super) traffic: &'a Traffic,
}

impl Passage<'_> {
    /// Passes the request on. `path` is its path, as [`crate::policy::webmail::normal`] has it.
    pub(super) async fn pass(&self, path: &str, request: Request<Incoming>) -> Response<Answer> {
        match self.exchange(path, request).await {
            Ok(response) => response,
            Err(trouble) => own(self.visitor, trouble.page(&self.visitor.policy)),
        }
    }

    async fn exchange(&self, path: &str, request: Request<Incoming>) -> Result<Response<Answer>, Trouble> {
        let Self { visitor, webmail, .. } = *self;
        let authority = self.authority(&request)?;
        let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
        if path.len() < webmail.outside().len() {
            return Err(Trouble::Elsewhere(format!("{}{query}", webmail.outside())));
        }
        // A banned guesser would go on here.
        if visitor.shared.gate.banned(visitor.client).is_some_and(|ban| ban.closed) {
            return Err(Trouble::Banned);
        }
        let networks = visitor.shared.gate.networks(visitor.client);
        let is_everybody = visitor.shared.gate.may_be_everybody(visitor.client);
        let room = if is_everybody { ROOM.for_everybody() } else { ROOM };
        let seat = self.servers.seats.take(&networks, room).ok_or(Trouble::Full)?;
        let under_way = self.traffic.begin();

        let (head, body) = request.into_parts();
        let asks_for_socket =
            head.method == Method::GET && head.version == Version::HTTP_11 && headers::asks_for_socket(&head.headers);
        let target = format!("{}{query}", webmail.inward(path));
        let pace = Pace::new();
        let mut outgoing = Request::new(Sent::new(body, pace.clone()));
        *outgoing.method_mut() = head.method;
        *outgoing.uri_mut() = target.parse::<Uri>().map_err(|_| Trouble::BadRequest)?;
        *outgoing.headers_mut() = headers::inward(head.headers, visitor.client, &authority, asks_for_socket);

        let (mut response, driver) = self.send(outgoing, &pace).await?;
        let authority = authority.to_str().unwrap_or_default();
        let hsts = visitor.policy.portal.hsts;
        headers::outward(response.headers_mut(), webmail, authority, hsts);
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let (mut head, body) = response.into_parts();
            // What the browser is spoken to in is for hyper to choose.
            head.version = Version::HTTP_11;
            head.extensions.clear();
            let silence = visitor.policy.portal.webmail_timeout;
            return Ok(Response::from_parts(
                head,
                Either::Right(Passed::new(body, silence, Some((driver, seat, under_way)))),
            ));
        }
        if !asks_for_socket {
            return Err(self.down("it changed to another protocol unasked".to_owned()));
        }
        let server = match tokio::time::timeout(CHANGE, hyper::upgrade::on(&mut response)).await {
            Ok(Ok(server)) => TokioIo::new(server),
            Ok(Err(_)) | Err(_) => return Err(self.down("it agreed to a WebSocket and did not begin one".to_owned())),
        };
        self.traffic.becomes(Socket { server, _driver: driver, _seat: seat });
        let mut agreed = Response::new(Either::Left(http_body_util::Full::default()));
        *agreed.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        *agreed.headers_mut() = std::mem::take(response.headers_mut());
        agreed.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        agreed.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        Ok(agreed)
    }

    /// What the browser calls us; one of our names, so that the old server repeats nobody else's.
    fn authority(&self, request: &Request<Incoming>) -> Result<HeaderValue, Trouble> {
        let (uri, policy) = (request.uri(), &self.visitor.policy);
        // Neither asks us to be a proxy (RFC 9112 section 3.2.2), and TRACE shows cookies to scripts.
        if uri.authority().is_some() || matches!(*request.method(), Method::CONNECT | Method::TRACE) {
            return Err(Trouble::BadRequest);
        }
        let Some(authority) = host(request.headers()).map_err(|Ambiguous| Trouble::BadRequest)? else {
            if request.version() == Version::HTTP_11 {
                return Err(Trouble::BadRequest);
            }
            return HeaderValue::from_str(&policy.hostname).map_err(|_| Trouble::BadRequest);
        };
        let text = authority.to_str().ok().filter(|text| is_authority(text)).ok_or(Trouble::BadRequest)?;
        let name = host_name(text);
        let certificates = self.visitor.shared.tls.load().certificates();
        let is_ours = name == policy.hostname
            || policy.portal.webmail_names().any(|own| own == name)
            || certificates.identities().iter().any(|identity| identity.covers(&name));
        if !is_ours {
            let reads = matches!(*request.method(), Method::GET | Method::HEAD);
            let target = uri.path_and_query().map_or("/", |target| target.as_str());
            return Err(if reads { Trouble::Elsewhere(policy.lead(None, target)) } else { Trouble::Astray });
        }
        Ok(authority.clone())
    }

    /// Sends the request over a connection of its own, and waits for the head of the answer.
    async fn send(
        &self,
        request: Request<Sent>,
        pace: &Pace,
    ) -> Result<(Response<Incoming>, AbortOnDropHandle<()>), Trouble> {
        let policy = &self.visitor.policy;
        let (server, timeout) = (&self.webmail.server, policy.portal.webmail_timeout);
        let dialled = self.visitor.shared.backends.dial(server, self.webmail.tls.as_ref(), &policy.timeouts);
        let stream = match dialled.await {
            Ok(stream) => stream,
            Err(Lost::Timeout(why)) => return Err(self.silent(why)),
            Err(lost) => return Err(self.down(lost.to_string())),
        };
        let mut http = http1::Builder::new();
        http.max_buf_size(MOST_HEAD)
            // Old scripts fold their headers and are careless about spaces.
            .allow_obsolete_multiline_headers_in_responses(true)
            .allow_spaces_after_header_name_in_responses(true);
        let (mut sender, connection) =
            http.handshake(TokioIo::new(stream)).await.map_err(|error| self.down(error.to_string()))?;
        // How it ends is seen in the answer and its body.
        let driver = AbortOnDropHandle::new(tokio::spawn(async move {
            let _ = connection.with_upgrades().await;
        }));
        let mut answer = pin!(sender.send_request(request));
        let answer = loop {
            let left = timeout.saturating_sub(pace.waited());
            if left.is_zero() {
                let time = humantime::format_duration(timeout);
                return Err(self.silent(format!("{server} did not begin its answer within {time}")));
            }
            tokio::select! {
                answer = answer.as_mut() => break answer,
                () = tokio::time::sleep_until(Instant::now() + left) => {}
            }
        };
        match answer {
            Ok(response) => {
                self.answers();
                Ok((response, driver))
            }
            // The browser's body did not come to its end.
            Err(error) if error.is_user() => Err(Trouble::Unfinished),
            Err(error) if error.is_parse() => Err(self.down(format!("its answer is not HTTP: {error}"))),
            Err(error) => Err(self.down(format!("it closed the connection before its answer: {error}"))),
        }
    }

    fn down(&self, why: String) -> Trouble {
        self.fails(&why);
        Trouble::Down
    }

    fn silent(&self, why: String) -> Trouble {
        self.fails(&why);
        Trouble::TooLong
    }

    /// Says it once, not at each request.
    fn fails(&self, why: &str) {
        let server = &self.webmail.server;
        let is_new = self.servers.lock().entry(server.clone()).or_default().says(true, Instant::now());
        if is_new {
            tracing::error!("the webmail at {server} does not answer: {why}; browsers are told to come back later");
        }
    }

    fn answers(&self) {
        let server = &self.webmail.server;
        let is_new = self.servers.lock().get_mut(server).is_some_and(|known| known.says(false, Instant::now()));
        if is_new {
            tracing::info!("the webmail at {server} answers again");
        }
    }
}

impl WebServers {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<ServerName, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// There is more than one `Host` (RFC 9112 section 3.2).
pub(super) struct Ambiguous;

/// What stands in `Host`.
pub(super) fn host(headers: &HeaderMap) -> Result<Option<&HeaderValue>, Ambiguous> {
    let mut all = headers.get_all(header::HOST).iter();
    match (all.next(), all.next()) {
        (host, None) => Ok(host),
        _ => Err(Ambiguous),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_comes_and_goes_does_not_fill_the_log() {
        let (mut known, began) = (Known::default(), Instant::now());
        for (second, is_away, said) in [
            (0, true, true),
            (1, true, false),
            (2, false, true),
            (3, true, false),
            (4, false, false),
            (59, true, false),
            // Still away, and the log said otherwise.
            (60, true, true),
            (61, false, false),
            (62, false, true),
            (200, false, false),
            (201, true, true),
        ] {
            assert_eq!(known.says(is_away, began + Duration::from_secs(second)), said, "second {second}");
        }
    }
}
