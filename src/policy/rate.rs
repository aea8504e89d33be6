//! `COUNT/PERIOD`: how often something may happen.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

/// A burst of `count`, refilled evenly over `period`; for failures, at most `count` in a sliding window of `period`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many.
    pub count: NonZeroU32,
    /// In which time; not zero, and at least a microsecond for each of `count`.
    pub period: Duration,
}

/// Why a text is no rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a rate is COUNT/PERIOD, such as 30/min, 1000/day or 20/10min")]
pub struct BadRate;

impl FromStr for Rate {
    type Err = BadRate;

    fn from_str(text: &str) -> Result<Self, BadRate> {
        let (count, period) = text.split_once('/').ok_or(BadRate)?;
        let count = count.trim().parse().map_err(|_| BadRate)?;
        let period = match period.trim() {
            "s" | "sec" | "second" => Duration::from_secs(1),
            "m" | "min" | "minute" => Duration::from_secs(60),
            "h" | "hour" => Duration::from_secs(3600),
            "d" | "day" => Duration::from_secs(86_400),
            other => humantime::parse_duration(other).map_err(|_| BadRate)?,
        };
        let rate = Self { count, period };
        // A refill in less than this is no limit, and clocks could not tell it from none.
        if rate.period / rate.count.get() < Duration::from_micros(1) {
            return Err(BadRate);
        }
        Ok(rate)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.count, humantime::format_duration(self.period))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_reads_as_people_write_it() {
        let cases = [
            ("600/min", 600, 60),
            ("20/10min", 20, 600),
            ("50/h", 50, 3600),
            ("1000/day", 1000, 86_400),
            ("1 / 5s", 1, 5),
        ];
        for (text, count, seconds) in cases {
            let rate: Rate = text.parse().expect(text);
            assert_eq!((rate.count.get(), rate.period.as_secs()), (count, seconds), "{text}");
        }
        for bad in ["", "600", "0/min", "-1/min", "5/0s", "5/fortnight", "x/min", "2000000/s"] {
            assert_eq!(bad.parse::<Rate>(), Err(BadRate), "{bad}");
        }
    }
}
