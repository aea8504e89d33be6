//! A CA's word that a certificate is not revoked (OCSP, RFC 6960), sent along with it (RFC 6066 section 8, RFC 8446
//! section 4.4.2.1), so that clients need not ask the CA and tell it whom they visit.
//!
//! Somebody else fetches it; here it is held against the certificate and the clock, so that clients are not sent what
//! they would turn away for. Whether the CA signed it is for them to check: who can write this file has the key too.

use super::chain::system_time;
use super::finding::date;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use x509_parser::asn1_rs::{Any, Class, Tag};
use x509_parser::prelude::FromDer;
use x509_parser::time::ASN1Time;

/// How far the CA's clock may be before ours.
const SKEW: Duration = Duration::from_secs(5 * 60);

/// `id-pkix-ocsp-basic`, 1.3.6.1.5.5.7.48.1.1: the only type there is.
const BASIC: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 0x30, 1, 1];

/// A response that can be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Staple {
    pub(super) response: Vec<u8>,
    /// Its `nextUpdate`: clients take it no longer.
    pub(super) until: SystemTime,
}

/// Why a response is not sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StapleFault {
    /// The file cannot be read.
    #[error("it cannot be read: {0}")]
    Unreadable(String),
    /// It has no bytes.
    #[error("it is empty")]
    Empty,
    /// It is something else, or cut off.
    #[error("it is no OCSP response in DER")]
    NotOcsp,
    /// The CA's responder would not say; the number is RFC 6960's `responseStatus`.
    #[error("the responder gave no answer (status {0})")]
    NoAnswer(u8),
    /// It is for other serial numbers.
    #[error("it is for another certificate")]
    OtherCertificate,
    /// It says that the certificate is revoked.
    #[error("it says that the certificate is revoked: have a new one issued")]
    Revoked,
    /// It says that the CA does not know the certificate.
    #[error("it says that the CA does not know the certificate")]
    Unknown,
    /// Its `thisUpdate` is to come.
    #[error("it is not valid before {}: check this machine's clock", date(*.0))]
    NotYetValid(SystemTime),
    /// It has no `nextUpdate`, so nobody can tell for how long it is true.
    #[error("it does not say until when it is valid")]
    Timeless,
    /// Its `nextUpdate` has passed.
    #[error("it expired on {}", date(*.0))]
    Expired(SystemTime),
}

/// Where the response to the certificate in `chain` is: HAProxy's place for it.
pub(super) fn beside(chain: &Path) -> PathBuf {
    let mut name = chain.as_os_str().to_owned();
    name.push(".ocsp");
    name.into()
}

/// Examines a response for the certificate with this serial number.
pub(super) fn examine(response: &[u8], serial: &[u8], now: SystemTime) -> Result<Staple, StapleFault> {
    if response.is_empty() {
        return Err(StapleFault::Empty);
    }
    let answers = answers(response)?;
    let answer = answers.into_iter().find(|answer| answer.serial == serial).ok_or(StapleFault::OtherCertificate)?;
    match answer.status {
        0 => {}
        1 => return Err(StapleFault::Revoked),
        _ => return Err(StapleFault::Unknown),
    }
    if answer.this_update > now + SKEW {
        return Err(StapleFault::NotYetValid(answer.this_update));
    }
    let until = answer.next_update.ok_or(StapleFault::Timeless)?;
    if until <= now {
        return Err(StapleFault::Expired(until));
    }
    Ok(Staple { response: response.to_vec(), until })
}

/// A `SingleResponse`.
struct Answer<'a> {
    serial: &'a [u8],
    /// 0: good, 1: revoked, 2: unknown.
    status: u32,
    this_update: SystemTime,
    next_update: Option<SystemTime>,
}

/// `OCSPResponse` of RFC 6960 section 4.2.1.
fn answers(response: &[u8]) -> Result<Vec<Answer<'_>>, StapleFault> {
    let mut file = Der(response);
    let mut outer = file.sequence().filter(|_| file.0.is_empty()).ok_or(StapleFault::NotOcsp)?;
    match outer.take(Tag::Enumerated) {
        Some([0]) => {}
        Some([status]) => return Err(StapleFault::NoAnswer(*status)),
        _ => return Err(StapleFault::NotOcsp),
    }
    outer.context(0).and_then(basic).ok_or(StapleFault::NotOcsp)
}

/// `ResponseBytes`, and the `BasicOCSPResponse` within.
fn basic(mut bytes: Der<'_>) -> Option<Vec<Answer<'_>>> {
    let mut bytes = bytes.sequence()?;
    if bytes.take(Tag::Oid)? != BASIC {
        return None;
    }
    let mut data = Der(bytes.take(Tag::OctetString)?).sequence()?.sequence()?;
    let _version = data.context(0);
    let _responder = data.next()?;
    let _produced_at = data.time()?;
    let mut responses = data.sequence()?;
    let mut answers = Vec::new();
    while !responses.0.is_empty() {
        let mut single = responses.sequence()?;
        let mut certificate = single.sequence()?;
        let _hash = certificate.sequence()?;
        let _issuer_name = certificate.take(Tag::OctetString)?;
        let _issuer_key = certificate.take(Tag::OctetString)?;
        let serial = certificate.take(Tag::Integer)?;
        let status = single.next().filter(|status| status.class() == Class::ContextSpecific)?.tag().0;
        let this_update = single.time()?;
        let next_update = match single.context(0) {
            Some(mut next) => Some(next.time()?),
            None => None,
        };
        answers.push(Answer { serial, status, this_update, next_update });
    }
    Some(answers)
}

/// What is left of a structure's content.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    fn next(&mut self) -> Option<Any<'a>> {
        let (rest, element) = Any::from_der(self.0).ok()?;
        self.0 = rest;
        Some(element)
    }

    fn take(&mut self, tag: Tag) -> Option<&'a [u8]> {
        let element = self.next()?;
        (element.class() == Class::Universal && element.tag() == tag).then_some(element.data)
    }

    fn sequence(&mut self) -> Option<Self> {
        self.take(Tag::Sequence).map(Self)
    }

    /// The element with this tag of the context, if it is the next.
    fn context(&mut self, number: u32) -> Option<Self> {
        let (rest, element) = Any::from_der(self.0).ok()?;
        if element.class() != Class::ContextSpecific || element.tag().0 != number {
            return None;
        }
        self.0 = rest;
        Some(Self(element.data))
    }

    fn time(&mut self) -> Option<SystemTime> {
        let (rest, time) = ASN1Time::from_der(self.0).ok()?;
        self.0 = rest;
        Some(system_time(time))
    }
}

#[cfg(test)]
mod tests;
