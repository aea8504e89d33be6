//! The line at the head of a message that tells whom we had it from (RFC 5321 section 4.4).

use bytes::{BufMut, BytesMut};
use core::net::IpAddr;

/// What a Received line says. It names no user and no recipient: both would go to every reader of the message.
#[derive(Debug, Clone, Copy)]
pub struct Received<'a> {
    /// The client's name for itself, in its EHLO.
    pub helo: Option<&'a str>,
    /// Its address.
    pub client: IpAddr,
    /// Our name.
    pub hostname: &'a str,
    /// The message came under TLS.
    pub is_secured: bool,
    /// It came from a user who has logged in.
    pub is_logged_in: bool,
    /// The session's name in our log.
    pub id: &'a str,
}

impl Received<'_> {
    /// Writes the line, folded. `date` is the time in the form of RFC 5322 section 3.3.
    pub fn write(&self, date: &str, out: &mut BytesMut) {
        let literal = match self.client {
            IpAddr::V4(address) => format!("[{address}]"),
            IpAddr::V6(address) => format!("[IPv6:{address}]"),
        };
        // What is no name would be read as something else: a comment, another clause, another line.
        let name = self.helo.filter(|helo| is_name(helo)).unwrap_or(&literal);
        let Self { hostname, id, .. } = self;
        let with = self.with();
        out.put_slice(
            format!("Received: from {name} ({literal})\r\n\tby {hostname} with {with} id {id};\r\n\t{date}\r\n")
                .as_bytes(),
        );
    }

    /// The protocol (RFC 3848). Without TLS and login it may have been either of two, and the older one includes both.
    fn with(&self) -> &'static str {
        match (self.is_secured, self.is_logged_in) {
            (true, true) => "ESMTPSA",
            (true, false) => "ESMTPS",
            (false, true) => "ESMTPA",
            (false, false) => "SMTP",
        }
    }
}

/// Whether this has the form of a domain, underscores taken too, or of an address literal.
fn is_name(name: &str) -> bool {
    let of_domain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let (name, is_literal) = match name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
        Some(literal) => (literal, true),
        None => (name, false),
    };
    (1..=255).contains(&name.len()) && name.chars().all(|c| of_domain(c) || is_literal && c == ':')
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATE: &str = "Sat, 28 Nov 2026 07:58:33 +0000";

    fn line(helo: Option<&str>, client: &str, is_secured: bool, is_logged_in: bool) -> String {
        let client = client.parse().expect("an address of the test");
        let hostname = "mail.example.net";
        let mut out = BytesMut::new();
        Received { helo, client, hostname, is_secured, is_logged_in, id: "0123" }.write(DATE, &mut out);
        String::from_utf8(out.to_vec()).expect("ASCII").replace("\r\n\t", " ").trim_end().to_owned()
    }

    #[test]
    fn the_line_says_whom_the_message_came_from_and_how() {
        assert_eq!(
            line(Some("joes-pc.lan"), "192.0.2.7", true, true),
            format!("Received: from joes-pc.lan ([192.0.2.7]) by mail.example.net with ESMTPSA id 0123; {DATE}")
        );
        assert_eq!(
            line(Some("[IPv6:2001:db8::1]"), "2001:db8::1", false, false),
            format!(
                "Received: from [IPv6:2001:db8::1] ([IPv6:2001:db8::1]) by mail.example.net with SMTP id 0123; {DATE}"
            )
        );
    }

    #[test]
    fn a_name_that_is_none_is_not_written() {
        for helo in
            [None, Some(""), Some("a b"), Some("a\r\nX: y"), Some("a (b)"), Some("a;"), Some("ü.de"), Some("[x")]
        {
            let line = line(helo, "192.0.2.7", true, false);
            assert!(
                line.starts_with("Received: from [192.0.2.7] ([192.0.2.7]) by mail.example.net with ESMTPS id"),
                "{line}"
            );
        }
    }
}
