//! The key of one direction, and what is done with it: a record of TLS 1.3 is sealed or opened (RFC 8446 section 5.2).

use super::{Fault, HEADER, PLAIN};
use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, UnboundKey};
use rustls::crypto::cipher::{AeadKey, Iv, Nonce, make_tls13_aad};
use rustls::{ConnectionTrafficSecrets, ContentType, Error};

/// What each of the three ciphers puts behind a text.
const TAG: usize = 16;
/// What stands behind a text before it is sealed: what kind of text it is.
const KIND: usize = 1;

/// How long what was sealed is once it is open.
pub(super) fn opened(sealed: usize) -> usize {
    sealed.saturating_sub(TAG)
}

/// A key, and how many records there were under it.
pub(super) struct Key {
    algorithm: &'static Algorithm,
    secret: AeadKey,
    iv: Iv,
    sequence: u64,
    /// The key as the cipher works with it: thirty times as large, so it is there while there is work.
    cipher: Option<LessSafeKey>,
}

impl Key {
    /// A key as rustls hands it out, behind as many records as it says.
    ///
    /// # Errors
    /// A cipher that is none of TLS 1.3's three.
    pub(super) fn new((sequence, secrets): (u64, ConnectionTrafficSecrets)) -> Result<Self, Error> {
        let (algorithm, secret, iv) = match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (&CHACHA20_POLY1305, key, iv),
            _ => return Err(Error::General("a cipher that is not known here".to_owned())),
        };
        Ok(Self { algorithm, secret, iv, sequence, cipher: None })
    }

    /// How many records there were under it.
    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// There is no work for now.
    pub(super) fn rest(&mut self) {
        self.cipher = None;
    }

    /// Opens what stands behind a record's header, where it stands: a text, what kind of text it is, and padding.
    ///
    /// # Errors
    /// `DecryptError`: nobody with the key wrote this as the next record.
    pub(super) fn open_in_place<'r>(
        &mut self,
        header: [u8; HEADER],
        sealed: &'r mut [u8],
    ) -> Result<&'r mut [u8], Error> {
        let nonce = self.next_nonce().ok_or(Error::DecryptError)?;
        let cipher = self.cipher().ok_or(Error::DecryptError)?;
        cipher.open_in_place(nonce, Aad::from(header), sealed).map_err(|_| Error::DecryptError)
    }

    /// Opens it into `room`, which is as long as [`opened`] says.
    ///
    /// # Errors
    /// As [`Self::open_in_place`], and what stands in `room` is nothing then.
    pub(super) fn open_into(&mut self, header: [u8; HEADER], sealed: &[u8], room: &mut [u8]) -> Result<(), Error> {
        let nonce = self.next_nonce().ok_or(Error::DecryptError)?;
        let cipher = self.cipher().ok_or(Error::DecryptError)?;
        let (text, tag) = sealed.split_last_chunk::<TAG>().ok_or(Error::DecryptError)?;
        cipher.open_separate_gather(nonce, Aad::from(header), text, tag, room).map_err(|_| Error::DecryptError)
    }

    /// Writes a record of at most [`PLAIN`] octets to the front of `room`, and gives its length.
    ///
    /// # Errors
    /// No room, or all that the key is good for is written.
    pub(super) fn seal(&mut self, kind: ContentType, text: &[u8], room: &mut [u8]) -> Result<usize, Fault> {
        let length = text.len() + KIND + TAG;
        let unwritable = |why: &str| Fault::Unwritable(why.to_owned());
        if text.len() > PLAIN || room.len() < HEADER + length {
            return Err(unwritable("no room"));
        }
        let header = make_tls13_aad(length);
        let (front, rest) = room.split_at_mut(HEADER);
        let (body, behind) = rest[..length].split_at_mut(text.len());
        front.copy_from_slice(&header);
        body.copy_from_slice(text);
        let nonce = self.next_nonce().ok_or_else(|| unwritable("the key is worn"))?;
        let cipher = self.cipher().ok_or_else(|| unwritable("no cipher"))?;
        cipher
            .seal_in_place_scatter(nonce, Aad::from(header), body, &[u8::from(kind)], behind)
            .map_err(|_| unwritable("the cipher refuses"))?;
        Ok(HEADER + length)
    }

    /// The nonce of the next record: no two records of a key have the same (RFC 8446 section 5.3).
    fn next_nonce(&mut self) -> Option<aws_lc_rs::aead::Nonce> {
        let nonce = Nonce::new(&self.iv, self.sequence);
        self.sequence = self.sequence.checked_add(1)?;
        Some(aws_lc_rs::aead::Nonce::assume_unique_for_key(nonce.0))
    }

    fn cipher(&mut self) -> Option<&LessSafeKey> {
        if self.cipher.is_none() {
            self.cipher = Some(LessSafeKey::new(UnboundKey::new(self.algorithm, self.secret.as_ref()).ok()?));
        }
        self.cipher.as_ref()
    }
}
