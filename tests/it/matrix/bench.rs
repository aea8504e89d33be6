//! What a row is played on: a runtime of its own whose clock moves only when it is told to, a gateway, a backend, and the
//! counts of what there was before.

use super::end::{End, Ended};
use crate::gateway::{Gateway, Setup, own_addresses};
use gatepost::proto::{Protocol, Service, TlsRule};
use std::future::Future;
use std::sync::mpsc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket};
use tokio::time::Instant;

pub(crate) struct Bench {
    pub(crate) gateway: Gateway,
    pub(crate) service: Service,
    tls: TlsRule,
    listener: Option<TcpListener>,
    address: std::net::SocketAddr,
    before: Left,
    /// While it is held, the clock does not move by itself.
    _still: mpsc::Sender<()>,
}

/// What is open and alive in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Left {
    descriptors: usize,
    tasks: usize,
}

impl Left {
    fn now() -> Self {
        let descriptors = std::fs::read_dir("/proc/self/fd").expect("Linux").count();
        Self { descriptors, tasks: tokio::runtime::Handle::current().metrics().num_alive_tasks() }
    }
}

/// Runs a row on a runtime of its own.
pub(crate) fn on_a_runtime(row: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    let runtime = runtime.expect("a runtime");
    runtime.block_on(row);
    // Waits for threads that hold descriptors of it.
    drop(runtime);
}

impl Bench {
    /// Starts a gateway that has learned from a backend which mechanisms it offers.
    pub(crate) async fn new(service: Service, tls: TlsRule, mechanisms: &str) -> Self {
        // A paused clock runs ahead of sockets whenever nobody has anything to do, but not beside a blocking task.
        let (still, until) = mpsc::channel();
        tokio::task::spawn_blocking(move || until.recv());
        let listener = TcpListener::bind((own_addresses(), 0)).await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        // What is no success is answered at once: when it is, is another test's concern.
        let start = Setup::one(service, tls, address).with("limits", "failure_delay: 0s").start();
        let teach = async {
            let (stream, _) = listener.accept().await.expect("the health check");
            let mut asked = End::over(stream);
            for (ask, answer) in opening(service, mechanisms) {
                if !ask.is_empty() {
                    asked.hear(ask).await;
                }
                asked.line(&answer).await;
            }
            let (_, ended) = asked.rest().await;
            assert_eq!(ended, Ended::Properly);
        };
        let (gateway, ()) = tokio::join!(start, teach);
        gateway.has_learned().await;
        let (listener, before) = (Some(listener), Left::now());
        let mut bench = Self { gateway, service, tls, listener, address, before, _still: still };
        // The health check's end.
        settle().await;
        bench.before = Left::now();
        bench
    }

    pub(crate) fn protocol(&self) -> Protocol {
        self.service.protocol()
    }

    /// A client that has been greeted.
    pub(crate) async fn client(&self) -> End {
        let greeting = crate::mail::greeting(self.protocol());
        match self.tls {
            TlsRule::StartTls => self.gone_ahead().await.start_tls(self.gateway.trust()).await,
            TlsRule::Implicit => {
                let client = End::connect(self.gateway.address()).await;
                let mut client = client.start_tls(self.gateway.trust()).await;
                client.hear(greeting).await;
                client
            }
            TlsRule::Off | TlsRule::Optional => {
                let mut client = End::connect(self.gateway.address()).await;
                client.hear(greeting).await;
                client
            }
        }
    }

    /// A client that has been told to go ahead with TLS.
    pub(crate) async fn gone_ahead(&self) -> End {
        let mut client = End::connect(self.gateway.address()).await;
        client.hear(crate::mail::greeting(self.protocol())).await;
        let (ask, go_ahead) = match self.protocol() {
            Protocol::Imap => ("a STARTTLS", "a OK <*>"),
            Protocol::Pop3 => ("STLS", "+OK <*>"),
            Protocol::Smtp => ("STARTTLS", "220 <*>"),
        };
        client.line(ask).await;
        client.hear(go_ahead).await;
        client
    }

    /// The gateway's next connection to the backend.
    pub(crate) async fn dialled(&self) -> End {
        let (stream, _) = self.listener.as_ref().expect("a backend that is up").accept().await.expect("a connection");
        End::over(stream)
    }

    pub(crate) fn down(&mut self) {
        self.listener = None;
        self.before.descriptors -= 1;
    }

    pub(crate) fn up(&mut self) {
        if self.listener.is_none() {
            let socket = TcpSocket::new_v4().expect("a socket");
            socket.set_reuseaddr(true).expect("an option");
            socket.bind(self.address).expect("the address is still ours");
            self.listener = Some(socket.listen(64).expect("it listens"));
            self.before.descriptors += 1;
        }
    }

    /// Nothing is left of any session within a few seconds, `own` descriptors of the test's aside; nobody was blamed.
    pub(crate) async fn is_as_before(&self, own: usize) {
        let expected = Left { descriptors: self.before.descriptors + own, ..self.before };
        let empty = async || {
            Left::now() == expected && self.gateway.gauge() == 0.0 && self.gateway.server.status().await.sessions == 0
        };
        // Last words are waited for, then the machine is.
        for second in 0.. {
            let patience = Duration::from_millis(if second < 5 { 3 } else { 5000 });
            if patiently(patience, async || empty().await.then_some(())).await.is_some() {
                break;
            }
            assert!(second < 5, "left: {:?}, not {expected:?}; sessions: {}", Left::now(), self.gateway.gauge());
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        for blame in ["auth.failed", "ban.added"] {
            assert_eq!(self.gateway.left(blame).await, [] as [serde_json::Value; 0]);
        }
        assert_eq!(self.gateway.metric("gatepost_bans"), 0.0);
    }

    /// The next event of that name has these fields.
    pub(crate) async fn event(&self, name: &str, fields: &[(&str, &str)]) {
        let came = async || (!self.gateway.left(name).await.is_empty()).then_some(());
        assert!(patiently(Duration::from_secs(10), came).await.is_some(), "no {name}");
        let event = self.gateway.event(name, "").await;
        for (field, value) in fields {
            assert_eq!(event[field].as_str(), Some(*value), "{event}");
        }
    }
}

/// Asks again and again for a moment of real time, while everybody does what there is to do.
pub(crate) async fn patiently<T>(patience: Duration, mut ask: impl AsyncFnMut() -> Option<T>) -> Option<T> {
    let began = std::time::Instant::now();
    loop {
        settle().await;
        let answer = ask().await;
        if answer.is_some() || began.elapsed() > patience {
            return answer;
        }
    }
}

/// What a backend is asked before a login, and says.
pub(crate) fn opening(service: Service, mechanisms: &str) -> Vec<(&'static str, String)> {
    let (greeting, ask, list) = match service.protocol() {
        Protocol::Imap => {
            let auth: String = mechanisms.split(' ').map(|name| format!(" AUTH={name}")).collect();
            ("* OK IMAP4rev1 old", "g1 CAPABILITY", format!("* CAPABILITY IMAP4rev1{auth}\r\ng1 OK done"))
        }
        Protocol::Pop3 => ("+OK ready", "CAPA", format!("+OK\r\nUSER\r\nUIDL\r\nSASL {mechanisms}\r\n.")),
        Protocol::Smtp => (
            "220 old.example.net ESMTP",
            "EHLO <*>",
            format!("250-old.example.net\r\n250-8BITMIME\r\n250 AUTH {mechanisms}"),
        ),
    };
    vec![("", greeting.to_owned()), (ask, list)]
}

/// Lets everybody do what there is to do.
pub(crate) async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

/// How far the clock is moved at once on the way to `due`.
pub(crate) fn step_to(due: Duration) -> Duration {
    (due / 100).max(Duration::from_secs(1))
}

/// Lets time pass until something comes, and says how long that took; `tick` is asked at each step. What should come at
/// `due` is waited for a little longer, for the sake of a machine that is busy, and no longer than five steps more.
pub(crate) async fn pass<T>(
    due: Duration,
    mut tick: impl AsyncFnMut(),
    coming: impl Future<Output = T>,
) -> (T, Duration) {
    let began = Instant::now();
    let step = step_to(due);
    tokio::pin!(coming);
    loop {
        tokio::select! {
            biased;
            got = &mut coming => return (got, began.elapsed()),
            () = a_moment(began, due) => {}
        }
        assert!(began.elapsed() <= due + 5 * step, "nothing after {:?}", began.elapsed());
        tick().await;
        tokio::time::advance(step).await;
    }
}

/// Lets everybody do what there is to do. Past `due`, a busy machine is given real time for it.
pub(crate) async fn a_moment(began: Instant, due: Duration) {
    settle().await;
    let real = std::time::Instant::now();
    while began.elapsed() > due && real.elapsed() < Duration::from_millis(300) {
        settle().await;
    }
}
