//! The events of the contract's section 3, field by field.

use crate::policy::Spoken;
use crate::proto::line::printable;
use crate::proto::{Mechanism, Service};
use serde::ser::{Serialize, SerializeMap, Serializer};
use std::borrow::Cow;
use std::convert::Infallible;
use std::fmt::Display;
use std::io::Write as _;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tracing::Level;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The backend said yes.
    AuthOk,
    /// The backend said no: a verdict on credentials.
    AuthFailed,
    /// We said no.
    AuthRefused,
    /// The backend is not there, or says "not now".
    AuthError,
    /// A connection that came past its TLS handshake has ended; exactly one for each. (A handshake that failed on an
    /// implicit port is one `tls.failed` and nothing more; a load balancer's check that says nothing there is not even that.)
    SessionClosed,
    /// A connection was not let in.
    ConnectionRefused,
    /// A handshake failed.
    TlsFailed,
    /// The backend took a message.
    MessageAccepted,
    /// A message was refused, by us or by the backend.
    MessageRefused,
    /// An address is banned from now on.
    BanAdded,
    /// A ban is over.
    BanExpired,
    /// A backend server answers.
    BackendUp,
    /// A backend server does not answer.
    BackendDown,
    /// A certificate is served from now on.
    CertificateLoaded,
    /// A changed certificate is not fit to be served; the old one goes on.
    CertificateRefused,
    /// A certificate nears its end.
    CertificateExpiring,
    /// A new configuration runs.
    ConfigReloaded,
    /// A new configuration was refused; the old one goes on.
    ConfigRefused,
    /// Many users come from this host's own default gateway: limits by address cannot tell them apart.
    ClientsHiddenByNat,
}

impl Kind {
    /// The contract's `event`.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::AuthOk => "auth.ok",
            Kind::AuthFailed => "auth.failed",
            Kind::AuthRefused => "auth.refused",
            Kind::AuthError => "auth.error",
            Kind::SessionClosed => "session.closed",
            Kind::ConnectionRefused => "connection.refused",
            Kind::TlsFailed => "tls.failed",
            Kind::MessageAccepted => "message.accepted",
            Kind::MessageRefused => "message.refused",
            Kind::BanAdded => "ban.added",
            Kind::BanExpired => "ban.expired",
            Kind::BackendUp => "backend.up",
            Kind::BackendDown => "backend.down",
            Kind::CertificateLoaded => "certificate.loaded",
            Kind::CertificateRefused => "certificate.refused",
            Kind::CertificateExpiring => "certificate.expiring",
            Kind::ConfigReloaded => "config.reloaded",
            Kind::ConfigRefused => "config.refused",
            Kind::ClientsHiddenByNat => "clients_hidden_by_nat",
        }
    }

    /// How loud it is: errors want a person, warnings a look, the rest is the record.
    pub fn level(self) -> Level {
        match self {
            Kind::BackendDown | Kind::CertificateRefused | Kind::ConfigRefused => Level::ERROR,
            Kind::AuthFailed
            | Kind::AuthRefused
            | Kind::AuthError
            | Kind::ConnectionRefused
            | Kind::TlsFailed
            | Kind::MessageRefused
            | Kind::BanAdded
            | Kind::CertificateExpiring
            | Kind::ClientsHiddenByNat => Level::WARN,
            Kind::AuthOk
            | Kind::SessionClosed
            | Kind::MessageAccepted
            | Kind::BanExpired
            | Kind::BackendUp
            | Kind::CertificateLoaded
            | Kind::ConfigReloaded => Level::INFO,
        }
    }

    /// Whether the auth log has it.
    pub fn is_auth(self) -> bool {
        matches!(self, Kind::AuthOk | Kind::AuthFailed | Kind::AuthRefused | Kind::AuthError)
    }
}

/// One event. Fields that do not apply are `None` and not written, but for `tls`, which says null on a session's events in the clear.
///
/// Names from the network must be escaped before they come in here ([`crate::proto::UserName::display`],
/// [`crate::proto::line::printable`]). No field can hold a password, a challenge or a response.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the fields are the contract's section 3 and documented there")]
pub struct Event {
    pub event: Kind,
    pub session: Option<SessionId>,
    pub listener: Option<String>,
    pub protocol: Option<Spoken<Service>>,
    pub client_ip: Option<IpAddr>,
    pub client_port: Option<u16>,
    /// The load balancer's, where its PROXY header said who the client is.
    pub proxy_ip: Option<IpAddr>,
    pub tls: Option<Arc<TlsFacts>>,
    pub user: Option<String>,
    pub login: Option<String>,
    pub mechanism: Option<Mechanism>,
    pub backend: Option<String>,
    pub server: Option<String>,
    pub reason: Option<String>,
    pub reply: Option<String>,
    /// Free text of ours: what exactly is wrong and what to do. Never a client's words.
    pub detail: Option<String>,
    /// On `auth.*` without `failure_delay`; on `session.closed` since the connection was taken.
    pub duration: Option<Duration>,
    pub bytes_in: Option<u64>,
    pub bytes_out: Option<u64>,
    pub messages: Option<u64>,
    pub recipients: Option<u64>,
    pub from: Option<String>,
    pub size: Option<u64>,
    /// How many alike this one line stands for, where a flood was summed.
    pub count: Option<u64>,
}

/// A session's name in events: unique over restarts, sortable by time, 16 lower-case hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub u64);

impl std::fmt::Display for SessionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl Serialize for SessionId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What was negotiated.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are the contract's section 3 and documented there")]
pub struct TlsFacts {
    pub version: &'static str,
    pub cipher: &'static str,
    pub group: Option<&'static str>,
    pub sni: Option<String>,
    pub alpn: Option<String>,
    pub resumed: bool,
    /// Where the client has shown a certificate, and it was found good.
    pub client: Option<Box<Client>>,
}

/// Whom a client has proved to be by its certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// The name in it; none where there is none, or none that could be one.
    pub name: Option<String>,
    /// Its SHA-256.
    pub sha256: [u8; 32],
}

impl Event {
    /// An event with nothing but its kind.
    pub fn new(event: Kind) -> Self {
        Self {
            event,
            session: None,
            listener: None,
            protocol: None,
            client_ip: None,
            client_port: None,
            proxy_ip: None,
            tls: None,
            user: None,
            login: None,
            mechanism: None,
            backend: None,
            server: None,
            reason: None,
            reply: None,
            detail: None,
            duration: None,
            bytes_in: None,
            bytes_out: None,
            messages: None,
            recipients: None,
            from: None,
            size: None,
            count: None,
        }
    }
}

/// Written by hand for two things a derive cannot say: `tls` is null on a session's events in the clear and absent on
/// events of no session; and every text is held against its bound and escaped again, whoever filled it in.
impl Serialize for Event {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = Map(serializer.serialize_map(None)?);
        self.put(&mut map)?;
        map.0.end()
    }
}

impl Event {
    /// Adds its fields to an object in JSON that is open and has one already: what serialising it would write, in a fifth of the
    /// time. A session has three of these lines.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let Ok(()) = self.put(&mut Object(out));
    }

    fn put<F: Fields>(&self, fields: &mut F) -> Result<(), F::Error> {
        fields.text("event", Some(self.event.as_str()), 255)?;
        fields.shown("session", self.session)?;
        fields.text("listener", self.listener.as_deref(), 255)?;
        fields.text("protocol", self.protocol.map(Spoken::<Service>::as_str), 255)?;
        fields.shown("client_ip", self.client_ip)?;
        fields.number("client_port", self.client_port.map(u64::from))?;
        fields.shown("proxy_ip", self.proxy_ip)?;
        if self.session.is_some() || self.tls.is_some() {
            fields.tls(self.tls.as_deref())?;
        }
        fields.text("user", self.user.as_deref(), 255)?;
        fields.text("login", self.login.as_deref(), 255)?;
        fields.text("mechanism", self.mechanism.as_ref().map(Mechanism::as_str), 255)?;
        fields.text("backend", self.backend.as_deref(), 255)?;
        fields.text("server", self.server.as_deref(), 300)?;
        fields.text("reason", self.reason.as_deref(), 255)?;
        fields.text("reply", self.reply.as_deref(), 1024)?;
        fields.text("detail", self.detail.as_deref(), 2048)?;
        fields.number("duration_ms", self.duration.map(|d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX)))?;
        fields.number("bytes_in", self.bytes_in)?;
        fields.number("bytes_out", self.bytes_out)?;
        fields.number("messages", self.messages)?;
        fields.number("recipients", self.recipients)?;
        fields.text("from", self.from.as_deref(), 1024)?;
        fields.number("size", self.size)?;
        fields.number("count", self.count)
    }
}

impl Serialize for TlsFacts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("version", self.version)?;
        map.serialize_entry("cipher", self.cipher)?;
        map.serialize_entry("group", &self.group)?;
        map.serialize_entry("sni", &self.sni.as_deref().map(|text| safe(text, 255)))?;
        map.serialize_entry("alpn", &self.alpn.as_deref().map(|text| safe(text, 255)))?;
        map.serialize_entry("resumed", &self.resumed)?;
        if let Some(client) = &self.client {
            map.serialize_entry("client", client)?;
        }
        map.end()
    }
}

impl Serialize for Client {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("name", &self.name.as_deref().map(|text| safe(text, 255)))?;
        let sha256 = self.sha256.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":");
        map.serialize_entry("sha256", &sha256)?;
        map.end()
    }
}

/// The fields of one object; what is `None` is left out.
trait Fields {
    type Error;

    /// A text, held against its bound and escaped.
    fn text(&mut self, name: &'static str, text: Option<&str>, max: usize) -> Result<(), Self::Error>;
    fn number(&mut self, name: &'static str, number: Option<u64>) -> Result<(), Self::Error>;
    /// What shows itself in letters, digits and marks that are nothing's end.
    fn shown(&mut self, name: &'static str, value: Option<impl Display>) -> Result<(), Self::Error>;
    fn tls(&mut self, tls: Option<&TlsFacts>) -> Result<(), Self::Error>;
}

/// As serde has them.
struct Map<M>(M);

impl<M: SerializeMap> Map<M> {
    fn put<T: Serialize>(&mut self, name: &'static str, value: Option<T>) -> Result<(), M::Error> {
        value.map_or(Ok(()), |value| self.0.serialize_entry(name, &value))
    }
}

impl<M: SerializeMap> Fields for Map<M> {
    type Error = M::Error;

    fn text(&mut self, name: &'static str, text: Option<&str>, max: usize) -> Result<(), M::Error> {
        self.put(name, text.map(|text| safe(text, max)))
    }

    fn number(&mut self, name: &'static str, number: Option<u64>) -> Result<(), M::Error> {
        self.put(name, number)
    }

    fn shown(&mut self, name: &'static str, value: Option<impl Display>) -> Result<(), M::Error> {
        value.map_or(Ok(()), |value| self.0.serialize_entry(name, &format_args!("{value}")))
    }

    fn tls(&mut self, tls: Option<&TlsFacts>) -> Result<(), M::Error> {
        self.0.serialize_entry("tls", &tls)
    }
}

/// As they stand in a line of JSON behind others.
struct Object<'a>(&'a mut Vec<u8>);

impl Object<'_> {
    fn name(&mut self, name: &'static str) {
        let begins = self.0.last() == Some(&b'{');
        for part in [if begins { "\"" } else { ",\"" }, name, "\":"] {
            self.0.extend_from_slice(part.as_bytes());
        }
    }

    fn or_null(&mut self, name: &'static str, text: Option<&str>, max: usize) -> Result<(), Infallible> {
        if text.is_none() {
            self.name(name);
            self.0.extend_from_slice(b"null");
        }
        self.text(name, text, max)
    }
}

impl Fields for Object<'_> {
    type Error = Infallible;

    fn text(&mut self, name: &'static str, text: Option<&str>, max: usize) -> Result<(), Infallible> {
        let Some(text) = text else { return Ok(()) };
        self.name(name);
        self.0.push(b'"');
        let text = safe(text, max);
        let mut rest = text.as_bytes();
        // What is safe holds nothing else that JSON would have escaped (RFC 8259 section 7).
        while let Some(at) = memchr::memchr2(b'"', b'\\', rest) {
            self.0.extend_from_slice(&rest[..at]);
            self.0.extend_from_slice(&[b'\\', rest[at]]);
            rest = &rest[at + 1..];
        }
        self.0.extend_from_slice(rest);
        self.0.push(b'"');
        Ok(())
    }

    fn number(&mut self, name: &'static str, number: Option<u64>) -> Result<(), Infallible> {
        let Some(mut number) = number else { return Ok(()) };
        self.name(name);
        let mut digits = [0; 20];
        let mut at = digits.len();
        loop {
            at -= 1;
            digits[at] = b"0123456789"[(number % 10) as usize];
            number /= 10;
            if number == 0 {
                break;
            }
        }
        self.0.extend_from_slice(&digits[at..]);
        Ok(())
    }

    fn shown(&mut self, name: &'static str, value: Option<impl Display>) -> Result<(), Infallible> {
        let Some(value) = value else { return Ok(()) };
        self.name(name);
        // Writing to memory does not fail.
        let _ = write!(self.0, "\"{value}\"");
        Ok(())
    }

    fn tls(&mut self, tls: Option<&TlsFacts>) -> Result<(), Infallible> {
        let Some(TlsFacts { version, cipher, group, sni, alpn, resumed, client }) = tls else {
            return self.or_null("tls", None, 0);
        };
        self.name("tls");
        self.0.push(b'{');
        self.text("version", Some(version), 255)?;
        self.text("cipher", Some(cipher), 255)?;
        self.or_null("group", *group, 255)?;
        self.or_null("sni", sni.as_deref(), 255)?;
        self.or_null("alpn", alpn.as_deref(), 255)?;
        self.name("resumed");
        self.0.extend_from_slice(if *resumed { b"true" } else { b"false" });
        if let Some(client) = client {
            self.name("client");
            // Plain data with string keys, which cannot fail either.
            let _ = serde_json::to_writer(&mut *self.0, client);
        }
        self.0.push(b'}');
        Ok(())
    }
}

/// A text without control characters, line separators and direction marks, of at most `max` octets. Plain ASCII, nearly
/// all there is, is not copied.
pub(super) fn safe(text: &str, max: usize) -> Cow<'_, str> {
    if text.len() <= max && text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(printable(text.as_bytes(), max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(event: &Event) -> String {
        serde_json::to_string(event).expect("an event is plain data")
    }

    #[test]
    fn tls_is_null_on_a_session_in_the_clear_and_absent_where_there_is_no_session() {
        let mut event = Event::new(Kind::AuthOk);
        event.session = Some(SessionId(0x1f));
        assert_eq!(json(&event), r#"{"event":"auth.ok","session":"000000000000001f","tls":null}"#);
        assert_eq!(json(&Event::new(Kind::ConfigReloaded)), r#"{"event":"config.reloaded"}"#);
    }

    #[test]
    fn the_fields_have_the_contracts_names_and_order() {
        let mut event = Event::new(Kind::SessionClosed);
        event.session = Some(SessionId(1));
        event.listener = Some("imaps".into());
        event.protocol = Some(Service::Imap.into());
        event.client_ip = Some([192, 0, 2, 7].into());
        event.client_port = Some(40000);
        event.proxy_ip = Some([10, 0, 0, 9].into());
        event.tls = Some(Arc::new(TlsFacts {
            version: "1.3",
            cipher: "TLS13_AES_256_GCM_SHA384",
            group: Some("X25519MLKEM768"),
            sni: None,
            alpn: None,
            resumed: false,
            client: None,
        }));
        event.mechanism = Some(Mechanism::PLAIN);
        event.duration = Some(Duration::from_micros(1_234_567));
        event.bytes_in = Some(10);
        let expected = concat!(
            r#"{"event":"session.closed","session":"0000000000000001","listener":"imaps","protocol":"imap","#,
            r#""client_ip":"192.0.2.7","client_port":40000,"proxy_ip":"10.0.0.9","tls":{"version":"1.3","#,
            r#""cipher":"TLS13_AES_256_GCM_SHA384","group":"X25519MLKEM768","sni":null,"alpn":null,"resumed":false},"#,
            r#""mechanism":"PLAIN","duration_ms":1234,"bytes_in":10}"#
        );
        assert_eq!(json(&event), expected);
    }

    #[test]
    fn a_line_is_what_serialising_would_write() {
        let mut event = Event::new(Kind::MessageAccepted);
        let same = |event: &Event| {
            let mut line = b"{\"x\":0".to_vec();
            event.write(&mut line);
            line.push(b'}');
            assert_eq!(String::from_utf8(line).expect("UTF-8"), json(event).replacen('{', "{\"x\":0,", 1));
        };
        same(&event);
        event.session = Some(SessionId(u64::MAX));
        same(&event);
        event.client_ip = Some("2001:db8::1".parse().expect("an address"));
        event.client_port = Some(0);
        event.protocol = Some(Service::Submission.into());
        event.tls = Some(Arc::new(TlsFacts {
            version: "1.2",
            cipher: "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
            group: None,
            sni: Some("\"\\ä\u{7f}".to_owned()),
            alpn: Some("smtp".to_owned()),
            resumed: true,
            client: Some(Box::new(Client { name: Some("joe".to_owned()), sha256: [7; 32] })),
        }));
        event.mechanism = Some(Mechanism::PLAIN);
        event.duration = Some(Duration::from_millis(u64::MAX));
        (event.bytes_in, event.bytes_out, event.size) = (Some(10), Some(u64::MAX), Some(1_234_567_890));
        same(&event);
        for text in
            ["", "plain", "\"", "\\", "a\"b\\c\"", "\r\n\0\u{1b}", "grüße\u{2028}\u{202e}\u{85}", &"ä".repeat(2000)]
        {
            let text = || Some(text.to_owned());
            (event.listener, event.user, event.login, event.backend) = (text(), text(), text(), text());
            (event.server, event.reason, event.reply, event.detail, event.from) =
                (text(), text(), text(), text(), text());
            same(&event);
        }
    }

    #[test]
    fn who_has_shown_a_certificate_stands_within_tls() {
        let mut event = Event::new(Kind::AuthOk);
        let client = |name: Option<&str>| {
            let client = Client { name: name.map(str::to_owned), sha256: [0xab; 32] };
            Some(Arc::new(TlsFacts {
                version: "1.3",
                cipher: "TLS_AES_256_GCM_SHA384",
                group: None,
                sni: None,
                alpn: None,
                resumed: false,
                client: Some(Box::new(client)),
            }))
        };
        event.tls = client(Some("joe@example.net"));
        let sha256 = ["AB"; 32].join(":");
        let expected = format!(r#""resumed":false,"client":{{"name":"joe@example.net","sha256":"{sha256}"}}}}}}"#);
        assert!(json(&event).ends_with(&expected), "{}", json(&event));
        event.tls = client(None);
        assert!(json(&event).contains(r#""client":{"name":null,"#), "{}", json(&event));
        event.tls = client(Some("joe\u{202e}\u{85}ä"));
        assert!(!json(&event).chars().any(|c| c.is_control() || c == '\u{202e}'), "{}", json(&event));
    }

    #[test]
    fn a_name_from_the_network_cannot_break_or_turn_the_line() {
        let mut event = Event::new(Kind::AuthFailed);
        event.user = Some("eve\r\n{\"event\":\"auth.ok\"}\u{202e}\u{85}\u{1b}[2J".into());
        event.reply = Some("x".repeat(5000));
        let line = json(&event);
        assert!(!line.chars().any(|c| c.is_control() || c == '\u{202e}'), "{line}");
        assert!(line.len() < 1300);
        event.user = Some("ä".repeat(200));
        let value: serde_json::Value = serde_json::from_str(&json(&event)).expect("valid JSON");
        assert_eq!(value["user"].as_str().map(str::len), Some(254));
    }
}
