//! What is kept of a client until its handshake is over.

use crate::tls;

/// What a client may send before its handshake is over. A hello of today has up to 2 KiB and may come in records of an
/// octet each, six times as much; rustls alone would take 64 KiB of it.
const MAX_HANDSHAKE: usize = 40 * 1024;

/// What is noted of it: enough for the hello of a client from before TLS 1.3, whose version is asked for.
const NOTED: usize = 1024;

/// The alert for a client whose TLS is too old (RFC 5246 appendix E.1, RFC 8446 appendix D.2): the client's own message
/// names the cause then. rustls says `handshake_failure` to a hello without what TLS 1.2 brought.
const PROTOCOL_VERSION: [u8; 7] = [21, 3, 1, 0, 2, 2, 70];

/// The alert for a client that shows no certificate where one must be shown, as rustls says it in TLS 1.2 too, and as a client
/// from before TLS 1.3 knows it (RFC 5246 section 7.4.6): `handshake_failure`.
const CERTIFICATE_REQUIRED: [u8; 7] = [21, 3, 3, 0, 2, 2, 116];
const HANDSHAKE_FAILURE: [u8; 7] = [21, 3, 3, 0, 2, 2, 40];

/// A client before its handshake is over.
#[derive(Debug)]
pub(super) struct Hello {
    /// What it began with. A client whose handshake fails is told apart by it, however it was cut.
    first: Vec<u8>,
    /// What it may still send.
    left: usize,
}

impl Hello {
    /// Nothing has come.
    pub(super) fn new() -> Self {
        Self { first: Vec::new(), left: MAX_HANDSHAKE }
    }

    /// How much may still come.
    ///
    /// # Errors
    /// Nothing: the words for the log.
    pub(super) fn left(&self) -> Result<usize, String> {
        match self.left {
            0 => Err(format!("the client sent more than {MAX_HANDSHAKE} octets and no whole handshake")),
            left => Ok(left),
        }
    }

    /// Takes note of what came.
    pub(super) fn note(&mut self, bytes: &[u8]) {
        let room = NOTED - self.first.len();
        self.first.extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.left -= bytes.len();
    }

    /// What the client began with.
    pub(super) fn into_first(self) -> Vec<u8> {
        self.first
    }

    /// Sets right the words that end the handshake of a client whose TLS is too old, or too old for them. In TLS 1.3 they are
    /// encrypted, and look like none of these.
    pub(super) fn name_the_cause(&self, words: &mut [u8]) {
        if *words == CERTIFICATE_REQUIRED {
            words.copy_from_slice(&HANDSHAKE_FAILURE);
        }
        let is_alert = words.len() == PROTOCOL_VERSION.len() && words[0] == PROTOCOL_VERSION[0];
        if is_alert && tls::client_hello_version(&self.first).is_some() {
            words.copy_from_slice(&PROTOCOL_VERSION);
        }
    }
}
