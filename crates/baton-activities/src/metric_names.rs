//! Names of what is counted here. Those of models have the labels `provider` and `model`; a model that is in no table of prices is `other`.

/// Counter: calls of models that were answered.
pub const MODEL_CALLS: &str = "baton_model_calls_total";
/// Counter: calls of models that failed, repetitions included.
pub const MODEL_FAILURES: &str = "baton_model_failures_total";
/// Counter: tokens that models have read.
pub const MODEL_INPUT_TOKENS: &str = "baton_model_input_tokens_total";
/// Counter: tokens that models have written.
pub const MODEL_OUTPUT_TOKENS: &str = "baton_model_output_tokens_total";
/// Counter: what calls of known price cost, in millionths of a US dollar.
pub const MODEL_COST: &str = "baton_model_cost_microdollars_total";
/// Counter: spans that were sent to the collector.
pub const SPANS_SENT: &str = "baton_spans_sent_total";
/// Counter: spans that were dropped: too many waited, or the collector did not take them.
pub const SPANS_DROPPED: &str = "baton_spans_dropped_total";
