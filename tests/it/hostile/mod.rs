//! The attacker: what a stranger may try against STARTTLS, TLS, trust, messages and logs, and what comes of it.

mod hello;
mod injection;
mod old;
mod smuggling;
mod starttls;
mod tls;
mod trust;
mod words;

use crate::gateway::{Gateway, Setup};
use crate::mail::service;
use gatepost::proto::{Service, TlsRule};
use old::{Old, Reads};

/// A gateway before an old server that trusts whoever connects and writes down what it understood.
async fn gateway(service: Service, tls: TlsRule) -> (Gateway, Old) {
    let old = Old::serve(service.protocol(), Reads::Sloppy).await;
    let setup = Setup::one(service, tls, old.address)
        // Many attempts in one session are the subject here, not the limits on them, nor how long a busy machine takes.
        .with("limits", "auth_attempts_per_session: 1000")
        .with("timeouts", "login: 30min, tls_handshake: 10min");
    let gateway = setup.start().await;
    gateway.has_learned().await;
    (gateway, old)
}

/// As SASL has it on the wire.
fn base64(text: impl AsRef<[u8]>) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}
