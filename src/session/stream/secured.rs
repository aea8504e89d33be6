//! A socket under TLS.
//!
//! A session that waits owns no buffer: records are read into, opened in and written from memory that all sessions of
//! a thread share. A session keeps only what cannot go on: the beginning of a record, text nobody has taken yet,
//! records the socket did not take.

use super::super::leftover::Leftover;
use super::hello::Hello;
use super::records::{Driven, Fault, Outgoing, Reader, Records, Then};
use crate::tls::Facts;
use bytes::BytesMut;
use rustls::ServerConfig;
use socket2::SockRef;
use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// The most that is read or written at once for a user.
const SCRATCH: usize = 256 * 1024;
/// The most that is read or written at once for a stranger.
const FOR_A_STRANGER: usize = 4 * 1024;
/// The most that is kept of records which are not whole: of a hello in many of them, or a user's message in many.
const HELD: usize = 44 * 1024;
/// The same behind the handshake of a stranger: the largest record (RFC 5246 section 6.2.3).
const HELD_OF_A_STRANGER: usize = 5 + 16 * 1024 + 2048;
/// Whoever says so much at once may have more to say. No stranger does.
const MUCH: usize = 16 * 1024;
/// What may stand before what is written: the messages of a handshake.
const BEFORE: usize = 128 * 1024;

/// The memory that all sessions of a thread share.
struct Scratch {
    incoming: Box<[u8]>,
    outgoing: Box<[u8]>,
}

thread_local! {
    static SCRATCH_BUFFERS: RefCell<Scratch> = RefCell::new(Scratch {
        incoming: vec![0; HELD + SCRATCH].into_boxed_slice(),
        outgoing: vec![0; BEFORE + Outgoing::room_for(SCRATCH)].into_boxed_slice(),
    });
}

/// TLS over a socket.
pub(super) struct Secured {
    records: Records,
    /// Read, and not a whole record yet, or not looked at.
    held: Vec<u8>,
    /// Whole records may stand there.
    holds_records: bool,
    /// Opened, and not taken yet.
    plain: Leftover,
    /// Records that the socket has not taken yet.
    unsent: Leftover,
    /// They must go. Others, session tickets, may wait for what is written next.
    must_send: bool,
    /// Nothing goes out before the end does.
    is_held: bool,
    /// We have said that we will send nothing more.
    is_ended: bool,
    /// The client has proved to be a user, and is worth large buffers.
    is_trusted: bool,
    /// None once the handshake is over.
    hello: Option<Box<Hello>>,
}

impl std::fmt::Debug for Secured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secured").field("is_ended", &self.is_ended).finish_non_exhaustive()
    }
}

impl Secured {
    /// A handshake that begins.
    ///
    /// # Errors
    /// A configuration that cannot serve.
    pub(super) fn new(config: Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        Ok(Self {
            records: Records::new(config)?,
            held: Vec::new(),
            holds_records: false,
            plain: Leftover::default(),
            unsent: Leftover::default(),
            must_send: false,
            is_held: false,
            is_ended: false,
            is_trusted: false,
            hello: Some(Box::new(Hello::new())),
        })
    }

    /// Shakes hands. In TLS 1.3 the greeting goes out with our first flight, and is taken from `greeting` then; the session
    /// tickets that end a handshake go out with the first words behind it.
    ///
    /// # Errors
    /// The client's, its alert sent as far as the socket takes it, or the socket's.
    pub(super) fn poll_handshake(
        &mut self,
        socket: &mut TcpStream,
        cx: &mut Context<'_>,
        greeting: &mut BytesMut,
    ) -> Poll<io::Result<Facts>> {
        while self.records.is_handshaking() {
            // A browser must not see a word of mail.
            if !self.unsent.is_empty() && !greeting.is_empty() && !self.records.is_for_the_page() {
                self.greet(greeting)?;
            }
            ready!(self.poll_send(socket, cx))?;
            // A client that says something right behind its handshake has it kept.
            let mut nowhere = ReadBuf::new(&mut []);
            if ready!(self.poll_fill(socket, cx, &mut nowhere))? == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
        if self.records.ends_with_tickets() {
            self.must_send = false;
        } else {
            ready!(self.poll_send(socket, cx))?;
        }
        self.hello = None;
        Poll::Ready(self.records.facts().ok_or_else(|| io::ErrorKind::NotConnected.into()))
    }

    /// What is written from here on waits for [`Self::poll_end`], unless the socket is full: who takes little gets time.
    pub(super) fn hold(&mut self) {
        self.is_held = !self.must_send;
    }

    /// How much the socket has not taken yet.
    pub(super) fn waiting(&self) -> usize {
        self.unsent.len()
    }

    /// Wipes what was taken of the text: what is left of it gets other memory.
    pub(super) fn forget(&mut self) {
        self.plain.forget();
    }

    /// What a client whose handshake failed began with.
    pub(super) fn into_first(self) -> Vec<u8> {
        self.hello.map_or_else(Vec::new, |hello| hello.into_first())
    }

    /// The client is a user from here on.
    pub(super) fn trust(&mut self) {
        self.is_trusted = true;
    }

    /// Nothing has been said for a while.
    pub(super) fn settle(&mut self) {
        if self.is_trusted {
            self.records.take_over(&self.held);
            self.records.rest();
        }
    }

    /// Reads what the client said; nothing at the end that it has said to be one.
    ///
    /// # Errors
    /// `UnexpectedEof` where the connection ends without that, `InvalidData` for a record that is none, and the socket's.
    pub(super) fn poll_read(
        &mut self,
        socket: &mut TcpStream,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            if !self.plain.is_empty() {
                let taken = self.plain.len().min(buf.remaining());
                buf.put_slice(&self.plain[..taken]);
                self.plain.advance(taken);
                return Poll::Ready(Ok(()));
            }
            let before = buf.filled().len();
            if self.holds_records {
                self.look_again(buf)?;
            } else if self.records.is_closed() {
                return Poll::Ready(Ok(()));
            } else {
                match self.poll_fill(socket, cx, buf) {
                    Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                    Poll::Ready(Ok(_)) => {}
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => return Poll::Pending,
                }
            }
            if buf.filled().len() > before {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Takes words for the client. They are taken, too, where the socket has no room for all of them: [`Self::poll_flush`].
    ///
    /// # Errors
    /// The socket's, or no more can be written under the keys.
    pub(super) fn poll_write(
        &mut self,
        socket: &mut TcpStream,
        cx: &mut Context<'_>,
        words: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.must_send {
            ready!(self.poll_send(socket, cx))?;
        }
        let taken = words.len().min(if self.is_trusted { SCRATCH } else { FOR_A_STRANGER });
        self.send(socket, cx, Then::Write(&words[..taken]))?;
        if taken >= MUCH {
            self.records.take_over(&self.held);
        }
        Poll::Ready(Ok(taken))
    }

    /// Writes what the socket had no room for.
    ///
    /// # Errors
    /// The socket's.
    pub(super) fn poll_flush(&mut self, socket: &mut TcpStream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.must_send { self.poll_send(socket, cx) } else { Poll::Ready(Ok(())) }
    }

    /// Says that nothing more will be sent, once.
    ///
    /// # Errors
    /// The socket's.
    pub(super) fn poll_end(&mut self, socket: &mut TcpStream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.is_ended {
            if self.must_send {
                ready!(self.poll_send(socket, cx))?;
            }
            self.is_ended = true;
            // The end of the connection goes with it in one packet. A socket that refuses the option still works.
            let _ = SockRef::from(&*socket).set_tcp_cork(true);
            // After a fault, and before the handshake is over, there is nothing to say: the alert has said what there is.
            let _ = self.send(socket, cx, Then::Close);
        }
        self.poll_send(socket, cx)
    }

    /// Reads from the socket and looks at the records; gives the number of octets read.
    fn poll_fill(
        &mut self,
        socket: &mut TcpStream,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<usize>> {
        let room = match &self.hello {
            Some(hello) => hello.left().map_err(invalid)?.min(FOR_A_STRANGER),
            None if self.held.len() >= self.most_held() => return Poll::Ready(Err(invalid("a message without end"))),
            None if self.is_trusted => buf.remaining().clamp(FOR_A_STRANGER, SCRATCH),
            None => FOR_A_STRANGER,
        };
        let read = SCRATCH_BUFFERS.with_borrow_mut(|Scratch { incoming, outgoing }| {
            let held = self.held.len();
            let mut part = ReadBuf::new(&mut incoming[held..held + room]);
            ready!(Pin::new(&mut *socket).poll_read(cx, &mut part))?;
            let count = part.filled().len();
            if let Some(hello) = &mut self.hello {
                hello.note(part.filled());
            }
            incoming[..held].copy_from_slice(&self.held);
            let (incoming, mut out) = (&mut incoming[..held + count], Outgoing::new(outgoing));
            let outcome = if count == 0 { Ok(Driven::default()) } else { self.look(incoming, &mut out, buf) };
            let used = outcome.as_ref().map_or(incoming.len(), |driven| driven.used);
            keep(&mut self.held, &incoming[used..]);
            if self.is_trusted && count >= MUCH {
                self.records.take_over(&self.held);
            }
            if !self.is_trusted {
                // A password may have stood there.
                incoming.fill(0);
            }
            Poll::Ready(outcome.map(|_| count))
        });
        if self.must_send && (read.is_pending() || matches!(read, Poll::Ready(Err(_)))) {
            // What TLS has to say itself, as no to a renegotiation or an alert, waits for no words of ours.
            let sent = self.poll_send(socket, cx);
            if let (Poll::Pending, Poll::Ready(Err(error))) = (&read, sent) {
                return Poll::Ready(Err(error));
            }
        }
        read
    }

    fn most_held(&self) -> usize {
        if self.is_trusted { HELD } else { HELD_OF_A_STRANGER }
    }

    /// Puts the greeting behind the flight that is to be sent, if that may be.
    fn greet(&mut self, greeting: &mut BytesMut) -> io::Result<()> {
        let Self { records, held, plain, unsent, .. } = self;
        SCRATCH_BUFFERS.with_borrow_mut(|Scratch { outgoing, .. }| {
            let mut out = Outgoing::new(outgoing);
            let driven = records.drive(held, &mut out, Then::Write(greeting), plain).map_err(invalid_record)?;
            if driven.done {
                unsent.push(out.filled());
                *greeting = BytesMut::new();
            }
            Ok(())
        })
    }

    /// Looks at records that were read and left.
    fn look_again(&mut self, buf: &mut ReadBuf<'_>) -> io::Result<()> {
        let mut held = std::mem::take(&mut self.held);
        SCRATCH_BUFFERS.with_borrow_mut(|Scratch { outgoing, .. }| {
            let driven = self.look(&mut held, &mut Outgoing::new(outgoing), buf)?;
            keep(&mut self.held, &held[driven.used..]);
            Ok(())
        })
    }

    fn look(&mut self, incoming: &mut [u8], out: &mut Outgoing<'_>, buf: &mut ReadBuf<'_>) -> io::Result<Driven> {
        let Self { records, plain, .. } = self;
        let outcome = records.drive(incoming, out, Then::Wait, &mut Reading { buf, rest: plain });
        if let (Err(_), Some(hello)) = (&outcome, &self.hello) {
            hello.name_the_cause(out.filled());
        }
        self.must_send |= !out.filled().is_empty();
        self.unsent.push(out.filled());
        let driven = outcome.map_err(invalid_record)?;
        self.holds_records = driven.stopped;
        Ok(driven)
    }

    /// Writes records, behind those that wait. What the socket does not take waits.
    fn send(&mut self, socket: &mut TcpStream, cx: &mut Context<'_>, then: Then<'_>) -> io::Result<()> {
        let waits = self.is_held && matches!(then, Then::Write(_));
        let Self { records, held, plain, unsent, must_send, holds_records, .. } = self;
        SCRATCH_BUFFERS.with_borrow_mut(|Scratch { outgoing, .. }| {
            let mut out = Outgoing::new(outgoing);
            out.put(unsent);
            let driven = match records.drive(held, &mut out, then, plain) {
                Ok(driven) => driven,
                Err(fault) => {
                    // The alert, if there is one.
                    unsent.clear();
                    unsent.push(out.filled());
                    *must_send = true;
                    return Err(invalid_record(fault));
                }
            };
            if driven.used > 0 {
                held.drain(..driven.used);
            }
            let words = out.filled();
            let mut sent = 0;
            if !waits && let Poll::Ready(taken) = Pin::new(socket).poll_write(cx, words) {
                sent = taken?;
            }
            unsent.clear();
            unsent.push(&words[sent..]);
            *must_send = sent < words.len() && !waits;
            *holds_records = false;
            if driven.done { Ok(()) } else { Err(io::Error::from(io::ErrorKind::NotConnected)) }
        })
    }

    /// Sends what waits.
    fn poll_send(&mut self, socket: &mut TcpStream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unsent.is_empty() {
            self.must_send = true;
            let sent = ready!(Pin::new(&mut *socket).poll_write(cx, &self.unsent))?;
            self.unsent.advance(sent);
        }
        self.must_send = false;
        Poll::Ready(Ok(()))
    }
}

/// A reader with a buffer. What that does not take is kept for the next.
struct Reading<'r, 'b> {
    buf: &'r mut ReadBuf<'b>,
    rest: &'r mut Leftover,
}

impl Reader for Reading<'_, '_> {
    fn take(&mut self, text: &[u8]) -> bool {
        let (taken, left) = text.split_at(text.len().min(self.buf.remaining()));
        self.buf.put_slice(taken);
        self.rest.push(left);
        self.buf.remaining() > 0
    }

    fn room(&mut self, length: usize) -> Option<&mut [u8]> {
        (self.buf.remaining() >= length).then(|| self.buf.initialize_unfilled_to(length))
    }

    fn keep(&mut self, length: usize) -> bool {
        self.buf.advance(length);
        self.buf.remaining() > 0
    }
}

/// Keeps the rest, in hardly more memory than it takes.
fn keep(held: &mut Vec<u8>, rest: &[u8]) {
    if (rest.len()..=rest.len() + FOR_A_STRANGER).contains(&held.capacity()) && !rest.is_empty() {
        held.clear();
        held.extend_from_slice(rest);
    } else {
        *held = rest.to_vec();
    }
}

fn invalid_record(fault: Fault) -> io::Error {
    match fault {
        Fault::Client(error) => invalid(error),
        Fault::Over | Fault::Unwritable(_) => io::Error::other(fault),
    }
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
