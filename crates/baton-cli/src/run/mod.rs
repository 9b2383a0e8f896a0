//! The parts of `baton run`: what is to be run ([`mod@plan`]), the processes beside it ([`mod@services`]), and following it to its
//! end ([`mod@follow`]).

mod follow;
mod plan;
mod services;
mod signals;

pub(crate) use follow::{Following, follow};
pub(crate) use plan::{Plan, Wishes, plan};
pub(crate) use services::{ServicePorts, Services};
pub(crate) use signals::Signals;
