//! `google.protobuf.Timestamp`, written in JSON as Kubernetes writes it.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// A moment; in JSON RFC 3339 in UTC with `Z`, with a fraction only if there is one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Message)]
pub struct Timestamp {
    /// Seconds since 1970.
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    /// Nanoseconds of the second, 0 to 999,999,999.
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}

impl Timestamp {
    /// The moment `millis` milliseconds after 1970 began.
    pub const fn from_millis(millis: i64) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "the remainder is below 1000")]
        Self { seconds: millis.div_euclid(1000), nanos: millis.rem_euclid(1000) as i32 * 1_000_000 }
    }

    /// The same moment without its fraction, as Kubernetes has it in `metadata`.
    #[must_use]
    pub const fn whole_seconds(self) -> Self {
        Self { seconds: self.seconds, nanos: 0 }
    }

    /// Milliseconds since 1970.
    pub const fn as_millis(&self) -> i64 {
        self.seconds.saturating_mul(1000).saturating_add(self.nanos as i64 / 1_000_000)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::new(self.seconds, self.nanos) {
            Ok(moment) => fmt::Display::fmt(&moment, f),
            Err(_) => write!(f, "{}s", self.seconds),
        }
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let moment: jiff::Timestamp = text.parse().map_err(|_| {
            D::Error::custom(format!("'{text}' is not a time; allowed is RFC 3339, such as 2026-01-31T12:00:00Z"))
        })?;
        Ok(Self { seconds: moment.as_second(), nanos: moment.subsec_nanosecond() })
    }
}
