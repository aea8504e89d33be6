//! A logged-in POP3 or IMAP session: the relay, and the last words after it.

use super::entered::Open;
use super::login::poll_write_all;
use super::relay::{End, Ended, Relay, Side, Start};
use super::stream::ClientStream;
use super::{Ending, Session};
use crate::backend::{BackendStream, Server};
use crate::gate::UserSession;
use crate::proto::{self, Goodbye};
use bytes::BytesMut;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// What is kept of who is in, and where.
struct Kept {
    user: Option<Box<str>>,
    server: Arc<Server>,
    /// The slot of `sessions_per_user`.
    _slot: Option<UserSession>,
}

/// Carries the session to its end. While it lasts there is nothing of the dialogue left but who logged in, and where.
pub(super) async fn carry(session: &Session, open: Box<Open>) -> Box<Ending> {
    let (mut relay, kept) = begin(session, open);
    let ended = relay.run(&session.leave).await;
    let client = relay.into_client();
    Box::pin(end(session, client, ended, kept)).await
}

impl Side for ClientStream {
    fn settle(&mut self) {
        ClientStream::settle(self);
    }

    fn hold(&mut self) {
        ClientStream::hold(self);
    }

    fn waiting(&self) -> usize {
        ClientStream::waiting(self)
    }
}

impl Side for BackendStream {
    fn settle(&mut self) {
        self.watch();
    }
}

/// Puts the two sides together, with what was read too far at the beginning.
fn begin(session: &Session, open: Box<Open>) -> (Relay<ClientStream, BackendStream>, Kept) {
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
    let (user, slot) = identity.map(|identity| (identity.user.into_boxed_str(), identity.slot)).unzip();
    (Relay::new(client, backend, start), Kept { user, server, _slot: slot.flatten() })
}

/// The last words, where some are due and can be said.
async fn end(session: &Session, mut client: ClientStream, ended: Ended, kept: Kept) -> Box<Ending> {
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
    ending.user = kept.user.map(String::from);
    ending.backend_server = Some(kept.server.name.to_string());
    ending
}
