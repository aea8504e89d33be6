use super::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

impl Side for DuplexStream {}

/// A side that counts how often it has settled.
struct Settling {
    stream: DuplexStream,
    settled: Arc<AtomicUsize>,
}

impl Side for Settling {
    fn settle(&mut self) {
        self.settled.fetch_add(1, Ordering::Relaxed);
    }
}

impl AsyncRead for Settling {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Settling {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

struct Ends {
    client: DuplexStream,
    backend: DuplexStream,
    relay: tokio::task::JoinHandle<(Ended, DuplexStream, DuplexStream)>,
    leave: CancellationToken,
}

fn start(start: Start) -> Ends {
    let ((client, ours), (backend, theirs)) = (duplex(1000), duplex(1000));
    let leave = CancellationToken::new();
    let token = leave.clone();
    let relay = tokio::spawn(async move {
        let mut relay = Relay::new(ours, theirs, start);
        let ended = relay.run(&token).await;
        (ended, relay.client, relay.backend)
    });
    Ends { client, backend, relay, leave }
}

fn idle(seconds: u64) -> Start {
    Start { idle: Duration::from_secs(seconds), farewells: (None, Some(b"* BYE")), ..Start::default() }
}

#[tokio::test(start_paused = true)]
async fn bytes_read_too_far_are_the_first_of_the_relay() {
    let mut ends = start(Start {
        from_client: BytesMut::from(&b"b NOOP\r\n"[..]),
        from_backend: BytesMut::from(&b"* 1 EXISTS\r\n"[..]),
        ..idle(60)
    });
    let mut text = [0; 8];
    ends.backend.read_exact(&mut text).await.expect("the backend hears it");
    assert_eq!(&text, b"b NOOP\r\n");
    let mut text = [0; 12];
    ends.client.read_exact(&mut text).await.expect("the client hears it");
    assert_eq!(&text, b"* 1 EXISTS\r\n");
}

#[tokio::test(start_paused = true)]
async fn everything_arrives_through_a_narrow_pipe() {
    let mut ends = start(idle(60));
    let sent: Vec<u8> = (0..300_000u32).map(|n| n.to_le_bytes()[0]).collect();
    let expected = sent.clone();
    let sending = tokio::spawn(async move {
        ends.backend.write_all(&sent).await.expect("taken");
        ends.backend.shutdown().await.expect("ended");
        ends.backend
    });
    let mut got = vec![0; expected.len()];
    ends.client.read_exact(&mut got).await.expect("delivered");
    assert!(got == expected);
    drop(sending.await);
    assert_eq!(ends.relay.await.expect("no panic").0.how, End::Backend);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_has_said_all_still_gets_its_answer() {
    let mut ends = start(idle(60));
    ends.client.write_all(b"a LOGOUT\r\n").await.expect("taken");
    ends.client.shutdown().await.expect("ended");
    let mut asked = Vec::new();
    ends.backend.read_to_end(&mut asked).await.expect("the end arrives too");
    assert_eq!(asked, b"a LOGOUT\r\n");
    ends.backend.write_all(b"* BYE\r\na OK\r\n").await.expect("taken");
    drop(ends.backend);
    let mut answer = [0; 13];
    ends.client.read_exact(&mut answer).await.expect("delivered");
    assert_eq!(&answer, b"* BYE\r\na OK\r\n");
    let (ended, ..) = ends.relay.await.expect("no panic");
    assert_eq!(ended, Ended { how: End::Client, at_line_end: true, said_farewell: true, is_encoded: false });
}

/// The backend had sent nine megabytes and closed; a client that sent NOOP before it had read them got three.
#[tokio::test(start_paused = true)]
async fn what_the_backend_said_arrives_though_it_takes_nothing_more() {
    let ((mut client, ours), (mut backend, theirs)) = (duplex(10), duplex(1000));
    backend.write_all(&[b'x'; 900]).await.expect("room");
    drop(backend);
    client.write_all(b"b NOOP\r\n").await.expect("room");
    let relay = tokio::spawn(async move {
        let leave = CancellationToken::new();
        Relay::new(ours, theirs, idle(60)).run(&leave).await
    });
    client.read_exact(&mut [0; 900]).await.expect("all of it");
    let ended = relay.await.expect("no panic");
    assert!(matches!(ended.how, End::Backend | End::BackendBroke), "{ended:?}");
}

#[tokio::test(start_paused = true)]
async fn the_other_side_ends_within_four_seconds() {
    let ends = start(idle(3600));
    let began = Instant::now();
    drop(ends.client);
    let (ended, ..) = ends.relay.await.expect("no panic");
    assert!(matches!(ended.how, End::Client | End::ClientBroke), "{ended:?}");
    assert!(began.elapsed() < Duration::from_secs(4));
}

#[tokio::test(start_paused = true)]
async fn silence_ends_at_the_idle_time_and_a_byte_prolongs_it() {
    let mut ends = start(idle(60));
    let began = Instant::now();
    tokio::time::advance(Duration::from_secs(50)).await;
    ends.backend.write_all(b"* OK still here\r").await.expect("taken");
    let mut text = [0; 16];
    ends.client.read_exact(&mut text).await.expect("delivered");
    let (ended, ..) = ends.relay.await.expect("no panic");
    assert_eq!(ended, Ended { how: End::Idle, at_line_end: false, said_farewell: false, is_encoded: false });
    assert_eq!(began.elapsed().as_secs(), 110);
}

#[tokio::test(start_paused = true)]
async fn for_whom_nothing_is_known_of_less_is_kept() {
    for (careful, least, most) in [(false, CAREFUL, SCRATCH), (true, 1, CAREFUL)] {
        // One octet into the first of the large pieces, the client takes no more.
        let ((_client, ours), (mut backend, theirs)) = (duplex(SMALL * (1 + 2 + 4 + 8) + 1), duplex(1 << 20));
        backend.write_all(&vec![b'x'; 1 << 20]).await.expect("room");
        let mut relay = Relay::new(ours, theirs, Start { careful, ..idle(60) });
        let leave = CancellationToken::new();
        assert!(tokio::time::timeout(Duration::from_secs(1), relay.run(&leave)).await.is_err());
        let kept = relay.down.rest.len();
        assert!((least..=most).contains(&kept), "{kept} are kept, careful: {careful}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_noticed_is_told_at_the_end() {
    let start = Start { encoding: Some(b"COMPRESS"), ..idle(60) };
    let mut ends = self::start(start);
    ends.client.write_all(b"c compress deflate\r\n").await.expect("taken");
    ends.backend.read_exact(&mut [0; 20]).await.expect("delivered");
    ends.backend.write_all(b"* BYE\r\n").await.expect("taken");
    drop(ends.backend);
    ends.client.read_exact(&mut [0; 7]).await.expect("delivered");
    let (ended, mut client, _) = ends.relay.await.expect("no panic");
    assert_eq!(ended, Ended { how: End::Backend, at_line_end: true, said_farewell: true, is_encoded: true });
    client.write_all(b"last words").await.expect("the client is still there");
}

#[tokio::test(start_paused = true)]
async fn it_ends_when_asked() {
    let ends = start(idle(60));
    ends.leave.cancel();
    assert_eq!(ends.relay.await.expect("no panic").0.how, End::Asked);
}

#[tokio::test(start_paused = true)]
async fn sides_settle_once_in_each_silence() {
    let ((_client, ours), (mut backend, theirs)) = (duplex(1000), duplex(1000));
    let settled = Arc::new(AtomicUsize::new(0));
    let side = Settling { stream: ours, settled: Arc::clone(&settled) };
    let relay = tokio::spawn(async move {
        let leave = CancellationToken::new();
        Relay::new(side, theirs, idle(60)).run(&leave).await
    });
    for silence in 1..=3 {
        tokio::time::sleep(SETTLING / 2).await;
        assert_eq!(settled.load(Ordering::Relaxed), silence - 1, "that was no silence yet");
        tokio::time::sleep(SETTLING * 20).await;
        assert_eq!(settled.load(Ordering::Relaxed), silence);
        backend.write_all(b"* OK still here\r\n").await.expect("taken");
    }
    assert_eq!(relay.await.expect("no panic").how, End::Idle);
    assert_eq!(settled.load(Ordering::Relaxed), 4);
}
