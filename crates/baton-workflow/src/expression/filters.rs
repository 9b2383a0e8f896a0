//! The filters that are not written in jq: those of the interpreter's libraries that are pure and bounded, and our own.
//!
//! # Invariants
//! - A filter is here by name, never by default: a new version of a library brings nothing in unseen.
//! - Each does work in proportion to the values it takes and makes, which the values charge for; where it could be
//!   more, the filter charges first.
//!
//! # Deliberately absent
//! Clock, environment, input streams, output, time zones and `halt`: see [`REMOVED`].

use std::rc::Rc;

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use baton_execution::{disarm_secrets, disarm_text};
use jaq_core::{
    Bind, Cv, DataT, Error, Exn, Native, RunPtr, ValR, ValT as _, ValXs, box_iter::box_once, data::JustLut, native,
};

use super::{meter, value::V};

/// What filters work on.
pub(super) type Kind = JustLut<V>;
pub(super) type Filters = Vec<native::Fun<Kind>>;

/// Counts a step and lets the value pass. Put by the rewriter wherever something can repeat.
pub(super) const STEP: &str = "!step";
/// Counts a step of a definition: it holds more memory until it has returned than a step elsewhere.
pub(super) const BODY: &str = "!body";
/// Runs its argument as a call that is not a tail call.
pub(super) const ENTER: &str = "!enter";

const STEP_COST: u64 = 1;
const BODY_COST: u64 = 4;
/// A step of a path: paths grow by a link with each.
const PATH_COST: u64 = 16;

/// Names of jq that expressions cannot use, with what to do instead.
pub(super) const REMOVED: [(&str, &str); 20] = [
    ("now", "expressions must give the same result on every replay; use '$task.startedAt' or '$workflow.startedAt'"),
    ("localtime", "the time zone of a server is not part of a workflow; use 'gmtime'"),
    ("strflocaltime", "the time zone of a server is not part of a workflow; use 'strftime'"),
    ("mktime_local", "the time zone of a server is not part of a workflow; use 'mktime'"),
    ("env", "the environment of a server is not part of a workflow; use '$env'"),
    ("input", "an expression has one input, '.'"),
    ("inputs", "an expression has one input, '.'"),
    ("input_filename", "an expression has one input, '.'"),
    ("input_line_number", "an expression has one input, '.'"),
    ("debug", "expressions write nothing"),
    ("stderr", "expressions write nothing"),
    ("debug_empty", "expressions write nothing"),
    ("stderr_empty", "expressions write nothing"),
    ("halt", "use 'error', or a task of the kind 'raise'"),
    ("halt_error", "use 'error', or a task of the kind 'raise'"),
    ("get_search_list", "there are no modules"),
    ("modulemeta", "there are no modules"),
    ("builtins", "the documentation lists the filters"),
    ("get_prog_origin", "there are no modules"),
    ("repl", "there is no terminal"),
];

/// Filters of the interpreter's libraries that are used as they are.
const TAKEN: [&str; 77] = [
    // jaq-core
    "error_empty",
    "path",
    "path_value",
    "keys_unsorted",
    "key_values",
    "first",
    "skip",
    // jaq-std: arrays, strings, formats
    "floor",
    "round",
    "ceil",
    "utf8bytelength",
    "explode",
    "ascii_downcase",
    "ascii_upcase",
    "sort",
    "sort_by",
    "group_by",
    "min_by_or_empty",
    "max_by_or_empty",
    "startswith",
    "endswith",
    "trim",
    "ltrim",
    "rtrim",
    "escape_sh",
    "escape_html",
    "unescape_html",
    "encode_uri",
    "encode_base64",
    // jaq-std: mathematics
    "acos",
    "acosh",
    "asin",
    "asinh",
    "atan",
    "atanh",
    "cbrt",
    "cos",
    "cosh",
    "exp",
    "exp10",
    "exp2",
    "expm1",
    "fabs",
    "frexp",
    "ilogb",
    "log",
    "log10",
    "log1p",
    "log2",
    "modf",
    "rint",
    "sin",
    "sinh",
    "sqrt",
    "tan",
    "tanh",
    "tgamma",
    "lgamma",
    "trunc",
    "atan2",
    "copysign",
    "fdim",
    "fmax",
    "fmin",
    "fmod",
    "hypot",
    "ldexp",
    "nextafter",
    "pow",
    "scalbln",
    "fma",
    "remainder",
    "erf",
    "erfc",
    // jaq-std: time, in UTC
    "gmtime",
    "mktime",
    "strftime",
];

/// All filters, by name and arguments.
pub(super) fn all() -> Filters {
    let library = jaq_core::funs::<Kind>().chain(jaq_std::funs::<Kind>()).filter(|(name, ..)| TAKEN.contains(name));
    library
        .chain(guards())
        .chain(own::<Kind>())
        .chain(super::update::all())
        .chain(super::regex::all())
        .chain(super::math::all())
        .collect()
}

fn halt<'a, T: 'a>() -> jaq_core::ValXs<'a, T, V> {
    box_once(Err(Exn::halt(0)))
}

fn guards() -> Filters {
    let step = Native::new(|cv: Cv<'_, Kind>| pass(STEP_COST, cv.1))
        .with_paths(|cv| if meter::step(PATH_COST) { box_once(Ok(cv.1)) } else { halt() });
    let body = Native::new(|cv: Cv<'_, Kind>| pass(BODY_COST, cv.1))
        .with_paths(|cv| if meter::step(PATH_COST) { box_once(Ok(cv.1)) } else { halt() });
    let enter = Native::new(|mut cv: Cv<'_, Kind>| {
        let (filter, context) = cv.0.pop_fun();
        Entered::run(move || filter.run((context, cv.1)))
    })
    .with_paths(|mut cv| {
        let (filter, context) = cv.0.pop_fun();
        Entered::run(move || filter.paths((context, cv.1)))
    });
    vec![(STEP, native::v(0), step), (BODY, native::v(0), body), (ENTER, [Bind::Fun(())].into(), enter)]
}

fn pass<'a>(cost: u64, value: V) -> ValXs<'a, V> {
    if meter::step(cost) { box_once(Ok(value)) } else { halt() }
}

/// Results of a call: while one of them is looked for, the call is entered.
struct Entered<'a, T>(ValXs<'a, T, V>);

impl<'a, T: 'a> Entered<'a, T> {
    fn run(call: impl FnOnce() -> ValXs<'a, T, V>) -> ValXs<'a, T, V> {
        let results = if meter::enter() { call() } else { halt() };
        meter::leave();
        Box::new(Self(results))
    }
}

impl<'a, T: 'a> Iterator for Entered<'a, T> {
    type Item = jaq_core::ValX<'a, T, V>;

    fn next(&mut self) -> Option<Self::Item> {
        // What has said that it is at its end stays there, whatever the meter says.
        if self.0.size_hint().1 == Some(0) {
            return None;
        }
        let next = if meter::enter() {
            self.0.next()
        } else {
            self.0 = Box::new(std::iter::empty());
            Some(Err(Exn::halt(0)))
        };
        meter::leave();
        next
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

fn own<D: for<'a> DataT<V<'a> = V>>() -> impl Iterator<Item = native::Fun<D>> {
    own_run().into_vec().into_iter().map(native::run)
}

fn own_run<D: for<'a> DataT<V<'a> = V>>() -> Box<[native::Filter<RunPtr<D>>]> {
    use native::v;
    Box::new([
        ("tojson", v(0), |cv| one(Ok(V::string(cv.1.to_json())))),
        ("fromjson", v(0), |cv| one(from_json(&cv.1))),
        ("length", v(0), |cv| one(length(&cv.1))),
        ("implode", v(0), |cv| one(implode(&cv.1))),
        ("decode_uri", v(0), |cv| one(text_of(&cv.1).map(decode_uri))),
        ("decode_base64", v(0), |cv| one(text_of(&cv.1).and_then(decode_base64))),
        ("nan", v(0), |_| one(Ok(V::Float(f64::NAN)))),
        ("infinite", v(0), |_| one(Ok(V::Float(f64::INFINITY)))),
        ("contains", v(1), |cv| native::unary(cv, |left, right| contains(&left, &right).map(V::Bool))),
        ("has", v(1), |cv| native::unary(cv, |value, key| has(&value, &key))),
        ("indices", v(1), |cv| native::unary(cv, |value, part| indices(&value, &part))),
        ("bsearch", v(1), |cv| native::unary(cv, |value, item| binary_search(&value, &item))),
        ("strptime", v(1), |cv| native::unary(cv, |text, format| parse_time(&text, &format))),
        ("reverse", v(0), |cv| one(reverse(&cv.1))),
        ("tonumber", v(0), |cv| one(to_number(cv.1))),
        ("ltrimstr", v(1), |cv| {
            native::unary(cv, |text, start| Ok(trimmed(text, &start, |text, start| text.strip_prefix(start))))
        }),
        ("rtrimstr", v(1), |cv| {
            native::unary(cv, |text, end| Ok(trimmed(text, &end, |text, end| text.strip_suffix(end))))
        }),
    ])
}

fn one<'a>(result: ValR<V>) -> ValXs<'a, V> {
    native::bome(result)
}

fn from_json(value: &V) -> ValR<V> {
    let text = value.as_str().ok_or_else(|| Error::typ(value.clone(), "string"))?;
    // What is read may take many times the room of its text: `[[],[],[]]`.
    meter::bytes(text.len().saturating_mul(24));
    if !meter::step((text.len() / 16) as u64) {
        return Err(Error::new(V::Null));
    }
    match serde_json::from_str(text) {
        Ok(mut value) => {
            // Escapes may spell what only a secret's placeholder may hold.
            if text.to_ascii_lowercase().contains("\\ufdd") {
                disarm_secrets(&mut value);
            }
            Ok(V::from_json(&value).checked())
        }
        Err(error) => Err(Error::str(format_args!("cannot parse {value} as JSON: {error}"))),
    }
}

fn length(value: &V) -> ValR<V> {
    match value {
        V::Null => Ok(V::Int(0)),
        V::Bool(_) => Err(Error::str(format_args!("{value} has no length"))),
        V::Str(text) => Ok(V::from(text.chars().count())),
        V::Arr(array) => Ok(V::from(array.items().len())),
        V::Obj(object) => Ok(V::from(object.fields().len())),
        number => Ok(number
            .as_integer()
            .map_or_else(|| V::Float(number.as_number().unwrap_or(0.0).abs()), |value| V::integer(value.abs()))),
    }
}

fn reverse(value: &V) -> ValR<V> {
    match value {
        V::Arr(array) => Ok(array.items().iter().rev().cloned().collect()),
        V::Null => Ok(V::array(Vec::new())),
        V::Str(text) if text.is_empty() => Ok(V::array(Vec::new())),
        V::Obj(object) if object.fields().is_empty() => Ok(V::array(Vec::new())),
        _ => Err(Error::typ(value.clone(), "array")),
    }
}

fn to_number(value: V) -> ValR<V> {
    let Some(text) = value.as_str() else {
        return if value.as_number().is_some() { Ok(value) } else { Err(Error::typ(value, "number")) };
    };
    if text == "nan" {
        return Ok(V::Float(f64::NAN));
    }
    let text = text.trim_ascii();
    let text = text.strip_suffix('.').unwrap_or(text);
    let digits = text.strip_prefix('-').unwrap_or(text);
    // What the numbers of programs have and those of JSON do not: signs, names, and no digit at all.
    let is_plain = digits.starts_with(|first: char| first.is_ascii_digit() || first == '.');
    let number = is_plain.then(|| V::from_num(text).ok()).flatten();
    number.ok_or_else(|| Error::str(format_args!("cannot parse {value} as a number")))
}

/// The text without something at one of its ends; whatever else is given stays as it is.
fn trimmed(value: V, part: &V, strip: for<'t, 'p> fn(&'t str, &'p str) -> Option<&'t str>) -> V {
    let rest = value.as_str().zip(part.as_str()).and_then(|(text, part)| strip(text, part));
    rest.map(V::string).unwrap_or(value)
}

fn implode(value: &V) -> ValR<V> {
    let V::Arr(array) = value else { return Err(Error::typ(value.clone(), "array")) };
    let character = |item: &V| match item.as_index() {
        Some(code) => Ok(u32::try_from(code).ok().and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER)),
        None => Err(Error::str(format_args!("cannot use {item} as a character"))),
    };
    let text: Result<String, Error<V>> = array.items().iter().map(character).collect();
    text.map(|text| disarmed(&text))
}

fn text_of(value: &V) -> Result<&str, Error<V>> {
    value.as_str().ok_or_else(|| Error::typ(value.clone(), "string"))
}

/// Text that was made from something else: whatever spells a secret's placeholder there is none.
fn disarmed(text: &str) -> V {
    V::string(disarm_text(text))
}

fn decode_uri(text: &str) -> V {
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    let mut is_changed = false;
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..2).filter(|_| *first == b'%').and_then(|digits| std::str::from_utf8(digits).ok());
        let plain = |digits: &&str| digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        if let Some(byte) = digits.filter(plain).and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            bytes.push(byte);
            rest = &after[2..];
            is_changed |= !byte.is_ascii();
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    let decoded = String::from_utf8_lossy(&bytes);
    if is_changed { disarmed(&decoded) } else { V::string(decoded) }
}

/// With or without its padding, and whatever the bits are that do not fill a byte.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone),
);

fn decode_base64(text: &str) -> ValR<V> {
    let digits = text.trim_end_matches('=');
    let bytes = BASE64
        .decode(digits)
        .map_err(|error| Error::str(format_args!("{} is not base64: {error}", V::string(text))))?;
    Ok(disarmed(&String::from_utf8_lossy(&bytes)))
}

fn contains(left: &V, right: &V) -> ValR<bool, V> {
    if !meter::step(1) {
        return Err(Error::new(V::Null));
    }
    Ok(match (left, right) {
        (V::Str(left), V::Str(right)) => {
            meter::step((left.len() / 64) as u64);
            left.contains(right.as_str())
        }
        (V::Arr(left), V::Arr(right)) => {
            for wanted in right.items() {
                let mut found = false;
                for item in left.items() {
                    found = rank_alike(item, wanted) && contains(item, wanted)?;
                    if found {
                        break;
                    }
                }
                if !found {
                    return Ok(false);
                }
            }
            true
        }
        (V::Obj(left), V::Obj(right)) => {
            for (key, wanted) in right.fields() {
                match left.fields().get(key) {
                    Some(item) if rank_alike(item, wanted) && contains(item, wanted)? => {}
                    _ => return Ok(false),
                }
            }
            true
        }
        (V::Bool(left), V::Bool(right)) if left == right => true,
        (left, right) if rank_alike(left, right) && !matches!(left, V::Bool(_)) => left == right,
        (left, right) => {
            return Err(Error::str(format_args!("{left} and {right} cannot have their containment checked")));
        }
    })
}

/// Whether two values are of one type, so that one can contain the other.
fn rank_alike(left: &V, right: &V) -> bool {
    matches!(
        (left, right),
        (V::Null, V::Null)
            | (V::Bool(_), V::Bool(_))
            | (V::Str(_), V::Str(_))
            | (V::Arr(_), V::Arr(_))
            | (V::Obj(_), V::Obj(_))
    ) || (left.as_number().is_some() && right.as_number().is_some())
}

fn has(value: &V, key: &V) -> ValR<V> {
    match (value, key) {
        (V::Obj(object), V::Str(key)) => Ok(V::Bool(object.fields().contains_key(key.as_str()))),
        (V::Null, V::Str(_)) => Ok(V::Bool(false)),
        (V::Null | V::Arr(_), V::Float(key)) if key.is_nan() => Ok(V::Bool(false)),
        (V::Null, key) if key.as_number().is_some() => Ok(V::Bool(false)),
        (V::Arr(array), key) if key.as_index().is_some() => {
            let index = key.as_index().and_then(|index| usize::try_from(index).ok());
            Ok(V::Bool(index.is_some_and(|index| index < array.items().len())))
        }
        _ => Err(Error::index(value.clone(), key.clone())),
    }
}

fn indices(value: &V, part: &V) -> ValR<V> {
    let cost = value.size().saturating_mul(if matches!(part, V::Arr(_)) { part.size() / 16 } else { 1 }) / 64;
    if !meter::step(cost as u64 + 1) {
        return Err(Error::new(V::Null));
    }
    match (value, part) {
        (V::Null, _) => Ok(V::Null),
        (V::Str(_), V::Str(part)) if part.is_empty() => Ok(V::array(Vec::new())),
        (V::Str(text), V::Str(part)) => {
            let starts =
                text.char_indices().enumerate().filter(|(_, (byte, _))| text[*byte..].starts_with(part.as_str()));
            Ok(starts.map(|(index, _)| V::from(index)).collect())
        }
        (V::Arr(array), V::Arr(part)) => Ok(array.places_of(part.items())),
        (V::Arr(array), item) => Ok(array
            .items()
            .iter()
            .enumerate()
            .filter(|(_, found)| *found == item)
            .map(|(index, _)| V::from(index))
            .collect()),
        _ => Err(Error::index(value.clone(), part.clone())),
    }
}

fn binary_search(value: &V, item: &V) -> ValR<V> {
    let V::Arr(array) = value else { return Err(Error::typ(value.clone(), "array")) };
    Ok(array.items().binary_search(item).map_or_else(|index| V::integer(-1 - index as i128), V::from))
}

/// As in the library, but without names of time zones: their rules differ from server to server.
fn parse_time(text: &V, format: &V) -> ValR<V> {
    let (Some(time), Some(form)) = (text.as_str(), format.as_str()) else {
        return Err(Error::typ(if text.as_str().is_some() { format } else { text }.clone(), "string"));
    };
    if form.contains('Q') {
        return Err(Error::str("a format with the name of a time zone is not available; use an offset ('%z')"));
    }
    let fail = |error: jiff::Error| Error::str(format_args!("cannot parse {text} by {format}: {error}"));
    let mut parsed = jiff::fmt::strtime::BrokenDownTime::parse(form, time).map_err(fail)?;
    if parsed.offset().is_none() {
        parsed.set_offset(Some(jiff::tz::Offset::UTC));
    }
    let timestamp = parsed.to_timestamp().map_err(fail)?;
    let date = timestamp.to_zoned(jiff::tz::TimeZone::UTC);
    let seconds = f64::from(date.second()) + f64::from(date.subsec_nanosecond()) / 1e9;
    let parts = [
        i64::from(date.year()),
        i64::from(date.month()) - 1,
        i64::from(date.day()),
        i64::from(date.hour()),
        i64::from(date.minute()),
    ];
    let last = [i64::from(date.weekday().to_sunday_zero_offset()), i64::from(date.day_of_year()) - 1];
    Ok(parts.into_iter().map(V::Int).chain([V::number(seconds)]).chain(last.into_iter().map(V::Int)).collect())
}

/// A key of an object, shared.
pub(super) fn key(text: &str) -> Rc<str> {
    text.into()
}
