//! Runs Programs on Temporal, and answers Temporal task tokens.
