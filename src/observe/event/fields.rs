//! An event as JSON: by serde, and for the log in a fifth of the time.

use super::{Client, Event, TlsFacts};
use crate::policy::Spoken;
use crate::proto::line::printable;
use crate::proto::{Mechanism, Service};
use serde::ser::{Serialize, SerializeMap, Serializer};
use std::borrow::Cow;
use std::convert::Infallible;
use std::fmt::Display;
use std::io::Write as _;

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
    pub(in crate::observe) fn write(&self, out: &mut Vec<u8>) {
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
pub(in crate::observe) fn safe(text: &str, max: usize) -> Cow<'_, str> {
    if text.len() <= max && text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(printable(text.as_bytes(), max))
    }
}
