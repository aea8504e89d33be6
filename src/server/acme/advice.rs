//! Asks the CA when it wants a certificate renewed (ARI, RFC 9773). Nothing depends on an answer.

use super::client::Http;
use crate::proto::line::printable;
use crate::tls::Window;
use hyper::header::{HeaderMap, RETRY_AFTER};
use serde::Deserialize;
use std::time::{Duration, SystemTime};
use time::OffsetDateTime;
use time::format_description::well_known::{Rfc2822, Rfc3339};

/// How long an answer holds that does not say so, and how long a CA that gave none is left alone (RFC 9773, section 4.3.2).
const USUAL: Duration = Duration::from_secs(6 * 3600);

/// The bounds of what the CA's own word (Retry-After) is taken for.
const SHORTEST: Duration = Duration::from_secs(3600);
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// Seconds since 1970. What lies before that or behind this cannot even be shown.
const YEAR_10000: i64 = 253_402_300_800;

/// The longest explanation that is passed on, in octets.
const LONGEST_EXPLANATION: usize = 500;

/// What the CA said of one certificate.
#[derive(Clone, Debug)]
pub(super) struct Advice {
    /// Which certificate.
    pub(super) id: String,
    /// `None`: it suggests nothing that can be understood, or nothing at all.
    pub(super) window: Option<Window>,
    /// Why, as a page to read.
    pub(super) explanation: Option<String>,
    /// Whether it takes such questions; then it also takes that one certificate replaces another.
    pub(super) is_given: bool,
    /// When to ask again.
    pub(super) again: SystemTime,
}

/// The part of a directory that says where to ask.
#[derive(Deserialize)]
struct Directory {
    #[serde(rename = "renewalInfo")]
    renewal_info: Option<String>,
}

#[derive(Deserialize)]
struct RenewalInfo {
    #[serde(rename = "suggestedWindow")]
    window: Suggested,
    #[serde(rename = "explanationURL", default)]
    explanation: Option<String>,
}

#[derive(Deserialize)]
struct Suggested {
    start: String,
    end: String,
}

impl Advice {
    /// Asks about a certificate. A question that fails leaves what was known before.
    pub(super) async fn ask(http: &Http, directory: &str, id: String, before: Option<Self>) -> Self {
        let now = SystemTime::now();
        let before = Self::about(Some(&id), before);
        match answer(http, directory, &id, now).await {
            Ok(advice) => advice,
            Err(why) => {
                tracing::warn!(
                    "acme: {directory} does not say when it wants the certificate renewed, which goes by our own rule then: {}",
                    printable(why.as_bytes(), LONGEST_EXPLANATION)
                );
                let nothing = Self { id, window: None, explanation: None, is_given: false, again: now };
                Self { again: now + USUAL, ..before.unwrap_or(nothing) }
            }
        }
    }

    /// What was said of this certificate; `None` for what was said of another. One that cannot be asked about, because it does not
    /// name its issuer's key, has no `id`.
    pub(super) fn about(id: Option<&str>, said: Option<Self>) -> Option<Self> {
        said.filter(|advice| Some(&*advice.id) == id)
    }

    /// Whether this is about that certificate and need not be asked for now. A clock that was set back makes it old.
    pub(super) fn holds(&self, id: &str, now: SystemTime) -> bool {
        self.id == id && self.again.duration_since(now).is_ok_and(|left| !left.is_zero() && left <= LONGEST)
    }
}

async fn answer(http: &Http, directory: &str, id: &str, now: SystemTime) -> Result<Advice, String> {
    let (_, body) = http.fetch(directory).await?;
    let found: Directory = serde_json::from_slice(&body).map_err(|error| format!("its directory: {error}"))?;
    let Some(url) = found.renewal_info else {
        let id = id.to_owned();
        return Ok(Advice { id, window: None, explanation: None, is_given: false, again: now + USUAL });
    };
    let (head, body) = http.fetch(&format!("{}/{id}", url.trim_end_matches('/'))).await?;
    understood(&head, &body, id, now)
}

fn understood(head: &HeaderMap, body: &[u8], id: &str, now: SystemTime) -> Result<Advice, String> {
    let info: RenewalInfo = serde_json::from_slice(body).map_err(|error| format!("its answer: {error}"))?;
    let moment = |text: &str| {
        let parsed = OffsetDateTime::parse(text, &Rfc3339).map_err(|error| format!("`{text}`: {error}"))?;
        let is_sane = (0..YEAR_10000).contains(&parsed.unix_timestamp());
        is_sane.then(|| SystemTime::from(parsed)).ok_or_else(|| format!("`{text}` is in no year of a certificate's"))
    };
    let window = Window::new(moment(&info.window.start)?, moment(&info.window.end)?)
        .ok_or_else(|| format!("its window ends before it begins: {} {}", info.window.start, info.window.end))?;
    Ok(Advice {
        id: id.to_owned(),
        window: Some(window),
        explanation: info.explanation.map(|page| printable(page.as_bytes(), LONGEST_EXPLANATION)),
        is_given: true,
        again: now + until_again(head, now),
    })
}

fn until_again(head: &HeaderMap, now: SystemTime) -> Duration {
    retry_after(head, now).unwrap_or(USUAL).clamp(SHORTEST, LONGEST)
}

/// How long to wait, as the head of an answer tells it: seconds, or a date (RFC 9110, section 10.2.3), one that is over as none to
/// wait. It may be longer than there is time.
pub(super) fn retry_after(head: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = head.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let seconds = text.parse().ok().map(Duration::from_secs);
    let date = || {
        let date = SystemTime::from(OffsetDateTime::parse(text, &Rfc2822).ok()?);
        Some(date.duration_since(now).unwrap_or_default())
    };
    seconds.or_else(date)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &str = r#"{"suggestedWindow":{"start":"2026-12-01T00:00:00Z","end":"2026-12-02T03:00:00+03:00"},
        "explanationURL":"https://acme.example.net/why\u202e"}"#;

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_000_000)
    }

    fn head(retry_after: &str) -> HeaderMap {
        let mut head = HeaderMap::new();
        if !retry_after.is_empty() {
            head.insert(RETRY_AFTER, retry_after.parse().expect("a header"));
        }
        head
    }

    #[test]
    fn an_answer_is_understood() {
        let advice = understood(&head("21600"), BODY.as_bytes(), "a.b", now()).expect("an answer");
        let window = advice.window.expect("a window");
        assert_eq!(window.end().duration_since(window.start()).expect("later").as_secs(), 24 * 3600);
        assert_eq!(advice.explanation.as_deref(), Some(r"https://acme.example.net/why\u{202e}"));
        assert!(advice.is_given && advice.holds("a.b", now()) && !advice.holds("a.c", now()));
        assert!(!advice.holds("a.b", now() + USUAL) && !advice.holds("a.b", now() - 19 * SHORTEST));
    }

    #[test]
    fn advice_about_one_certificate_is_none_about_the_next() {
        let advice = || Some(understood(&head(""), BODY.as_bytes(), "a.b", now()).expect("an answer"));
        assert!(Advice::about(Some("a.b"), advice()).is_some());
        assert!(Advice::about(Some("a.c"), advice()).is_none());
        assert!(Advice::about(None, advice()).is_none(), "one without a key identifier is not the one before");
        assert!(Advice::about(Some("a.b"), None).is_none());
    }

    #[test]
    fn what_is_broken_is_no_answer() {
        for body in [
            "",
            "{",
            "[]",
            "{}",
            r#"{"suggestedWindow":{}}"#,
            r#"{"suggestedWindow":{"start":"soon","end":"later"}}"#,
            r#"{"suggestedWindow":{"start":"2026-12-02T00:00:00Z","end":"2026-12-01T00:00:00Z"}}"#,
            r#"{"suggestedWindow":{"start":"2026-12-02T00:00:00Z","end":"2026-12-02T00:00:00Z"}}"#,
            r#"{"suggestedWindow":{"start":"0000-01-01T00:00:00Z","end":"9999-12-31T23:59:59Z"}}"#,
            r#"{"suggestedWindow":{"start":"1970-01-01T00:00:00+23:00","end":"2026-12-01T00:00:00Z"}}"#,
            r#"{"suggestedWindow":{"start":"2026-12-01T00:00:00Z","end":"9999-12-31T23:59:59-23:00"}}"#,
        ] {
            assert!(understood(&head(""), body.as_bytes(), "a.b", now()).is_err(), "{body}");
        }
    }

    #[test]
    fn the_ca_is_asked_again_within_a_day_and_not_within_the_hour() {
        for (said, expected) in [
            ("", 6 * 3600),
            ("nonsense", 6 * 3600),
            ("0", 3600),
            ("-5", 6 * 3600),
            ("7200", 7200),
            ("99999999999999999999", 6 * 3600),
            ("9999999", 24 * 3600),
            ("Wed, 18 Nov 2026 13:06:40 GMT", 7200),
            ("Fri, 31 Dec 1999 23:59:59 GMT", 3600),
        ] {
            assert_eq!(until_again(&head(said), now()).as_secs(), expected, "{said:?}");
        }
    }
}
