//! What the CA looks for in the DNS (dns-01).

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The label that a proof stands under (RFC 8555, section 8.4).
const LABEL: &str = "_acme-challenge.";

/// A SHA-256 in base64url without padding.
const VALUE: usize = 43;

/// A TXT record that proves a name: `_acme-challenge.NAME VALUE`. The name is made of letters, digits and hyphens, the value of
/// these and underscores: no shell, zone file or command line finds anything else in either.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TxtRecord {
    name: String,
    value: String,
}

/// A text that is no such record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a host name of at most 237 octets with a proof in base64url")]
pub struct InvalidRecord;

impl TxtRecord {
    /// The record for a host name (without `*.`, which is proved by the name below it) and the digest of a key authorization in
    /// base64url.
    ///
    /// # Errors
    /// [`InvalidRecord`] if either is none.
    pub fn new(host: &str, value: &str) -> Result<Self, InvalidRecord> {
        let name = format!("{LABEL}{}", host.to_ascii_lowercase());
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        let is_sound = name.len() <= 253
            && host.split('.').all(is_label)
            && value.len() == VALUE
            && value.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        is_sound.then(|| Self { name, value: value.to_owned() }).ok_or(InvalidRecord)
    }

    /// Its name, in lower case, without the last dot.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it says.
    pub fn value(&self) -> &str {
        &self.value
    }
}

impl fmt::Display for TxtRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.value)
    }
}

impl FromStr for TxtRecord {
    type Err = InvalidRecord;

    fn from_str(text: &str) -> Result<Self, InvalidRecord> {
        let (name, value) = text.split_once(' ').ok_or(InvalidRecord)?;
        Self::new(name.strip_prefix(LABEL).ok_or(InvalidRecord)?, value)
    }
}

impl TryFrom<String> for TxtRecord {
    type Error = InvalidRecord;

    fn try_from(text: String) -> Result<Self, InvalidRecord> {
        text.parse()
    }
}

impl From<TxtRecord> for String {
    fn from(record: TxtRecord) -> Self {
        record.to_string()
    }
}

/// A record that was set and may still be there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftRecord {
    /// Which.
    pub record: TxtRecord,
    /// How often it could not be removed.
    #[serde(default)]
    pub failed: u8,
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROOF: &str = "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0";

    #[test]
    fn a_record_reads_as_it_is_written() {
        let record = TxtRecord::new("Mail.example.net", PROOF).expect("sound");
        assert_eq!((record.name(), record.value()), ("_acme-challenge.mail.example.net", PROOF));
        assert_eq!(record.to_string().parse(), Ok(record.clone()));
        let left = LeftRecord { record, failed: 1 };
        let text = serde_json::to_string(&left).expect("written");
        assert_eq!(serde_json::from_str::<LeftRecord>(&text).expect("read"), left);
    }

    #[test]
    fn nothing_that_a_shell_or_a_zone_file_reads_otherwise_is_a_record() {
        let long = format!("{}.net", vec!["a".repeat(60); 4].join("."));
        for host in [
            "",
            ".",
            "a..net",
            "-a.net",
            "a-.net",
            "a b.net",
            "$(id).net",
            "a;b.net",
            "*.a.net",
            "a.net\n",
            "ä.net",
            "../x",
            &long,
        ] {
            assert_eq!(TxtRecord::new(host, PROOF), Err(InvalidRecord), "{host:?}");
        }
        for value in
            ["", "short", &PROOF.replace('L', "$"), &PROOF.replace('L', " "), &format!("{PROOF}="), &PROOF[1..]]
        {
            assert_eq!(TxtRecord::new("a.net", value), Err(InvalidRecord), "{value:?}");
        }
        for text in [PROOF, "a.net", &format!("a.net {PROOF}"), &format!("_acme-challenge.a.net {PROOF} x")] {
            assert_eq!(text.parse::<TxtRecord>(), Err(InvalidRecord), "{text:?}");
        }
        assert!(serde_json::from_str::<TxtRecord>("\"_acme-challenge.a.net `id`\"").is_err());
    }
}
