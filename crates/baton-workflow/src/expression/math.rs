//! The mathematics that the interpreter's library leaves out, or has otherwise than jq.
//!
//! Computed in Rust alone (`libm`), so that a result is the same on every machine.

use jaq_core::{Error, RunPtr, ValR, native};

use super::{
    filters::{Filters, Kind},
    value::V,
};

pub(super) fn all() -> Filters {
    use native::v;
    let filters: Box<[native::Filter<RunPtr<Kind>>]> = Box::new([
        ("gamma", v(0), |cv| native::bome(apply(&cv.1, libm::lgamma))),
        ("lgamma_r", v(0), |cv| {
            native::bome(number(&cv.1).map(|x| {
                let (value, sign) = libm::lgamma_r(x);
                V::array(vec![V::number(value), V::Int(sign.into())])
            }))
        }),
        ("nearbyint", v(0), |cv| native::bome(apply(&cv.1, libm::rint))),
        ("j0", v(0), |cv| native::bome(apply(&cv.1, libm::j0))),
        ("j1", v(0), |cv| native::bome(apply(&cv.1, libm::j1))),
        ("y0", v(0), |cv| native::bome(apply(&cv.1, libm::y0))),
        ("y1", v(0), |cv| native::bome(apply(&cv.1, libm::y1))),
        ("jn", v(2), |mut cv| {
            let (x, order) = (cv.0.pop_var(), cv.0.pop_var());
            native::bome(bessel(&order, &x, libm::jn))
        }),
        ("yn", v(2), |mut cv| {
            let (x, order) = (cv.0.pop_var(), cv.0.pop_var());
            native::bome(bessel(&order, &x, libm::yn))
        }),
    ]);
    filters.into_vec().into_iter().map(native::run::<Kind>).collect()
}

fn number(value: &V) -> Result<f64, Error<V>> {
    value.as_number().ok_or_else(|| Error::typ(value.clone(), "number"))
}

fn apply(value: &V, function: fn(f64) -> f64) -> ValR<V> {
    number(value).map(|x| V::number(function(x)))
}

/// Bessel functions take time in proportion to their order.
const ORDER_MAX: i32 = 10_000;

fn bessel(order: &V, x: &V, function: fn(i32, f64) -> f64) -> ValR<V> {
    let whole = V::whole(number(order)?).and_then(|order| i32::try_from(order).ok());
    let Some(order) = whole.filter(|order| order.abs() <= ORDER_MAX) else {
        return Err(Error::str(format_args!(
            "the order of a Bessel function is from -{ORDER_MAX} to {ORDER_MAX}, not {order}"
        )));
    };
    super::meter::step(u64::from(order.unsigned_abs()) / 8);
    Ok(V::number(function(order, number(x)?)))
}
