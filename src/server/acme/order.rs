//! One certificate: the account, the order, the proofs, and what the CA says when it says no.

use super::client::{Http, is_silence};
use super::hook::{Hook, HookFault};
use super::ways::{Ways, present};
use crate::policy::{self, AcmeChallenge};
use crate::proto::line::printable;
use crate::tls::{AcmeError, Folder, Proofs, Request, TxtRecord};
use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, CertificateIdentifier, ChallengeType, Error, Identifier,
    NewAccount, NewOrder, Order, OrderStatus, RetryPolicy,
};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use zeroize::Zeroizing;

/// How long the CA may look at proofs, or sign.
const PATIENCE: Duration = Duration::from_secs(180);

/// How often an order is begun anew because the CA refuses its own nonces. One that is refused is replaced within the order, three
/// times each; a CA of several machines that do not know each other's may do that more often (RFC 8555, section 6.5).
const MOST_ANEW: u32 = 2;

/// How long there is nothing asked before that.
const BEFORE_ANEW: Duration = Duration::from_secs(2);

/// The longest words of a CA that are passed on, in octets.
const LONGEST_WORDS: usize = 1000;

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The CA said no, or cannot be spoken with.
    #[error("{}", words(&.0.to_string()))]
    Ca(#[from] Error),
    /// It did not see the proof; its words for each name.
    #[error("the CA did not see that the names are ours: {0}")]
    Proof(String),
    /// The operator's hook did not set the record.
    #[error(transparent)]
    Hook(#[from] HookFault),
    /// What the CA wants in the DNS is no proof of a name of ours.
    #[error("the CA wants a TXT record for {}, which is not in tls.acme.names or has more than 237 octets", words(.0))]
    Record(String),
    /// It does not offer what the configuration wants.
    #[error("the CA does not offer {challenge} for {name}: choose another tls.acme.challenge")]
    NotOffered { challenge: &'static str, name: String },
    /// Ours: the disk, or a key.
    #[error(transparent)]
    Ours(#[from] AcmeError),
    /// A part of it panicked, which the log has by then.
    #[error("a fault of the program: {0}")]
    Fault(#[from] tokio::task::JoinError),
    /// Its certificates are due for renewal when they come, which nothing good can come of.
    #[error("the CA's certificate is served, but two thirds of its life were over when it came: is our clock right?")]
    DueAlready,
    /// It took longer than anything should.
    #[error("the CA, or tls.acme.hook, was not done within {}", humantime::format_duration(*.0))]
    TooLong(Duration),
}

/// What is kept of an account.
#[derive(Serialize, Deserialize)]
struct Kept {
    contact: Option<String>,
    credentials: AccountCredentials,
}

/// Orders the certificate of `request`, in the place of the one that `replaces` names to a CA that wants to know, shows the proofs,
/// and gives the chain in PEM. The proofs stay until the caller clears them.
pub(super) async fn certificate(
    http: &Http,
    acme: &policy::Acme,
    folder: &Folder,
    what: (&Request, Option<&str>),
    ways: &Ways,
) -> Result<String, Failure> {
    for _ in 0..MOST_ANEW {
        match one_order(http, acme, folder, what, ways).await {
            Err(Failure::Ca(error)) if is_problem(&error, "badNonce") => {
                tracing::info!("acme: the CA refuses nonces that are its own: the order is begun anew");
            }
            outcome => return outcome,
        }
        ways.clear(folder).await;
        tokio::time::sleep(BEFORE_ANEW).await;
    }
    one_order(http, acme, folder, what, ways).await
}

async fn one_order(
    http: &Http,
    acme: &policy::Acme,
    folder: &Folder,
    (request, replaces): (&Request, Option<&str>),
    ways: &Ways,
) -> Result<String, Failure> {
    let names: Vec<_> = acme.names.iter().cloned().map(Identifier::Dns).collect();
    let begun = async { Ok(begin(&account(http, acme, folder).await?, &names, replaces).await?) };
    let mut order = match begun.await {
        // The CA has lost it, or thrown it out: who may ask once may ask again under another.
        Err(Failure::Ca(error)) if is_problem(&error, "accountDoesNotExist") => {
            tracing::warn!("acme: the CA does not know our account any more; another is made");
            begin(&new_account(http, acme, folder).await?, &names, replaces).await?
        }
        answer => answer?,
    };
    match ways {
        Ways::Here(proofs) => prove(&mut order, &acme.challenge, proofs).await?,
        Ways::Dns(hook) => prove_in_dns(&mut order, acme, folder, hook).await?,
    }
    let patience = RetryPolicy::new().initial_delay(Duration::from_millis(250)).timeout(PATIENCE);
    match order.poll_ready(&patience).await {
        Ok(OrderStatus::Ready) => {}
        outcome => {
            let seen = what_was_seen(&mut order).await;
            return Err(match (seen.is_empty(), outcome) {
                (false, _) => Failure::Proof(words(&seen.join("; "))),
                (true, Err(error)) => error.into(),
                (true, Ok(_)) => Failure::Proof("it says no more than that".to_owned()),
            });
        }
    }
    order.finalize_csr(request.csr()).await?;
    Ok(order.poll_certificate(&patience).await?)
}

/// Places the order. Which certificate it replaces (RFC 9773, section 5) is for the CA's own use: where it does not take that, it
/// is asked without.
async fn begin(account: &Account, names: &[Identifier], replaces: Option<&str>) -> Result<Order, Error> {
    if let Some((issuer, serial)) = replaces.and_then(|id| id.split_once('.')) {
        let replaced = CertificateIdentifier { authority_key_identifier: issuer.into(), serial: serial.into() };
        match account.new_order(&NewOrder::new(names).replaces(replaced)).await {
            Err(error) if may_do_without(&error) => {
                let why = words(&error.to_string());
                tracing::info!("acme: the CA does not take that the certificate replaces another: {why}");
            }
            answer => return answer,
        }
    }
    account.new_order(&NewOrder::new(names)).await
}

/// Whether an order that names what it replaces may fail for that alone.
fn may_do_without(error: &Error) -> bool {
    match error {
        Error::Api(_) => !["accountDoesNotExist", "badNonce", "rateLimited"].iter().any(|kind| is_problem(error, kind)),
        Error::Other(error) => !is_silence(error.as_ref()),
        Error::Unsupported(_) => true,
        _ => false,
    }
}

/// The account of last time, or a new one. The CA's terms are agreed to: who writes `tls.acme` has.
async fn account(http: &Http, acme: &policy::Acme, folder: &Folder) -> Result<Account, Failure> {
    let kept = match super::on_disk(folder, Folder::account).await {
        Some(kept) => kept?,
        None => None,
    };
    let Some(text) = kept else { return new_account(http, acme, folder).await };
    let Ok(kept) = serde_json::from_str::<Kept>(&text) else {
        tracing::warn!("acme: the account's file is damaged; another account is made");
        return new_account(http, acme, folder).await;
    };
    let Kept { contact, credentials } = kept;
    let builder = Account::builder_with_http(Box::new(http.clone()));
    if contact == acme.contact {
        return Ok(builder.from_credentials(credentials).await?);
    }
    let changed = serialized(&Kept { contact: acme.contact.clone(), credentials })?;
    let Kept { credentials, .. } = serde_json::from_str(&changed).map_err(Error::from)?;
    let account = builder.from_credentials(credentials).await?;
    account.update_contacts(&acme.contact.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    keep(folder, changed).await?;
    Ok(account)
}

async fn new_account(http: &Http, acme: &policy::Acme, folder: &Folder) -> Result<Account, Failure> {
    let contact: Vec<_> = acme.contact.iter().map(String::as_str).collect();
    let wanted = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
    let builder = Account::builder_with_http(Box::new(http.clone()));
    let (account, credentials) = builder.create(&wanted, acme.directory.clone(), None).await?;
    keep(folder, serialized(&Kept { contact: acme.contact.clone(), credentials })?).await?;
    Ok(account)
}

fn serialized(kept: &Kept) -> Result<Zeroizing<String>, Error> {
    Ok(Zeroizing::new(serde_json::to_string(kept)?))
}

async fn keep(folder: &Folder, account: Zeroizing<String>) -> Result<(), Failure> {
    match super::on_disk(folder, move |folder| folder.keep_account(&account)).await {
        Some(kept) => Ok(kept?),
        None => Ok(()),
    }
}

/// Shows the proof for each name that wants one, and tells the CA to look.
async fn prove(order: &mut Order, challenge: &AcmeChallenge, proofs: &Proofs) -> Result<(), Failure> {
    let (wanted, challenge) = match challenge {
        AcmeChallenge::TlsAlpn01(_) => (ChallengeType::TlsAlpn01, "tls-alpn-01"),
        _ => (ChallengeType::Http01, "http-01"),
    };
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        // One that is good from last time is not proved again; what else there is the order's end tells.
        if authorization.status != AuthorizationStatus::Pending {
            continue;
        }
        let name = authorization.identifier().to_string();
        let Some(mut asked) = authorization.challenge(wanted.clone()) else {
            return Err(Failure::NotOffered { challenge, name });
        };
        let authorization = asked.key_authorization();
        match wanted {
            ChallengeType::TlsAlpn01 => {
                let digest = authorization.digest();
                let digest = digest.as_ref().try_into().map_err(|_| Error::Str("a SHA-256"))?;
                proofs.show_certificate(&name, digest)?;
            }
            _ => proofs.show_page(&asked.token, authorization.as_str()),
        }
        asked.set_ready().await?;
    }
    Ok(())
}

/// Has a record set for each name that wants one, waits until they are seen, and tells the CA to look. A name and all names
/// below it (`*.`) are proved by two records under one name, so all of them stand before the CA looks at the first.
async fn prove_in_dns(order: &mut Order, acme: &policy::Acme, folder: &Folder, hook: &Hook) -> Result<(), Failure> {
    let mut is_set = false;
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        if authorization.status != AuthorizationStatus::Pending {
            continue;
        }
        let name = authorization.identifier().to_string();
        // A CA that may ask for any name could have us prove those of others in the zone to somebody else.
        let host = name.strip_prefix("*.").unwrap_or(&name);
        if !acme.names.iter().any(|ours| ours.strip_prefix("*.").unwrap_or(ours) == host) {
            return Err(Failure::Record(name));
        }
        let Some(asked) = authorization.challenge(ChallengeType::Dns01) else {
            return Err(Failure::NotOffered { challenge: "dns-01", name });
        };
        let record = TxtRecord::new(host, &asked.key_authorization().dns_value());
        let record = record.map_err(|_| Failure::Record(name.clone()))?;
        present(hook, folder, record).await?;
        is_set = true;
    }
    if !is_set {
        return Ok(());
    }
    if let AcmeChallenge::Dns01(hook) = &acme.challenge {
        tokio::time::sleep(hook.wait).await;
    }
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        if authorization.status == AuthorizationStatus::Pending
            && let Some(mut asked) = authorization.challenge(ChallengeType::Dns01)
        {
            asked.set_ready().await?;
        }
    }
    Ok(())
}

/// What the CA found wrong with each proof, in its words.
async fn what_was_seen(order: &mut Order) -> Vec<String> {
    let mut said = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let name = authorization.identifier().to_string();
        let Ok(state) = authorization.refresh().await else { continue };
        let errors = state.challenges.iter().filter_map(|challenge| challenge.error.as_ref());
        said.extend(errors.map(|error| match (&error.detail, &error.r#type) {
            (Some(detail), _) => format!("{name}: {detail}"),
            (None, Some(kind)) => format!("{name}: {kind}"),
            (None, None) => format!("{name}: no reason given"),
        }));
    }
    said
}

/// Whether the CA said no for this reason (RFC 8555, section 6.7).
fn is_problem(error: &Error, kind: &str) -> bool {
    let Error::Api(problem) = error else { return false };
    problem.r#type.as_deref().and_then(|kind| kind.strip_prefix("urn:ietf:params:acme:error:")) == Some(kind)
}

/// Words from the network for the log: of a bounded length, in one line that cannot turn round what stands beside it.
fn words(text: &str) -> String {
    let text = text.strip_prefix("API error: ").unwrap_or(text);
    printable(text.as_bytes(), LONGEST_WORDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cas_words_come_in_one_line_and_not_without_end() {
        assert_eq!(words("API error: no\r\nno\u{1b}[31m (x)"), r"no\u{d}\u{a}no\u{1b}[31m (x)");
        assert_eq!(
            words("mail\u{202e}ten.elpmaxe"),
            r"mail\u{202e}ten.elpmaxe",
            "a mark of direction is shown, not obeyed"
        );
        assert_eq!(words(&"é".repeat(5000)).len(), LONGEST_WORDS);
    }
}
