//! Errors of the API: a stable code, what failed, the cause, and a remedy.

use std::fmt;

use prost::Message;
use tonic::Status;

use crate::proto::{Failure, Objection};

/// The kind of a failure. Its number is stable, and determines the exit code of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// The spec or the request is invalid.
    Invalid,
    /// A plugin does not answer.
    PluginUnavailable,
    /// A plugin rejected the spec.
    PluginRefused,
    /// The named object does not exist.
    NotFound,
    /// The stored state has changed, or does not allow the change.
    Conflict,
    /// A safety check refused it: it would lose the quorum, or decrease fault tolerance.
    Guarded,
    /// The caller is unauthenticated, or its role does not allow the call.
    Forbidden,
    /// No manager can be reached, or no majority of them.
    Unavailable,
    /// Too many requests are in progress; try again.
    Busy,
    /// A bug, or a replica that has stopped.
    Internal,
}

/// An error of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// What kind of error it is.
    pub code: Code,
    /// What failed, in one sentence.
    pub what: String,
    /// Why; may be empty.
    pub cause: String,
    /// What the user can do about it; may be empty.
    pub remedy: String,
    /// Objections of plugins to the specs of the request.
    pub objections: Vec<Objection>,
}

impl Code {
    /// The stable number, as in `error[E1203]`.
    pub fn number(self) -> u32 {
        match self {
            Code::Invalid => 1101,
            Code::PluginUnavailable => 1203,
            Code::PluginRefused => 1204,
            Code::NotFound => 1301,
            Code::Conflict => 1302,
            Code::Guarded => 1303,
            Code::Forbidden => 1304,
            Code::Unavailable => 1401,
            Code::Busy => 1402,
            Code::Internal => 1501,
        }
    }

    fn from_number(number: u32) -> Option<Self> {
        [
            Code::Invalid,
            Code::PluginUnavailable,
            Code::PluginRefused,
            Code::NotFound,
            Code::Conflict,
            Code::Guarded,
            Code::Forbidden,
            Code::Unavailable,
            Code::Busy,
            Code::Internal,
        ]
        .into_iter()
        .find(|code| code.number() == number)
    }

    fn grpc(self) -> tonic::Code {
        match self {
            Code::Invalid => tonic::Code::InvalidArgument,
            Code::PluginUnavailable | Code::PluginRefused | Code::Guarded => tonic::Code::FailedPrecondition,
            Code::Forbidden => tonic::Code::PermissionDenied,
            Code::NotFound => tonic::Code::NotFound,
            Code::Conflict => tonic::Code::Aborted,
            Code::Unavailable => tonic::Code::Unavailable,
            Code::Busy => tonic::Code::ResourceExhausted,
            Code::Internal => tonic::Code::Internal,
        }
    }
}

impl Error {
    /// An error without cause and remedy.
    pub fn new(code: Code, what: impl Into<String>) -> Self {
        Self { code, what: what.into(), cause: String::new(), remedy: String::new(), objections: Vec::new() }
    }

    /// With this cause.
    #[must_use]
    pub fn cause(self, cause: impl Into<String>) -> Self {
        Self { cause: cause.into(), ..self }
    }

    /// With this remedy.
    #[must_use]
    pub fn remedy(self, remedy: impl Into<String>) -> Self {
        Self { remedy: remedy.into(), ..self }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if !self.cause.is_empty() {
            write!(f, ": {}", self.cause)?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        let failure = Failure {
            code: error.code.number(),
            what: error.what,
            cause: error.cause,
            remedy: error.remedy,
            objections: error.objections,
        };
        Status::with_details(error.code.grpc(), message, failure.encode_to_vec().into())
    }
}

impl From<Status> for Error {
    /// The failure in the details of the status, or one derived from the gRPC code.
    fn from(status: Status) -> Self {
        if !status.details().is_empty()
            && let Ok(failure) = Failure::decode(status.details())
            && let Some(code) = Code::from_number(failure.code)
        {
            return Self {
                code,
                what: failure.what,
                cause: failure.cause,
                remedy: failure.remedy,
                objections: failure.objections,
            };
        }
        if let Some(why) = unauthenticated(&status) {
            return why;
        }
        if status.code() == tonic::Code::Unimplemented {
            return Error::new(Code::Conflict, "not supported by the program of the manager that was asked")
                .cause("it, or the leader that it passes calls on to, is of another version than this one")
                .remedy(
                    "upgrade every manager, or ask the leader with the program of its version; nothing was changed",
                );
        }
        let code = match status.code() {
            // Managers send details; a bare unknown or internal error is a broken connection.
            tonic::Code::Unavailable
            | tonic::Code::DeadlineExceeded
            | tonic::Code::Cancelled
            | tonic::Code::Unknown
            | tonic::Code::Internal => Code::Unavailable,
            tonic::Code::InvalidArgument | tonic::Code::OutOfRange => Code::Invalid,
            tonic::Code::NotFound => Code::NotFound,
            tonic::Code::PermissionDenied | tonic::Code::Unauthenticated => Code::Forbidden,
            tonic::Code::ResourceExhausted => Code::Busy,
            tonic::Code::Aborted | tonic::Code::AlreadyExists | tonic::Code::FailedPrecondition => {
                Code::Conflict
            }
            _ => Code::Internal,
        };
        Error::new(code, "the call failed").cause(status.message())
    }
}

/// What to do about a call that was not authenticated.
pub const LOG_IN: &str = "log in with `infrakit login` and a token of the cluster; on the machine of a \
                          manager, run the command as its user, or with --host DATA_DIR/manager.sock";

/// Whether a stream that ended so may go on at another manager: the one that was asked is gone, or was not read fast
/// enough.
pub fn goes_on_elsewhere(status: &Status) -> bool {
    status.code() == tonic::Code::DataLoss || Error::from(status.clone()).code == Code::Unavailable
}

/// Whether a connection failed because one side did not authenticate the other.
pub fn is_unauthenticated(status: &Status) -> bool {
    unauthenticated(status).is_some()
}

/// Why a connection failed, if one side did not authenticate the other.
fn unauthenticated(status: &Status) -> Option<Error> {
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<std::io::Error>() {
            match error.get_ref().and_then(|it| it.downcast_ref::<rustls::Error>()) {
                Some(tls) => return Some(untrusted(tls)),
                None if error.kind() == std::io::ErrorKind::PermissionDenied => {
                    let what = "unauthenticated: no valid credentials for this cluster";
                    return Some(Error::new(Code::Forbidden, what).cause(error.to_string()).remedy(LOG_IN));
                }
                None => {}
            }
        }
        cause = error.source();
    }
    None
}

/// Which side does not trust the other, and why.
fn untrusted(error: &rustls::Error) -> Error {
    use rustls::{AlertDescription as Alert, CertificateError as Bad};
    let (what, cause, remedy) = match error {
        rustls::Error::AlertReceived(
            alert @ (Alert::CertificateExpired
            | Alert::UnknownCA
            | Alert::DecryptError
            | Alert::BadCertificate
            | Alert::CertificateUnknown
            | Alert::CertificateRevoked
            | Alert::UnsupportedCertificate
            | Alert::CertificateRequired
            | Alert::AccessDenied),
        ) => (
            "the manager does not accept these credentials",
            match alert {
                Alert::CertificateExpired => {
                    "they have expired, or are not valid yet by the manager's clock".to_owned()
                }
                Alert::UnknownCA | Alert::DecryptError => {
                    "they are for another cluster, or its authority was replaced since".to_owned()
                }
                other => format!("its TLS alert is {other:?}"),
            },
            LOG_IN,
        ),
        rustls::Error::InvalidCertificate(why) => {
            let cause = match why {
                Bad::UnknownIssuer | Bad::BadSignature => {
                    "it belongs to another cluster, or its authority was replaced since".to_owned()
                }
                Bad::Expired | Bad::ExpiredContext { .. } => {
                    "its certificate has expired by the clock of this machine".to_owned()
                }
                Bad::NotValidYet | Bad::NotValidYetContext { .. } => {
                    "its certificate is not valid yet by the clock of this machine".to_owned()
                }
                other => other.to_string(),
            };
            let clocks = matches!(
                why,
                Bad::Expired | Bad::ExpiredContext { .. } | Bad::NotValidYet | Bad::NotValidYetContext { .. }
            );
            let remedy = if clocks { "compare the clocks of both machines" } else { LOG_IN };
            ("these credentials do not accept the manager", cause, remedy)
        }
        rustls::Error::AlertReceived(_) | rustls::Error::InvalidMessage(_) => (
            "what listens at this address is no manager",
            error.to_string(),
            "name the address of a manager with --host",
        ),
        other => ("the connection is not trusted", other.to_string(), LOG_IN),
    };
    Error::new(Code::Forbidden, what).cause(cause).remedy(remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_a_manager_of_another_version_does_not_know_says_so() {
        let error = Error::from(Status::unimplemented(""));
        assert_eq!(error.code, Code::Conflict);
        assert!(error.what.contains("not supported") && error.remedy.contains("upgrade"), "{error:?}");
    }

    #[test]
    fn a_failure_comes_through_grpc_as_it_was() {
        let error = Error::new(Code::PluginRefused, "plugin `x` refused").cause("ü").remedy("fix it");
        assert_eq!(Error::from(Status::from(error.clone())), error);
        for broken in
            [Status::unavailable("gone"), Status::unknown("transport error"), Status::internal("h2")]
        {
            assert_eq!(Error::from(broken).code, Code::Unavailable, "another manager is tried");
        }
    }
}
