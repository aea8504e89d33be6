//! Records of TLS 1.3 behind the handshake (RFC 8446 sections 4.6.3, 5 and 6), on a key schedule that rustls keeps.
//!
//! There is little that a client may send there: text, alerts, and the news that its key has changed. Whatever else comes
//! is answered by the alert that the RFC names for it, and is the end. What is taken and what is not is what rustls takes;
//! both are held against each other by the tests.

use super::key::{Key, opened};
use super::{Driven, Fault, HEADER, Outgoing, PLAIN, Reader, Then};
use rustls::kernel::KernelConnection;
use rustls::server::ServerConnectionData;
use rustls::{AlertDescription, ContentType, Error, ExtractedSecrets, HandshakeType, InvalidMessage, PeerMisbehaved};

/// What a record holds at most behind its header (RFC 8446 section 5.2).
const SEALED: usize = PLAIN + 256;
/// The message that announces another key: its kind, the length of what follows, and whether we are to do likewise.
const KEY_UPDATE: [u8; 4] = [24, 0, 0, 1];
/// Of these so many may come without a word of text between them. Each costs us some work and the client hardly any.
const KEY_UPDATES: u8 = 32;
/// So many records without any text may follow on each other.
const EMPTY: u8 = 32;
/// So many alerts that mean nothing.
const WARNINGS: u8 = 4;

/// A connection's records in both directions.
pub(super) struct Traffic {
    schedule: KernelConnection<ServerConnectionData>,
    read: Key,
    write: Key,
    /// So many records are written under one key.
    most_written: u64,
    key_update: KeyUpdate,
    /// The client wants us to change our key before the next words.
    answer_due: bool,
    is_closed: bool,
    updates_without_text: u8,
    empty: u8,
    warnings: u8,
}

/// Why a record is the end of it all, and the alert that says so.
struct Refusal {
    error: Error,
    alert: Option<AlertDescription>,
}

impl Refusal {
    fn new(alert: AlertDescription, error: impl Into<Error>) -> Self {
        Self { error: error.into(), alert: Some(alert) }
    }
}

fn unexpected(error: impl Into<Error>) -> Refusal {
    Refusal::new(AlertDescription::UnexpectedMessage, error)
}

impl Traffic {
    /// Goes on where rustls was.
    ///
    /// # Errors
    /// A cipher that is not known here.
    pub(super) fn new(
        secrets: ExtractedSecrets,
        schedule: KernelConnection<ServerConnectionData>,
    ) -> Result<Self, Error> {
        let suite = schedule.negotiated_cipher_suite();
        let most_written = suite.tls13().map_or(0, |suite| suite.common.confidentiality_limit);
        Ok(Self {
            read: Key::new(secrets.rx)?,
            write: Key::new(secrets.tx)?,
            schedule,
            most_written,
            key_update: KeyUpdate::default(),
            answer_due: false,
            is_closed: false,
            updates_without_text: 0,
            empty: 0,
            warnings: 0,
        })
    }

    /// Whether the client has ended its side with a close_notify.
    pub(super) fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// As [`super::Records::drive`] does.
    ///
    /// # Errors
    /// [`Fault`]. It must not be called after one.
    pub(super) fn drive(
        &mut self,
        incoming: &mut [u8],
        out: &mut Outgoing<'_>,
        then: Then<'_>,
        reader: &mut impl Reader,
    ) -> Result<Driven, Fault> {
        let mut driven = self.look(incoming, out, reader)?;
        if !driven.stopped {
            match then {
                Then::Wait => {}
                Then::Write(words) => self.write(ContentType::ApplicationData, words, out)?,
                Then::Close => self.write(ContentType::Alert, &alert(AlertDescription::CloseNotify), out)?,
            }
            driven.done = true;
        }
        Ok(driven)
    }

    /// There is nothing to do for now.
    pub(super) fn rest(&mut self) {
        self.read.rest();
        self.write.rest();
    }

    /// Opens the whole records in `incoming` until the reader has enough.
    fn look(&mut self, incoming: &mut [u8], out: &mut Outgoing<'_>, reader: &mut impl Reader) -> Result<Driven, Fault> {
        let mut driven = Driven::default();
        while !driven.stopped && !self.is_closed {
            let outcome = match split(&mut incoming[driven.used..]) {
                Ok(None) => break,
                Ok(Some((header, sealed))) => {
                    driven.used += HEADER + sealed.len();
                    self.pass_on(header, sealed, reader)
                }
                Err(refusal) => Err(refusal),
            };
            match outcome {
                Ok(may_go_on) => driven.stopped = !may_go_on,
                Err(Refusal { error, alert: description }) => {
                    if let Some(description) = description {
                        // Without room for it the client hears nothing, and the connection ends all the same.
                        let _ = self.write(ContentType::Alert, &alert(description), out);
                    }
                    return Err(error.into());
                }
            }
        }
        if self.is_closed {
            // Nothing behind a close_notify counts (RFC 8446 section 6.1).
            driven.used = incoming.len();
        }
        Ok(driven)
    }

    /// Opens a record and hands its text on; gives whether the reader wants more. Where he has room it is opened there.
    fn pass_on(&mut self, header: [u8; HEADER], sealed: &mut [u8], reader: &mut impl Reader) -> Result<bool, Refusal> {
        let wrong = |error| Refusal::new(AlertDescription::BadRecordMac, error);
        let Some(room) = reader.room(opened(sealed.len())) else {
            let inner = self.read.open_in_place(header, sealed).map_err(wrong)?;
            let text = self.hear(inner)?;
            return Ok(text.is_empty() || reader.take(text));
        };
        self.read.open_into(header, sealed, room).map_err(wrong)?;
        let length = self.hear(room)?.len();
        Ok(length == 0 || reader.keep(length))
    }

    /// Understands what a record holds. Gives the text in it, if it is text.
    fn hear<'r>(&mut self, inner: &'r [u8]) -> Result<&'r [u8], Refusal> {
        if inner.len() > PLAIN + 1 {
            return Err(Refusal::new(AlertDescription::RecordOverflow, Error::PeerSentOversizedRecord));
        }
        // What kind of text it is stands behind it, and behind that nothing but padding (RFC 8446 section 5.4).
        let Some(end) = inner.iter().rposition(|octet| *octet != 0) else {
            return Err(unexpected(PeerMisbehaved::IllegalTlsInnerPlaintext));
        };
        let (kind, text) = (ContentType::from(inner[end]), &inner[..end]);
        if self.key_update.is_begun() && kind != ContentType::Handshake {
            return Err(unexpected(PeerMisbehaved::MessageInterleavedWithHandshakeMessage));
        }
        match kind {
            ContentType::ApplicationData if !text.is_empty() => {
                (self.empty, self.updates_without_text) = (0, 0);
                return Ok(text);
            }
            ContentType::ApplicationData if self.empty == EMPTY => {
                return Err(unexpected(PeerMisbehaved::TooManyEmptyFragments));
            }
            ContentType::ApplicationData => self.empty += 1,
            ContentType::Alert | ContentType::Handshake if text.is_empty() => {
                return Err(unexpected(InvalidMessage::InvalidEmptyPayload));
            }
            ContentType::Alert => self.hear_alert(text)?,
            ContentType::Handshake => self.hear_message(text)?,
            got_type => {
                let expect_types = vec![ContentType::ApplicationData, ContentType::Alert, ContentType::Handshake];
                return Err(unexpected(Error::InappropriateMessage { expect_types, got_type }));
            }
        }
        Ok(&[])
    }

    /// An alert (RFC 8446 section 6).
    fn hear_alert(&mut self, text: &[u8]) -> Result<(), Refusal> {
        let &[level, description] = text else {
            let error = InvalidMessage::MissingData("an alert of two octets");
            return Err(Refusal::new(AlertDescription::DecodeError, error));
        };
        let description = AlertDescription::from(description);
        let error = Error::AlertReceived(description);
        match (level, description) {
            (WARNING | FATAL, AlertDescription::CloseNotify) => self.is_closed = true,
            (FATAL, _) => return Err(Refusal { error, alert: None }),
            (WARNING, _) if self.warnings == WARNINGS => {
                return Err(unexpected(PeerMisbehaved::TooManyWarningAlertsReceived));
            }
            (WARNING, AlertDescription::UserCanceled) => self.warnings += 1,
            (WARNING, _) => return Err(Refusal::new(AlertDescription::DecodeError, error)),
            _ => return Err(Refusal::new(AlertDescription::IllegalParameter, error)),
        }
        Ok(())
    }

    /// A message of the handshake's kind, or a part of one: the client has changed its key, or it is not to be understood.
    fn hear_message(&mut self, part: &[u8]) -> Result<(), Refusal> {
        let Some((request, rest)) = self.key_update.hear(part)? else { return Ok(()) };
        if !rest.is_empty() {
            // It was sealed with the key that has just been given up.
            return Err(unexpected(PeerMisbehaved::KeyEpochWithPendingFragment));
        }
        if self.updates_without_text == KEY_UPDATES {
            return Err(unexpected(PeerMisbehaved::TooManyKeyUpdateRequests));
        }
        self.updates_without_text += 1;
        let key = self.schedule.update_rx_secret().and_then(Key::new);
        self.read = key.map_err(|error| Refusal::new(AlertDescription::InternalError, error))?;
        self.answer_due |= request;
        Ok(())
    }

    /// Makes records, behind the change of key that the client asked for or that is due.
    fn write(&mut self, kind: ContentType, text: &[u8], out: &mut Outgoing<'_>) -> Result<(), Fault> {
        for part in text.chunks(PLAIN) {
            let is_worn = self.write.sequence() >= self.most_written;
            if self.answer_due || is_worn {
                let [a, b, c, d] = KEY_UPDATE;
                // Whose key is worn has seen as much of ours: the other side is asked for the same.
                let message = [a, b, c, d, u8::from(is_worn && !self.answer_due)];
                out.append(|room| self.write.seal(ContentType::Handshake, &message, room))?;
                self.write = Key::new(self.schedule.update_tx_secret()?)?;
                self.answer_due = false;
            }
            out.append(|room| self.write.seal(kind, part, room))?;
        }
        Ok(())
    }
}

/// The levels of an alert.
const WARNING: u8 = 1;
const FATAL: u8 = 2;

/// An alert of ours. All are fatal but the one that says that nothing more follows.
fn alert(description: AlertDescription) -> [u8; 2] {
    let level = if description == AlertDescription::CloseNotify { WARNING } else { FATAL };
    [level, u8::from(description)]
}

/// A record's header and what stands behind it, if all of it is there.
type Record<'r> = ([u8; HEADER], &'r mut [u8]);

/// Takes the first record.
fn split(incoming: &mut [u8]) -> Result<Option<Record<'_>>, Refusal> {
    let Some((header, rest)) = incoming.split_first_chunk_mut::<HEADER>() else { return Ok(None) };
    let [kind, _, _, high, low] = *header;
    let kind = ContentType::from(kind);
    if kind != ContentType::ApplicationData {
        let expect_types = vec![ContentType::ApplicationData];
        return Err(unexpected(Error::InappropriateMessage { expect_types, got_type: kind }));
    }
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > SEALED {
        return Err(Refusal::new(AlertDescription::RecordOverflow, Error::PeerSentOversizedRecord));
    }
    Ok(rest.get_mut(..length).map(|sealed| (*header, sealed)))
}

/// The one message that may come, as far as it has come: messages may be cut wherever the client likes.
#[derive(Default)]
struct KeyUpdate {
    seen: usize,
}

impl KeyUpdate {
    fn is_begun(&self) -> bool {
        self.seen > 0
    }

    /// Takes a part. Whole, it says whether we are to change our key, too, and what stood behind it.
    fn hear<'p>(&mut self, mut part: &'p [u8]) -> Result<Option<(bool, &'p [u8])>, Refusal> {
        while let Some((octet, rest)) = part.split_first() {
            part = rest;
            match (KEY_UPDATE.get(self.seen), octet) {
                (Some(expected), octet) if expected == octet => self.seen += 1,
                (None, 0 | 1) => {
                    self.seen = 0;
                    return Ok(Some((*octet == 1, part)));
                }
                (None, _) => {
                    return Err(Refusal::new(AlertDescription::IllegalParameter, InvalidMessage::InvalidKeyUpdate));
                }
                (Some(_), _) if self.seen > 0 => {
                    return Err(Refusal::new(AlertDescription::DecodeError, InvalidMessage::InvalidKeyUpdate));
                }
                (Some(_), octet) => {
                    let expect_types = vec![HandshakeType::KeyUpdate];
                    let got_type = HandshakeType::from(*octet);
                    return Err(unexpected(Error::InappropriateHandshakeMessage { expect_types, got_type }));
                }
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests;
