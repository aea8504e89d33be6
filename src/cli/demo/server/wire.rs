//! One client's connection: lines and counted octets in, replies out.

use crate::proto::line::{Line, LineReader};
use bytes::{Buf, BytesMut};
use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufWriter};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

/// A client that takes no answer for so long is gone.
const WRITE: Duration = Duration::from_secs(120);
/// What is asked of the socket at a time.
const CHUNK: usize = 16 * 1024;

/// A connection of which at most a line and one read are held. Replies are collected until more input
/// is needed, so commands sent in one go are answered in one go.
pub(super) struct Wire {
    read: OwnedReadHalf,
    write: BufWriter<OwnedWriteHalf>,
    input: BytesMut,
    lines: LineReader,
    idle: Duration,
}

impl Wire {
    /// Takes over a connection; one that is silent for `idle` is closed.
    pub(super) fn new(stream: TcpStream, idle: Duration) -> Self {
        let (read, write) = stream.into_split();
        Self { read, write: BufWriter::new(write), input: BytesMut::new(), lines: LineReader::default(), idle }
    }

    /// The next line of at most `bound` octets, or `None` when the client has gone. May be dropped while waiting
    /// and called again: nothing is lost.
    pub(super) async fn line(&mut self, bound: usize) -> io::Result<Option<Line>> {
        loop {
            if let Some(line) = self.lines.next(&mut self.input, bound) {
                return Ok(Some(line));
            }
            if !self.fill().await? {
                return Ok(None);
            }
        }
    }

    /// Appends exactly `count` octets to `into`.
    ///
    /// # Errors
    /// `UnexpectedEof` if the client goes before it has sent them.
    pub(super) async fn octets(&mut self, count: usize, into: &mut Vec<u8>) -> io::Result<()> {
        let mut missing = count;
        while missing > 0 {
            let chunk = self.chunk(missing).await?;
            missing -= chunk.len();
            into.extend_from_slice(&chunk);
        }
        Ok(())
    }

    /// Throws `count` octets away as they come.
    pub(super) async fn skip(&mut self, count: u64) -> io::Result<()> {
        let mut missing = count;
        while missing > 0 {
            let chunk = self.chunk(usize::try_from(missing).unwrap_or(usize::MAX)).await?;
            missing -= chunk.len() as u64;
        }
        Ok(())
    }

    /// What has come, at least one octet and at most `most`.
    pub(super) async fn chunk(&mut self, most: usize) -> io::Result<BytesMut> {
        self.lines.reset();
        if self.input.is_empty() && !self.fill().await? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(self.input.split_to(most.min(self.input.len())))
    }

    /// Puts octets that were read too far back to the front.
    pub(super) fn unread(&mut self, octets: &[u8]) {
        let mut input = BytesMut::with_capacity(octets.len() + self.input.len());
        input.extend_from_slice(octets);
        input.extend_from_slice(&self.input);
        self.input.advance(self.input.len());
        self.input = input;
    }

    /// Says something; it leaves at the next [`Wire::flush`], or when more input is waited for.
    pub(super) async fn send(&mut self, octets: impl AsRef<[u8]>) -> io::Result<()> {
        timeout(WRITE, self.write.write_all(octets.as_ref())).await?
    }

    /// Sends what was said.
    pub(super) async fn flush(&mut self) -> io::Result<()> {
        timeout(WRITE, self.write.flush()).await?
    }

    async fn fill(&mut self) -> io::Result<bool> {
        self.flush().await?;
        self.input.reserve(CHUNK);
        Ok(timeout(self.idle, self.read.read_buf(&mut self.input)).await?? > 0)
    }
}
