//! What jq's operators do with values: arithmetic, order, access and change.

use std::{
    cmp::Ordering,
    collections::BTreeSet,
    ops::{Add, Div, Mul, Neg, Rem, Sub},
    rc::Rc,
};

use jaq_core::{Error, Exn, ValR, ValT, ValX, box_iter::box_once, ops::Math, path::Opt, val::Range};

use super::{
    meter::{self, Limit, SIZE_MAX},
    value::{Array, Object, V},
};

/// What a step costs for a value: its size in units of this many bytes.
const STEP_BYTES: usize = 64;

type Results<T> = Box<dyn Iterator<Item = ValR<T, V>>>;

/// The error of operations once a limit was passed. The meter knows which; the text is never seen.
fn stopped() -> Error<V> {
    Error::new(V::Null)
}

/// Charges steps for an operation over so many bytes.
fn charge(bytes: usize) -> Result<(), Error<V>> {
    if meter::step(1 + (bytes / STEP_BYTES) as u64) { Ok(()) } else { Err(stopped()) }
}

/// Charges the copy that a change of something shared needs.
fn own<T: Clone>(shared: &mut Rc<T>, size: usize) -> Result<&mut T, Error<V>> {
    if Rc::strong_count(shared) > 1 {
        charge(size)?;
        if !meter::bytes(size) {
            return Err(stopped());
        }
    }
    Ok(Rc::make_mut(shared))
}

impl Add for V {
    type Output = ValR<Self>;

    fn add(self, right: Self) -> ValR<Self> {
        charge(right.size())?;
        Ok(match (self, right) {
            (Self::Null, other) | (other, Self::Null) => other,
            (Self::Str(mut left), Self::Str(right)) => {
                meter::bytes(right.len());
                if left.len() + right.len() > SIZE_MAX {
                    meter::pass(Limit::Size);
                    return Err(stopped());
                }
                let size = left.len();
                own(&mut left, size)?.push_str(&right);
                Self::Str(left).checked()
            }
            (Self::Arr(mut left), Self::Arr(right)) => {
                meter::bytes(16 * right.items().len());
                let size = 16 * left.items().len();
                own(&mut left, size)?.extend(right.items().iter().cloned());
                Self::Arr(left).checked()
            }
            (Self::Obj(mut left), Self::Obj(right)) => {
                meter::bytes(48 * right.fields().len());
                let size = 48 * left.fields().len();
                let object = own(&mut left, size)?;
                for (key, value) in right.fields() {
                    object.insert(Rc::clone(key), value.clone());
                }
                Self::Obj(left).checked()
            }
            (left, right) => return arithmetic(left, Math::Add, right, i128::checked_add, |left, right| left + right),
        })
    }
}

/// Arithmetic of two numbers: exact for integers, if the result is one.
fn arithmetic(left: V, op: Math, right: V, exact: fn(i128, i128) -> Option<i128>, float: fn(f64, f64) -> f64) -> ValR<V> {
    if let (Some(left), Some(right)) = (left.as_integer(), right.as_integer())
        && let Some(result) = exact(left, right)
    {
        return Ok(V::integer(result));
    }
    match (left.as_number(), right.as_number()) {
        (Some(left), Some(right)) => Ok(V::number(float(left, right))),
        _ => Err(Error::math(left, op, right)),
    }
}

impl Sub for V {
    type Output = ValR<Self>;

    fn sub(self, right: Self) -> ValR<Self> {
        match (self, right) {
            (Self::Arr(mut left), Self::Arr(right)) => {
                charge(left.items().len().saturating_mul(16) + right.items().len().saturating_mul(64))?;
                let gone: BTreeSet<&Self> = right.items().iter().collect();
                let size = 16 * left.items().len();
                own(&mut left, size)?.change(|items| items.retain(|item| !gone.contains(item)));
                Ok(Self::Arr(left))
            }
            (left, right) => {
                charge(0)?;
                arithmetic(left, Math::Sub, right, i128::checked_sub, |left, right| left - right)
            }
        }
    }
}

impl Mul for V {
    type Output = ValR<Self>;

    fn mul(self, right: Self) -> ValR<Self> {
        charge(0)?;
        match (self, right) {
            (Self::Str(text), number) | (number, Self::Str(text)) if number.as_number().is_some() => Ok(repeat(&text, number.as_number().unwrap_or(0.0))),
            (Self::Obj(left), Self::Obj(right)) => merge(left, &right).map(|merged| Self::Obj(merged).checked()),
            (left, right) => arithmetic(left, Math::Mul, right, i128::checked_mul, |left, right| left * right),
        }
    }
}

/// A text so many times; nothing if that is not more than zero.
fn repeat(text: &str, times: f64) -> V {
    if times.is_nan() || times <= 0.0 {
        return V::Null;
    }
    let times = times.max(1.0);
    if times * text.len() as f64 > SIZE_MAX as f64 || !meter::step(1) {
        meter::pass(Limit::Size);
        return V::Null;
    }
    if text.is_empty() { V::string("") } else { V::string(text.repeat(times as usize)) }
}

fn merge(mut left: Rc<Object>, right: &Rc<Object>) -> Result<Rc<Object>, Error<V>> {
    charge(48 * right.fields().len())?;
    meter::bytes(48 * right.fields().len());
    let size = 48 * left.fields().len();
    let object = own(&mut left, size)?;
    for (key, value) in right.fields() {
        let merged = match (object.fields().get(key), value) {
            (Some(V::Obj(_)), V::Obj(right)) => match object.get_mut_taken(key) {
                Some(V::Obj(left)) => V::Obj(merge(left, right)?).checked(),
                _ => value.clone(),
            },
            _ => value.clone(),
        };
        object.insert(Rc::clone(key), merged);
    }
    Ok(left)
}

impl Div for V {
    type Output = ValR<Self>;

    fn div(self, right: Self) -> ValR<Self> {
        match (&self, &right) {
            (Self::Str(text), Self::Str(separator)) => {
                charge(text.len())?;
                Ok(split(text, separator))
            }
            _ => {
                charge(0)?;
                if right.as_number() == Some(0.0) && self.as_number().is_some() {
                    return Err(Error::str(format_args!("cannot divide {self} by zero")));
                }
                let exact = |left: i128, right: i128| (left % right == 0).then(|| left / right);
                arithmetic(self, Math::Div, right, exact, |left, right| left / right)
            }
        }
    }
}

fn split(text: &str, separator: &str) -> V {
    let part = |part: &str| V::string(part);
    if text.is_empty() {
        V::array(Vec::new())
    } else if separator.is_empty() {
        let mut buffer = [0; 4];
        text.chars().map(|c| part(c.encode_utf8(&mut buffer))).collect()
    } else {
        text.split(separator).map(part).collect()
    }
}

impl Rem for V {
    type Output = ValR<Self>;

    fn rem(self, right: Self) -> ValR<Self> {
        charge(0)?;
        let whole = |value: &Self| value.as_integer().or_else(|| value.as_number().filter(|number| !number.is_nan()).map(|number| number as i128));
        match (whole(&self), whole(&right)) {
            (Some(_), Some(0)) => Err(Error::str(format_args!("cannot divide {self} by zero"))),
            (Some(left), Some(right)) => Ok(Self::integer(left % right)),
            _ if self.as_number().is_some() && right.as_number().is_some() => Ok(Self::Float(f64::NAN)),
            _ => Err(Error::math(self, Math::Rem, right)),
        }
    }
}

impl Neg for V {
    type Output = ValR<Self>;

    fn neg(self) -> ValR<Self> {
        charge(0)?;
        match (self.as_integer(), self.as_number()) {
            (Some(0), _) => Ok(self),
            (Some(value), _) => Ok(Self::integer(-value)),
            (None, Some(value)) => Ok(Self::Float(-value)),
            (None, None) => Err(Error::typ(self, "number")),
        }
    }
}

impl Ord for V {
    fn cmp(&self, other: &Self) -> Ordering {
        meter::step(1);
        match (self, other) {
            (Self::Bool(left), Self::Bool(right)) => left.cmp(right),
            (Self::Str(left), Self::Str(right)) => {
                meter::step((left.len().min(right.len()) / STEP_BYTES) as u64);
                left.cmp(right)
            }
            (Self::Arr(left), Self::Arr(right)) => {
                if Rc::ptr_eq(left, right) {
                    return Ordering::Equal;
                }
                left.items().cmp(right.items())
            }
            (Self::Obj(left), Self::Obj(right)) => {
                if Rc::ptr_eq(left, right) {
                    return Ordering::Equal;
                }
                let sorted = |object: &Rc<Object>| object.fields().iter().map(|(key, value)| (Rc::clone(key), value.clone())).collect::<std::collections::BTreeMap<_, _>>();
                let (left, right) = (sorted(left), sorted(right));
                left.keys().cmp(right.keys()).then_with(|| left.values().cmp(right.values()))
            }
            (left, right) => match (left.as_number(), right.as_number()) {
                (Some(_), Some(_)) => number_order(left, right),
                _ => rank(left).cmp(&rank(right)),
            },
        }
    }
}

fn number_order(left: &V, right: &V) -> Ordering {
    if let (Some(left), Some(right)) = (left.as_integer(), right.as_integer()) {
        return left.cmp(&right);
    }
    let (left, right) = (left.as_number().unwrap_or(f64::NAN), right.as_number().unwrap_or(f64::NAN));
    // Not-a-number is below every number, itself included, as in jq.
    left.partial_cmp(&right).unwrap_or(if left.is_nan() { Ordering::Less } else { Ordering::Greater })
}

const fn rank(value: &V) -> u8 {
    match value {
        V::Null => 0,
        V::Bool(_) => 1,
        V::Int(_) | V::Uint(_) | V::Float(_) => 2,
        V::Str(_) => 3,
        V::Arr(_) => 4,
        V::Obj(_) => 5,
    }
}

impl PartialOrd for V {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for V {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for V {}

impl From<bool> for V {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<isize> for V {
    fn from(value: isize) -> Self {
        Self::integer(value as i128)
    }
}

impl From<usize> for V {
    fn from(value: usize) -> Self {
        Self::integer(value as i128)
    }
}

impl From<f64> for V {
    fn from(value: f64) -> Self {
        Self::number(value)
    }
}

impl From<String> for V {
    fn from(text: String) -> Self {
        Self::string(text)
    }
}

impl From<Range<Self>> for V {
    fn from(range: Range<Self>) -> Self {
        let entries = [("start", range.start), ("end", range.end)];
        Self::object(entries.into_iter().filter_map(|(key, value)| Some((key.into(), value?))))
    }
}

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
                other => return Err(Error::str(format_args!("cannot use {other} as the key of an object; keys are strings"))),
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
            (Self::Null, Self::Null | Self::Int(_) | Self::Uint(_) | Self::Float(_) | Self::Str(_) | Self::Obj(_)) => Ok(Self::Null),
            (Self::Obj(object), Self::Str(key)) => Ok(object.fields().get(key.as_str()).cloned().unwrap_or_default()),
            (Self::Arr(array), Self::Int(_) | Self::Uint(_) | Self::Float(_)) => {
                Ok(index.as_index().and_then(|index| place(index, array.items().len())).and_then(|index| array.items().get(index)).cloned().unwrap_or_default())
            }
            (Self::Arr(array), Self::Arr(part)) => {
                charge(array.size_of_search(part))?;
                Ok(array.places_of(part.items()))
            }
            (Self::Arr(_) | Self::Str(_), Self::Obj(range)) => {
                let (start, end) = (range.fields().get("start").cloned(), range.fields().get("end").cloned());
                self.range(start.as_ref()..end.as_ref())
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

    fn map_values<'a, I: Iterator<Item = ValX<'a, Self>>>(self, opt: Opt, f: impl Fn(Self) -> I) -> ValX<'a, Self> {
        match self {
            Self::Arr(array) => items(array).flat_map(f).collect(),
            Self::Obj(object) => {
                let mut pairs = Vec::new();
                for (key, value) in object.fields() {
                    charge(0)?;
                    if let Some(value) = f(value.clone()).next() {
                        pairs.push((Rc::clone(key), value?));
                    }
                }
                Ok(Self::object(pairs))
            }
            other => opt.fail(other, |other| Exn::from(Error::typ(other, ITERABLE))),
        }
    }

    fn map_index<'a, I: Iterator<Item = ValX<'a, Self>>>(self, index: &Self, opt: Opt, f: impl Fn(Self) -> I) -> ValX<'a, Self> {
        charge(0)?;
        match (self, index) {
            (Self::Null, Self::Str(_)) => Self::object([]).map_index(index, opt, f),
            (Self::Null, Self::Int(_) | Self::Uint(_) | Self::Float(_)) => Self::array(Vec::new()).map_index(index, opt, f),
            (Self::Obj(object), Self::Str(key)) => change_field(object, key, f),
            (Self::Arr(array), Self::Int(_) | Self::Uint(_) | Self::Float(_)) => change_item(array, index, opt, f),
            (whole @ (Self::Null | Self::Arr(_)), Self::Obj(range)) => {
                let (start, end) = (range.fields().get("start").cloned(), range.fields().get("end").cloned());
                whole.map_range(start.as_ref()..end.as_ref(), opt, f)
            }
            (whole, _) => opt.fail(whole, |whole| Exn::from(Error::index(whole, index.clone()))),
        }
    }

    fn map_range<'a, I: Iterator<Item = ValX<'a, Self>>>(self, range: Range<&Self>, opt: Opt, f: impl Fn(Self) -> I) -> ValX<'a, Self> {
        charge(0)?;
        let mut array = match self {
            Self::Null => Rc::default(),
            Self::Arr(array) => array,
            other => return opt.fail(other, |other| Exn::from(Error::typ(other, "array"))),
        };
        let (start, end) = bounds(&range, array.items().len())?;
        let part: Self = array.items()[start..end].iter().cloned().collect();
        let new = match f(part).next().transpose()? {
            None => Vec::new(),
            Some(Self::Arr(new)) => new.items().to_vec(),
            Some(other) => return Err(Exn::from(Error::typ(other, "array"))),
        };
        let size = 16 * (array.items().len() + new.len());
        charge(size)?;
        meter::bytes(size);
        own(&mut array, size)?.change(|items| drop(items.splice(start..end, new)));
        Ok(Self::Arr(array).checked())
    }

    fn as_bool(&self) -> bool {
        !matches!(self, Self::Null | Self::Bool(false))
    }

    fn into_string(self) -> Self {
        if matches!(self, Self::Str(_)) { self } else { Self::string(self.to_json()) }
    }
}

/// The place that an index means, counted from the end if it is negative.
fn place(index: i64, length: usize) -> Option<usize> {
    let from_end = || length.checked_sub(usize::try_from(index.unsigned_abs()).ok()?);
    usize::try_from(index).ok().or_else(from_end)
}

/// The bounds of a slice, cut to the length.
fn bounds(range: &Range<&V>, length: usize) -> Result<(usize, usize), Error<V>> {
    let bound = |value: Option<&V>, default: usize, up: bool| match value {
        None | Some(V::Null) => Ok(default),
        Some(V::Float(value)) if up => Ok(place(value.ceil() as i64, length).unwrap_or(0).min(length)),
        Some(value) => match value.as_index() {
            Some(index) => Ok(place(index, length).unwrap_or(0).min(length)),
            None => Err(Error::typ(value.clone(), "number")),
        },
    };
    let start = bound(range.start, 0, false)?;
    let end = bound(range.end, length, true)?;
    Ok((start, end.max(start)))
}

fn change_field<'a, I: Iterator<Item = ValX<'a, V>>>(mut object: Rc<Object>, key: &str, f: impl Fn(V) -> I) -> ValX<'a, V> {
    let size = 48 * object.fields().len();
    let fields = own(&mut object, size)?;
    let old = fields.get_mut_taken(key);
    let new = f(old.unwrap_or_default()).next().transpose()?;
    match new {
        Some(value) => {
            meter::bytes(48 + key.len());
            fields.insert(key.into(), value);
        }
        None => drop(fields.remove(key)),
    }
    Ok(V::Obj(object).checked())
}

fn change_item<'a, I: Iterator<Item = ValX<'a, V>>>(mut array: Rc<Array>, index: &V, opt: Opt, f: impl Fn(V) -> I) -> ValX<'a, V> {
    let length = array.items().len();
    let Some(place) = index.as_index().and_then(|index| place(index, length)) else {
        return opt.fail(V::Arr(array), |_| Exn::from(Error::str(format_args!("index {index} is before the beginning of the array"))));
    };
    let size = 16 * length;
    if place >= length {
        let Some(value) = f(V::Null).next().transpose()? else { return Ok(V::Arr(array)) };
        let new = place - length + 1;
        if new > SIZE_MAX / 16 || !meter::bytes(16 * new) {
            meter::pass(Limit::Size);
            return Err(Exn::from(stopped()));
        }
        charge(16 * new)?;
        let nulls = std::iter::repeat_n(V::Null, new - 1);
        own(&mut array, size)?.extend(nulls.chain([value]));
        return Ok(V::Arr(array).checked());
    }
    let list = own(&mut array, size)?;
    let old = list.take(place);
    match f(old).next().transpose()? {
        Some(value) => list.put(place, value),
        None => {
            charge(size)?;
            list.change(|items| drop(items.remove(place)));
        }
    }
    Ok(V::Arr(array).checked())
}

impl Array {
    fn size_of_search(&self, part: &Self) -> usize {
        self.items().len().saturating_mul(part.items().len()).saturating_mul(16)
    }

    /// Where a part begins in it.
    pub(super) fn places_of(&self, part: &[V]) -> V {
        if part.is_empty() {
            return V::Null;
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
            Self::Float(value) if value.fract() == 0.0 && value.abs() < 9e15 => Some(value as isize),
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
