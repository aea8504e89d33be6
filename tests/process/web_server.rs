//! A small old web server in plaintext: it does one thing at each path, and remembers what it was sent.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A running one.
pub struct WebServer {
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

/// Begins to serve, for as long as the tests run.
pub fn serve() -> WebServer {
    serve_at(([127, 0, 0, 1], 0).into())
}

/// The same at an address.
pub fn serve_at(address: SocketAddr) -> WebServer {
    let listener = TcpListener::bind(address).unwrap_or_else(|error| panic!("{address}: {error}"));
    let server = WebServer { address: listener.local_addr().expect("bound"), asked: Arc::default() };
    let asked = Arc::clone(&server.asked);
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let asked = Arc::clone(&asked);
            // Whoever leaves in the middle has left.
            std::thread::spawn(move || converse(&client, &asked));
        }
    });
    server
}

impl WebServer {
    /// The heads of all requests so far, as they came.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("nobody panics with it").clone()
    }
}

fn converse(client: &TcpStream, asked: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut input = BufReader::new(client);
    let mut out = client;
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if input.read_line(&mut head)? == 0 {
            return Ok(());
        }
    }
    asked.lock().expect("nobody panics with it").push(head.clone());
    let target = head.split(' ').nth(1).unwrap_or_default();
    let path = target.split('?').next().unwrap_or_default();
    let header = |wanted: &str| {
        head.lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(name, _)| name.eq_ignore_ascii_case(wanted))
            .map(|(_, value)| value.to_owned())
    };
    let length = header("content-length").and_then(|length| length.parse::<u64>().ok()).unwrap_or(0);
    let host = header("host").unwrap_or_default();
    match path.rsplit('/').next().unwrap_or_default() {
        "login" if head.starts_with("POST ") => {
            let mut body = vec![0; usize::try_from(length).expect("a form")];
            input.read_exact(&mut body)?;
            let folder = path.trim_end_matches("login");
            let good = body == b"user=joe&pass=secret";
            let cookie = if good { "SESSION=of-joe" } else { "SESSION=" };
            write!(
                out,
                "HTTP/1.1 302 Found\r\nLocation: http://{host}{folder}inbox?new=1\r\nSet-Cookie: {cookie}; path={folder}\r\nContent-Length: 0\r\n\r\n"
            )
        }
        "inbox" => {
            let is_joe = header("cookie").is_some_and(|cookie| cookie.contains("SESSION=of-joe"));
            let words = if is_joe { "two messages for joe" } else { "who are you?" };
            write!(out, "HTTP/1.0 200 OK\r\nContent-Type: text/html\r\n\r\n<p>{words}</p>")
        }
        "upload" => {
            let octets = std::io::copy(&mut input.take(length), &mut std::io::sink())?;
            let words = format!("{octets} octets");
            write!(out, "HTTP/1.1 201 Created\r\nContent-Length: {}\r\n\r\n{words}", words.len())
        }
        "download" => {
            write!(out, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n")?;
            for _ in 0..50 {
                write!(out, "{:x}\r\n", 1 << 20)?;
                out.write_all(&vec![b'x'; 1 << 20])?;
                write!(out, "\r\n")?;
            }
            write!(out, "0\r\nX-Sum: 1\r\n\r\n")
        }
        "half" => write!(out, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nonly this"),
        "garbage" => write!(out, "220 old.example.net ESMTP\r\n"),
        "nothing" => Ok(()),
        // Until the other side has gone.
        "slow" => input.read(&mut [0]).map(drop),
        "folded" => write!(out, "HTTP/1.1 200 OK\r\nX-Old : one\r\n two\r\nContent-Length: 2\r\n\r\nok"),
        "unasked" => write!(out, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"),
        "socket" => {
            write!(
                out,
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\nwelcome "
            )?;
            std::io::copy(&mut input, &mut out).map(drop)
        }
        _ => write!(
            out,
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nX-Frame-Options: SAMEORIGIN\r\n\r\n{head}",
            head.len()
        ),
    }
}
