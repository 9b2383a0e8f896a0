//! How jq reads the parts of values, and how values are made of parts. How it changes them: see `update`.
//!
//! # Invariants
//! - Iterating is charged for each item, and ends with one error once a limit was passed.

use std::rc::Rc;

use jaq_core::{Error, Exn, ValR, ValT, ValX, box_iter::box_once, path::Opt, val::Range};

use super::{
    meter::{self, Limit, SIZE_MAX},
    operators::{charge, stopped},
    value::{Array, Object, V},
};

type Results<T> = Box<dyn Iterator<Item = ValR<T, V>>>;

impl FromIterator<Self> for V {
    fn from_iter<I: IntoIterator<Item = Self>>(items: I) -> Self {
        let (mut list, mut size) = (Vec::new(), 0_usize);
        for item in items {
            size = size.saturating_add(item.size());
            if size > SIZE_MAX {
                meter::pass(Limit::Size);
            }
            if !(meter::step(1) && meter::bytes(16)) {
                return Self::Null;
            }
            list.push(item);
        }
        Self::array(list)
    }
}

/// The items of something, each charged; once a limit was passed there is one error and no more.
fn metered<T: 'static>(mut items: impl Iterator<Item = T> + 'static) -> Results<T> {
    let mut over = false;
    Box::new(std::iter::from_fn(move || {
        if over {
            return None;
        }
        if meter::step(1) {
            return items.next().map(Ok);
        }
        over = true;
        Some(Err(stopped()))
    }))
}

fn items(array: Rc<Array>) -> impl Iterator<Item = V> {
    let mut index = 0;
    std::iter::from_fn(move || {
        index += 1;
        array.items().get(index - 1).cloned()
    })
}

fn entries(object: Rc<Object>) -> impl Iterator<Item = (V, V)> {
    let mut index = 0;
    std::iter::from_fn(move || {
        index += 1;
        object.fields().get_index(index - 1).map(|(key, value)| (V::string(key.as_ref()), value.clone()))
    })
}

fn values_of(object: Rc<Object>) -> impl Iterator<Item = V> {
    let mut index = 0;
    std::iter::from_fn(move || {
        index += 1;
        object.fields().get_index(index - 1).map(|(_, value)| value.clone())
    })
}

const ITERABLE: &str = "iterable (array or object)";

impl ValT for V {
    fn from_num(text: &str) -> ValR<Self> {
        if let Ok(value) = text.parse::<i128>() {
            return Ok(Self::integer(value));
        }
        text.parse().map(Self::Float).map_err(|_| Error::str(format_args!("cannot parse {text} as number")))
    }

    fn from_map<I: IntoIterator<Item = (Self, Self)>>(entries: I) -> ValR<Self> {
        let mut pairs = Vec::new();
        for (key, value) in entries {
            match key {
                Self::Str(key) => pairs.push((key.as_str().into(), value)),
                other => {
                    return Err(Error::str(format_args!(
                        "cannot use {other} as the key of an object; keys are strings"
                    )));
                }
            }
        }
        charge(0)?;
        Ok(Self::object(pairs))
    }

    fn key_values(self) -> Results<(Self, Self)> {
        match self {
            Self::Arr(array) => metered(items(array).enumerate().map(|(index, item)| (Self::from(index), item))),
            Self::Obj(object) => metered(entries(object)),
            other => box_once(Err(Error::typ(other, ITERABLE))),
        }
    }

    fn values(self) -> Results<Self> {
        match self {
            Self::Arr(array) => metered(items(array)),
            Self::Obj(object) => metered(values_of(object)),
            other => box_once(Err(Error::typ(other, ITERABLE))),
        }
    }

    fn index(self, index: &Self) -> ValR<Self> {
        charge(0)?;
        match (&self, index) {
            (Self::Null, Self::Int(_) | Self::Uint(_) | Self::Float(_) | Self::Str(_) | Self::Obj(_)) => Ok(Self::Null),
            (Self::Obj(object), Self::Str(key)) => Ok(object.fields().get(key.as_str()).cloned().unwrap_or_default()),
            (Self::Arr(array), Self::Int(_) | Self::Uint(_) | Self::Float(_)) => Ok(index
                .as_index()
                .and_then(|index| place(index, array.items().len()))
                .and_then(|index| array.items().get(index))
                .cloned()
                .unwrap_or_default()),
            (Self::Arr(array), Self::Arr(part)) => {
                charge(array.size_of_search(part))?;
                Ok(array.places_of(part.items()))
            }
            (Self::Arr(_) | Self::Str(_), Self::Obj(range)) => {
                match (range.fields().get("start"), range.fields().get("end")) {
                    (Some(start), Some(end)) => self.range(Some(start)..Some(end)),
                    _ => Err(Error::str("an object as an index must have 'start' and 'end'")),
                }
            }
            _ => Err(Error::index(self, index.clone())),
        }
    }

    fn range(self, range: Range<&Self>) -> ValR<Self> {
        charge(0)?;
        match &self {
            Self::Null => Ok(Self::Null),
            Self::Arr(array) => {
                let (start, end) = bounds(&range, array.items().len())?;
                Ok(array.items()[start..end].iter().cloned().collect())
            }
            Self::Str(text) => {
                charge(text.len())?;
                let (start, end) = bounds(&range, text.chars().count())?;
                Ok(Self::string(text.chars().skip(start).take(end - start).collect::<String>()))
            }
            _ => Err(Error::typ(self, "rangeable (array or string)")),
        }
    }

    fn map_values<'a, I: Iterator<Item = ValX<'a, Self>>>(self, _: Opt, _: impl Fn(Self) -> I) -> ValX<'a, Self> {
        Err(not_rewritten())
    }

    fn map_index<'a, I: Iterator<Item = ValX<'a, Self>>>(
        self,
        _: &Self,
        _: Opt,
        _: impl Fn(Self) -> I,
    ) -> ValX<'a, Self> {
        Err(not_rewritten())
    }

    fn map_range<'a, I: Iterator<Item = ValX<'a, Self>>>(
        self,
        _: Range<&Self>,
        _: Opt,
        _: impl Fn(Self) -> I,
    ) -> ValX<'a, Self> {
        Err(not_rewritten())
    }

    fn as_bool(&self) -> bool {
        !matches!(self, Self::Null | Self::Bool(false))
    }

    fn into_string(self) -> Self {
        if matches!(self, Self::Str(_)) { self } else { Self::string(self.to_json()) }
    }
}

/// The place that an index means, counted from the end if it is negative.
pub(super) fn place(index: i64, length: usize) -> Option<usize> {
    let from_end = || length.checked_sub(usize::try_from(index.unsigned_abs()).ok()?);
    usize::try_from(index).ok().or_else(from_end)
}

/// The bounds of a slice, cut to the length.
pub(super) fn bounds(range: &Range<&V>, length: usize) -> Result<(usize, usize), Error<V>> {
    let bound = |value: Option<&V>, default: usize, up: bool| match value {
        None | Some(V::Null) => Ok(default),
        Some(V::Float(value)) if value.is_nan() => Ok(default),
        Some(V::Float(value)) if up => {
            Ok(V::whole(value.ceil()).and_then(|end| place(end, length)).unwrap_or(0).min(length))
        }
        Some(value) => match value.as_index() {
            Some(index) => Ok(place(index, length).unwrap_or(0).min(length)),
            None => Err(Error::typ(value.clone(), "number")),
        },
    };
    let start = bound(range.start, 0, false)?;
    let end = bound(range.end, length, true)?;
    Ok((start, end.max(start)))
}

/// The interpreter's own updates are never reached: `desugar` puts others in their place.
fn not_rewritten<'a>() -> Exn<'a, V> {
    Exn::from(Error::str("this update is not available"))
}

impl Array {
    fn size_of_search(&self, part: &Self) -> usize {
        self.items().len().saturating_mul(part.items().len()).saturating_mul(16)
    }

    /// Where a part begins in it.
    pub(super) fn places_of(&self, part: &[V]) -> V {
        if part.is_empty() {
            return V::array(Vec::new());
        }
        let found = self.items().windows(part.len()).enumerate().filter(|(_, window)| *window == part);
        found.map(|(index, _)| V::from(index)).collect()
    }
}

impl jaq_std::ValT for V {
    fn into_seq<S: FromIterator<Self>>(self) -> Result<S, Self> {
        match self {
            Self::Arr(array) => Ok(items(array).collect()),
            other => Err(other),
        }
    }

    fn is_int(&self) -> bool {
        self.as_integer().is_some()
    }

    fn as_isize(&self) -> Option<isize> {
        match *self {
            Self::Int(value) => isize::try_from(value).ok(),
            Self::Float(value) if value.fract() == 0.0 => isize::try_from(Self::whole(value)?).ok(),
            _ => None,
        }
    }

    fn as_f64(&self) -> Option<f64> {
        self.as_number()
    }

    fn is_utf8_str(&self) -> bool {
        matches!(self, Self::Str(_))
    }

    fn as_bytes(&self) -> Option<&[u8]> {
        self.as_str().map(str::as_bytes)
    }

    fn as_sub_str(&self, sub: &[u8]) -> Self {
        Self::bytes(sub)
    }

    fn from_utf8_bytes(bytes: impl AsRef<[u8]> + Send + 'static) -> Self {
        Self::bytes(bytes.as_ref())
    }
}
