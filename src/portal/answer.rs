//! One request, one answer: which document, and the headers that every one of them has.

use super::discovery;
use super::page;
use super::profile::{Account, profile};
use super::settings::Settings;
use super::traffic::Traffic;
use super::trouble::Trouble;
use super::webmail::{Passage, Passed, WebServers, host};
use crate::policy::Policy;
use crate::policy::webmail::{Webmail, host_name, normal};
use crate::session::{Visitor, Way};
use crate::tls::Root;
use http_body_util::{BodyExt, Either, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use std::sync::Arc;
use std::time::Duration;

/// The largest body that is read: Outlook's question.
const MOST_BODY: usize = 4 * 1024;
/// How long it may take to come.
const PATIENCE: Duration = Duration::from_secs(10);
/// For what is the same for everybody and changes with the configuration alone.
const FOR_AN_HOUR: &str = "public, max-age=3600";
/// For what is about its reader.
pub(super) const FOR_NOBODY: &str = "no-store";

/// A document there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Document {
    Page,
    RootPem,
    RootDer,
    Profile,
    Thunderbird,
    Outlook,
    Records,
}

/// A document of ours, or a webmail's.
pub(super) type Answer = Either<Full<Bytes>, Passed>;

/// Every document with its path, lower-cased: Outlook and people write them as they like. The paths are those of
/// [`crate::policy::portal::DOCUMENTS`].
const DOCUMENTS: [(&str, Document); 9] = [
    ("/", Document::Page),
    ("/ca.pem", Document::RootPem),
    ("/ca.der", Document::RootDer),
    ("/ca.crt", Document::RootDer),
    ("/mail.mobileconfig", Document::Profile),
    ("/.well-known/autoconfig/mail/config-v1.1.xml", Document::Thunderbird),
    ("/mail/config-v1.1.xml", Document::Thunderbird),
    ("/autodiscover/autodiscover.xml", Document::Outlook),
    ("/dns.txt", Document::Records),
];

/// Answers.
pub(super) async fn answer(
    visitor: &Visitor,
    servers: &WebServers,
    traffic: &Traffic,
    request: Request<Incoming>,
) -> Response<Answer> {
    let response = match visitor.way {
        // RFC 9110 section 15.5.20.
        Way::Astray => short(StatusCode::MISDIRECTED_REQUEST, "This server has no such name.\n"),
        Way::Lead => lead(&visitor.policy, &request),
        Way::MailPort => give(visitor, request).await,
        Way::Page => match meant(&visitor.policy, &request) {
            Meant::Page => give(visitor, request).await,
            Meant::Nothing => Trouble::BadRequest.page(&visitor.policy),
            Meant::Webmail(webmail, path) => {
                return Passage { visitor, webmail, servers, traffic }.pass(&path, request).await;
            }
        },
    };
    own(visitor, response)
}

/// Whose a request is.
enum Meant<'a> {
    Page,
    /// A webmail's, with the path as all readers see it.
    Webmail(&'a Webmail, String),
    /// Nobody's: it can be read in more than one way.
    Nothing,
}

fn meant<'a>(policy: &'a Policy, request: &Request<Incoming>) -> Meant<'a> {
    if policy.portal.webmails.is_empty() {
        return Meant::Page;
    }
    let Ok(host) = host(request.headers()) else { return Meant::Nothing };
    let host = host.and_then(|host| host.to_str().ok()).map(host_name).unwrap_or_default();
    let Some(path) = normal(request.uri().path()) else { return Meant::Nothing };
    match policy.portal.webmail(&host, &path) {
        Some(webmail) => Meant::Webmail(webmail, path),
        None => Meant::Page,
    }
}

/// A document of ours with the headers that all of them have. A webmail's answers have their own: frames and scripts are the
/// rule there.
pub(super) fn own(visitor: &Visitor, mut response: Response<Full<Bytes>>) -> Response<Answer> {
    let headers = response.headers_mut();
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if let Ok(policy) = HeaderValue::from_str(page::content_policy()) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    let hsts = visitor.policy.portal.hsts.as_secs();
    // In the clear it means nothing (RFC 6797 section 8.1), and on a mail port it is not for the page alone.
    if hsts > 0
        && visitor.way == Way::Page
        && let Ok(value) = HeaderValue::from_str(&format!("max-age={hsts}"))
    {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, value);
    }
    response.map(Either::Left)
}

async fn give(visitor: &Visitor, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let Some(document) = document(request.uri().path()) else {
        return short(StatusCode::NOT_FOUND, "There is nothing here. The help page is at /\n");
    };
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    // On a mail port nothing is taken: a form that somebody turned here must not be looked at.
    let allowed = match document {
        Document::Outlook if visitor.way == Way::MailPort => "",
        Document::Outlook if request.method() == Method::POST => return outlook(visitor, request).await,
        Document::Outlook => "POST",
        _ if reads => "",
        _ => "GET, HEAD",
    };
    if !allowed.is_empty() {
        let mut response = short(StatusCode::METHOD_NOT_ALLOWED, "That is not done here.\n");
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
        return response;
    }
    let settings = Settings::of(&visitor.policy);
    let certificates = visitor.shared.tls.load().certificates();
    let root = certificates.root();
    let text = |kind, text: String| found(kind, FOR_AN_HOUR, None, text);
    match (document, root) {
        (Document::Page, root) => {
            let html = page::page(visitor, &settings, root.map(Arc::as_ref));
            found("text/html; charset=utf-8", FOR_NOBODY, None, html)
        }
        (Document::RootPem, Some(root)) => {
            found("application/x-pem-file", FOR_AN_HOUR, Some("ca.pem"), root.pem.clone())
        }
        (Document::RootDer, Some(root)) => {
            // The type that Android and Windows open with their own installer.
            found("application/x-x509-ca-cert", FOR_AN_HOUR, Some("ca.crt"), root.der.to_vec())
        }
        (Document::Profile, root) => {
            let text = apple(&visitor.policy, &settings, root.map(Arc::as_ref));
            found("application/x-apple-aspen-config", FOR_AN_HOUR, Some("mail.mobileconfig"), text)
        }
        (Document::Thunderbird, _) => {
            text("text/xml; charset=utf-8", discovery::thunderbird(&visitor.policy, &settings))
        }
        (Document::Records, _) => {
            text("text/plain; charset=utf-8", discovery::records(&settings, visitor.policy.page_port()))
        }
        (Document::RootPem | Document::RootDer, None) => {
            short(StatusCode::NOT_FOUND, "No certificate authority of its own is in use here.\n")
        }
        (Document::Outlook, _) => short(StatusCode::NOT_FOUND, "There is nothing here.\n"),
    }
}

fn document(path: &str) -> Option<Document> {
    let known = DOCUMENTS.iter().find(|(known, _)| path.eq_ignore_ascii_case(known));
    known.map(|(_, document)| *document)
}

/// The way to the same place under TLS.
fn lead(policy: &Policy, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let mut response = short(StatusCode::PERMANENT_REDIRECT, "The page is served over https.\n");
    let host = host(request.headers()).ok().flatten().and_then(|host| host.to_str().ok());
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    if let Ok(location) = HeaderValue::from_str(&policy.lead(host, target)) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

async fn outlook(visitor: &Visitor, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let body = Limited::new(request.into_body(), MOST_BODY).collect();
    let body = match tokio::time::timeout(PATIENCE, body).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(_)) => return last(short(StatusCode::PAYLOAD_TOO_LARGE, "At most 4 KiB.\n")),
        Err(_) => return last(short(StatusCode::REQUEST_TIMEOUT, "The question did not come in time.\n")),
    };
    let text = discovery::outlook(&Settings::of(&visitor.policy), &visitor.policy.portal.company, &body);
    found("text/xml; charset=utf-8", FOR_NOBODY, None, text)
}

/// The profile for Apple's devices: the root where it is private, and the account.
fn apple(policy: &Policy, settings: &Settings, root: Option<&Root>) -> String {
    use crate::proto::Service;
    let account = settings.incoming().zip(settings.best(Service::Submission));
    let account = account.map(|(incoming, outgoing)| Account { incoming, outgoing });
    profile(root.map(|root| root.der.as_ref()), &policy.portal.company, account.as_ref())
}

pub(super) fn found(
    kind: &'static str,
    cache: &'static str,
    file: Option<&'static str>,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    if let Some(Ok(file)) = file.map(|file| HeaderValue::from_str(&format!("attachment; filename=\"{file}\""))) {
        headers.insert(header::CONTENT_DISPOSITION, file);
    }
    response
}

/// An answer in a line.
fn short(status: StatusCode, words: &'static str) -> Response<Full<Bytes>> {
    let mut response = found("text/plain; charset=utf-8", FOR_NOBODY, None, words);
    *response.status_mut() = status;
    response
}

/// Nothing is read of the connection any more.
fn last(mut response: Response<Full<Bytes>>) -> Response<Full<Bytes>> {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_document_is_kept_from_webmails() {
        assert_eq!(DOCUMENTS.map(|(path, _)| path), crate::policy::portal::DOCUMENTS);
    }

    #[test]
    fn outlook_may_write_its_path_as_it_likes() {
        for path in
            ["/autodiscover/autodiscover.xml", "/Autodiscover/Autodiscover.xml", "/AUTODISCOVER/AUTODISCOVER.XML"]
        {
            assert_eq!(document(path), Some(Document::Outlook));
        }
        assert_eq!(document("/autodiscover/autodiscover.xml/"), None);
        assert_eq!(document("//"), None);
    }
}
