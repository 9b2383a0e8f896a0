//! Names of resources and namespaces, by the rules of Kubernetes (RFC 1123).

/// Longest name, in bytes (an RFC 1123 subdomain).
pub const NAME_LENGTH_MAX: usize = 253;
/// Longest namespace, in bytes (an RFC 1123 label).
pub const NAMESPACE_LENGTH_MAX: usize = 63;

/// Checks `metadata.name`.
///
/// # Errors
/// A sentence saying what was found and what is allowed; the caller adds the field path.
pub fn check_name(name: &str) -> Result<(), String> {
    check(name, NAME_LENGTH_MAX, true)
}

/// Checks `metadata.namespace`.
///
/// # Errors
/// A sentence saying what was found and what is allowed; the caller adds the field path.
pub fn check_namespace(namespace: &str) -> Result<(), String> {
    check(namespace, NAMESPACE_LENGTH_MAX, false)
}

fn check(text: &str, length_max: usize, dots: bool) -> Result<(), String> {
    if text.is_empty() {
        return Err("must not be empty".to_owned());
    }
    if text.len() > length_max {
        return Err(format!("has {} bytes, allowed are 1 to {length_max}", text.len()));
    }
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let part_is_good =
        |part: &str| part.starts_with(plain) && part.ends_with(plain) && part.chars().all(|c| plain(c) || c == '-');
    let good = if dots { text.split('.').all(part_is_good) } else { part_is_good(text) };
    if good {
        return Ok(());
    }
    let shown: String = text.chars().take(64).collect();
    let allowed = if dots { "lower-case letters, digits, '-' and '.'" } else { "lower-case letters, digits and '-'" };
    Err(format!("'{shown}' is not a valid name; allowed are {allowed}, beginning and ending with a letter or digit"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_rfc_1123() {
        for good in ["a", "triage-2", "a.b-c.d", "9"] {
            check_name(good).unwrap();
        }
        for bad in ["", "A", "a/b", "-a", "a-", "a..b", "ä", "a_b", &"x".repeat(254)] {
            check_name(bad).unwrap_err();
        }
        check_namespace("prod-1").unwrap();
        for bad in ["a.b", &"x".repeat(64)] {
            check_namespace(bad).unwrap_err();
        }
    }
}
