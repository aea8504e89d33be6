//! One connection to a backend: a socket, the protocol's client half, and the two buffers between them.

use super::server::Place;
use super::{BackendStream, Server, poll_read_into};
use crate::policy::{BackendTls, ServerName, Timeouts};
use crate::proto::secret::shed;
use crate::proto::{self, Back, BackFault, BackSettings, BackStep, Capabilities, Login, Protocol};
use bytes::{Buf, BytesMut};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::Instant;

/// How much is read at once: more than a greeting or an answer of a login.
const READ: usize = 4 * 1024;
/// The most challenges of one login: no mechanism in use has more than four.
const MAX_CHALLENGES: u32 = 16;

/// A greeted backend that waits for a login. Dropping it closes the connection.
pub struct Dialogue {
    /// Which server it is.
    pub server: Arc<Server>,
    /// What it said it can do, on this connection.
    pub capabilities: Capabilities,
    stream: BackendStream,
    back: Box<dyn Back>,
    input: BytesMut,
    out: BytesMut,
    /// Something was said to it: it had greeted.
    greeted: bool,
    /// How often it has asked for more since the login was sent.
    challenges: u32,
}

/// A dialogue that did not come to where a login can be sent.
#[derive(Debug)]
pub(super) struct Unready {
    pub(super) lost: Lost,
    /// There was a greeting, and what followed went wrong.
    pub(super) greeted: bool,
}

impl Unready {
    /// Nothing was heard at all.
    pub(super) fn silent(lost: Lost) -> Self {
        Self { lost, greeted: false }
    }
}

/// How a dialogue with a backend ended without a verdict.
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    /// No address, nobody listens, no route.
    #[error("{0}")]
    Unreachable(String),
    /// It has as many sessions of ours as it may have.
    #[error("{0} has the {1} sessions that max_sessions allows it")]
    Full(ServerName, usize),
    /// No answer within the time it has.
    #[error("{0}")]
    Timeout(String),
    /// No TLS with it, or none with the server it should be.
    #[error("{0}")]
    Tls(String),
    /// It closed the connection where an answer was due.
    #[error("the backend closed the connection in the middle of the dialogue")]
    Closed,
    /// The connection broke.
    #[error("the connection to the backend broke: {0}")]
    Broken(io::Error),
    /// What it said is not the protocol, or ends it.
    #[error(transparent)]
    Fault(#[from] BackFault),
}

impl Lost {
    /// The contract's `reason` on `auth.error`.
    pub fn reason(&self) -> &'static str {
        match self {
            Lost::Unreachable(_) | Lost::Full(..) | Lost::Closed | Lost::Broken(_) => "backend_down",
            Lost::Timeout(_) => "backend_timeout",
            Lost::Tls(_) | Lost::Fault(BackFault::NoStartTls(_)) => "backend_tls",
            Lost::Fault(BackFault::TurnedAway(_)) => "backend_temporary",
            Lost::Fault(_) => "backend_protocol",
        }
    }
}

impl Dialogue {
    /// Takes the greeting and the capabilities, under TLS where `tls` has it.
    ///
    /// # Errors
    /// [`Unready`] when that does not come to an end within `timeout`.
    pub(super) async fn begin(
        stream: BackendStream,
        (server, protocol): (Arc<Server>, Protocol),
        settings: BackSettings,
        tls: Option<&BackendTls>,
        timeouts: &Timeouts,
    ) -> Result<Self, Unready> {
        let back = proto::back(protocol, settings);
        let capabilities = Capabilities::default();
        let (input, out) = (BytesMut::new(), BytesMut::new());
        let mut dialogue = Self { server, capabilities, stream, back, input, out, greeted: false, challenges: 0 };
        let deadline = Instant::now() + timeouts.backend_greeting;
        loop {
            match (dialogue.next(deadline).await, tls) {
                (Ok(BackStep::Ready(capabilities)), _) => {
                    dialogue.capabilities = capabilities;
                    return Ok(dialogue);
                }
                (Ok(BackStep::StartTls), Some(tls)) => dialogue = dialogue.secure(tls, timeouts.tls_handshake).await?,
                (Ok(_), _) => {
                    return Err(Unready { lost: Lost::Fault(BackFault::Unsolicited), greeted: dialogue.greeted });
                }
                (Err(lost), _) => return Err(Unready { lost, greeted: dialogue.greeted }),
            }
        }
    }

    /// Speaks TLS from here on. Nothing that was read in the clear is left, nor anything to be read in the clear through.
    async fn secure(self, tls: &BackendTls, time: Duration) -> Result<Self, Unready> {
        let Self { server, stream, mut back, .. } = self;
        // That there is no TLS has nothing to do with any client.
        let stream = stream.start_tls(tls, &server.name, time).await.map_err(Unready::silent)?;
        let (input, mut out) = (BytesMut::new(), BytesMut::new());
        back.secured(&mut out);
        let capabilities = Capabilities::default();
        Ok(Self { server, capabilities, stream, back, input, out, greeted: false, challenges: 0 })
    }

    /// Holds a place on its server as long as the connection lasts.
    pub(super) fn in_place(mut self, place: Place) -> Self {
        self.stream.take_place(place);
        self
    }

    /// Sends a login.
    ///
    /// # Errors
    /// [`BackFault::NoWayIn`] when it cannot be brought to what the backend offers; nothing was sent.
    pub fn login(&mut self, login: &Login) -> Result<(), BackFault> {
        self.challenges = 0;
        self.back.login(login, &mut self.out)
    }

    /// Sends the client's response to a challenge.
    pub fn respond(&mut self, response: &[u8]) {
        self.back.respond(response, &mut self.out);
    }

    /// Waits for the backend's next word, sending what is to be sent meanwhile. Nothing is lost when it is cancelled.
    ///
    /// # Errors
    /// [`Lost`]: the dialogue is over.
    pub async fn next(&mut self, deadline: Instant) -> Result<BackStep, Lost> {
        let waiting = async {
            loop {
                match self.back.next(&mut self.input, &mut self.out)? {
                    BackStep::More => {}
                    step => {
                        // A login went through it.
                        shed(&mut self.out);
                        return self.bounded(step);
                    }
                }
                self.greeted |= !self.out.is_empty();
                match std::future::poll_fn(|cx| self.poll_talk(cx)).await {
                    Ok(0) => return Err(Lost::Closed),
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(Lost::Closed),
                    Err(error) => return Err(Lost::Broken(error)),
                }
            }
        };
        tokio::time::timeout_at(deadline, waiting)
            .await
            .unwrap_or_else(|_| Err(Lost::Timeout("the backend did not answer in time".to_owned())))
    }

    /// Reads more. Writing goes on meanwhile, so that neither side can stop the other.
    fn poll_talk(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let written = self.poll_write_all(cx);
        // All that came is seen at once: what stands behind an answer, unasked, must not look like the next one.
        match (poll_read_into(&mut self.stream, cx, &mut self.input, READ), written) {
            // What it said before it stopped to listen is heard first.
            (Poll::Pending, Poll::Ready(Err(error))) => Poll::Ready(Err(error)),
            (read, _) => read,
        }
    }

    fn poll_write_all(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.out.is_empty() {
            match std::task::ready!(Pin::new(&mut self.stream).poll_write(cx, &self.out))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.out.advance(written),
            }
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// Both sides keep what an exchange was about until its end, so it has to have one.
    fn bounded(&mut self, step: BackStep) -> Result<BackStep, Lost> {
        if matches!(step, BackStep::Challenge(_)) {
            self.challenges += 1;
            if self.challenges > MAX_CHALLENGES {
                return Err(BackFault::Endless.into());
            }
        }
        Ok(step)
    }

    /// Whether another login may be sent: many POP servers hang up after a failed PASS.
    pub fn is_open(&mut self) -> bool {
        self.input.is_empty() && self.stream.is_quiet()
    }

    /// Says goodbye, waits a moment for the answer, closes.
    pub async fn quit(mut self) {
        self.back.quit(&mut self.out);
        let goodbye = async {
            self.stream.write_all_buf(&mut self.out).await?;
            self.stream.shutdown().await?;
            // The backend's own goodbye, so that it does not log a broken connection.
            while self.stream.read_buf(&mut self.input).await? > 0 {
                self.input.clear();
            }
            Ok::<_, io::Error>(())
        };
        // Whatever becomes of it: the connection ends here, and nobody waits for the result.
        let _ = tokio::time::timeout(Duration::from_secs(2), goodbye).await;
    }

    /// Gives up the dialogue after the login: the connection, and what was read behind the verdict.
    pub fn into_session(self) -> (BackendStream, BytesMut, Capabilities) {
        (self.stream, self.input, self.capabilities)
    }
}
