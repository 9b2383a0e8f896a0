//! `[traces]`: where traces go.

use baton_activities::{Secret, TracesOptions};
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};

use super::{ConfigError, HiddenText, temporal};

/// `[traces]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct TracesConfig {
    /// URL of a collector that takes OTLP over HTTP; `/v1/traces` is added. Empty: there are no traces.
    pub endpoint: String,
    /// Headers of its requests, as `name=value,name=value` with values percent-encoded.
    pub headers: HiddenText,
    /// Whether spans hold messages, arguments and results.
    #[serde(deserialize_with = "temporal::or_text")]
    pub content: bool,
    /// `service.name` of all spans.
    pub service_name: String,
}

impl Default for TracesConfig {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            headers: HiddenText::default(),
            content: false,
            service_name: "baton".to_owned(),
        }
    }
}

impl TracesConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let scheme = ["http://", "https://"].iter().any(|scheme| self.endpoint.starts_with(scheme));
        if !self.endpoint.is_empty() && !scheme {
            let message = "traces.endpoint is not a URL of http or https; allowed is such as http://127.0.0.1:4318";
            return Err(ConfigError(message.to_owned()));
        }
        self.headers().map(drop)
    }

    fn headers(&self) -> Result<Vec<(String, Secret)>, ConfigError> {
        let pairs = self.headers.0.split(',').map(str::trim).filter(|pair| !pair.is_empty());
        pairs
            .map(|pair| {
                let (name, value) =
                    pair.split_once('=').filter(|(name, _)| !name.trim().is_empty()).ok_or_else(|| {
                        ConfigError(
                            "traces.headers has a part that is not name=value; parts are separated by commas"
                                .to_owned(),
                        )
                    })?;
                let value = percent_decode_str(value.trim())
                    .decode_utf8()
                    .map_err(|_| ConfigError(format!("traces.headers: the value of '{}' is not UTF-8", name.trim())))?;
                Ok((name.trim().to_owned(), Secret::new(value)))
            })
            .collect()
    }

    /// Where traces go; `None` for nowhere.
    pub(super) fn options(&self) -> Option<TracesOptions> {
        (!self.endpoint.is_empty()).then(|| TracesOptions {
            endpoint: self.endpoint.clone(),
            // They were checked.
            headers: self.headers().unwrap_or_default(),
            content: self.content,
            service_name: self.service_name.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(headers: &str) -> TracesConfig {
        TracesConfig { headers: HiddenText(headers.to_owned()), ..TracesConfig::default() }
    }

    #[test]
    fn headers_are_read_as_the_standard_variable_has_them_and_not_shown() {
        let config =
            TracesConfig { endpoint: "http://c:4318".to_owned(), ..config("a=1, Authorization=Bearer%20x%2Cy ,") };
        config.check().unwrap();
        let options = config.options().unwrap();
        assert_eq!(
            options.headers,
            [("a".to_owned(), Secret::new("1")), ("Authorization".to_owned(), Secret::new("Bearer x,y"))]
        );
        assert!(!format!("{config:?} {options:?}").contains("Bearer"));
        assert_eq!(TracesConfig::default().options(), None);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (wrong, says) in [
            (config("alone"), "not name=value"),
            (config("=x"), "not name=value"),
            (config("a=%ff"), "the value of 'a'"),
            (TracesConfig { endpoint: "collector:4318".to_owned(), ..config("") }, "traces.endpoint"),
        ] {
            let refused = wrong.check().unwrap_err().to_string();
            assert!(refused.contains(says), "{refused}");
        }
    }
}
