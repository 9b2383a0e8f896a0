//! Arguments of `baton callback`.

use clap::{Args, Subcommand};

use crate::{kind::KindArg, manifest::InputArg};

/// A token, which whoever can read it can answer.
#[derive(Clone, Debug, Args)]
pub(crate) struct TokenArgs {
    /// The token; - reads it from stdin and @FILE from a file, where other users of the machine do not see it
    /// [env: BATON_CALLBACK_TOKEN]
    pub(crate) token: Option<String>,
    /// The token is given as base64, as a token that is not text has to be
    #[arg(long)]
    pub(crate) base64: bool,
}

/// What to do with callback tokens.
#[derive(Debug, Subcommand)]
pub(crate) enum CallbackCommand {
    /// Make a token for a caller outside: hand it over as spec.callbackToken, then await it
    Create {
        /// How long it is accepted, such as 24h
        #[arg(long, value_name = "DURATION", default_value = "")]
        expires_after: String,
    },
    /// Wait for the answer to a token made by create, and print the output
    Await {
        #[command(flatten)]
        token: TokenArgs,
        /// How long to wait, such as 10m; as long as it takes if it is left out
        #[arg(long, value_name = "DURATION")]
        timeout: Option<String>,
    },
    /// Answer a token with an output
    Complete {
        #[command(flatten)]
        token: TokenArgs,
        /// The output: JSON, @FILE, or - for stdin
        #[arg(long, value_name = "JSON", visible_alias = "data")]
        result: Option<InputArg>,
    },
    /// Answer a token with an error
    Fail {
        #[command(flatten)]
        token: TokenArgs,
        /// What went wrong
        #[arg(long, value_name = "TEXT")]
        detail: String,
        /// URI of the type of error
        #[arg(long = "type", value_name = "URI", default_value = "")]
        error_type: String,
        /// Short name of the type
        #[arg(long, value_name = "TEXT", default_value = "")]
        title: String,
        /// Status as HTTP has them
        #[arg(long, value_name = "CODE", default_value_t = 0)]
        status: i32,
        /// Trying again is useless
        #[arg(long)]
        non_retryable: bool,
    },
    /// Answer a token as cancelled
    Cancel {
        #[command(flatten)]
        token: TokenArgs,
        /// Why
        #[arg(long, value_name = "TEXT", default_value = "")]
        reason: String,
    },
    /// Say that the work behind a token goes on; tells whether it is still wanted
    Heartbeat {
        #[command(flatten)]
        token: TokenArgs,
    },
    /// Show the return addresses of an execution and what became of the answers
    List {
        /// Kind: wfx or agx; or KIND/NAME
        kind: KindArg,
        /// Name of the execution
        name: Option<String>,
    },
    /// Try undelivered answers of an execution again now
    Retry {
        /// Kind: wfx or agx; or KIND/NAME
        kind: KindArg,
        /// Name of the execution
        name: Option<String>,
        /// Only the answer to this token
        #[arg(long, value_name = "DIGITS", default_value = "")]
        fingerprint: String,
    },
    /// Add a return address to an execution; one that has ended answers at once
    Attach {
        /// Kind and name: KIND/NAME
        #[arg(value_name = "KIND/NAME")]
        execution: KindArg,
        #[command(flatten)]
        token: TokenArgs,
    },
}
