//! The server behind every peer: IMAP, POP3 and SMTP without TLS, as cheap as can be. It takes every password, but none of a user
//! whose name begins with `wrong`. One thread, on the core of the load; each batch of commands is answered in one write.

mod imap;
mod pop3;
mod smtp;

use crate::options::BackendOptions;
use crate::site::{AUTH_HTTP, BACKEND, IMAP, POP3, SMTP};
use anyhow::{Context, Result};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// One protocol's side of a connection: lines in, answers out.
trait Dialogue {
    fn greeting(&self) -> &'static [u8];
    /// Answers a line, which comes without its end.
    fn line(&mut self, line: &[u8], out: &mut Vec<u8>) -> Then;
}

/// What follows the answer.
enum Then {
    Go,
    Close,
    /// So many bytes come that are no lines.
    Swallow(u64),
    /// So many bytes go out, and then this.
    Pour(u64, Vec<u8>),
}

/// Bulk moves in pieces of this size.
const PIECE: usize = 256 * 1024;

/// Serves until the comparison is gone: its end of our standard input closes.
pub fn run(options: &BackendOptions) -> Result<()> {
    forget_log_lines(options)?;
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(0);
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let at = options.address;
        tokio::spawn(accept(listen(at, IMAP)?, |stream| serve(stream, imap::Imap::default())));
        tokio::spawn(accept(listen(at, POP3)?, |stream| serve(stream, pop3::Pop3::default())));
        tokio::spawn(accept(listen(at, SMTP)?, |stream| serve(stream, smtp::Smtp::default())));
        tokio::spawn(accept(listen(at, AUTH_HTTP)?, authorise));
        println!("ready");
        std::future::pending().await
    })
}

fn listen(address: Ipv4Addr, port: u16) -> Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind((address, port).into()).with_context(|| format!("the backend's {address}:{port}"))?;
    Ok(socket.listen(4096)?)
}

async fn accept<F: Future<Output = Result<()>> + Send + 'static>(
    listener: TcpListener,
    serve: impl Fn(TcpStream) -> F,
) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let _ = stream.set_nodelay(true);
                // A peer that goes away in the middle is the load's to notice.
                tokio::spawn(serve(stream));
            }
            Err(error) => {
                eprintln!("backend: {error}");
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        }
    }
}

async fn serve(mut stream: TcpStream, mut dialogue: impl Dialogue + Send) -> Result<()> {
    stream.write_all(dialogue.greeting()).await?;
    let mut input = Vec::with_capacity(2048);
    let mut out = Vec::new();
    loop {
        if stream.read_buf(&mut input).await? == 0 {
            return Ok(());
        }
        let mut used = 0;
        while let Some(end) = memchr::memchr(b'\n', &input[used..]) {
            let line = &input[used..used + end];
            used += end + 1;
            match dialogue.line(line.strip_suffix(b"\r").unwrap_or(line), &mut out) {
                Then::Go => {}
                Then::Close => {
                    stream.write_all(&out).await?;
                    stream.shutdown().await?;
                    // Closing with something unread would reset what the peer has not yet taken.
                    while stream.read(&mut [0; 512]).await? > 0 {}
                    return Ok(());
                }
                Then::Swallow(length) => {
                    stream.write_all(&out).await?;
                    out.clear();
                    input.drain(..used);
                    used = 0;
                    swallow(&mut stream, &mut input, length).await?;
                }
                Then::Pour(length, after) => {
                    stream.write_all(&out).await?;
                    out.clear();
                    pour(&mut stream, length).await?;
                    out.extend(after);
                }
            }
        }
        input.drain(..used);
        if !out.is_empty() {
            stream.write_all(&out).await?;
            out.clear();
        }
    }
}

async fn swallow(stream: &mut TcpStream, input: &mut Vec<u8>, length: u64) -> Result<()> {
    let there = input.len().min(usize::try_from(length)?);
    input.drain(..there);
    let mut left = usize::try_from(length)? - there;
    let mut piece = vec![0; PIECE.min(left)];
    while left > 0 {
        let most = left.min(PIECE);
        match stream.read(&mut piece[..most]).await? {
            0 => anyhow::bail!("closed in a literal"),
            count => left -= count,
        }
    }
    Ok(())
}

async fn pour(stream: &mut TcpStream, length: u64) -> Result<()> {
    static MAIL: [u8; PIECE] = [b'm'; PIECE];
    let mut left = usize::try_from(length)?;
    while left > 0 {
        let count = left.min(PIECE);
        stream.write_all(&MAIL[..count]).await?;
        left -= count;
    }
    Ok(())
}

/// What nginx asks before it dials: anybody may in, and this is where.
async fn authorise(mut stream: TcpStream) -> Result<()> {
    let mut request = Vec::with_capacity(1024);
    while memchr::memmem::find(&request, b"\r\n\r\n").is_none() {
        if stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    let asked = |word: &[u8]| memchr::memmem::find(&request, word).is_some();
    let port = match () {
        () if asked(b"Auth-Protocol: imap") => IMAP,
        () if asked(b"Auth-Protocol: pop3") => POP3,
        () => SMTP,
    };
    let answer = format!(
        "HTTP/1.0 200 OK\r\nAuth-Status: OK\r\nAuth-Server: {BACKEND}\r\nAuth-Port: {port}\r\nContent-Length: 0\r\n\r\n"
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    Ok(())
}

/// HAProxy's log has to go somewhere, as at home to the system's log daemon.
fn forget_log_lines(options: &BackendOptions) -> Result<()> {
    let socket = UnixDatagram::bind(&options.log)?;
    std::fs::set_permissions(&options.log, std::fs::Permissions::from_mode(0o666))?;
    std::thread::spawn(move || {
        let mut line = [0; 8192];
        while socket.recv(&mut line).is_ok() {}
    });
    Ok(())
}

/// The backend's process, as the comparison sees it.
pub struct Backend {
    child: std::process::Child,
}

impl Backend {
    /// Starts it, on the core this process is on.
    pub fn start(log: &std::path::Path) -> Result<Self> {
        use std::io::{BufRead, BufReader};
        use std::process::{Command, Stdio};
        let mut child = Command::new(std::env::current_exe()?)
            .arg(crate::options::BACKEND)
            .args(["--address", &BACKEND.to_string()])
            .arg("--log")
            .arg(log)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut word = String::new();
        BufReader::new(child.stdout.take().context("a pipe")?).read_line(&mut word)?;
        anyhow::ensure!(word == "ready\n", "the backend did not start");
        Ok(Self { child })
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where a gateway finds a server of this port.
pub fn at(port: u16) -> SocketAddr {
    (BACKEND, port).into()
}
