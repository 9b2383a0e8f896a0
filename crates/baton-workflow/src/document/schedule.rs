//! `schedule`: when executions of a workflow start by themselves.
//!
//! Which times a [`Schedule`] means is arithmetic here; who keeps the time and starts executions is the server's.
//!
//! # Invariants
//! - The same schedule, anchor and time zone give the same times, whenever they are asked for.
//! - A schedule that exists has a next time: a cron expression that never comes is a violation.
//!
//! # Deliberately absent
//! A clock. Two schedules of one workflow: the specification does not say what they mean together.

use std::{fmt, time::Duration};

use baton_types::{Violation, format_duration};
use croner::parser::{CronParser, Seconds, Year};
use jiff::{Timestamp, Zoned, tz::TimeZone};
use serde_json::Value;

use crate::{
    document::{Builder, Fields, On, quoted, shown},
    task::Delay,
};

/// Shortest time between two starts of one workflow.
pub const INTERVAL_MS_MIN: u64 = 1000;
/// Longest cron expression, in bytes.
const CRON_BYTES_MAX: usize = 256;
/// What expressions of a schedule may name: there is no execution yet.
const OF_SCHEDULE: &[&str] = &["runtime"];
/// Names for cron expressions.
const NICKNAMES: [&str; 7] = ["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"];

/// When executions start.
#[derive(Debug)]
pub enum Schedule {
    /// Again and again, whether or not the one before is still running.
    Every {
        /// From one start to the next, in milliseconds.
        interval_ms: u64,
    },
    /// At certain minutes.
    Cron(Cron),
    /// A time after the one before has ended.
    After {
        /// From the end to the next start, in milliseconds.
        delay_ms: u64,
    },
    /// When events came.
    On(On),
}

impl Schedule {
    /// The first time after `after_ms`. `anchor_ms` is when an interval begins to be counted. `None` for schedules whose
    /// times are not known beforehand. All times are in milliseconds since 1970.
    pub fn next_after(&self, anchor_ms: i64, after_ms: i64, zone: &TimeZone) -> Option<i64> {
        match self {
            Self::Every { interval_ms } => {
                let interval = i64::try_from(*interval_ms).ok()?;
                let passed = after_ms.checked_sub(anchor_ms)?.div_euclid(interval).max(0);
                passed.checked_add(1)?.checked_mul(interval)?.checked_add(anchor_ms)
            }
            Self::Cron(cron) => cron.next_after(after_ms, zone),
            Self::After { .. } | Self::On(_) => None,
        }
    }

    /// The last times after `after_ms` and up to `until_ms`, at most `limit`, in order.
    pub fn last_until(&self, anchor_ms: i64, after_ms: i64, until_ms: i64, zone: &TimeZone, limit: usize) -> Vec<i64> {
        let mut times = Vec::new();
        let mut next = until_ms;
        while times.len() < limit {
            let found = match self {
                Self::Every { interval_ms } => i64::try_from(*interval_ms).ok().and_then(|interval| {
                    let passed = next.checked_sub(anchor_ms)?.div_euclid(interval);
                    (passed >= 1).then(|| anchor_ms + passed * interval)
                }),
                Self::Cron(cron) => cron.last_until(next, zone),
                Self::After { .. } | Self::On(_) => None,
            };
            match found.filter(|time| *time > after_ms) {
                Some(time) => {
                    times.push(time);
                    next = time - 1;
                }
                None => break,
            }
        }
        times.reverse();
        times
    }
}

/// For people: `every 1h`, `cron 0 0 * * *`, `after 5m`, `on one of com.example.order`.
impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let span = |millis: &u64| format_duration(Duration::from_millis(*millis));
        match self {
            Self::Every { interval_ms } => write!(f, "every {}", span(interval_ms)),
            Self::Cron(cron) => write!(f, "cron {}", cron.text),
            Self::After { delay_ms } => write!(f, "after {}", span(delay_ms)),
            Self::On(on) => write!(f, "on {}", on.about()),
        }
    }
}

/// A cron expression of five fields.
pub struct Cron {
    text: String,
    cron: croner::Cron,
}

impl fmt::Debug for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cron").field(&self.text).finish()
    }
}

impl Cron {
    /// Reads an expression: minute, hour, day of the month, month, day of the week; or a name such as `@daily`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let allowed = "allowed are five fields for minute, hour, day of the month, month and day of the week";
        if text.len() > CRON_BYTES_MAX {
            return Err(format!("has {} bytes, allowed are up to {CRON_BYTES_MAX}", text.len()));
        }
        if text.contains('@') && !NICKNAMES.contains(&text.to_ascii_lowercase().as_str()) {
            return Err(format!(
                "'{}' is no name for a cron expression; names are {}",
                shown(text),
                quoted(NICKNAMES.into_iter())
            ));
        }
        let fields = text.split_whitespace().count();
        if fields != 5 && !text.contains('@') {
            let seconds = if fields == 6 { "; for seconds there is 'every'" } else { "" };
            return Err(format!("'{}' has {fields} fields, {allowed}{seconds}", shown(text)));
        }
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let parsed = if text.is_ascii() { parser.parse(text).ok() } else { None };
        let Some(cron) = parsed else {
            return Err(format!("'{}' is not a cron expression; {allowed}", shown(text)));
        };
        let read = Self { text: text.to_owned(), cron };
        // The year 2000 begins a cycle of the calendar; what does not come after it never does.
        match read.next_after(946_684_800_000, &TimeZone::UTC) {
            Some(_) => Ok(read),
            None => Err(format!("'{}' never comes: there is no such day", shown(text))),
        }
    }

    /// The expression as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    fn next_after(&self, after_ms: i64, zone: &TimeZone) -> Option<i64> {
        let found = self.cron.find_next_occurrence(&whole_second(after_ms, zone)?, false).ok()?;
        Some(found.timestamp().as_millisecond())
    }

    fn last_until(&self, until_ms: i64, zone: &TimeZone) -> Option<i64> {
        let found = self.cron.find_previous_occurrence(&whole_second(until_ms, zone)?, true).ok()?;
        Some(found.timestamp().as_millisecond())
    }
}

fn whole_second(time_ms: i64, zone: &TimeZone) -> Option<Zoned> {
    let time = Timestamp::from_second(time_ms.div_euclid(1000)).ok()?;
    Some(time.to_zoned(zone.clone()))
}

/// Reads only the `schedule` of a document that has been checked: what keeps many schedules keeps nothing else of them.
///
/// # Errors
/// As for [`check`](crate::check).
pub fn schedule(document: &Value) -> Result<Option<Schedule>, Vec<Violation>> {
    let mut builder = Builder::default();
    builder.loose = document["evaluate"]["mode"] == "loose";
    let Some(mut fields) = Fields::open(document, "", &mut builder) else { return Err(builder.violations) };
    let schedule = read(&mut fields, &mut builder);
    if builder.violations.is_empty() { Ok(schedule) } else { Err(builder.violations) }
}

/// Reads `schedule`, if it is there.
pub(super) fn read(fields: &mut Fields<'_>, builder: &mut Builder) -> Option<Schedule> {
    let mut fields = fields.object("schedule", builder)?;
    let words = ["every", "cron", "after", "on"];
    let found: Vec<&'static str> = words.into_iter().filter(|word| fields.has(word)).collect();
    let every = fields.has("every").then(|| interval(&mut fields, "every", builder)).flatten();
    let cron = fields.text("cron", builder).and_then(|text| match Cron::read(text) {
        Ok(cron) => Some(cron),
        Err(message) => {
            builder.violate(&fields.at("cron"), message);
            None
        }
    });
    let after = fields.has("after").then(|| interval(&mut fields, "after", builder)).flatten();
    let on = builder.with_arguments(OF_SCHEDULE, |builder| On::read(&mut fields, builder));
    for word in words {
        fields.get(word);
    }
    let path = fields.path.clone();
    fields.close(builder);
    match found.as_slice() {
        [_] => {}
        [] => builder.violate(&path, format!("must have exactly one of {}; it has none", quoted(words.into_iter()))),
        several => builder.violate(
            &path,
            format!(
                "must have exactly one of {}; it has {}",
                quoted(words.into_iter()),
                quoted(several.iter().copied())
            ),
        ),
    }
    let every = every.map(|interval_ms| Schedule::Every { interval_ms });
    let after = after.map(|delay_ms| Schedule::After { delay_ms });
    every.or(cron.map(Schedule::Cron)).or(after).or(on.map(Schedule::On))
}

fn interval(fields: &mut Fields<'_>, name: &'static str, builder: &mut Builder) -> Option<u64> {
    let path = fields.at(name);
    match fields.duration(name, builder)? {
        Delay::Fixed(millis) if millis >= INTERVAL_MS_MIN => Some(millis),
        Delay::Fixed(millis) => {
            let (found, min) = (Duration::from_millis(millis), Duration::from_millis(INTERVAL_MS_MIN));
            let message = format!("is {}, it must be {} or more", format_duration(found), format_duration(min));
            builder.violate(&path, message);
            None
        }
        Delay::Expression(_) | Delay::Template(_) => {
            builder.violate(&path, "must be a fixed duration: before an execution starts there is nothing to evaluate");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_millisecond()
    }

    fn texts(times: impl IntoIterator<Item = i64>) -> Vec<String> {
        times.into_iter().map(|time| Timestamp::from_millisecond(time).unwrap().to_string()).collect()
    }

    fn zone(name: &str) -> TimeZone {
        TimeZone::get(name).unwrap()
    }

    fn cron(text: &str) -> Schedule {
        Schedule::Cron(Cron::read(text).unwrap())
    }

    fn following(schedule: &Schedule, after: &str, zone: &TimeZone, count: usize) -> Vec<String> {
        let next = |after: &i64| schedule.next_after(0, *after, zone);
        texts(std::iter::successors(next(&ms(after)), next).take(count))
    }

    #[test]
    fn cron_means_minutes_of_a_time_zone() {
        let (utc, berlin) = (TimeZone::UTC, zone("Europe/Berlin"));
        assert_eq!(following(&cron("0 0 * * *"), "2026-01-31T23:59:59.9Z", &utc, 1), ["2026-02-01T00:00:00Z"]);
        assert_eq!(following(&cron("0 0 * * *"), "2026-02-01T00:00:00Z", &utc, 1), ["2026-02-02T00:00:00Z"]);
        assert_eq!(following(&cron("30 6 * * mon-fri"), "2026-07-03T12:00:00Z", &berlin, 1), ["2026-07-06T04:30:00Z"]);
        assert_eq!(
            following(&cron("*/20 9 1,15 * *"), "2026-01-01T09:20:00Z", &utc, 3),
            ["2026-01-01T09:40:00Z", "2026-01-15T09:00:00Z", "2026-01-15T09:20:00Z"]
        );
        assert_eq!(following(&cron("@hourly"), "2026-01-01T09:20:00Z", &utc, 1), ["2026-01-01T10:00:00Z"]);
    }

    #[test]
    fn a_time_that_the_clock_jumps_over_comes_late_and_one_that_comes_twice_counts_once() {
        let berlin = zone("Europe/Berlin");
        // At 02:00 the clock goes to 03:00.
        assert_eq!(
            following(&cron("30 2 * * *"), "2026-03-28T12:00:00Z", &berlin, 2),
            ["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]
        );
        // At 03:00 the clock goes back to 02:00.
        assert_eq!(
            following(&cron("30 2 * * *"), "2026-10-24T12:00:00Z", &berlin, 2),
            ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]
        );
    }

    #[test]
    fn intervals_are_counted_from_where_they_begin() {
        let every = Schedule::Every { interval_ms: 3_600_000 };
        let next = |after| every.next_after(ms("2026-01-01T00:10:00Z"), ms(after), &TimeZone::UTC).unwrap();
        assert_eq!(texts([next("2026-01-01T00:10:00Z")]), ["2026-01-01T01:10:00Z"]);
        assert_eq!(texts([next("2025-06-01T00:00:00Z")]), ["2026-01-01T01:10:00Z"]);
        assert_eq!(texts([next("2026-01-05T07:10:00Z")]), ["2026-01-05T08:10:00Z"]);
        assert_eq!(texts([next("2026-01-05T07:09:59.999Z")]), ["2026-01-05T07:10:00Z"]);
    }

    #[test]
    fn what_was_missed_is_the_last_of_it() {
        let (every, cron) = (Schedule::Every { interval_ms: 60_000 }, cron("* * * * *"));
        let (after, until) = (ms("2026-01-01T00:10:00Z"), ms("2026-01-01T00:13:30Z"));
        let anchor = ms("2026-01-01T00:00:00Z");
        for schedule in [every, cron] {
            let last = |after, limit| texts(schedule.last_until(anchor, after, until, &TimeZone::UTC, limit));
            let all = ["2026-01-01T00:11:00Z", "2026-01-01T00:12:00Z", "2026-01-01T00:13:00Z"];
            assert_eq!(last(after, 10), all);
            assert_eq!(last(after, 2), all[1..]);
            assert_eq!(last(until, 10), [""; 0]);
            // Years of minutes cost no more.
            assert_eq!(last(anchor, 1), all[2..]);
        }
    }

    #[test]
    fn what_is_no_cron_expression() {
        for (text, says) in [
            ("0 0 * *", "'0 0 * *' has 4 fields, allowed are five fields"),
            (
                "*/5 * * * * *",
                "has 6 fields, allowed are five fields for minute, hour, day of the month, month and day of the week; for seconds there is 'every'",
            ),
            ("61 0 * * *", "'61 0 * * *' is not a cron expression"),
            ("a b c d e", "is not a cron expression"),
            ("ü * * * *", "is not a cron expression"),
            ("0 0 30 2 *", "'0 0 30 2 *' never comes"),
            ("@reboot", "'@reboot' is no name for a cron expression; names are '@yearly'"),
            ("", "has 0 fields"),
            (&"1,".repeat(200), "has 400 bytes, allowed are up to 256"),
        ] {
            let found = Cron::read(text).unwrap_err();
            assert!(found.contains(says), "{text}: {found}");
        }
        for text in ["0 0 29 2 *", "0 0 L * *", "0 0 * * 5#3", "@DAILY", " 5  4 * * sun "] {
            Cron::read(text).unwrap();
        }
    }
}
