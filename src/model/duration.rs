//! Durations as people write them: `15s`, `1m30s`, `250ms`.

use std::fmt::Write as _;

const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Milliseconds of a text like `15s`, `1m30s`, `250ms` or `2h`; units from `d` down to `ms`, each at most once, in that order.
pub fn parse_ms(text: &str) -> Option<u64> {
    let (mut rest, mut total_ms, mut next_unit) = (text, 0_u64, 0);
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let count: u64 = rest[..digits].parse().ok()?;
        let behind = &rest[digits..];
        let letters = behind.len() - behind.trim_start_matches(|c: char| c.is_ascii_lowercase()).len();
        let unit = UNITS[next_unit..].iter().position(|(name, _)| *name == &behind[..letters])? + next_unit;
        total_ms = total_ms.checked_add(count.checked_mul(UNITS[unit].1)?)?;
        next_unit = unit + 1;
        rest = &behind[letters..];
    }
    (!text.is_empty()).then_some(total_ms)
}

/// The text of so many milliseconds, in the largest units that fit: `1m30s`.
pub fn text(ms: u64) -> String {
    if ms == 0 {
        return "0s".to_owned();
    }
    let (mut rest, mut text) = (ms, String::new());
    for (name, unit) in UNITS {
        if rest >= unit {
            let _ = write!(text, "{}{name}", rest / unit);
            rest %= unit;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_read_back() {
        for ms in [0, 1, 999, 1_000, 15_000, 90_000, 3_600_000, 86_400_000, 90_061_001] {
            assert_eq!(parse_ms(&text(ms)), Some(ms));
        }
        assert_eq!((text(90_000), text(150)), ("1m30s".into(), "150ms".into()));
    }

    #[test]
    fn durations_are_numbers_with_units_from_long_to_short() {
        assert_eq!(parse_ms("15s"), Some(15_000));
        assert_eq!(parse_ms("1m30s"), Some(90_000));
        assert_eq!(parse_ms("2h5ms"), Some(7_200_005));
        assert_eq!(parse_ms("0s"), Some(0));
        for wrong in ["", "15", "s", "1s1m", "1s1s", "-1s", "1.5s", "1 s", "1µs", "999999999999999999d", "99999999999999999999s"] {
            assert_eq!(parse_ms(wrong), None, "{wrong}");
        }
    }
}
