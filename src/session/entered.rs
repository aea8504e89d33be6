//! What the dialogue before a login leaves to the session behind it.

use super::Ending;
use super::stream::ClientStream;
use crate::backend::Dialogue;
use crate::gate::{User, UserSession};
use crate::proto::smtp::Recipients;
use crate::proto::{Capabilities, Login, UserName};
use bytes::BytesMut;
use std::sync::Arc;

/// Where the dialogue led.
pub(super) enum Entered {
    /// Nowhere: it is over.
    Nowhere(Box<Ending>),
    /// Into a mailbox.
    Mailbox(Box<Open>),
    /// To where mail may be sent.
    Submission(Box<Open>),
}

/// Both sides of a session that has found its backend.
pub(super) struct Open {
    /// The client.
    pub(super) client: ClientStream,
    /// Read from the client, not yet understood.
    pub(super) from_client: BytesMut,
    /// For the client, not yet written: the answer to the login.
    pub(super) to_client: BytesMut,
    /// The backend.
    pub(super) dialogue: Dialogue,
    /// Who; none for a stranger who brings mail.
    pub(super) identity: Option<Identity>,
    /// SMTP: for whom mail is taken.
    pub(super) recipients: Recipients,
    /// SMTP: the client's name for itself.
    pub(super) helo: Option<String>,
    /// What the client was told the backend can do.
    pub(super) shown: Arc<Capabilities>,
}

/// A user who has logged in.
pub(super) struct Identity {
    /// The name in events.
    pub(super) user: String,
    /// The name the client gave, as far as it was seen, and the one that was sent to the backend, where it is another.
    pub(super) name: Option<UserName>,
    pub(super) login_name: Option<UserName>,
    /// The user as limits count one.
    pub(super) counted: Option<User>,
    /// How to get in anew after a message was abandoned.
    pub(super) proof: Proof,
    /// The slot of `sessions_per_user`.
    pub(super) slot: Option<UserSession>,
}

impl Identity {
    /// The name of whom somebody else than the backend has let in.
    pub(super) fn checked(&self) -> Option<&UserName> {
        match &self.proof {
            Proof::Elsewhere(name) => name.as_ref(),
            Proof::Login(_) | Proof::Unneeded => None,
        }
    }
}

/// How a user gets in at the backend.
pub(super) enum Proof {
    /// By the login that was good before. Kept on SMTP alone.
    Login(Box<Login>),
    /// The backend asks for none: somebody else has checked. It is told the name, where it takes that.
    Elsewhere(Option<UserName>),
    /// He is in, and never gets in anew.
    Unneeded,
}
