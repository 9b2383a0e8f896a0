//! Filters that go through paths: updates, deletions, and choices among results that have paths.
//!
//! As in jq, an update first collects the paths, then changes what is at each, one after the other. What is changed is
//! taken out of its place and put back, so that a change of something that nobody shares copies nothing.
//!
//! # Invariants
//! - A path is charged when it is found and again when it is followed.
//! - A place at which nothing is put does not come to be.

use std::{collections::BTreeSet, rc::Rc};

use jaq_core::{Bind, Cv, Error, Exn, Native, ValR, ValT as _, ValX, ValXs, box_iter::box_once, native};

use super::{
    access::bounds,
    filters::{Filters, Kind},
    meter::{self, DEPTH_MAX, Limit, SIZE_MAX},
    operators::{charge, own, stopped},
    value::{Array, Object, V},
};

/// `UPDATE(paths; f)` puts the first result of `f` in the place of what is at each path; where it has none, the place is deleted.
pub(super) const UPDATE: &str = "!update";
/// The same for an `f` that has a result always.
pub(super) const UPDATE_ONE: &str = "!update_one";
/// The last result of a filter, null if it has none.
pub(super) const LAST: &str = "!last";

/// What is put in a place, made from what was there; `None` leaves it as it was.
type Change<'c, 'a> = &'c mut dyn FnMut(V) -> ValX<'a, Option<V>, V>;

pub(super) fn all() -> Filters {
    let fun = || Bind::Fun(());
    let paths_and_change = || -> Box<[Bind]> { [fun(), fun()].into() };
    let last = || {
        Native::new(|mut cv: Cv<'_, Kind>| {
            let (filter, context) = cv.0.pop_fun();
            last_of(filter.run((context, cv.1)), || V::Null)
        })
        .with_paths(|mut cv| {
            let (filter, context) = cv.0.pop_fun();
            last_of(filter.paths((context, cv.1)), || (V::Null, nowhere()))
        })
    };
    let limit = Native::new(|mut cv: Cv<'_, Kind>| {
        let ((filter, context), count) = (cv.0.pop_fun(), cv.0.pop_var());
        limited(count, move || filter.run((context, cv.1)))
    })
    .with_paths(|mut cv| {
        let ((filter, context), count) = (cv.0.pop_fun(), cv.0.pop_var());
        limited(count, move || filter.paths((context, cv.1)))
    });
    vec![
        (UPDATE, paths_and_change(), Native::new(|cv| box_once(update(cv, true)))),
        (UPDATE_ONE, paths_and_change(), Native::new(|cv| box_once(update(cv, false)))),
        (LAST, [fun()].into(), last()),
        ("last", [fun()].into(), last()),
        ("limit", [Bind::Var(()), fun()].into(), limit),
        ("setpath", native::v(2), Native::new(|cv| box_once(set_path(cv)))),
        ("delpaths", native::v(1), Native::new(|cv| native::unary(cv, |value, paths| delete_paths(value, &paths)))),
        ("range", native::v(3), Native::new(|cv| range(cv))),
    ]
}

/// The path to the input itself. Its type has no name outside of the interpreter.
fn nowhere<P: Default>() -> P {
    P::default()
}

fn last_of<'a, T: 'a>(results: ValXs<'a, T, V>, none: impl FnOnce() -> T) -> ValXs<'a, T, V> {
    let mut last = None;
    for result in results {
        match result {
            Ok(result) => last = Some(result),
            Err(error) => return box_once(Err(error)),
        }
    }
    box_once(Ok(last.unwrap_or_else(none)))
}

/// So many results; all of them if the number is negative.
fn limited<'a, T: 'a>(count: V, results: impl FnOnce() -> ValXs<'a, T, V>) -> ValXs<'a, T, V> {
    match count.as_number().map(f64::ceil) {
        Some(0.0) => Box::new(std::iter::empty()),
        Some(count) if count < 0.0 => results(),
        // More than fit are as good as all.
        Some(count) => {
            let count = V::whole(count).and_then(|count| usize::try_from(count).ok()).unwrap_or(usize::MAX);
            Box::new(results().take(count))
        }
        None => box_once(Err(Exn::from(Error::typ(count, "number")))),
    }
}

fn range(mut cv: Cv<'_, Kind>) -> ValXs<'_, V> {
    let (by, upto, from) = (cv.0.pop_var(), cv.0.pop_var(), cv.0.pop_var());
    if let Some(other) = [&from, &upto, &by].into_iter().find(|bound| bound.as_number().is_none()) {
        return box_once(Err(Exn::from(Error::typ(other.clone(), "number"))));
    }
    let (up, down) = (by > V::Int(0), by < V::Int(0));
    let mut next = from;
    Box::new(std::iter::from_fn(move || {
        if !(up && next < upto || down && next > upto) {
            return None;
        }
        match next.clone() + by.clone() {
            Ok(after) => Some(Ok(std::mem::replace(&mut next, after))),
            Err(error) => {
                next = upto.clone();
                Some(Err(Exn::from(error)))
            }
        }
    }))
}

fn update(mut cv: Cv<'_, Kind>, may_delete: bool) -> ValX<'_, V> {
    let (change, change_context) = cv.0.pop_fun();
    let (paths, context) = cv.0.pop_fun();
    let mut root = cv.1;
    let mut found: Vec<Vec<V>> = Vec::new();
    for path in paths.paths((context, (root.clone(), nowhere()))) {
        let (_, path) = path?;
        let mut path: Vec<V> = path.iter().cloned().collect();
        path.reverse();
        followed(&path)?;
        meter::bytes(16 * (path.len() + 2));
        found.push(path);
    }
    let mut deleted = Vec::new();
    for path in found {
        let mut first = |old: V| change.run((change_context.clone(), old)).next().transpose();
        let is_changed;
        (root, is_changed) = change_at(root, &path, may_delete, &mut first)?;
        if !is_changed {
            deleted.push(path);
        }
    }
    if deleted.is_empty() { Ok(root) } else { Ok(delete(root, deleted)?) }
}

fn set_path(mut cv: Cv<'_, Kind>) -> ValX<'_, V> {
    let (value, path) = (cv.0.pop_var(), cv.0.pop_var());
    let path = as_path(&path)?;
    followed(path.items())?;
    let mut value = Some(value);
    change_at(cv.1, path.items(), false, &mut |_| Ok(value.take())).map(|(root, _)| root)
}

fn as_path(path: &V) -> Result<&Array, Error<V>> {
    match path {
        V::Arr(path) => Ok(path),
        other => Err(Error::str(format_args!("a path must be an array, found {other}"))),
    }
}

/// Charges a path that is to be followed. One that is longer than values are deep would make such a value.
fn followed(path: &[V]) -> Result<(), Error<V>> {
    if path.len() > DEPTH_MAX as usize {
        meter::pass(Limit::Depth);
        return Err(stopped());
    }
    charge(16 * path.len())
}

/// The value with a change at a path, and whether there was one.
fn change_at<'a>(value: V, path: &[V], may_keep: bool, change: Change<'_, 'a>) -> ValX<'a, (V, bool), V> {
    charge(0)?;
    let Some((key, rest)) = path.split_first() else {
        let kept = may_keep.then(|| value.clone());
        return Ok(match change(value)? {
            Some(new) => (new, true),
            None => (kept.unwrap_or_default(), false),
        });
    };
    let is_null = matches!(value, V::Null);
    let (value, is_changed) = match (value, key) {
        (V::Null, V::Str(name)) => change_field(Rc::default(), name, rest, may_keep, change)?,
        (V::Obj(object), V::Str(name)) => change_field(object, name, rest, may_keep, change)?,
        (V::Null, key) if key.as_number().is_some() => change_item(Rc::default(), key, rest, may_keep, change)?,
        (V::Arr(array), key) if key.as_number().is_some() => change_item(array, key, rest, may_keep, change)?,
        (V::Null, V::Obj(range)) => change_slice(None, range, rest, may_keep, change)?,
        (V::Arr(array), V::Obj(range)) => change_slice(Some(array), range, rest, may_keep, change)?,
        (V::Str(_), V::Obj(_)) => return Err(Exn::from(Error::str("a part of a string cannot be changed"))),
        (value, key) => return Err(Exn::from(Error::index(value, key.clone()))),
    };
    Ok((if is_null && !is_changed { V::Null } else { value }, is_changed))
}

fn change_field<'a>(
    mut object: Rc<Object>,
    name: &str,
    rest: &[V],
    may_keep: bool,
    change: Change<'_, 'a>,
) -> ValX<'a, (V, bool), V> {
    let size = 48 * object.fields().len();
    let fields = own(&mut object, size)?;
    let old = fields.get_mut_taken(name);
    let was_there = old.is_some();
    let (new, is_changed) = change_at(old.unwrap_or_default(), rest, may_keep, change)?;
    if was_there || is_changed {
        meter::bytes(48 + name.len());
        fields.insert(name.into(), new);
    }
    Ok((V::Obj(object).checked(), is_changed))
}

fn change_item<'a>(
    mut array: Rc<Array>,
    index: &V,
    rest: &[V],
    may_keep: bool,
    change: Change<'_, 'a>,
) -> ValX<'a, (V, bool), V> {
    let length = array.items().len();
    let place = index.as_index().and_then(|index| super::access::place(index, length));
    let size = 16 * length;
    if let Some(place) = place.filter(|place| *place < length) {
        let list = own(&mut array, size)?;
        let old = list.take(place);
        let (new, is_changed) = change_at(old, rest, may_keep, change)?;
        list.put(place, new);
        return Ok((V::Arr(array).checked(), is_changed));
    }
    let (value, is_changed) = change_at(V::Null, rest, may_keep, change)?;
    if is_changed {
        let Some(place) = place else {
            let problem = if index.as_index().is_none() {
                "is no place in an array"
            } else {
                "is before the beginning of the array"
            };
            return Err(Exn::from(Error::str(format_args!("index {index} {problem}"))));
        };
        let new = place - length + 1;
        if new > SIZE_MAX / 16 || !meter::bytes(16 * new) {
            meter::pass(Limit::Size);
            return Err(Exn::from(stopped()));
        }
        charge(16 * new)?;
        own(&mut array, size)?.extend(std::iter::repeat_n(V::Null, new - 1).chain([value]));
    }
    Ok((V::Arr(array).checked(), is_changed))
}

fn change_slice<'a>(
    array: Option<Rc<Array>>,
    range: &Object,
    rest: &[V],
    may_keep: bool,
    change: Change<'_, 'a>,
) -> ValX<'a, (V, bool), V> {
    let was_there = array.is_some();
    let mut array = array.unwrap_or_default();
    let (start, end) = slice_bounds(range, array.items().len())?;
    // A part of null is null.
    let part = if was_there { array.items()[start..end].iter().cloned().collect() } else { V::Null };
    let (new, is_changed) = change_at(part, rest, may_keep, change)?;
    if is_changed {
        let V::Arr(new) = new else { return Err(Exn::from(Error::typ(new, "array"))) };
        let size = 16 * (array.items().len() + new.items().len());
        charge(size)?;
        meter::bytes(size);
        own(&mut array, size)?.change(|items| drop(items.splice(start..end, new.items().iter().cloned())));
    }
    Ok((V::Arr(array).checked(), is_changed))
}

/// The bounds that `{start, end}` means for an array so long.
pub(super) fn slice_bounds(range: &Object, length: usize) -> Result<(usize, usize), Error<V>> {
    match (range.fields().get("start"), range.fields().get("end")) {
        (Some(start), Some(end)) => bounds(&(Some(start)..Some(end)), length),
        _ => Err(Error::str("an object as an index must have 'start' and 'end'")),
    }
}

fn delete_paths(value: V, paths: &V) -> ValR<V> {
    let V::Arr(paths) = paths else {
        return Err(Error::str(format_args!("paths must be an array of arrays, found {paths}")));
    };
    let paths: Result<Vec<_>, _> =
        paths.items().iter().map(|path| as_path(path).map(|path| path.items().to_vec())).collect();
    delete(value, paths?)
}

/// The value without what is at some paths, all of them as they are before anything is deleted.
fn delete(value: V, mut paths: Vec<Vec<V>>) -> ValR<V> {
    paths.sort();
    if paths.first().is_some_and(Vec::is_empty) { Ok(V::Null) } else { delete_below(value, &paths, 0) }
}

/// Deletes by paths that are sorted, longer than `depth`, and alike up to there.
fn delete_below(mut value: V, paths: &[Vec<V>], depth: usize) -> ValR<V> {
    let mut keys = Vec::new();
    for group in paths.chunk_by(|left, right| left[depth] == right[depth]) {
        charge(16 * group.len())?;
        let key = &group[0][depth];
        if matches!(value, V::Null) {
            return Ok(value);
        }
        if group[0].len() == depth + 1 {
            keys.push(key);
            continue;
        }
        let inner = value.clone().index(key)?;
        if !matches!(inner, V::Null) {
            let mut inner = Some(delete_below(inner, group, depth + 1)?);
            let put = change_at(value, std::slice::from_ref(key), false, &mut |_| Ok(inner.take()));
            value = put.map_err(|error| error.get_err().unwrap_or_else(|_| stopped()))?.0;
        }
    }
    delete_keys(value, &keys)
}

fn delete_keys(value: V, keys: &[&V]) -> ValR<V> {
    if keys.is_empty() {
        return Ok(value);
    }
    let wrong = |value: V, key: &V| Error::str(format_args!("cannot delete {key} of {value}"));
    match value {
        V::Null => Ok(value),
        V::Obj(mut object) => {
            let size = 48 * object.fields().len();
            charge(size)?;
            let mut names = BTreeSet::new();
            for key in keys {
                let V::Str(name) = key else { return Err(wrong(V::Obj(object), key)) };
                charge(name.len())?;
                names.insert(name.as_str());
            }
            own(&mut object, size)?.remove_all(&names);
            Ok(V::Obj(object))
        }
        V::Arr(mut array) => {
            let length = array.items().len();
            let size = 16 * (length + keys.len());
            charge(size)?;
            let mut is_gone = vec![false; length];
            for key in keys {
                let (start, end) = match key {
                    V::Obj(range) => slice_bounds(range, length)?,
                    key => match key.as_number() {
                        None => return Err(wrong(V::Arr(array), key)),
                        Some(_) => match key.as_index().and_then(|index| super::access::place(index, length)) {
                            Some(place) if place < length => (place, place + 1),
                            _ => continue,
                        },
                    },
                };
                charge(end - start)?;
                is_gone[start..end].fill(true);
            }
            let mut gone = is_gone.into_iter();
            own(&mut array, size)?.change(|items| items.retain(|_| !gone.next().unwrap_or(false)));
            Ok(V::Arr(array))
        }
        other => Err(wrong(other, keys[0])),
    }
}
