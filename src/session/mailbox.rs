//! A logged-in POP3 or IMAP session: the relay, and the last words after it.

use super::entered::{Identity, Open};
use super::login::poll_write_all;
use super::relay::{End, Ended, Relay, Side, Start};
use super::stream::ClientStream;
use super::{Ending, Session};
use crate::backend::{BackendStream, Server};
use crate::proto::{self, Goodbye};
use bytes::BytesMut;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// Carries the session to its end. While it lasts there is nothing of the dialogue left but who logged in, and where.
pub(super) async fn carry(session: &Session, open: Box<Open>) -> Box<Ending> {
    let (mut relay, identity, server) = begin(session, open);
    let ended = relay.run(&session.leave).await;
    let client = relay.into_client();
    Box::pin(end(session, client, ended, identity, server)).await
}

impl Side for ClientStream {
    fn hold(&mut self) {
        ClientStream::hold(self);
    }

    fn waiting(&self) -> usize {
        ClientStream::waiting(self)
    }
}

impl Side for BackendStream {}

/// Puts the two sides together, with what was read too far at the beginning.
fn begin(session: &Session, open: Box<Open>) -> (Relay<ClientStream, BackendStream>, Option<Identity>, Arc<Server>) {
    let Open { mut client, from_client, to_client, dialogue, identity, .. } = *open;
    client.logged_in();
    let protocol = session.listener.service.protocol();
    let server = Arc::clone(&dialogue.server);
    let (backend, behind_verdict, _) = dialogue.into_session();
    let mut from_backend = to_client;
    from_backend.unsplit(behind_verdict);
    let start = Start {
        from_client,
        from_backend,
        idle: session.policy.timeouts.idle(session.listener.service),
        farewells: proto::farewells(protocol),
        encoding: proto::encoding(protocol),
        careful: false,
    };
    (Relay::new(client, backend, start), identity, server)
}

/// The last words, where some are due and can be said.
async fn end(
    session: &Session,
    mut client: ClientStream,
    ended: Ended,
    identity: Option<Identity>,
    server: Arc<Server>,
) -> Box<Ending> {
    let (reason, goodbye) = match ended.how {
        End::Client | End::ClientBroke => (ended.how.reason(), None),
        // A server that closes behind its farewell without reading the client's last octet resets the connection.
        End::Backend | End::BackendBroke if ended.said_farewell => ("logout", None),
        End::Backend | End::BackendBroke => (ended.how.reason(), Some(Goodbye::BackendLost)),
        End::Idle => (ended.how.reason(), Some(Goodbye::Timeout)),
        End::Asked => (ended.how.reason(), Some(Goodbye::ShuttingDown)),
    };
    if let Some(goodbye) = goodbye
        && ended.at_line_end
        && !ended.is_encoded
    {
        let mut words = BytesMut::new();
        proto::goodbye_after_login(session.listener.service.protocol(), goodbye, &mut words);
        let saying = std::future::poll_fn(|cx| poll_write_all(Pin::new(&mut client), cx, &mut words));
        // A client that does not read is not waited for.
        let _ = tokio::time::timeout(Duration::from_secs(2), saying).await;
    }
    let mut ending = Ending::of(reason, client);
    ending.user = identity.map(|identity| identity.user);
    ending.backend_server = Some(server.name.to_string());
    ending
}
