//! Sides that stop reading: what is under way fills every buffer, and then nothing moves.

use super::bench::{Bench, on_a_runtime, pass, patiently};
use super::play;
use super::points::{Point, dialogues};
use gatepost::proto::{Service, TlsRule};
use std::time::Duration;

#[test]
fn a_backend_that_stops_reading_a_message_is_given_up() {
    let row = |service: Service, tls: TlsRule| -> super::Row {
        let name = format!("{} {} stalled", service.as_str(), tls.as_str());
        (name, Box::new(move || on_a_runtime(stalled(service, tls))))
    };
    let rows = || {
        let both = [TlsRule::Off, TlsRule::Implicit].into_iter();
        both.flat_map(|tls| [row(Service::Submission, tls), row(Service::Smtp, tls)]).collect()
    };
    play("matrix::stalled::a_backend_that_stops_reading_a_message_is_given_up", rows, 4);
}

async fn stalled(service: Service, tls: TlsRule) {
    let dialogue = dialogues(service).remove(0);
    let bench = Bench::new(service, tls, dialogue.mechanisms).await;
    let mut client = bench.client().await;
    dialogue.begin(&mut client).await;
    let text = dialogue.steps.iter().position(|step| step.point == Point::InData).expect("a message");
    let backend = dialogue.go(&bench, &mut client, text).await;
    let line = [b"x".repeat(998), b"\r\n".to_vec()].concat();
    let closed = async {
        let mut sent = 0;
        // To the end of the connection.
        while sent < 40_000 && client.says(&line).await {
            sent += 1;
        }
        (client, sent)
    };
    tokio::pin!(closed);
    // Nobody takes the clock further while bytes still move.
    let stuck = patiently(Duration::from_millis(500), async || {
        tokio::select! {
            biased;
            _ = &mut closed => Some(()),
            () = tokio::task::yield_now() => None,
        }
    });
    assert!(stuck.await.is_none(), "the buffers took it all");
    let ((client, sent), took) = pass(Duration::from_secs(5 * 60), async || {}, &mut closed).await;
    assert!(took >= Duration::from_secs(5 * 60 - 3), "after {took:?} already");
    assert!(sent < 40_000, "it ends before the message does");
    bench.event("session.closed", &[("reason", "backend_timeout")]).await;
    drop((client, backend));
    assert!(bench.gateway.left("message.accepted").await.is_empty());

    let mut client = bench.client().await;
    dialogue.begin(&mut client).await;
    dialogue.goes_well(&bench, client).await;
    bench.is_as_before(0).await;
}
