//! Peers that took the port for another one, told by their first bytes.

use super::Violation;

/// What the first bytes say.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum First {
    /// Too few to tell.
    Unclear,
    /// Nothing that is known to be something else.
    Command,
    /// Something else.
    Stranger(Violation),
}

/// How requests begin whose sender takes us for a web server or a web proxy (RFC 9112 section 3, RFC 9113 section 3.4).
const HTTP: [&[u8]; 14] = [
    b"GET /",
    b"GET http",
    b"HEAD /",
    b"HEAD http",
    b"POST /",
    b"POST http",
    b"PUT /",
    b"DELETE /",
    b"PATCH /",
    b"TRACE /",
    b"OPTIONS /",
    b"OPTIONS *",
    b"CONNECT ",
    b"PRI * HTTP/2",
];

/// Whether a connection begins like an HTTP request.
pub fn is_http(input: &[u8]) -> bool {
    HTTP.iter().any(|request| input.starts_with(request))
}

/// Looks at the first bytes of a connection, or of its TLS stream. A stranger is not answered: a browser that is led to a
/// mail port must not get back what it sent.
pub(super) fn first_bytes(input: &[u8], tls_active: bool) -> First {
    // A handshake record of any TLS version begins like this (RFC 8446 section 5.1).
    if !tls_active && input.starts_with(b"\x16\x03") {
        First::Stranger(Violation::TlsOnPlaintextPort)
    } else if is_http(input) {
        First::Stranger(Violation::Http)
    } else if input == b"\x16" || HTTP.iter().any(|request| request.starts_with(input)) {
        First::Unclear
    } else {
        First::Command
    }
}

#[test]
fn a_stranger_is_known_by_its_first_bytes() {
    use First::{Command, Stranger, Unclear};
    let rows: [(&[u8], bool, First); 9] = [
        (b"\x16\x03\x01\x02\x00", false, Stranger(Violation::TlsOnPlaintextPort)),
        (b"\x16\x03\x01\x02\x00", true, Command),
        (b"\x16", false, Unclear),
        (b"GET / HTTP/1.1\r\n", true, Stranger(Violation::Http)),
        (b"CONNECT smtp.example.net:25 HTTP/1.1\r\n", false, Stranger(Violation::Http)),
        (b"GE", false, Unclear),
        (b"GET NOOP\r\n", false, Command),
        (b"", false, Unclear),
        (b"a1 NOOP", false, Command),
    ];
    for (bytes, tls_active, expected) in rows {
        assert_eq!(first_bytes(bytes, tls_active), expected, "{}", bytes.escape_ascii());
    }
}
