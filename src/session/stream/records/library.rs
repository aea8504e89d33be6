//! rustls' unbuffered connection, driven until it has nothing more to say: the handshake, and in TLS 1.2 and for
//! strangers all there is.

use super::traffic::Traffic;
use super::{Driven, Fault, HEADER, Outgoing, Reader, Then};
use crate::tls::{self, Facts, Holder};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, UnbufferedStatus};
use rustls::{ProtocolVersion, ServerConfig};
use std::sync::Arc;

/// A connection that rustls leads.
pub(super) struct Library {
    tls: UnbufferedServerConnection,
    /// The name the client asked for, until it is told.
    sni: Option<String>,
    /// The client has said that it will send nothing more.
    closed: bool,
    /// Behind our last words came something else than text.
    heard_more: bool,
}

/// What a record of TLS 1.3 without padding has beside its text: its header, what kind of text it is, and a tag.
const AROUND_TEXT: usize = HEADER + 1 + 16;

impl Library {
    /// A server's side before the first octet.
    ///
    /// # Errors
    /// A configuration that cannot serve.
    pub(super) fn new(config: Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        Ok(Self { tls: UnbufferedServerConnection::new(config)?, sni: None, closed: false, heard_more: false })
    }

    /// Whether the handshake is under way.
    pub(super) fn is_handshaking(&self) -> bool {
        self.tls.is_handshaking()
    }

    /// Whether a browser is there: known once its hello was read.
    pub(super) fn is_for_the_page(&self) -> bool {
        self.tls.alpn_protocol() == Some(tls::Alpn::PAGE.as_bytes())
    }

    /// Whether it is TLS 1.3: known once its hello was read.
    pub(super) fn is_tls13(&self) -> bool {
        self.tls.protocol_version() == Some(ProtocolVersion::TLSv1_3)
    }

    /// Whether the client has ended its side with a close_notify.
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// What was agreed on. To be asked once, when the handshake is over.
    pub(super) fn facts(&mut self) -> Facts {
        // The library keeps the chain, and no call of it lets that go; here a name is taken of it and no more.
        let client = self.tls.peer_certificates().and_then(Holder::of).map(Box::new);
        Facts { client, ..Facts::of(&self.tls, self.sni.take()) }
    }

    /// Whether the records can be made by somebody else from here on. In TLS 1.3 they can, unless rustls owes the client an
    /// answer to a change of its key: that waits for the next words, and nobody else could give it.
    pub(super) fn can_be_left(&self) -> bool {
        self.is_tls13() && !self.is_handshaking() && !self.closed && !self.heard_more
    }

    /// The key schedule, and the keys as far as they were used. To be asked for where [`Self::can_be_left`] says so, and with
    /// no half of a message left over: rustls has opened that, and remembers where it stands.
    ///
    /// # Errors
    /// rustls'.
    pub(super) fn into_traffic(self) -> Result<Traffic, rustls::Error> {
        let (secrets, schedule) = self.tls.dangerous_into_kernel_connection()?;
        Traffic::new(secrets, schedule)
    }

    /// As [`super::Records::drive`] does.
    ///
    /// # Errors
    /// [`Fault`]. It must not be called after one: rustls still counts on what it has seen of the record that was wrong.
    pub(super) fn drive(
        &mut self,
        incoming: &mut [u8],
        out: &mut Outgoing<'_>,
        then: Then<'_>,
        reader: &mut impl Reader,
    ) -> Result<Driven, Fault> {
        let (mut driven, mut explained) = (Driven::default(), 0);
        loop {
            let status = self.process(&mut incoming[driven.used..]);
            let mut discard = status.discard;
            let goes_on = match status.state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        discard += record.discard;
                        explained += AROUND_TEXT + record.payload.len();
                        driven.stopped |= !reader.take(record.payload);
                    }
                    !driven.stopped
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    out.append(|room| data.encode(room))?;
                    true
                }
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    data.done();
                    true
                }
                Ok(ConnectionState::PeerClosed) => {
                    self.closed = true;
                    true
                }
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    match then {
                        Then::Wait => {}
                        Then::Write(words) => out.append(|room| traffic.encrypt(words, room))?,
                        Then::Close => out.append(|room| traffic.queue_close_notify(room))?,
                    }
                    driven.done = true;
                    false
                }
                // Nothing is to be had from what there is. Early data is never taken, so it never stands there.
                Ok(_) => false,
                Err(error) => {
                    self.last_words(&mut incoming[driven.used + discard..], out);
                    return Err(error.into());
                }
            };
            driven.used += discard;
            if !goes_on {
                // What rustls had to say itself went before our words, if there were any.
                let has_written = driven.done && matches!(then, Then::Write(words) if !words.is_empty());
                self.heard_more = !has_written && (self.heard_more || driven.used != explained);
                return Ok(driven);
            }
        }
    }

    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, ServerConnectionData> {
        if !self.tls.is_handshaking() {
            return self.tls.process_tls_records(incoming);
        }
        let Self { tls, sni, .. } = self;
        let (status, name) = tls::hearing_the_name(|| tls.process_tls_records(incoming));
        if name.is_some() {
            *sni = name;
        }
        status
    }

    /// The alert that tells the client what was wrong, where there is one. While there is, nothing that came is looked at.
    fn last_words(&mut self, incoming: &mut [u8], out: &mut Outgoing<'_>) {
        while self.tls.wants_write() {
            let Ok(ConnectionState::EncodeTlsData(mut data)) = self.tls.process_tls_records(incoming).state else {
                return;
            };
            if out.append(|room| data.encode(room)).is_err() {
                return;
            }
        }
    }
}
