//! What a browser is told where a webmail cannot be shown: a small page in the help page's style.

use super::answer::{FOR_NOBODY, found};
use super::escaped;
use super::page::STYLE;
use crate::policy::Policy;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{CONNECTION, HeaderValue, LOCATION, RETRY_AFTER};
use hyper::{Response, StatusCode};

/// Why there is no webmail to be seen.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// It does not answer.
    Down,
    /// It takes too long to.
    TooLong,
    /// Too many are there already.
    Full,
    /// The address has to wait.
    Banned,
    /// The request is not one that is passed on.
    BadRequest,
    /// The request did not come to its end.
    Unfinished,
    /// It is for a server that we are not.
    Astray,
    /// It is to be asked for here.
    Elsewhere(String),
}

impl Trouble {
    pub(super) fn page(&self, policy: &Policy) -> Response<Full<Bytes>> {
        let (status, title, words) = self.told();
        let company = escaped(&policy.portal.company);
        let help = format!("https://{}{}/", escaped(&policy.hostname), policy.page_port_in_url());
        let html = format!(
            "<!DOCTYPE html>
<html lang=\"en\">
<head>
<meta charset=\"utf-8\">
<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">
<title>{title} – {company}</title>
<style>{STYLE}</style>
</head>
<body>
<header>
<h1>{company}</h1>
<p>Webmail</p>
</header>
<main>
<h2>{title}</h2>
<p>{words}</p>
<p><a href=\"{help}\">Settings for mail programs, and help</a></p>
</main>
</body>
</html>
"
        );
        let mut response = found("text/html; charset=utf-8", FOR_NOBODY, None, html);
        *response.status_mut() = status;
        let headers = response.headers_mut();
        match self {
            Trouble::Down | Trouble::TooLong | Trouble::Full => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("10"));
            }
            Trouble::Elsewhere(place) => {
                if let Ok(place) = HeaderValue::from_str(place) {
                    headers.insert(LOCATION, place);
                }
            }
            Trouble::BadRequest | Trouble::Unfinished => {
                headers.insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Trouble::Banned | Trouble::Astray => {}
        }
        response
    }

    fn told(&self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Trouble::Down => (
                StatusCode::BAD_GATEWAY,
                "Webmail is not there just now",
                "Your mail is safe. Try again in a few minutes; a mail program may work meanwhile.",
            ),
            Trouble::TooLong => (
                StatusCode::GATEWAY_TIMEOUT,
                "Webmail takes too long to answer",
                "Your mail is safe. Try again in a few minutes. If you were sending something, look into the folder of what you have sent first.",
            ),
            Trouble::Full => (StatusCode::SERVICE_UNAVAILABLE, "Webmail has too much to do", "Try again in a moment."),
            Trouble::Banned => (
                StatusCode::FORBIDDEN,
                "Your address has to wait",
                "Too many wrong passwords came from your network address. The page below says until when, and what to do.",
            ),
            Trouble::BadRequest => {
                (StatusCode::BAD_REQUEST, "That cannot be asked", "The request is not one that webmail is asked.")
            }
            Trouble::Unfinished => (
                StatusCode::REQUEST_TIMEOUT,
                "It did not arrive",
                "What your browser sent did not come to its end in time. Try again.",
            ),
            Trouble::Astray => (
                StatusCode::MISDIRECTED_REQUEST,
                "Another name, please",
                "This server has no such name. Begin on the page below.",
            ),
            Trouble::Elsewhere(_) => {
                (StatusCode::PERMANENT_REDIRECT, "It is somewhere else", "Webmail has another address.")
            }
        }
    }
}
