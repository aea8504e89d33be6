//! The connections of an admin listener, bounded: in number, in silence, in life.
//!
//! The admin port may be reached by more than friends, and a health check must be answered while somebody floods it. So a
//! full house has no queue before it: who says nothing makes room for who comes.

use axum::Router;
use axum::serve::Listener;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The most connections a listener has at a time; further ones wait in the kernel's queue and take no descriptor.
const MAX_CONNECTIONS: usize = 64;
/// How long a connection may be silent before it makes room for another: a request comes with its connection, or soon after.
const GRACE: Duration = Duration::from_millis(100);
/// How long a connection may be without a whole request, at its begin and between two.
const SILENCE: Duration = Duration::from_secs(10);
/// How long a connection lasts. A reload that waits for a certificate to settle fits in.
const LIFE: Duration = Duration::from_secs(120);
/// How long the request under way then has.
const LAST_ANSWER: Duration = Duration::from_secs(10);

/// Serves until `closing`, and then until the answers under way are given.
pub(super) async fn serve(mut listener: impl Listener, router: Router, closing: CancellationToken) {
    let connections = TaskTracker::new();
    let accepting = async {
        let mut visitors = Visitors::default();
        loop {
            // Room is made first: what is accepted has its place.
            visitors.make_room().await;
            let (stream, _) = listener.accept().await;
            let (visitor, router, closing) = (visitors.enter(), router.clone(), closing.clone());
            connections.spawn(async move { answer(stream, router, &visitor, &closing).await });
        }
    };
    closing.run_until_cancelled(accepting).await;
    connections.close();
    connections.wait().await;
}

async fn answer(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    router: Router,
    visitor: &Visitor,
    closing: &CancellationToken,
) {
    let router = TowerToHyperService::new(router);
    let service = service_fn(|request| {
        let answer = router.call(request);
        async move {
            visitor.set(Manner::Asking);
            let answer = answer.await;
            visitor.set(Manner::Answered(Instant::now()));
            answer
        }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(SILENCE);
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
    // How a stranger's request failed is nobody's concern.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = visitor.leave.cancelled() => return,
        () = tokio::time::sleep(LIFE) => {}
        () = closing.cancelled() => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(LAST_ANSWER, connection).await;
}

/// Who is there.
#[derive(Default)]
struct Visitors {
    there: Vec<Arc<Shared>>,
    /// Somebody has left, or was answered.
    changed: Arc<Notify>,
}

/// A connection's place; it is free again when this is dropped.
struct Visitor {
    shared: Arc<Shared>,
    leave: CancellationToken,
    changed: Arc<Notify>,
}

struct Shared {
    manner: Mutex<Manner>,
    leave: CancellationToken,
}

/// What a visitor does, and since when.
#[derive(Clone, Copy)]
enum Manner {
    /// Has never asked anything.
    Silent(Instant),
    /// Was answered; may be reading still.
    Answered(Instant),
    /// Waits for an answer.
    Asking,
    Gone,
}

impl Visitors {
    fn enter(&mut self) -> Visitor {
        let leave = CancellationToken::new();
        let manner = Mutex::new(Manner::Silent(Instant::now()));
        let shared = Arc::new(Shared { manner, leave: leave.clone() });
        self.there.push(Arc::clone(&shared));
        Visitor { shared, leave, changed: Arc::clone(&self.changed) }
    }

    /// Returns when there is a place. Who has been silent longest makes it, those first who never asked; who waits for
    /// an answer keeps it.
    async fn make_room(&mut self) {
        loop {
            let changed = Arc::clone(&self.changed);
            let changed = changed.notified();
            self.there.retain(|visitor| !matches!(visitor.manner(), Manner::Gone));
            if self.there.len() < MAX_CONNECTIONS {
                return;
            }
            let silent = self.there.iter().filter_map(|visitor| match visitor.manner() {
                Manner::Silent(since) => Some((false, since, visitor)),
                Manner::Answered(since) => Some((true, since, visitor)),
                Manner::Asking | Manner::Gone => None,
            });
            match silent.min_by_key(|(has_asked, since, _)| (*has_asked, *since)) {
                Some((_, since, visitor)) if since + GRACE <= Instant::now() => {
                    visitor.leave.cancel();
                    changed.await;
                }
                Some((_, since, _)) => {
                    let _ = tokio::time::timeout_at(since + GRACE, changed).await;
                }
                None => changed.await,
            }
        }
    }
}

impl Shared {
    fn manner(&self) -> Manner {
        *self.manner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Visitor {
    fn set(&self, manner: Manner) {
        *self.shared.manner.lock().unwrap_or_else(PoisonError::into_inner) = manner;
        self.changed.notify_one();
    }
}

impl Drop for Visitor {
    fn drop(&mut self) {
        self.set(Manner::Gone);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use std::io;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
    use tokio::sync::mpsc;
    use tokio::time::Instant;

    /// Accepts what a test sends it, and counts.
    struct Queue(mpsc::UnboundedReceiver<DuplexStream>, Arc<AtomicUsize>);

    impl Listener for Queue {
        type Io = DuplexStream;
        type Addr = ();

        async fn accept(&mut self) -> (DuplexStream, ()) {
            match self.0.recv().await {
                Some(stream) => {
                    self.1.fetch_add(1, Ordering::SeqCst);
                    (stream, ())
                }
                None => std::future::pending().await,
            }
        }

        fn local_addr(&self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Door {
        queue: mpsc::UnboundedSender<DuplexStream>,
        accepted: Arc<AtomicUsize>,
        closing: CancellationToken,
        served: tokio::task::JoinHandle<()>,
    }

    impl Door {
        fn open() -> Self {
            let (queue, waiting) = mpsc::unbounded_channel();
            let (accepted, closing) = (Arc::<AtomicUsize>::default(), CancellationToken::new());
            let slow = get(async || {
                tokio::time::sleep(Duration::from_secs(5)).await;
                "late"
            });
            // More than the pipe of a connection holds: it is all written only if somebody reads.
            let long = get(async || "x".repeat(100_000));
            let router = Router::new().route("/", get(async || "ok")).route("/slow", slow).route("/long", long);
            let served = tokio::spawn(serve(Queue(waiting, Arc::clone(&accepted)), router, closing.clone()));
            Self { queue, accepted, closing, served }
        }

        async fn connect(&self, request: &str) -> DuplexStream {
            let (mut client, server) = tokio::io::duplex(1024);
            client.write_all(request.as_bytes()).await.expect("room");
            self.queue.send(server).expect("it accepts");
            client
        }
    }

    const ASK: &str = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";

    async fn rest(mut client: DuplexStream) -> String {
        let mut text = String::new();
        client.read_to_string(&mut text).await.expect("text to its end");
        text
    }

    #[tokio::test(start_paused = true)]
    async fn silent_connections_take_no_more_than_the_bound_and_give_way() {
        for beginning in ["", "GET / HTTP/1.1\r\nhost: ", ASK] {
            let door = Door::open();
            let mut silent = Vec::new();
            for _ in 0..10 * MAX_CONNECTIONS {
                silent.push(door.connect(beginning).await);
            }
            tokio::time::sleep(GRACE / 2).await;
            assert_eq!(door.accepted.load(Ordering::SeqCst), MAX_CONNECTIONS, "{beginning:?}");
            let began = Instant::now();
            let asking = door.connect("GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
            assert!(rest(asking).await.ends_with("\r\n\r\nok"), "{beginning:?}");
            assert!(began.elapsed() < Duration::from_secs(2), "{beginning:?}: {:?}", began.elapsed());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_silence_takes_no_place_from_who_waits_for_an_answer_or_reads_one() {
        let door = Door::open();
        let slow = door.connect("GET /slow HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
        let reading = door.connect("GET /long HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let mut silent = Vec::new();
        for _ in 0..10 * MAX_CONNECTIONS {
            silent.push(door.connect("").await);
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(rest(slow).await.ends_with("late"));
        assert!(rest(reading).await.ends_with("xxxx"));
    }

    #[tokio::test(start_paused = true)]
    async fn who_never_reads_the_answer_is_let_go() {
        let door = Door::open();
        let mut idle = Vec::new();
        for _ in 0..MAX_CONNECTIONS {
            idle.push(door.connect("GET /long HTTP/1.1\r\nhost: x\r\n\r\n").await);
        }
        let began = Instant::now();
        let asking = door.connect("GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
        assert!(rest(asking).await.ends_with("ok"));
        assert!(began.elapsed() <= LIFE + LAST_ANSWER + Duration::from_secs(1), "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn closing_gives_the_answer_that_is_under_way_and_waits_for_no_idle_one() {
        let door = Door::open();
        let slow = door.connect("GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await;
        let idle = door.connect(ASK).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let began = Instant::now();
        door.closing.cancel();
        assert!(rest(slow).await.ends_with("late"));
        assert!(rest(idle).await.ends_with("ok"));
        door.served.await.expect("it ends");
        assert_eq!(began.elapsed().as_secs(), 4);
    }
}
