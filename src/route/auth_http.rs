//! nginx's `auth_http` protocol, as its mail proxy speaks it: one request of HTTP/1.0 an attempt, the answer in headers.
//!
//! The status line and the body mean nothing, whatever they are. Beyond nginx: `Auth-Server` may be a name.

use super::{Astray, Destination, Way};
use crate::policy::route::AuthHttp;
use crate::policy::{Backend, ServerName};
use crate::proto::line::printable;
use crate::proto::{Protocol, Reply, Secret, UserName};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use zeroize::Zeroizing;

/// The most that is read of an answer's head; nginx reads one kibibyte.
const LARGEST: usize = 16 * 1024;
/// How often a service may say WAIT to one attempt.
const MOST_WAITS: u32 = 5;
/// The longest that one WAIT is waited for, and that a refusal is held back.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// What a service is told of an attempt, besides the user.
#[derive(Debug)]
pub struct Inquiry<'a> {
    /// What the client speaks.
    pub protocol: Protocol,
    /// The password.
    pub password: Option<&'a Secret<Vec<u8>>>,
    /// Which attempt of the session it is, from 1.
    pub attempt: u32,
    /// The client.
    pub client: SocketAddr,
    /// Whether a load balancer's PROXY header named it.
    pub is_proxied: bool,
    /// The connection's TLS.
    pub tls: Option<Tls<'a>>,
}

/// A connection's TLS.
#[derive(Debug, Clone, Copy)]
pub struct Tls<'a> {
    /// `1.2` or `1.3`.
    pub version: &'a str,
    /// IANA's name of the suite.
    pub cipher: &'a str,
    /// Whether the client has shown a certificate; `None` where it was not asked for one.
    pub certificate: Option<bool>,
}

/// Asks the service, again where it says WAIT.
///
/// # Errors
/// [`Astray::Rejected`] where it says no, [`Astray::Unavailable`] where it cannot be asked or its answer is of no use.
pub async fn ask(
    service: &AuthHttp,
    inquiry: &Inquiry<'_>,
    user: &UserName,
    fallback: &Arc<Backend>,
) -> Result<Way, Astray> {
    let unavailable = |why: String| Astray::Unavailable(format!("auth_http {}: {why}", service.server));
    for _ in 0..MOST_WAITS {
        let head = match tokio::time::timeout(service.timeout, exchange(service, inquiry, user)).await {
            Ok(Ok(head)) => head,
            Ok(Err(error)) => return Err(unavailable(error.to_string())),
            Err(_) => {
                return Err(unavailable(format!("no answer within {}", humantime::format_duration(service.timeout))));
            }
        };
        match Verdict::read(&head, inquiry.protocol).map_err(unavailable)? {
            Verdict::Wait(time) => tokio::time::sleep(time.min(LONGEST_WAIT)).await,
            Verdict::Rejected { reply, wait } => {
                return Err(Astray::Rejected { reply, wait: wait.map(|wait| wait.min(LONGEST_WAIT)) });
            }
            Verdict::Ok { server, login, password } => {
                let backend = Arc::clone(service.backend.as_ref().unwrap_or(fallback));
                let login = login.filter(|login| login != user);
                return Ok(Way { destination: Destination { backend, server: Some(server) }, login, password });
            }
        }
    }
    Err(unavailable(format!("it said WAIT {MOST_WAITS} times")))
}

/// One request and the head of its answer. Both hold passwords, and are wiped.
async fn exchange(service: &AuthHttp, inquiry: &Inquiry<'_>, user: &UserName) -> std::io::Result<Zeroizing<Vec<u8>>> {
    let request = request(service, inquiry, user);
    let mut stream = TcpStream::connect((service.server.host.as_str(), service.server.port)).await?;
    stream.write_all(&request).await?;
    let mut head = Zeroizing::new(Vec::with_capacity(LARGEST));
    while !ends(&head) {
        if head.len() >= LARGEST {
            return Err(std::io::Error::other("the head of its answer is larger than 16 KiB"));
        }
        let room = LARGEST - head.len();
        let mut limited = (&mut stream).take(room as u64);
        if limited.read_buf(&mut *head).await? == 0 {
            break;
        }
    }
    Ok(head)
}

/// Whether the empty line behind the headers has come.
fn ends(head: &[u8]) -> bool {
    memchr::memmem::find(head, b"\n\r\n").or_else(|| memchr::memmem::find(head, b"\n\n")).is_some()
}

/// The request, its headers in nginx's order.
fn request(service: &AuthHttp, inquiry: &Inquiry<'_>, user: &UserName) -> Zeroizing<Vec<u8>> {
    // Room for all of it from the start: a buffer that grows leaves what it held behind.
    let secrets = inquiry.password.map_or(0, |password| password.declassify().len());
    let headers: usize = service.headers.iter().map(|(name, value)| name.len() + value.declassify().len() + 4).sum();
    let room = 2048 + service.path.len() + service.host.len() + headers + 3 * (user.as_bytes().len() + secrets);
    let mut out = Zeroizing::new(Vec::with_capacity(room));
    let mut put = |name: &str, value: &[u8]| {
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    };
    put("GET ", &[service.path.as_bytes(), b" HTTP/1.0"].concat());
    put("Host: ", service.host.as_bytes());
    put("Auth-Method: ", b"plain");
    put("Auth-User: ", &escape(user.as_bytes()));
    put("Auth-Pass: ", &escape(inquiry.password.map_or(&[], |password| password.declassify())));
    put("Auth-Protocol: ", inquiry.protocol.as_str().as_bytes());
    put("Auth-Login-Attempt: ", inquiry.attempt.to_string().as_bytes());
    put("Client-IP: ", inquiry.client.ip().to_string().as_bytes());
    if inquiry.protocol == Protocol::Smtp {
        put("Client-Host: ", b"[UNAVAILABLE]");
    }
    if inquiry.is_proxied {
        put("Proxy-Protocol-Addr: ", inquiry.client.ip().to_string().as_bytes());
        put("Proxy-Protocol-Port: ", inquiry.client.port().to_string().as_bytes());
    }
    if let Some(tls) = inquiry.tls {
        put("Auth-SSL: ", b"on");
        put("Auth-SSL-Protocol: ", format!("TLSv{}", tls.version).as_bytes());
        put("Auth-SSL-Cipher: ", openssl_name(tls.cipher).as_bytes());
        // A bad one never gets here, so nobody is FAILED.
        if let Some(shown) = tls.certificate {
            put("Auth-SSL-Verify: ", if shown { b"SUCCESS" } else { b"NONE" });
        }
    }
    for (name, value) in &service.headers {
        put(&format!("{name}: "), value.declassify().as_bytes());
    }
    out.extend_from_slice(b"\r\n");
    out
}

/// Control characters, space and `%` as `%XX`, and nothing else.
fn escape(bytes: &[u8]) -> Zeroizing<Vec<u8>> {
    // Room for the longest from the start: a buffer that grows leaves what it held behind.
    let mut out = Zeroizing::new(Vec::with_capacity(3 * bytes.len()));
    for byte in bytes {
        match byte {
            0..=b' ' | b'%' => {
                const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
                out.extend_from_slice(&[b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
            }
            other => out.push(*other),
        }
    }
    out
}

/// A suite of TLS 1.2 as OpenSSL, and so nginx, calls it; those of 1.3 have one name.
fn openssl_name(cipher: &str) -> String {
    match cipher.strip_prefix("TLS_").and_then(|rest| rest.split_once("_WITH_")) {
        Some((exchange, "CHACHA20_POLY1305_SHA256")) => format!("{}-CHACHA20-POLY1305", exchange.replace('_', "-")),
        Some((exchange, rest)) => format!("{exchange}-{}", rest.replacen("AES_", "AES", 1)).replace('_', "-"),
        None => cipher.to_owned(),
    }
}

/// What the service said.
#[derive(Debug)]
enum Verdict {
    Ok { server: ServerName, login: Option<UserName>, password: Option<Secret<Vec<u8>>> },
    Wait(Duration),
    Rejected { reply: Reply, wait: Option<Duration> },
}

impl Verdict {
    /// Reads the headers of an answer.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    fn read(head: &[u8], protocol: Protocol) -> Result<Self, String> {
        if !ends(head) {
            return Err("it closed the connection in the middle of its answer".to_owned());
        }
        let header = |wanted: &str| header(head, wanted);
        let status = header("Auth-Status").ok_or("its answer has no Auth-Status")?;
        let seconds = |name| -> Result<Option<Duration>, String> {
            let Some(value) = header(name) else { return Ok(None) };
            let text = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
            text.map(|seconds| Some(Duration::from_secs(seconds))).ok_or(format!("its {name} is not a number"))
        };
        let wait = seconds("Auth-Wait")?;
        if status == b"WAIT" {
            return Ok(Self::Wait(wait.unwrap_or(Duration::from_secs(1))));
        }
        if status != b"OK" {
            let given = header("Auth-Error-Code").and_then(|code| std::str::from_utf8(code).ok());
            let code = given.filter(|code| is_error_code(code)).unwrap_or("535 5.7.0");
            let code = (protocol == Protocol::Smtp).then(|| code.to_owned());
            return Ok(Self::Rejected {
                reply: Reply { code, text: printable(status, 512), capabilities: None },
                wait,
            });
        }
        let host = header("Auth-Server").filter(|host| !host.is_empty()).ok_or("its answer has no Auth-Server")?;
        let host =
            std::str::from_utf8(host).ok().filter(|host| is_host(host)).ok_or("its Auth-Server is no address")?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host).to_owned();
        let port = header("Auth-Port").ok_or("its answer has no Auth-Port")?;
        let port = std::str::from_utf8(port).ok().and_then(|port| port.parse().ok()).filter(|port| *port != 0);
        let server = ServerName { host, port: port.ok_or("its Auth-Port is not a port")? };
        let login = header("Auth-User").map(UserName::new).transpose().map_err(|_| "its Auth-User is no login name")?;
        let password = header("Auth-Pass");
        if password.is_some_and(|password| memchr::memchr2(b'\r', 0, password).is_some()) {
            return Err("its Auth-Pass is no password".to_owned());
        }
        Ok(Self::Ok { server, login, password: password.map(Secret::from) })
    }
}

/// The value of a header, whose name is taken in either case; the last one of that name holds.
fn header<'a>(head: &'a [u8], wanted: &str) -> Option<&'a [u8]> {
    let lines = head.split(|byte| *byte == b'\n').skip(1).take_while(|line| !line.trim_ascii().is_empty());
    let values = lines.filter_map(|line| {
        let colon = memchr::memchr(b':', line)?;
        line[..colon].trim_ascii().eq_ignore_ascii_case(wanted.as_bytes()).then(|| line[colon + 1..].trim_ascii())
    });
    values.last()
}

/// `535`, or `535 5.7.0` (RFC 5321 section 4.2, RFC 3463 section 2).
fn is_error_code(code: &str) -> bool {
    let (basic, enhanced) = code.split_once(' ').map_or((code, None), |(basic, enhanced)| (basic, Some(enhanced)));
    let class = basic.chars().next().filter(|class| matches!(class, '4' | '5'));
    let is_number = |part: &str| (1..=3).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
    class.is_some_and(|class| {
        let begins = |parts: &[&str]| parts.len() == 3 && parts[0].len() == 1 && parts[0].starts_with(class);
        basic.len() == 3
            && is_number(basic)
            && enhanced.is_none_or(|enhanced| {
                let parts: Vec<&str> = enhanced.split('.').collect();
                begins(&parts) && parts.iter().all(|part| is_number(part))
            })
    })
}

/// An address, with or without brackets, or a host name.
fn is_host(host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    bare.parse::<IpAddr>().is_ok()
        || host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_')) && host.len() <= 253
}
