//! Durations as people write them: `90s`, `10m`, `1h30m` (Kubernetes) and `PT10M` (ISO 8601).

use std::{fmt::Write as _, time::Duration};

/// Longest duration that is accepted, in milliseconds: ten years, so that sums with a wall clock never overflow.
pub const DURATION_MS_MAX: u64 = 10 * 366 * 24 * 3600 * 1000;

/// Reads a duration in Kubernetes or ISO 8601 form.
///
/// # Errors
/// A sentence saying what was found and what is allowed; the caller adds the field path.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let refused =
        || format!("'{text}' is not a duration; allowed are forms such as '30s', '10m', '1h30m', '2d' and 'PT10M'");
    let span: jiff::Span = text.trim().parse().map_err(|_| refused())?;
    if span.get_years() != 0 || span.get_months() != 0 {
        return Err(format!("'{text}' has years or months, whose length is not fixed; use days"));
    }
    let days = i64::from(span.get_weeks()) * 7 + i64::from(span.get_days());
    let clock = span.weeks(0).days(0);
    let signed = jiff::SignedDuration::try_from(clock).map_err(|_| refused())?;
    let whole = jiff::SignedDuration::from_hours(days * 24).checked_add(signed).ok_or_else(refused)?;
    let duration =
        Duration::try_from(whole).map_err(|_| format!("'{text}' is negative; a duration must be 0 or more"))?;
    if duration.as_millis() > u128::from(DURATION_MS_MAX) {
        return Err(format!("'{text}' is longer than the limit of ten years"));
    }
    Ok(duration)
}

/// Writes a duration as [`parse_duration`] reads it, for example `1h 30m` as `1h30m`.
pub fn format_duration(duration: Duration) -> String {
    let (total, millis) = (duration.as_secs(), duration.subsec_millis());
    let mut text = String::new();
    for (size, unit) in [(86_400, 'd'), (3600, 'h'), (60, 'm')] {
        let count = match unit {
            'd' => total / size,
            'h' => total % 86_400 / size,
            _ => total % 3600 / size,
        };
        if count > 0 {
            let _ = write!(text, "{count}{unit}");
        }
    }
    if total % 60 > 0 || (text.is_empty() && millis == 0) {
        let _ = write!(text, "{}s", total % 60);
    }
    if millis > 0 {
        let _ = write!(text, "{millis}ms");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_forms_and_writes_one() {
        for (text, millis, written) in [
            ("90s", 90_000, "1m30s"),
            ("10m", 600_000, "10m"),
            ("1h30m", 5_400_000, "1h30m"),
            ("PT10M", 600_000, "10m"),
            ("P1DT1S", 86_401_000, "1d1s"),
            ("2d", 172_800_000, "2d"),
            ("PT0.25S", 250, "250ms"),
            ("0s", 0, "0s"),
        ] {
            let read = parse_duration(text).unwrap();
            assert_eq!(read.as_millis(), millis, "{text}");
            assert_eq!(format_duration(read), written, "{text}");
            assert_eq!(parse_duration(written).unwrap(), read, "{text}");
        }
    }

    #[test]
    fn refuses_with_the_reason() {
        for (text, says) in [
            ("soon", "not a duration"),
            ("-5s", "negative"),
            ("P1Y", "years"),
            ("90000d", "ten years"),
            ("", "not a duration"),
        ] {
            let refusal = parse_duration(text).unwrap_err();
            assert!(refusal.contains(says), "{text}: {refusal}");
        }
    }
}
