//! Points and spans of time, as values: the model never reads a clock.

use std::fmt;
use std::ops::{Add, Sub};

/// Milliseconds since the Unix epoch, by the clock of the proposer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub u64);

/// A span of time in whole milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Millis(pub u64);

impl Timestamp {
    /// How long ago `earlier` was; zero when it is in the future.
    pub fn since(self, earlier: Timestamp) -> Millis {
        Millis(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Millis> for Timestamp {
    type Output = Timestamp;

    fn add(self, span: Millis) -> Timestamp {
        Timestamp(self.0.saturating_add(span.0))
    }
}

impl Sub<Millis> for Timestamp {
    type Output = Timestamp;

    fn sub(self, span: Millis) -> Timestamp {
        Timestamp(self.0.saturating_sub(span.0))
    }
}

impl Millis {
    pub const fn seconds(seconds: u64) -> Self {
        Self(seconds * 1000)
    }

    /// Parses a Go duration (`300ms`, `1m30s`, `1.5h`), as in specs.
    ///
    /// Spans below a millisecond are rounded up, so that a positive wait never becomes none.
    pub fn parse_go(text: &str) -> Result<Self, String> {
        let bad = || format!("`{text}` is not a duration: write it like `300ms`, `10s` or `1m30s`");
        if text == "0" {
            return Ok(Millis(0));
        }
        if text.starts_with('-') {
            return Err(format!("`{text}` is negative; a duration is zero or more"));
        }
        let mut rest = text.strip_prefix('+').unwrap_or(text);
        let mut nanos = 0f64;
        if rest.is_empty() {
            return Err(bad());
        }
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(bad)?;
            let number: f64 = rest[..digits].parse().map_err(|_| bad())?;
            rest = &rest[digits..];
            let unit_end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
            nanos += number
                * match &rest[..unit_end] {
                    "ns" => 1.0,
                    "us" | "µs" | "μs" => 1e3,
                    "ms" => 1e6,
                    "s" => 1e9,
                    "m" => 60e9,
                    "h" => 3600e9,
                    _ => return Err(bad()),
                };
            rest = &rest[unit_end..];
        }
        // Go keeps durations in 63 bits of nanoseconds: about 292 years.
        if nanos > i64::MAX as f64 {
            return Err(format!("`{text}` is longer than a duration can be (292 years)"));
        }
        Ok(Millis((nanos / 1e6).ceil() as u64))
    }
}

impl fmt::Display for Millis {
    /// Go's form, which `parse_go` reads back: `0s`, `300ms`, `1m30s`, `1.5s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0;
        if ms == 0 {
            return f.pad("0s");
        }
        if ms < 1000 {
            return f.pad(&format!("{ms}ms"));
        }
        let (hours, minutes, rest) = (ms / 3_600_000, ms / 60_000 % 60, ms % 60_000);
        let seconds = match (rest / 1000, rest % 1000) {
            (s, 0) => format!("{s}s"),
            (s, part) => format!("{s}.{}s", format!("{part:03}").trim_end_matches('0')),
        };
        f.pad(&match (hours, minutes) {
            (0, 0) => seconds,
            (0, m) => format!("{m}m{seconds}"),
            (h, m) => format!("{h}h{m}m{seconds}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_durations_are_read_and_written_back() {
        for (text, ms, written) in [
            ("0", 0, "0s"),
            ("0s", 0, "0s"),
            ("300ms", 300, "300ms"),
            ("10s", 10_000, "10s"),
            ("1m30s", 90_000, "1m30s"),
            ("1.5h", 5_400_000, "1h30m0s"),
            ("1h0.5s", 3_600_500, "1h0m0.5s"),
            ("1ns", 1, "1ms"),
        ] {
            let read = Millis::parse_go(text).expect(text);
            assert_eq!(read, Millis(ms), "{text}");
            assert_eq!(read.to_string(), written, "{text}");
            assert_eq!(Millis::parse_go(&read.to_string()), Ok(read));
        }
    }

    #[test]
    fn what_go_refuses_as_a_duration_is_refused() {
        for text in ["", "10", "s", "1 s", "1x", "-1s", "1e3s", "..s", "99999999999h"] {
            assert!(Millis::parse_go(text).is_err(), "{text}");
        }
    }
}
