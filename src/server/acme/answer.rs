//! The listener that a CA looks at: pages (http-01) or handshakes (tls-alpn-01). Browsers that come to port 80 are led to the
//! help page from here, where there is one; there is nothing else.

use crate::gate::Counts;
use crate::policy::AcmeChallenge;
use crate::tls::Proofs;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue, LOCATION};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

/// Connections at a time; a CA looks from a handful of places at once. What comes above that waits in the kernel's queue.
const MOST: usize = 256;

/// Connections at a time from one address, an IPv6 one with its /64; what comes above that is closed. A CA may look at all
/// hundred names of a certificate at once, and behind another web server everybody has one address.
const MOST_FROM_ONE: usize = 100;

/// How long a connection may last: a CA knows what it wants, and everybody else wants nothing that is here.
const WHOLE: Duration = Duration::from_secs(3);

/// The largest head of a request.
const LARGEST_HEAD: usize = 8 * 1024;

/// How long accepting rests when it fails, for want of descriptors say.
const REST: Duration = Duration::from_millis(500);

/// Where a browser is led, by its `Host` and what it asks for; none: nowhere.
pub(super) type Lead = dyn Fn(Option<&str>, &str) -> Option<String> + Send + Sync;

/// Begins to answer, for as long as the process lives.
pub(super) fn start(
    listening: std::net::TcpListener,
    challenge: &AcmeChallenge,
    proofs: &Arc<Proofs>,
    lead: Arc<Lead>,
) -> io::Result<()> {
    let listening = TcpListener::from_std(listening)?;
    let proofs = Arc::clone(proofs);
    let tls = match challenge {
        AcmeChallenge::TlsAlpn01(_) => Some(TlsAcceptor::from(proofs.tls().map_err(io::Error::other)?)),
        _ => None,
    };
    tokio::spawn(async move {
        let (room, guests) = (Arc::new(Semaphore::new(MOST)), Arc::new(Counts::default()));
        while let Ok(permit) = Arc::clone(&room).acquire_owned().await {
            let (stream, from) = match listening.accept().await {
                Ok((stream, address)) => (stream, network(address.ip())),
                Err(error) => {
                    tracing::warn!("acme: accepting failed: {error}");
                    tokio::time::sleep(REST).await;
                    continue;
                }
            };
            let Some(place) = guests.enter(from, Some(MOST_FROM_ONE)) else { continue };
            let (proofs, tls, lead) = (Arc::clone(&proofs), tls.clone(), Arc::clone(&lead));
            tokio::spawn(async move {
                let _held = (permit, place);
                // Who is cut off or fails is nobody we know; the CA says what it saw.
                let _ = tokio::time::timeout(WHOLE, async {
                    match tls {
                        Some(tls) => show_certificate(&tls, stream).await,
                        None => show_pages(stream, &proofs, &*lead).await,
                    }
                })
                .await;
            });
        }
    });
    Ok(())
}

/// Whom an address is counted as.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        address => address,
    }
}

/// The handshake is all of it (RFC 8737, section 3).
async fn show_certificate(tls: &TlsAcceptor, stream: TcpStream) {
    if let Ok(mut stream) = tls.accept(stream).await {
        let _ = stream.shutdown().await;
    }
}

async fn show_pages(stream: TcpStream, proofs: &Proofs, lead: &Lead) {
    let service = service_fn(|request| async move { Ok::<_, Infallible>(page(&request, proofs, lead)) });
    let _ = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(LARGEST_HEAD)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

/// The page a request is for (RFC 8555, section 8.3), the way to the help page, or that there is neither.
fn page(request: &Request<Incoming>, proofs: &Proofs, lead: &Lead) -> Response<Full<Bytes>> {
    let token = request.uri().path().strip_prefix("/.well-known/acme-challenge/");
    if token.is_none() {
        let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
        let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
        if let Some(Ok(place)) = lead(host, target).as_deref().map(HeaderValue::from_str) {
            let mut response = Response::new(Full::from("The page is served over https.\n"));
            *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
            response.headers_mut().insert(LOCATION, place);
            return response;
        }
    }
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    let found = token.filter(|_| is_read).and_then(|token| proofs.page(token));
    let status = if found.is_some() { StatusCode::OK } else { StatusCode::NOT_FOUND };
    let mut response = Response::new(Full::from(found.unwrap_or_else(|| "not found\n".to_owned())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;
    use tokio::io::AsyncReadExt;

    fn listen(challenge: fn(SocketAddr) -> AcmeChallenge, proofs: &Arc<Proofs>) -> SocketAddr {
        listen_and_lead(challenge, proofs, Arc::new(|_, _| None))
    }

    fn listen_and_lead(
        challenge: fn(SocketAddr) -> AcmeChallenge,
        proofs: &Arc<Proofs>,
        lead: Arc<Lead>,
    ) -> SocketAddr {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        socket.set_nonblocking(true).expect("a socket option");
        let address = socket.local_addr().expect("bound");
        start(socket, &challenge(address), proofs, lead).expect("it listens");
        address
    }

    /// What comes back on `request` until the other side closes.
    async fn said(address: SocketAddr, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        stream.write_all(request).await.expect("it reads");
        let mut answer = Vec::new();
        // An end by RST, where something was left unread, is an end too.
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }

    #[tokio::test]
    async fn the_page_of_a_token_is_there_and_nothing_else_is() {
        let proofs = Arc::new(Proofs::default());
        let address = listen(AcmeChallenge::Http01, &proofs);
        let page = b"GET /.well-known/acme-challenge/token HTTP/1.1\r\nHost: mail.example.net\r\n\r\n";
        assert!(said(address, page).await.starts_with("HTTP/1.1 404 "), "no order is under way");
        proofs.show_page("token", "token.thumbprint");
        let answer = said(address, page).await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\ntoken.thumbprint"), "{answer}");
        for line in [
            "GET /.well-known/acme-challenge/token2",
            "GET /.well-known/acme-challenge/",
            "GET /.well-known/acme-challenge/../../../etc/passwd",
            "GET /token",
            "GET /",
            "POST /.well-known/acme-challenge/token",
        ] {
            let answer = said(address, format!("{line} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await;
            assert!(answer.starts_with("HTTP/1.1 404 ") && !answer.contains("thumbprint"), "{line}: {answer}");
        }
    }

    #[tokio::test]
    async fn one_address_cannot_take_the_room_of_all() {
        let address = listen(AcmeChallenge::Http01, &Arc::default());
        let mut silent = Vec::new();
        for _ in 0..MOST_FROM_ONE {
            silent.push(TcpStream::connect(address).await.expect("it listens"));
        }
        let request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
        assert_eq!(said(address, request).await, "", "one more is closed");
        let other = tokio::net::TcpSocket::new_v4().expect("a socket");
        other.bind("127.0.0.2:0".parse().expect("an address")).expect("all of 127.0.0.0/8 is ours");
        let mut other = other.connect(address).await.expect("it listens");
        other.write_all(request).await.expect("it reads");
        let mut answer = String::new();
        other.read_to_string(&mut answer).await.expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    }

    #[test]
    fn an_ipv6_address_counts_with_its_network() {
        for (one, other, same) in [
            ("2001:db8::1", "2001:db8::2:3:4:5", true),
            ("2001:db8::1", "2001:db8:0:1::1", false),
            ("192.0.2.1", "::ffff:192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
        ] {
            let [a, b] = [one, other].map(|address| network(address.parse().expect("an address")));
            assert_eq!(a == b, same, "{one} {other}");
        }
    }

    #[tokio::test]
    async fn a_browser_is_led_to_the_help_page_and_the_ca_is_not() {
        let proofs = Arc::new(Proofs::default());
        let lead =
            |host: Option<&str>, target: &str| Some(format!("https://ours{target}#{}", host.unwrap_or_default()));
        let address = listen_and_lead(AcmeChallenge::Http01, &proofs, Arc::new(lead));
        for method in ["GET", "HEAD", "POST"] {
            let answer = said(address, format!("{method} /a?b HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await;
            assert!(
                answer.starts_with("HTTP/1.1 308 ") && answer.contains("location: https://ours/a?b#x\r\n"),
                "{answer}"
            );
        }
        let page = b"GET /.well-known/acme-challenge/token HTTP/1.1\r\nHost: x\r\n\r\n";
        assert!(said(address, page).await.starts_with("HTTP/1.1 404 "));
        proofs.show_page("token", "token.thumbprint");
        assert!(said(address, page).await.starts_with("HTTP/1.1 200 "));
    }

    #[tokio::test]
    async fn heads_without_end_and_garbage_end_the_connection() {
        let proofs = Arc::new(Proofs::default());
        let address = listen(AcmeChallenge::Http01, &proofs);
        let long = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(4 * LARGEST_HEAD));
        for request in [long.as_bytes(), b"\x16\x03\x01\x02\x00\x01\x00", b"A001 LOGIN joe secret\r\n\r\n"] {
            let answer = said(address, request).await;
            assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
        }
        let address = listen(AcmeChallenge::TlsAlpn01, &proofs);
        let answer = said(address, b"GET / HTTP/1.1\r\n\r\n").await;
        assert!(!answer.contains("HTTP"), "{answer}");
    }
}
