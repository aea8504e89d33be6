//! The servers behind: one that does what a test says, and one that serves mail by itself.

use crate::gateway::own_addresses;
use crate::talk::{Cut, Talk, soon};
use gatepost::proto::Protocol;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::net::{TcpListener, TcpSocket};

/// A backend that a test plays itself.
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    listener: Option<TcpListener>,
    cut: Cut,
}

impl Backend {
    /// Listens on an address of its own.
    pub(crate) async fn listen(cut: Cut) -> Self {
        let listener = TcpListener::bind((own_addresses(), 0)).await.expect("a free port");
        Self { address: listener.local_addr().expect("bound"), listener: Some(listener), cut }
    }

    /// Nobody listens any more.
    pub(crate) fn down(&mut self) {
        self.listener = None;
    }

    /// Listens again.
    pub(crate) fn up(&mut self) {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_reuseaddr(true).expect("an option");
        socket.bind(self.address).expect("the address is still ours");
        self.listener = Some(socket.listen(64).expect("it listens"));
    }

    /// Waits for the gateway to dial.
    pub(crate) async fn dialled(&self) -> Talk {
        let listener = self.listener.as_ref().expect("a backend that is up");
        let (stream, _) = soon("a dial", listener.accept()).await.expect("a connection");
        Talk::over(stream, self.cut)
    }

    /// Whether somebody dialled and was not waited for.
    pub(crate) async fn is_dialled(&self) -> bool {
        let Some(listener) = &self.listener else { return false };
        tokio::select! {
            biased;
            _ = listener.accept() => true,
            () = tokio::task::yield_now() => false,
        }
    }

    /// Answers the gateway's first question of all, from which it learns what this server can do.
    pub(crate) async fn teach(&self, protocol: Protocol) {
        let mut asked = self.dialled().await;
        match protocol {
            Protocol::Imap => asked.line("* OK [CAPABILITY IMAP4rev1] ready").await,
            Protocol::Pop3 => {
                asked.line("+OK ready").await;
                asked.hear("CAPA").await;
                asked.line("+OK\r\nUSER\r\nUIDL\r\nTOP\r\n.").await;
            }
            Protocol::Smtp => {
                asked.line("220 old.example.net ESMTP").await;
                asked.hear("EHLO <*>").await;
                asked.line("250-old.example.net\r\n250-8BITMIME\r\n250 AUTH PLAIN LOGIN").await;
            }
        }
        // LOGOUT or QUIT, and its own end.
        asked.rest().await.expect("a proper end");
    }
}

/// A backend that serves by itself. `secret` is everybody's password; with `busy` it says "not now", with `bye` IMAP hangs up.
#[derive(Clone)]
pub(crate) struct Post {
    pub(crate) address: SocketAddr,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    dialled: AtomicUsize,
    open: AtomicUsize,
    logins: AtomicUsize,
    messages: Mutex<Vec<String>>,
}

impl Post {
    /// Serves on an address of its own, to the end of the test.
    pub(crate) async fn serve(protocol: Protocol) -> Self {
        let listener = TcpListener::bind((own_addresses(), 0)).await.expect("a free port");
        let post = Self { address: listener.local_addr().expect("bound"), counts: Arc::default() };
        let counts = Arc::clone(&post.counts);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let counts = Arc::clone(&counts);
                counts.dialled.fetch_add(1, Ordering::SeqCst);
                counts.open.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(async move {
                    let talk = Talk::over(stream, Cut::Whole);
                    // Every way out of a service is the gateway's end of the connection.
                    let _ = match protocol {
                        Protocol::Imap => imap(talk, &counts).await,
                        Protocol::Pop3 => pop3(talk, &counts).await,
                        Protocol::Smtp => smtp(talk, &counts).await,
                    };
                    counts.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        post
    }

    /// Connections so far, the health check's among them.
    pub(crate) fn dialled(&self) -> usize {
        self.counts.dialled.load(Ordering::SeqCst)
    }

    /// Passwords heard so far.
    pub(crate) fn logins(&self) -> usize {
        self.counts.logins.load(Ordering::SeqCst)
    }

    /// Messages taken so far, each as it came.
    pub(crate) fn messages(&self) -> Vec<String> {
        self.counts.messages.lock().expect("no panic").clone()
    }

    /// Waits until the gateway has closed every connection.
    pub(crate) async fn is_left(&self) {
        let left = async {
            while self.counts.open.load(Ordering::SeqCst) > 0 {
                tokio::task::yield_now().await;
            }
        };
        soon("the end of the backend's connections", left).await;
    }
}

async fn imap(mut talk: Talk, counts: &Counts) -> Result<(), String> {
    talk.line("* OK [CAPABILITY IMAP4rev1 AUTH=CRAM-MD5] ready").await;
    loop {
        let line = talk.next_line().await?;
        let (tag, command) = line.split_once(' ').ok_or(line.clone())?;
        let answer = match command.split(' ').next().unwrap_or_default() {
            "LOGIN" => {
                counts.logins.fetch_add(1, Ordering::SeqCst);
                match command {
                    _ if command.ends_with("\"bye\"") => {
                        talk.line("* BYE too many login failures").await;
                        return Ok(());
                    }
                    _ if command.ends_with("\"secret\"") => "OK in",
                    _ if command.ends_with("\"busy\"") => "NO [UNAVAILABLE] not now",
                    _ => "NO [AUTHENTICATIONFAILED] no",
                }
            }
            "AUTHENTICATE" => {
                talk.line("+ PDEuMkBvbGQ+").await;
                talk.next_line().await?;
                "NO [AUTHENTICATIONFAILED] no"
            }
            "LOGOUT" => {
                talk.line(&format!("* BYE\r\n{tag} OK bye")).await;
                return Ok(());
            }
            _ => "OK done",
        };
        talk.line(&format!("{tag} {answer}")).await;
    }
}

async fn pop3(mut talk: Talk, counts: &Counts) -> Result<(), String> {
    talk.line("+OK ready").await;
    loop {
        let line = talk.next_line().await?;
        let answer = match line.split_once(' ').unwrap_or((&line, "")) {
            ("CAPA", _) => "+OK\r\nUSER\r\nUIDL\r\nTOP\r\n.",
            ("PASS", password) => {
                counts.logins.fetch_add(1, Ordering::SeqCst);
                match password {
                    "secret" => "+OK in",
                    "busy" => "-ERR [SYS/TEMP] not now",
                    _ => "-ERR no",
                }
            }
            ("QUIT", _) => {
                talk.line("+OK bye").await;
                return Ok(());
            }
            _ => "+OK",
        };
        talk.line(answer).await;
    }
}

async fn smtp(mut talk: Talk, counts: &Counts) -> Result<(), String> {
    talk.line("220 old.example.net ESMTP").await;
    loop {
        let line = talk.next_line().await?;
        let answer = match line.split_once([' ', ':']).unwrap_or((&line, "")) {
            ("EHLO", _) => "250-old.example.net\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 AUTH PLAIN",
            ("AUTH", response) => {
                counts.logins.fetch_add(1, Ordering::SeqCst);
                // NUL joe NUL secret, or busy
                match response {
                    "PLAIN AGpvZQBzZWNyZXQ=" => "235 ok",
                    "PLAIN AGpvZQBidXN5" => "454 4.7.0 not now",
                    _ => "535 no",
                }
            }
            ("DATA", _) => {
                talk.line("354 Go").await;
                let mut message = String::new();
                loop {
                    match talk.next_line().await?.as_str() {
                        "." => break,
                        line => message += &format!("{line}\n"),
                    }
                }
                counts.messages.lock().expect("no panic").push(message);
                "250 queued"
            }
            ("QUIT", _) => {
                talk.line("221 bye").await;
                return Ok(());
            }
            _ => "250 Ok",
        };
        talk.line(answer).await;
    }
}
