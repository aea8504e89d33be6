//! A gateway with sockets, cut at every byte of a submission, each way.

use super::{Asked, MESSAGES, Manner, Quirk, Server, Submission, replies};
use crate::gateway::{Gateway, Setup, own_addresses};
use crate::mail::plain;
use crate::matrix::end::End;
use crate::talk::soon;
use gatepost::proto::{Service, TlsRule};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// How a connection is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    /// FIN; under TLS close_notify before it.
    Close,
    /// RST.
    Reset,
}

/// A backend that is cut behind so many bytes of what it says.
struct Backend {
    cut: AtomicUsize,
    resets: AtomicUsize,
}

/// A connection to it, at its end.
struct Served {
    server: Server,
    /// How much of what it said was sent.
    arrived: usize,
}

impl Backend {
    /// Serves, one report a connection.
    async fn serve() -> (Arc<Self>, std::net::SocketAddr, mpsc::UnboundedReceiver<Served>) {
        let listener = TcpListener::bind((own_addresses(), 0)).await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let this = Arc::new(Self { cut: AtomicUsize::new(usize::MAX), resets: AtomicUsize::new(0) });
        let (report, reports) = mpsc::unbounded_channel();
        let backend = Arc::clone(&this);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let served = backend.connection(stream).await;
                if report.send(served).is_err() {
                    return;
                }
            }
        });
        (this, address, reports)
    }

    async fn connection(&self, stream: TcpStream) -> Served {
        let (mut end, mut server, mut arrived) = (End::over(stream), Server::new(Quirk::None), 0);
        server.said.extend_from_slice(b"220 old.example.net ESMTP\r\n");
        loop {
            let until = server.said.len().min(self.cut.load(Ordering::SeqCst));
            end.say(&server.said[arrived..until.max(arrived)]).await;
            arrived = until.max(arrived);
            if arrived == self.cut.load(Ordering::SeqCst) {
                if self.resets.load(Ordering::SeqCst) == 1 {
                    end.reset();
                }
                return Served { server, arrived };
            }
            if !end.read_on().await {
                return Served { server, arrived };
            }
            end.got.split().into_iter().for_each(|byte| server.hear(byte));
        }
    }
}

/// A gateway, a backend, and what passes between them.
struct Post {
    gateway: Gateway,
    tls: TlsRule,
    backend: Arc<Backend>,
    reports: mpsc::UnboundedReceiver<Served>,
    submission: Submission,
    /// Where the command ends for which the backend is dialled.
    dials: usize,
}

impl Post {
    async fn new(service: Service, tls: TlsRule, manner: Manner) -> Self {
        let (backend, address, mut reports) = Backend::serve().await;
        let gateway = Setup::one(service, tls, address).start().await;
        gateway.has_learned().await;
        soon("the health check's end", reports.recv()).await;
        let auth = format!("AUTH PLAIN {}", plain("joe", "secret"));
        let before: &[&str] = if service == Service::Smtp { &["EHLO pc"] } else { &["EHLO pc", &auth] };
        let submission = Submission::new(before, &MESSAGES, manner);
        let dials = if service == Service::Smtp {
            "EHLO pc\r\nMAIL FROM:<joe@example.net>\r\n".len()
        } else {
            "EHLO pc\r\n".len() + auth.len() + 2
        };
        Self { gateway, tls, backend, reports, submission, dials }
    }

    /// One session, cut; gives what the whole of what the backend said was long.
    async fn session(&mut self, client_has: usize, backend_has: usize, how: How) -> usize {
        let case = format!("client cut at {client_has}, backend at {backend_has}: {how:?}");
        self.backend.cut.store(backend_has, Ordering::SeqCst);
        self.backend.resets.store(usize::from(how == How::Reset), Ordering::SeqCst);
        let (codes, sent) = soon(&case, self.client(client_has, how)).await;
        self.gateway.event("session.closed", "").await;
        let served = if sent >= self.dials { soon(&case, self.reports.recv()).await } else { None };
        let (server, arrived) = served.map_or((Server::new(Quirk::None), 0), |served| (served.server, served.arrived));

        let said = server.taken.iter().filter(|(_, end)| *end <= arrived).count();
        let yes = self.submission.accepted(&codes);
        assert!(
            yes.iter().all(|number| *number < said),
            "the client heard yes to {yes:?}, the backend said it {said} times; {case}"
        );
        for ((text, _), message) in server.taken.iter().zip(MESSAGES) {
            assert_eq!(text.escape_ascii().to_string(), message.escape_ascii().to_string(), "{case}");
        }
        assert!(
            server.taken.len() <= self.submission.whole(sent),
            "a message ended that the client did not end; {case}"
        );
        let answers = self.submission.asked.iter().zip(&codes).filter(|(asked, _)| matches!(asked, Asked::Message(_)));
        assert!(answers.into_iter().all(|(_, code)| *code == 250 || (400..500).contains(code)), "{codes:?}; {case}");
        let reported = self.gateway.left("message.accepted").await.len();
        for _ in 0..reported {
            self.gateway.event("message.accepted", "").await;
        }
        assert!(
            (yes.len()..=said).contains(&reported),
            "{reported} events, the client heard {yes:?}, the backend said it {said} times; {case}"
        );
        arrived
    }

    /// The client's part: the codes it read, and how much it sent.
    async fn client(&self, has: usize, how: How) -> (Vec<u16>, usize) {
        let mut client = End::connect(self.gateway.address()).await;
        if self.tls == TlsRule::Implicit {
            client = client.start_tls(self.gateway.trust()).await;
        }
        client.hear("220 <*>").await;
        let mut sent = 0;
        loop {
            let codes = replies(&client.got);
            let may = self.submission.may_send(&codes).min(has);
            client.say(&self.submission.bytes[sent..may.max(sent)]).await;
            sent = may.max(sent);
            // A reset may overtake what was sent; where it decides whether the backend is dialled, the answer is awaited.
            let unsure = how == How::Reset && sent == self.dials && codes.len() < 2;
            if sent == has && has < self.submission.bytes.len() && !unsure {
                break;
            }
            // What is refused is not gone on with.
            if codes.iter().any(|code| *code >= 400) {
                break;
            }
            if !client.read_on().await {
                return (replies(&client.got), sent);
            }
        }
        if how == How::Reset && sent == has {
            let codes = replies(&client.got);
            client.reset();
            return (codes, sent);
        }
        client.end().await;
        while client.read_on().await {}
        (replies(&client.got), sent)
    }
}

async fn every_byte(service: Service, tls: TlsRule, manner: Manner, client: &[How], backend: &[How]) -> usize {
    let mut post = Post::new(service, tls, manner).await;
    let length = post.submission.bytes.len();
    let whole = post.session(length, usize::MAX, How::Close).await;
    let mut sessions = 1;
    for how in client {
        for at in 0..length {
            post.session(at, usize::MAX, *how).await;
            sessions += 1;
        }
    }
    for how in backend {
        for at in 0..whole {
            post.session(length, at, *how).await;
            sessions += 1;
        }
    }
    // Uncut, it goes through as before.
    assert_eq!(post.session(length, usize::MAX, How::Close).await, whole);
    post.gateway.is_empty().await;
    assert_eq!(post.gateway.metric("gatepost_bans"), 0.0);
    sessions
}

#[tokio::test]
async fn a_submission_over_sockets_cut_at_any_byte_loses_and_claims_nothing() {
    let both = [How::Close, How::Reset];
    let mut sessions = 0;
    for manner in [Manner::OneByOne, Manner::Pipelined] {
        sessions += every_byte(Service::Submission, TlsRule::Off, manner, &both, &both).await;
    }
    println!("{sessions} submissions cut");
    assert!(sessions > 2000, "{sessions}");
}

#[tokio::test]
async fn a_submission_under_tls_cut_without_close_notify_loses_and_claims_nothing() {
    let sessions =
        every_byte(Service::Submission, TlsRule::Implicit, Manner::Pipelined, &[How::Reset], &[How::Close]).await;
    assert!(sessions > 500, "{sessions}");
}

#[tokio::test]
async fn a_strangers_mail_cut_at_any_byte_loses_and_claims_nothing() {
    let sessions = every_byte(Service::Smtp, TlsRule::Off, Manner::Pipelined, &[How::Close], &[How::Reset]).await;
    assert!(sessions > 500, "{sessions}");
}
