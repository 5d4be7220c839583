//! Failures: their text and exit code, in one place.

use std::process::ExitCode;

use api::Code;

use crate::escape;
use crate::global::{API_VERSION, Format};

/// A failure as it is printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) exit: u8,
    /// The stable error number, if it has one.
    pub(crate) number: Option<u32>,
    pub(crate) what: String,
    pub(crate) cause: String,
    pub(crate) remedy: String,
}

pub(crate) const FAILED: u8 = 1;
/// A plan has changes, and --detailed-exitcode was given.
pub(crate) const CHANGES: u8 = 2;
/// `--wait` reached its timeout.
pub(crate) const DEADLINE: u8 = 3;
pub(crate) const NOT_FOUND: u8 = 4;
pub(crate) const CONFLICT: u8 = 5;
/// Refused by a safety check, or not confirmed.
pub(crate) const REFUSED: u8 = 6;
/// Unauthenticated, or not allowed.
pub(crate) const FORBIDDEN: u8 = 7;
/// No manager or no leader can be reached.
pub(crate) const UNREACHABLE: u8 = 8;
pub(crate) const USAGE: u8 = 64;
pub(crate) const INVALID_FILE: u8 = 65;
pub(crate) const INTERRUPTED: u8 = 130;

impl Failure {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self { exit: FAILED, number: None, what: what.into(), cause: String::new(), remedy: String::new() }
    }

    pub(crate) fn usage(what: impl Into<String>) -> Self {
        Self { exit: USAGE, ..Self::new(what) }
    }

    #[must_use]
    pub(crate) fn exit(self, exit: u8) -> Self {
        Self { exit, ..self }
    }

    #[must_use]
    pub(crate) fn cause(self, cause: impl Into<String>) -> Self {
        Self { cause: cause.into(), ..self }
    }

    #[must_use]
    pub(crate) fn remedy(self, remedy: impl Into<String>) -> Self {
        Self { remedy: remedy.into(), ..self }
    }
}

impl From<api::Error> for Failure {
    fn from(error: api::Error) -> Self {
        let exit = match error.code {
            Code::Invalid | Code::PluginRefused => INVALID_FILE,
            Code::NotFound | Code::PluginUnavailable => NOT_FOUND,
            Code::Conflict => CONFLICT,
            Code::Guarded => REFUSED,
            Code::Forbidden => FORBIDDEN,
            Code::Unavailable => UNREACHABLE,
            Code::Busy | Code::Internal => FAILED,
        };
        Self {
            exit,
            number: Some(error.code.number()),
            what: error.what,
            cause: error.cause,
            remedy: error.remedy,
        }
    }
}

impl From<model::Problems> for Failure {
    /// One line for each problem, as compilers print them.
    fn from(problems: model::Problems) -> Self {
        let count = problems.list.len();
        let what = match count {
            1 => problems.to_string(),
            _ => format!("{count} problems\n{problems}"),
        };
        Self { number: Some(Code::Invalid.number()), ..Self::new(what) }
            .exit(INVALID_FILE)
            .remedy("fix the file; nothing was changed")
    }
}

impl From<manager::Error> for Failure {
    fn from(error: manager::Error) -> Self {
        Self::new(error.what).cause(error.cause).remedy(error.remedy)
    }
}

impl From<spi::Error> for Failure {
    fn from(error: spi::Error) -> Self {
        let (number, exit) = match error.class {
            spi::Class::Unavailable => (Some(Code::PluginUnavailable.number()), NOT_FOUND),
            spi::Class::Unsure => (Some(Code::PluginUnavailable.number()), FAILED),
            spi::Class::NotFound => (Some(Code::NotFound.number()), NOT_FOUND),
            spi::Class::InvalidSpec => (Some(Code::PluginRefused.number()), INVALID_FILE),
            spi::Class::Conflict | spi::Class::Exhausted | spi::Class::Internal => (None, FAILED),
        };
        // A message of a plugin is one line, whatever is in it.
        Self { number, exit, ..Self::new(escape::line(&error.message)) }
    }
}

/// Prints a failure to the standard error and gives its exit code.
#[allow(clippy::print_stderr)]
pub(crate) fn print(failure: &Failure, format: Format) -> ExitCode {
    if format == Format::Json {
        eprintln!("{}", as_json(failure));
        return ExitCode::from(failure.exit);
    }
    let what = escape::lines(&failure.what);
    match failure.number {
        Some(number) => eprintln!("error[E{number}]: {what}"),
        None => eprintln!("error: {what}"),
    }
    if !failure.cause.is_empty() {
        eprintln!("  cause: {}", escape::lines(&failure.cause));
    }
    if !failure.remedy.is_empty() {
        eprintln!(" remedy: {}", escape::lines(&failure.remedy));
    }
    ExitCode::from(failure.exit)
}

fn as_json(failure: &Failure) -> serde_json::Value {
    serde_json::json!({
        "apiVersion": API_VERSION,
        "kind": "Error",
        "code": failure.number.map(|number| format!("E{number}")),
        "exitCode": failure.exit,
        "message": failure.what,
        "cause": failure.cause,
        "remedy": failure.remedy,
    })
}

/// Prints a warning to the standard error.
#[allow(clippy::print_stderr)]
pub(crate) fn warn(text: &str) {
    eprintln!("warning: {}", escape::line(text));
}
