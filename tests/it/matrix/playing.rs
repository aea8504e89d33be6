//! A dialogue as it is played, both sides of it, while all is well.

use super::bench::Bench;
use super::end::{End, Ended};
use super::points::{Dialogue, Point, Step};
use rustls::pki_types::ServerName;

impl Dialogue {
    /// Says what stands before the backend is dialled.
    pub(crate) async fn begin(&self, client: &mut End) {
        for (say, hear) in &self.before {
            client.line(say).await;
            match *hear {
                "" => client.hear_list().await,
                hear => client.hear(hear).await,
            }
        }
    }

    /// Goes on from there to the step at `until`, the backend's connection made on the way.
    pub(crate) async fn go(&self, bench: &Bench, client: &mut End, until: usize) -> End {
        self.steps[0].client_says(client).await;
        let mut backend = bench.dialled().await;
        for (at, step) in self.steps[..until].iter().enumerate() {
            if at > 0 {
                step.client_says(client).await;
            }
            step.backend_hears(&mut backend).await;
            step.backend_says(&mut backend).await;
            step.client_hears(client).await;
        }
        backend
    }

    /// All of it goes well, and both sides part as they should.
    pub(crate) async fn goes_well(&self, bench: &Bench, mut client: End) {
        let mut backend = self.go(bench, &mut client, self.steps.len()).await;
        client.end().await;
        assert_eq!(backend.rest().await, (String::new(), Ended::Properly));
        drop(backend);
        assert_eq!(client.rest().await, (String::new(), Ended::Properly));
    }
}

impl Step {
    pub(crate) async fn client_says(&self, client: &mut End) {
        match self.point {
            Point::InData => client.say(&self.client).await,
            _ if self.client.is_empty() => {}
            _ => client.line(&self.client).await,
        }
    }

    pub(crate) async fn backend_hears(&self, backend: &mut End) {
        if !self.ask.is_empty() {
            backend.hear(&self.ask).await;
        }
    }

    async fn backend_says(&self, backend: &mut End) {
        if !self.answer.is_empty() {
            backend.line(&self.answer).await;
        }
    }

    async fn client_hears(&self, client: &mut End) {
        if !self.reply.is_empty() {
            client.hear(&self.reply).await;
        }
    }
}

/// Where a ClientHello is cut: in the middle of its record.
pub(super) const HALF: usize = 100;

/// A ClientHello.
pub(super) fn hello(bench: &Bench) -> Vec<u8> {
    let name = ServerName::try_from(crate::transcript::HOSTNAME).expect("a name");
    let mut client = rustls::ClientConnection::new(bench.gateway.trust(), name).expect("a client");
    let mut hello = Vec::new();
    client.write_tls(&mut hello).expect("a vector takes it");
    hello
}
