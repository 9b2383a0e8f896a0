//! The suite of the engines, with Programs that run here.

use std::sync::Arc;

use baton_engine::testing::Here;

baton_engine::conformance!(Arc::new(Here));
