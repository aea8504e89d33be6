//! How long, how large, how often.

use crate::policy::rate::Rate;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// How long something takes; `0` and `off` are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) struct Span(pub(in crate::config) Duration);

/// Octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) struct Size(pub(in crate::config) u64);

/// A rate; `0` and `off` are none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) struct Quota(pub(in crate::config) Option<Rate>);

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // Deadlines are added to the clock, which does not reach for ever.
        const LONGEST: Duration = Duration::from_secs(10 * 366 * 86_400);
        if matches!(text, "0" | "off") {
            return Ok(Self(Duration::ZERO));
        }
        if text.bytes().all(|b| b.is_ascii_digit()) && !text.is_empty() {
            return Err(format!("has no unit: write {text}s, {text}min or {text}h"));
        }
        match humantime::parse_duration(text) {
            Ok(span) if span <= LONGEST => Ok(Self(span)),
            Ok(_) => Err("is longer than ten years".to_owned()),
            Err(_) => Err("is not a duration: write it like 2s, 35min, 1h or 30d".to_owned()),
        }
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (count, unit) = text.split_at(digits);
        let factor: Option<u64> = match unit.trim() {
            "" | "B" => Some(1),
            "kB" | "KB" => Some(1_000),
            "MB" => Some(1_000_000),
            "GB" => Some(1_000_000_000),
            "KiB" => Some(1 << 10),
            "MiB" => Some(1 << 20),
            "GiB" => Some(1 << 30),
            _ => None,
        };
        let size = count.parse::<u64>().ok().zip(factor).and_then(|(count, factor)| count.checked_mul(factor));
        size.map(Self).ok_or_else(|| "is not a size: write it like 50MiB, 10MB or 52428800".to_owned())
    }
}

impl FromStr for Quota {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if matches!(text, "0" | "off") {
            return Ok(Self(None));
        }
        let rate = text.parse::<Rate>().map_err(|_| match text.parse::<u32>() {
            Ok(count) => format!("has no period: write {count}/min or {count}/h, or 0 for no limit"),
            Err(_) => {
                "is not a rate: write COUNT/PERIOD like 30/min, 20/10min or 1000/day, or 0 for no limit".to_owned()
            }
        })?;
        Span::from_str(&humantime::format_duration(rate.period).to_string())?;
        Ok(Self(Some(rate)))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let whole = self.0.subsec_nanos() == 0;
        match seconds {
            0 if whole => f.write_str("0"),
            _ if whole && seconds.is_multiple_of(86_400) => write!(f, "{}d", seconds / 86_400),
            _ if whole && seconds.is_multiple_of(3_600) => write!(f, "{}h", seconds / 3_600),
            _ if whole && seconds > 60 && seconds.is_multiple_of(60) => write!(f, "{}min", seconds / 60),
            _ if whole => write!(f, "{seconds}s"),
            _ => write!(f, "{}", humantime::format_duration(self.0)),
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 > 0 && self.0.is_multiple_of(1 << 20) {
            write!(f, "{}MiB", self.0 >> 20)
        } else {
            write!(f, "{}", self.0)
        }
    }
}

impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(Rate { count, period }) = self.0 else { return f.write_str("0") };
        match period.as_secs() {
            60 => write!(f, "{count}/min"),
            3_600 => write!(f, "{count}/h"),
            86_400 => write!(f, "{count}/day"),
            _ => write!(f, "{count}/{}", Span(period)),
        }
    }
}
