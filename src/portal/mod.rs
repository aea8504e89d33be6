//! The help page: settings, the private CA, automatic configuration, and why a login does not work; and a webmail behind it.
//!
//! ```text
//!   session (visit.rs) ──Visitor, stream──▶ HelpPage ── hyper ──▶ answer ──┬ page, style     for people
//!                                           bounds                         ├ discovery       Thunderbird, Outlook, DNS
//!                                                                          ├ profile         Apple
//!                                                                          ├ the root        PEM, DER
//!                                                                          └ webmail         to an old web server
//! ```
//!
//! The page is made from the running policy at each request: nothing to be kept, nothing to go stale. There is no script
//! and no cookie, and but for an address in an Outlook's answer nothing of a request comes back. The reader sees attempts from
//! his own address, without user names, and nobody else's.

mod answer;
mod discovery;
mod page;
mod profile;
mod seats;
mod settings;
mod story;
mod traffic;
mod trouble;
mod webmail;

pub use discovery::outlook;
pub use profile::{Account, profile};
pub use settings::{Setting, Settings};

use crate::session::{Pages, Served, Stream, Visitor};
use hyper::StatusCode;
use hyper::header::{CONNECTION, HeaderValue, TRANSFER_ENCODING};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use seats::{Room, Seats};
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use traffic::{Traffic, Watched};
use webmail::WebServers;

/// The largest request head; hyper answers 431 beyond it.
const MOST_HEAD: usize = 16 * 1024;
/// How long a connection may be without a whole request, at its begin and between two.
const SILENCE: Duration = Duration::from_secs(10);
/// How long a connection lasts.
const LIFE: Duration = Duration::from_secs(60);
/// How long the answer under way then has.
const LAST_ANSWER: Duration = Duration::from_secs(10);
/// The most requests of a connection.
const MOST_REQUESTS: usize = 50;
/// How long a connection lasts, and how many requests it has, where a webmail was asked for.
const WEBMAIL_LIFE: Duration = Duration::from_secs(600);
const MOST_WEBMAIL_REQUESTS: usize = 1000;
/// How long what is under way to or from a webmail has, once the gateway wants the end.
const LAST_EXCHANGE: Duration = Duration::from_secs(30);
/// How long a connection may stand still, besides what a webmail takes to answer: who reads nothing keeps others from it.
const STILL: Duration = Duration::from_secs(60);
/// The most browsers' connections at once, and no more than half of the sessions that there is room for: the page must not take the
/// places that mail needs. Browsers open about six, and a household shares an address.
const FOR_PAGE: Room = Room { most: 1024, most_of_one: 64 };
/// The same where a webmail is behind the page: an office shares an address, and everybody in it reads mail.
const FOR_WEBMAIL: Room = Room { most: 4096, most_of_one: 256 };

/// Answers browsers. One for the process, shared.
#[derive(Debug, Default)]
pub struct HelpPage {
    visitors: Seats,
    servers: WebServers,
}

impl Pages for HelpPage {
    fn serve<'a>(
        &'a self,
        visitor: Visitor,
        stream: &'a mut dyn Stream,
    ) -> Pin<Box<dyn Future<Output = Served> + Send + 'a>> {
        Box::pin(self.converse(visitor, stream))
    }
}

impl HelpPage {
    async fn converse(&self, visitor: Visitor, stream: &mut dyn Stream) -> Served {
        let portal = &visitor.policy.portal;
        let networks = visitor.shared.gate.networks(visitor.client);
        let is_everybody = visitor.shared.gate.may_be_everybody(visitor.client);
        let room = room(!portal.webmails.is_empty(), visitor.shared.share_of_sessions(), is_everybody);
        let Some(_seat) = self.visitors.take(&networks, room) else { return Served::Page };
        let (leave, traffic) = (&visitor.leave, &Traffic::default());
        let (stream, still) = Watched::new(stream, portal.webmail_timeout + STILL);
        let service = service_fn(|request| {
            let (visitor, asked) = (visitor.clone(), traffic.ask());
            // It may have held two lengths, of which one was left out (RFC 9112 section 6.3).
            let is_doubtful = request.headers().contains_key(TRANSFER_ENCODING);
            async move {
                let mut response = answer::answer(&visitor, &self.servers, traffic, request).await;
                let most = if traffic.was_webmail() { MOST_WEBMAIL_REQUESTS } else { MOST_REQUESTS };
                if (asked >= most || is_doubtful) && response.status() != StatusCode::SWITCHING_PROTOCOLS {
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, Infallible>(response)
            }
        });
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(SILENCE).max_buf_size(MOST_HEAD);
        let mut connection = http.serve_connection(TokioIo::new(stream), service);
        // How a stranger's request failed is nobody's concern.
        let driven = async {
            tokio::select! {
                _ = &mut connection => return,
                () = life(traffic) => {}
                () = leave.cancelled() => {}
            }
            Pin::new(&mut connection).graceful_shutdown();
            tokio::select! {
                _ = &mut connection => {}
                () = patience(traffic, leave) => {}
            }
        };
        tokio::select! {
            () = driven => {}
            () = still => {}
        }
        if let Some(socket) = traffic.socket() {
            let parts = connection.into_parts();
            tokio::select! {
                () = socket.carry(parts.io.into_inner(), parts.read_buf) => {}
                () = leave.cancelled() => {}
            }
        }
        if traffic.was_webmail() { Served::Webmail } else { Served::Page }
    }
}

/// How many browsers' connections there may be. `share`: what there is for them of all sessions; `is_everybody`: whether there may be
/// everybody behind the address.
fn room(has_webmail: bool, share: usize, is_everybody: bool) -> Room {
    let Room { most, most_of_one } = if has_webmail { FOR_WEBMAIL } else { FOR_PAGE };
    let room = Room { most: most.min(share), most_of_one };
    if is_everybody { room.for_everybody() } else { room }
}

/// Ends when a connection has lasted as long as it may.
async fn life(traffic: &Traffic) {
    tokio::time::sleep(LIFE).await;
    if traffic.was_webmail() {
        tokio::time::sleep(WEBMAIL_LIFE.saturating_sub(LIFE)).await;
    }
}

/// Ends when what is under way on a connection that is to end has had its time.
async fn patience(traffic: &Traffic, leave: &CancellationToken) {
    let under_way = async {
        tokio::time::sleep(LAST_ANSWER).await;
        while traffic.is_under_way() {
            tokio::time::sleep(LAST_ANSWER).await;
        }
    };
    let gateway = async {
        leave.cancelled().await;
        tokio::time::sleep(LAST_EXCHANGE).await;
    };
    tokio::select! {
        () = under_way => {}
        () = gateway => {}
    }
}

/// Text as it stands in HTML and XML, between tags and in quoted attributes.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // XML knows no control characters, not even escaped.
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_behind_one_address_has_the_room_of_all() {
        for (has_webmail, share, is_everybody, expected) in [
            (false, 10_000, false, (1024, 64)),
            (false, 10_000, true, (1024, 1024)),
            (true, 10_000, true, (4096, 4096)),
            (true, 10, false, (10, 256)),
            (true, 10, true, (10, 10)),
        ] {
            let Room { most, most_of_one } = room(has_webmail, share, is_everybody);
            assert_eq!((most, most_of_one), expected);
        }
    }

    #[test]
    fn text_stays_text() {
        assert_eq!(escaped("<a href='x' b=\"y\">&\u{1}"), "&lt;a href=&#39;x&#39; b=&quot;y&quot;&gt;&amp;");
    }
}
