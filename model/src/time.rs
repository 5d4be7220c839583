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

    /// Parses a Go duration (`300ms`, `1m30s`, `1.5h`), as in specs: in whole nanoseconds, as Go does.
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
        let mut nanos: u128 = 0;
        if rest.is_empty() {
            return Err(bad());
        }
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(bad)?;
            let number = &rest[..digits];
            rest = &rest[digits..];
            let unit_end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
            let unit = match &rest[..unit_end] {
                "ns" => 1,
                "us" | "µs" | "μs" => 1000,
                "ms" => 1_000_000,
                "s" => 1_000_000_000,
                "m" => 60_000_000_000,
                "h" => 3_600_000_000_000,
                _ => return Err(bad()),
            };
            nanos = nanos.saturating_add(times(number, unit).ok_or_else(bad)?);
            rest = &rest[unit_end..];
        }
        // Go keeps durations in 63 bits of nanoseconds: about 292 years.
        if nanos > i64::MAX as u128 {
            return Err(format!("`{text}` is longer than a duration can be (292 years)"));
        }
        Ok(Millis(nanos.div_ceil(1_000_000) as u64))
    }
}

/// So many times a unit, for a decimal such as `1`, `1.5`, `.5` or `1.`; what is less than one is dropped. None if it is
/// none.
fn times(number: &str, unit: u128) -> Option<u128> {
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let is_number = |text: &str| text.bytes().all(|it| it.is_ascii_digit());
    if (whole.is_empty() && part.is_empty()) || !is_number(part) {
        return None;
    }
    // More digits than this are too many for a span, or too small for one.
    let digits =
        |text: &str| text.parse::<u128>().unwrap_or(if text.is_empty() { 0 } else { u128::from(u64::MAX) });
    let whole = digits(whole).min(u128::from(u64::MAX)) * unit;
    let part = &part[..part.len().min(18)];
    Some(whole + digits(part) * unit / 10_u128.pow(part.len() as u32))
}

impl std::ops::Add for Millis {
    type Output = Millis;

    fn add(self, other: Millis) -> Millis {
        Millis(self.0.saturating_add(other.0))
    }
}

impl std::ops::Mul<u64> for Millis {
    type Output = Millis;

    fn mul(self, by: u64) -> Millis {
        Millis(self.0.saturating_mul(by))
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
    fn every_millisecond_is_written_as_it_is_read() {
        for ms in 0..200_000 {
            let text = Millis(ms).to_string();
            assert_eq!(Millis::parse_go(&text), Ok(Millis(ms)), "{text}");
            let seconds = format!("{}.{:03}s", ms / 1000, ms % 1000);
            assert_eq!(Millis::parse_go(&seconds), Ok(Millis(ms)), "{seconds}");
        }
        for (text, ms) in [
            ("0.067s", 67),
            ("1.068s", 1068),
            ("1.s", 1000),
            (".5s", 500),
            ("0.0000000019s", 1),
            ("0.0000000001s", 0),
            ("0.33333333333333333333333333333333333333333h", 1_200_000),
            ("9223372036.854775807s", 9_223_372_036_855),
        ] {
            assert_eq!(Millis::parse_go(text), Ok(Millis(ms)), "{text}");
        }
        for text in
            [".s", "1.2.3s", "1..5s", "9223372036.9s", "99999999999999999999999999999999999999999999h"]
        {
            assert!(Millis::parse_go(text).is_err(), "{text}");
        }
    }

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
