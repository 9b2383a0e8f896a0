//! What jq's operators do with values: arithmetic and order.
//!
//! # Invariants
//! - An operation is charged before it is done, in proportion to what it copies, compares or makes.
//! - Once a limit was passed, every operation that can fail does.

use std::{
    cmp::Ordering,
    collections::BTreeSet,
    ops::{Add, Div, Mul, Neg, Rem, Sub},
    rc::Rc,
};

use jaq_core::{Error, ValR, ops::Math, val::Range};

use super::{
    meter::{self, Limit, SIZE_MAX},
    value::{Object, V},
};

/// What a step costs for a value: its size in units of this many bytes.
const STEP_BYTES: usize = 64;

/// The error of operations once a limit was passed. The meter knows which; the text is never seen.
pub(super) fn stopped() -> Error<V> {
    Error::new(V::Null)
}

/// Charges steps for an operation over so many bytes.
pub(super) fn charge(bytes: usize) -> Result<(), Error<V>> {
    if meter::step(1 + (bytes / STEP_BYTES) as u64) { Ok(()) } else { Err(stopped()) }
}

/// Charges the copy that a change of something shared needs.
pub(super) fn own<T: Clone>(shared: &mut Rc<T>, size: usize) -> Result<&mut T, Error<V>> {
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
fn arithmetic(
    left: V,
    op: Math,
    right: V,
    exact: fn(i128, i128) -> Option<i128>,
    float: fn(f64, f64) -> f64,
) -> ValR<V> {
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
            (Self::Str(text), number) | (number, Self::Str(text)) if number.as_number().is_some() => {
                Ok(repeat(&text, number.as_number().unwrap_or(0.0)))
            }
            (Self::Obj(left), Self::Obj(right)) => merge(left, &right).map(|merged| Self::Obj(merged).checked()),
            (left, right) => arithmetic(left, Math::Mul, right, i128::checked_mul, |left, right| left * right),
        }
    }
}

/// A text so many times; null if that is less than zero.
fn repeat(text: &str, times: f64) -> V {
    if times.is_nan() || times < 0.0 {
        return V::Null;
    }
    // A float that is too large becomes the largest integer, and that is too many times any text.
    let times = V::whole(times).and_then(|times| usize::try_from(times).ok()).unwrap_or(usize::MAX);
    if text.len().saturating_mul(times) > SIZE_MAX || !meter::step(1) {
        meter::pass(Limit::Size);
        return V::Null;
    }
    if text.is_empty() { V::string("") } else { V::string(text.repeat(times)) }
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
        if let (Self::Str(text), Self::Str(separator)) = (&self, &right) {
            charge(text.len())?;
            return Ok(split(text, separator));
        }
        charge(0)?;
        if right.as_number() == Some(0.0) && self.as_number().is_some() {
            return Err(Error::str(format_args!("cannot divide {self} by zero")));
        }
        let exact = |left: i128, right: i128| (left % right == 0).then(|| left / right);
        arithmetic(self, Math::Div, right, exact, |left, right| left / right)
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
        let whole = |value: &Self| {
            value
                .as_integer()
                .or_else(|| value.as_number().and_then(Self::whole).map(|value| value.max(-i64::MAX).into()))
        };
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
                let sorted = |object: &Rc<Object>| {
                    object
                        .fields()
                        .iter()
                        .map(|(key, value)| (Rc::clone(key), value.clone()))
                        .collect::<std::collections::BTreeMap<_, _>>()
                };
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
        Self::object(entries.into_iter().map(|(key, value)| (key.into(), value.unwrap_or_default())))
    }
}
