//! HTTP towards the CA's directory: one TLS connection a request, verified, bounded in time and size.

use super::advice;
use crate::backend::{Unconnected, connect};
use crate::tls;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{CONNECTION, HOST, HeaderMap, HeaderValue, RETRY_AFTER, USER_AGENT};
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use rustls::ClientConfig;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

/// How long one request may take, from the look-up of the name to the last byte.
const WHOLE: Duration = Duration::from_secs(60);

/// How much of that the CA's addresses may take together until one of them takes the connection. Each has its share: where
/// IPv6 leads nowhere, IPv4 has its time.
const REACHED: Duration = Duration::from_secs(20);

/// The largest answer that is read; a chain of four certificates has ten kilobytes.
const LARGEST: usize = 1024 * 1024;

/// The longest that the CA's word about waiting (Retry-After) is taken for, whatever it says.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 3600);

/// Asks the CA. Clones share what the CA said about waiting.
#[derive(Clone)]
pub(super) struct Http {
    tls: Arc<ClientConfig>,
    /// Seconds of the longest Retry-After with a refusal; 0: none.
    told_to_wait: Arc<AtomicU64>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[error("{server}: {why}")]
struct NoAnswer {
    server: String,
    why: String,
}

impl Http {
    pub(super) fn new(tls: Arc<ClientConfig>) -> Self {
        Self { tls, told_to_wait: Arc::default() }
    }

    /// How long the CA wants to be left alone, as it said with a refusal since [`Http::forget`] (RFC 8555, section 6.6).
    pub(super) fn told_to_wait(&self) -> Option<Duration> {
        Some(self.told_to_wait.load(Ordering::Relaxed)).filter(|seconds| *seconds > 0).map(Duration::from_secs)
    }

    pub(super) fn forget(&self) {
        self.told_to_wait.store(0, Ordering::Relaxed);
    }

    fn refused(&self, told: Option<Duration>) {
        self.told_to_wait.fetch_max(told.unwrap_or_default().as_secs(), Ordering::Relaxed);
    }

    /// Reads what stands at a URL, for everybody to see.
    ///
    /// # Errors
    /// Why there is nothing to be read, in words.
    pub(super) async fn fetch(&self, url: &str) -> Result<(HeaderMap, Bytes), String> {
        let request = Request::get(url).body(BodyWrapper::default()).map_err(|error| error.to_string())?;
        let answer = tokio::time::timeout(WHOLE, self.ask(request)).await;
        let answer = answer.unwrap_or_else(|_| Err(no_answer()))?;
        if !answer.status().is_success() {
            return Err(format!("{url}: {}", answer.status()));
        }
        let (head, body) = answer.into_parts();
        Ok((head.headers, body))
    }

    async fn ask(&self, request: Request<BodyWrapper<Bytes>>) -> Result<Response<Bytes>, String> {
        let uri = request.uri().clone();
        let host = uri.host().filter(|_| uri.scheme_str() == Some("https"));
        let host = host.ok_or_else(|| format!("`{uri}` is no https:// URL"))?;
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let name = tls::server_name(bare).map_err(|error| error.to_string())?;
        let tcp = reach(bare, uri.port_u16().unwrap_or(443)).await?;
        let stream = TlsConnector::from(Arc::clone(&self.tls)).connect(name, tcp).await;
        let stream = stream.map_err(|error| tls::words(&error, bare))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        let _driver = AbortOnDropHandle::new(tokio::spawn(connection));
        let request = of_origin_form(request, &uri)?;
        let (mut head, body) = sender.send_request(request).await.map_err(|error| error.to_string())?.into_parts();
        let told = bound_wait(&mut head.headers, SystemTime::now());
        let body = Limited::new(body, LARGEST).collect().await.map_err(|error| error.to_string())?.to_bytes();
        if !head.status.is_success() {
            self.refused(told);
        }
        Ok(Response::from_parts(head, body))
    }
}

impl HttpClient for Http {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let this = self.clone();
        Box::pin(async move {
            let server = request.uri().authority().map(ToString::to_string).unwrap_or_default();
            let asked = tokio::time::timeout(WHOLE, this.ask(request)).await;
            let asked = asked.unwrap_or_else(|_| Err(no_answer()));
            asked
                .map(|answer| BytesResponse::from(answer.map(Full::new)))
                .map_err(|why| Error::Other(Box::new(NoAnswer { server, why })))
        })
    }
}

fn no_answer() -> String {
    format!("no answer within {} s", WHOLE.as_secs())
}

/// Whether nothing came from the CA at all, as opposed to an answer that is not understood.
pub(super) fn is_silence(error: &(dyn std::error::Error + 'static)) -> bool {
    error.is::<NoAnswer>()
}

/// Puts a wait that we can bear, in seconds, in the place of the one that the head of an answer tells, and gives it. The library adds
/// it to the time of day, and panics where there is no such time.
fn bound_wait(head: &mut HeaderMap, now: SystemTime) -> Option<Duration> {
    let told = advice::retry_after(head, now).map(|wait| wait.min(LONGEST_WAIT));
    match told {
        Some(wait) => drop(head.insert(RETRY_AFTER, HeaderValue::from(wait.as_secs()))),
        None => drop(head.remove(RETRY_AFTER)),
    }
    told
}

/// A connection to one of a host's addresses.
async fn reach(host: &str, port: u16) -> Result<TcpStream, String> {
    let addresses: Vec<_> = lookup_host((host, port)).await.map_err(|error| error.to_string())?.collect();
    connect(&addresses, Instant::now() + REACHED, TcpStream::connect).await.map_err(|why| match why {
        Unconnected::NoAddress => "the name has no address".to_owned(),
        Unconnected::Timeout => format!("none of its addresses took a connection within {} s", REACHED.as_secs()),
        Unconnected::Refused(address, error) => format!("{}: {error}", address.ip()),
    })
}

/// The request as a server is asked, not a proxy (RFC 9112, section 3.2.1).
fn of_origin_form(request: Request<BodyWrapper<Bytes>>, uri: &Uri) -> Result<Request<BodyWrapper<Bytes>>, String> {
    let (mut head, body) = request.into_parts();
    let authority = uri.authority().map(hyper::http::uri::Authority::as_str).unwrap_or_default();
    let value = HeaderValue::from_str(authority).map_err(|error| error.to_string())?;
    head.headers.insert(HOST, value);
    head.headers.insert(CONNECTION, HeaderValue::from_static("close"));
    // A CA's operators want to know whom to write to about a client that misbehaves.
    const OURS: &str = concat!("gatepost/", env!("CARGO_PKG_VERSION"), " instant-acme/0.8");
    head.headers.insert(USER_AGENT, HeaderValue::from_static(OURS));
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    head.uri = path.parse().map_err(|error: hyper::http::uri::InvalidUri| error.to_string())?;
    Ok(Request::from_parts(head, body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    fn http() -> Http {
        let roots = tls::Trust::System.roots().expect("somebody is trusted");
        Http::new(tls::client_config(roots, None).expect("TLS"))
    }

    async fn failure(url: &str) -> String {
        let request = Request::get(url).body(BodyWrapper::default()).expect("a request");
        http().request(request).await.err().map(|error| error.to_string()).expect("no answer")
    }

    #[tokio::test]
    async fn nothing_is_asked_in_the_clear_or_of_a_server_that_does_not_speak_tls() {
        let listening = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listening.local_addr().expect("bound");
        let said = failure(&format!("http://{address}/directory")).await;
        assert!(said.contains("is no https:// URL"), "{said}");
        let (said, heard) = tokio::join!(failure_of(address), async {
            let (mut stream, _) = listening.accept().await.expect("a client");
            let mut heard = vec![0; 3];
            stream.read_exact(&mut heard).await.expect("a hello");
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.expect("it reads");
            heard
        });
        assert_eq!(heard[..2], [0x16, 3], "a ClientHello");
        assert!(said.starts_with(&address.to_string()) && said.contains("does not speak TLS"), "{said}");
    }

    async fn failure_of(address: std::net::SocketAddr) -> String {
        failure(&format!("https://{address}/directory")).await
    }

    #[test]
    fn a_wait_without_end_is_a_day_before_anybody_adds_it_up() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_000_000);
        for (said, expected) in [
            (&["0"][..], Some(0)),
            (&["7200"], Some(7200)),
            (&["10000000000000000000"], Some(24 * 3600)),
            (&["18446744073709551615", "18446744073709551615"], Some(24 * 3600)),
            (&["99999999999999999999"], None),
            (&["-5"], None),
            (&["soon"], None),
            (&[""], None),
            (&["Wed, 18 Nov 2026 13:06:40 GMT"], Some(7200)),
            (&["Fri, 31 Dec 9999 23:59:59 GMT"], Some(24 * 3600)),
            (&["Fri, 31 Dec 1999 23:59:59 GMT"], Some(0)),
            (&[], None),
        ] {
            let mut head = HeaderMap::new();
            for value in said {
                head.append(RETRY_AFTER, value.parse().expect("a header"));
            }
            assert_eq!(bound_wait(&mut head, now).map(|wait| wait.as_secs()), expected, "{said:?}");
            let left: Vec<_> = head.get_all(RETRY_AFTER).iter().map(|value| value.to_str().expect("text")).collect();
            assert_eq!(left, expected.iter().map(ToString::to_string).collect::<Vec<_>>(), "{said:?}");
        }
    }

    #[test]
    fn the_longest_wait_that_was_told_is_the_one_that_counts() {
        let http = http();
        http.refused(None);
        assert_eq!(http.told_to_wait(), None);
        for told in [Some(60), Some(7200), Some(5), None] {
            http.refused(told.map(Duration::from_secs));
        }
        assert_eq!(http.clone().told_to_wait(), Some(Duration::from_secs(7200)));
        http.forget();
        assert_eq!(http.told_to_wait(), None);
    }

    #[test]
    fn a_server_is_asked_as_a_server_and_told_who_asks() {
        let uri: Uri = "https://ca.example.net:14000/dir?x=1".parse().expect("a URL");
        let request = Request::get(&uri).body(BodyWrapper::default()).expect("a request");
        let request = of_origin_form(request, &uri).expect("it can be asked");
        assert_eq!(request.uri(), "/dir?x=1");
        assert_eq!(request.headers()[HOST], "ca.example.net:14000");
        assert!(request.headers()[USER_AGENT].to_str().is_ok_and(|agent| agent.starts_with("gatepost/")));
    }
}
