//! How Go writes booleans and durations, which is how Consul's clients send them.

/// Nanoseconds of each unit that a duration may be written in.
const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];
/// Digits behind a point that a nanosecond can tell apart, in any unit.
const FRACTION_DIGITS_MAX: usize = 18;

/// A boolean as `strconv.ParseBool` reads it, which knows Python's `True` as well.
pub fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Nanoseconds of a duration as `time.ParseDuration` reads it, `1m30s`, `1.5h` or a bare `0`; none below zero.
pub fn parse_duration_ns(text: &str) -> Option<u64> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (whole, behind) = digits(rest);
        let (fraction, behind) = match behind.strip_prefix('.') {
            Some(behind) => digits(behind),
            None => ("", behind),
        };
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let letters = behind.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(letters);
        let unit = UNITS.iter().find(|(name, _)| *name == unit)?.1;
        let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        total = total.checked_add(whole.checked_mul(unit)?)?.checked_add(part_of(unit, fraction)?)?;
        rest = behind;
    }
    i64::try_from(total).is_ok().then_some(total)
}

fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

/// Nanoseconds of the digits behind a point.
fn part_of(unit: u64, fraction: &str) -> Option<u64> {
    let fraction = &fraction[..fraction.len().min(FRACTION_DIGITS_MAX)];
    if fraction.is_empty() {
        return Some(0);
    }
    let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    u64::try_from(fraction.parse::<u128>().ok()? * u128::from(unit) / scale).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        let ms = 1_000_000;
        for (text, ns) in [
            ("15s", 15_000 * ms),
            ("1m30s", 90_000 * ms),
            ("1.5h", 5_400_000 * ms),
            ("60000ms", 60_000 * ms),
            (".5s", 500 * ms),
            ("2.s", 2_000 * ms),
            ("0", 0),
            ("+1s", 1_000 * ms),
            ("3us", 3_000),
            ("3µs", 3_000),
            ("1s1m", 61_000 * ms),
        ] {
            assert_eq!(parse_duration_ns(text), Some(ns), "{text}");
        }
        for wrong in ["", "15", "s", "-1s", "1 s", ".s", "1x", "10000000000h", "99999999999999999999s", "1s ", "true"] {
            assert_eq!(parse_duration_ns(wrong), None, "{wrong}");
        }
    }
}
