//! What went wrong while a server was asked, and the fault that it makes.

use baton_execution::{Fault, fault_type};
use rmcp::{
    ErrorData,
    model::ProtocolVersion,
    service::{ClientInitializeError, ServiceError},
};

use crate::jsonrpc::{self, ErrorObject};

/// The code for a resource that there is not.
const USELESS: [i64; 1] = [-32002];

/// What went wrong.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It is known what it means.
    Fault(Fault),
    /// The connection was not made.
    Start(Box<ClientInitializeError>),
    /// The request has no result.
    Request(Box<ServiceError>),
}

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<ClientInitializeError> for Trouble {
    fn from(error: ClientInitializeError) -> Self {
        Self::Start(Box::new(error))
    }
}

impl From<ServiceError> for Trouble {
    fn from(error: ServiceError) -> Self {
        Self::Request(Box::new(error))
    }
}

impl Trouble {
    /// The fault. `cause` is what the transport knows of a connection that did not hold.
    pub(super) fn into_fault(self, who: &str, cause: impl FnOnce() -> Option<Fault>) -> Fault {
        let error = match self {
            Self::Fault(fault) => return fault,
            Self::Start(error) => match *error {
                ClientInitializeError::JsonRpcError(error) => return answered(who, error),
                ClientInitializeError::NoCompatibleProtocolVersion { server_supported, .. } => {
                    let versions: Vec<&str> = server_supported.iter().map(ProtocolVersion::as_str).collect();
                    let detail = format!("{who} speaks other versions of the protocol: {}", versions.join(", "));
                    return runtime(400, detail).non_retryable();
                }
                ClientInitializeError::ExpectedInitResult(_) | ClientInitializeError::ExpectedInitResponse(_) => {
                    return jsonrpc::not_an_answer(who, "the initialization was not answered as such");
                }
                other => other.to_string(),
            },
            Self::Request(error) => match *error {
                ServiceError::McpError(error) => return answered(who, error),
                ServiceError::UnexpectedResponse => {
                    return jsonrpc::not_an_answer(who, "the result is not one of the method");
                }
                other => other.to_string(),
            },
        };
        cause().unwrap_or_else(|| {
            let detail = format!("the connection to {who} broke off: {}", jsonrpc::said(&error));
            Fault::new(fault_type::COMMUNICATION, 502, detail)
        })
    }
}

fn answered(who: &str, error: ErrorData) -> Fault {
    let error = ErrorObject {
        code: i64::from(error.code.0),
        message: error.message.into_owned(),
        data: error.data.unwrap_or_default(),
    };
    jsonrpc::fault(who, &error, &USELESS)
}

pub(super) fn runtime(status: u16, detail: String) -> Fault {
    Fault::new(fault_type::RUNTIME, status, detail)
}

/// The fault of a server that did not answer in time.
pub(super) fn too_late(who: &str, total_ms: u64) -> Fault {
    Fault::new(fault_type::TIMEOUT, 408, format!("{who} did not answer within {total_ms} ms"))
}

pub(super) fn too_large(who: &str, max: usize) -> Fault {
    let detail = format!("an answer of {who} is too large; allowed are 0 to {max} bytes");
    Fault::new(fault_type::TOO_LARGE, 413, detail).non_retryable()
}
