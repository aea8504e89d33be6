//! The connections of an admin listener, bounded: in number, in silence, in life.

use axum::Router;
use axum::serve::Listener;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The most connections a listener has at a time; further ones wait in the kernel's queue and take no descriptor.
const MAX_CONNECTIONS: usize = 32;
/// How long a connection may be without a whole request, at its begin and between two.
const SILENCE: Duration = Duration::from_secs(10);
/// How long a connection lasts. A reload that waits for a certificate to settle fits in.
const LIFE: Duration = Duration::from_secs(120);
/// How long the request under way then has.
const LAST_ANSWER: Duration = Duration::from_secs(10);

/// Serves until `closing`, and then until the answers under way are given.
pub(super) async fn serve(mut listener: impl Listener, router: Router, closing: CancellationToken) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let connections = TaskTracker::new();
    let accepting = async {
        // The semaphore is never closed. A place is taken first: what is accepted has one.
        while let Ok(place) = Arc::clone(&places).acquire_owned().await {
            let (stream, _) = listener.accept().await;
            let (router, closing) = (router.clone(), closing.clone());
            connections.spawn(async move {
                answer(stream, router, &closing).await;
                drop(place);
            });
        }
    };
    closing.run_until_cancelled(accepting).await;
    connections.close();
    connections.wait().await;
}

async fn answer(stream: impl AsyncRead + AsyncWrite + Unpin, router: Router, closing: &CancellationToken) {
    let service = TowerToHyperService::new(router);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(SILENCE);
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
    // How a stranger's request failed is nobody's concern.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = tokio::time::sleep(LIFE) => {}
        () = closing.cancelled() => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(LAST_ANSWER, connection).await;
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
            for _ in 0..3 * MAX_CONNECTIONS {
                silent.push(door.connect(beginning).await);
            }
            let began = Instant::now();
            let asking = door.connect("GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
            tokio::time::sleep(SILENCE / 2).await;
            assert_eq!(door.accepted.load(Ordering::SeqCst), MAX_CONNECTIONS, "{beginning:?}");
            assert!(rest(asking).await.ends_with("\r\n\r\nok"), "{beginning:?}");
            let waited = began.elapsed();
            assert!(waited >= 3 * SILENCE && waited < 4 * SILENCE, "{beginning:?}: {waited:?}");
        }
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
