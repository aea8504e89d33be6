//! The help page: settings, the private CA, automatic configuration, and why a login does not work.
//!
//! ```text
//!   session (visit.rs) ──Visitor, stream──▶ HelpPage ── hyper ──▶ answer ──┬ page, style     for people
//!                                           bounds                         ├ discovery       Thunderbird, Outlook, DNS
//!                                                                          ├ profile         Apple
//!                                                                          └ the root        PEM, DER
//! ```
//!
//! Everything is made from the running policy at each request: nothing to be kept, nothing to go stale. There is no script
//! and no cookie, and but for an address in an Outlook's answer nothing of a request comes back. The reader sees attempts from
//! his own address, without user names, and nobody else's.

mod answer;
mod discovery;
mod page;
mod profile;
mod settings;
mod story;

pub use discovery::outlook;
pub use profile::{Account, profile};
pub use settings::{Setting, Settings};

use crate::session::{Pages, Stream, Visitor};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use ipnet::IpNet;
use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

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
/// The most browsers' connections at once: the page must not take the places that mail needs.
const MOST: usize = 1024;
/// The most of one address: browsers open about six, and a household shares an address.
const MOST_OF_ONE: usize = 64;

/// Answers browsers. One for the process, shared.
#[derive(Debug, Default)]
pub struct HelpPage {
    visitors: Mutex<Visitors>,
}

#[derive(Debug, Default)]
struct Visitors {
    by_client: HashMap<IpNet, usize>,
    count: usize,
}

/// A visitor's place; it is free again when this is dropped.
struct Seat<'a> {
    page: &'a HelpPage,
    client: IpNet,
}

impl Pages for HelpPage {
    fn serve<'a>(
        &'a self,
        visitor: Visitor,
        stream: &'a mut dyn Stream,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(self.converse(visitor, stream))
    }
}

impl HelpPage {
    async fn converse(&self, visitor: Visitor, stream: &mut dyn Stream) {
        let Some(_seat) = self.seat(visitor.shared.gate.network(visitor.client)) else { return };
        let leave = visitor.leave.clone();
        let asked = AtomicUsize::new(0);
        let service = service_fn(|request| {
            let visitor = visitor.clone();
            let is_last = asked.fetch_add(1, Ordering::Relaxed) + 1 >= MOST_REQUESTS;
            async move {
                let mut response = answer::answer(&visitor, request).await;
                if is_last {
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, Infallible>(response)
            }
        });
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(SILENCE).max_buf_size(MOST_HEAD);
        let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
        // How a stranger's request failed is nobody's concern.
        tokio::select! {
            _ = connection.as_mut() => return,
            () = tokio::time::sleep(LIFE) => {}
            () = leave.cancelled() => {}
        }
        connection.as_mut().graceful_shutdown();
        let _ = tokio::time::timeout(LAST_ANSWER, connection).await;
    }

    /// A place for one connection more of this address (its network, for IPv6), if there is one.
    fn seat(&self, client: IpNet) -> Option<Seat<'_>> {
        let mut visitors = self.lock();
        let of_client = visitors.by_client.get(&client).copied().unwrap_or_default();
        if visitors.count >= MOST || of_client >= MOST_OF_ONE {
            return None;
        }
        visitors.count += 1;
        visitors.by_client.insert(client, of_client + 1);
        Some(Seat { page: self, client })
    }

    fn lock(&self) -> MutexGuard<'_, Visitors> {
        self.visitors.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let mut visitors = self.page.lock();
        visitors.count = visitors.count.saturating_sub(1);
        match visitors.by_client.get_mut(&self.client) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(visitors.by_client.remove(&self.client)),
        }
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
    fn one_address_cannot_take_every_seat_and_each_is_given_back() {
        let page = HelpPage::default();
        let [one, other] = ["192.0.2.1/32", "192.0.2.2/32"].map(|net| net.parse().expect("a network"));
        let seats: Vec<_> = (0..MOST_OF_ONE).map(|_| page.seat(one).expect("a seat")).collect();
        assert!(page.seat(one).is_none());
        assert!(page.seat(other).is_some());
        drop(seats);
        assert!(page.seat(one).is_some());
        let left = page.lock();
        assert_eq!((left.count, left.by_client.len()), (0, 0));
    }

    #[test]
    fn text_stays_text() {
        assert_eq!(escaped("<a href='x' b=\"y\">&\u{1}"), "&lt;a href=&#39;x&#39; b=&quot;y&quot;&gt;&amp;");
    }
}
