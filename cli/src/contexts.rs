//! Saved logins: the addresses of a remote cluster and the certificate issued by it.

use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use api::{Addresses, Credentials};
use serde::{Deserialize, Serialize};

use crate::report::Failure;

/// The context that is used when none is named.
pub(crate) const DEFAULT: &str = "default";

/// A saved login.
#[derive(Serialize, Deserialize)]
pub(crate) struct Context {
    /// HOST:PORT[,HOST:PORT...]
    pub(crate) managers: String,
    /// The user name in the certificate.
    pub(crate) user: String,
    pub(crate) role: String,
    /// The private key, the certificate and the trusted authorities, in PEM.
    pub(crate) credentials: String,
}

impl Context {
    pub(crate) fn credentials(&self) -> Result<Credentials, Failure> {
        Credentials::from_pem(&self.credentials)
            .map_err(|error| Failure::new("the saved certificate cannot be read").cause(error.to_string()))
    }
}

/// `$XDG_CONFIG_HOME/infrakit/contexts`, or `~/.config/infrakit/contexts`.
fn dir() -> Result<PathBuf, Failure> {
    let named = std::env::var_os("XDG_CONFIG_HOME").filter(|it| !it.is_empty()).map(PathBuf::from);
    let config = named.or_else(|| Some(std::env::home_dir()?.join(".config")));
    let config = config
        .ok_or_else(|| Failure::new("this user has no home directory").remedy("set XDG_CONFIG_HOME"))?;
    Ok(config.join("infrakit/contexts"))
}

fn path(name: &str) -> Result<PathBuf, Failure> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.is_empty() || !name.chars().all(fits) {
        return Err(Failure::usage(format!("`{name}` is not a valid context name"))
            .remedy("use letters, digits, - and _"));
    }
    Ok(dir()?.join(format!("{name}.json")))
}

fn failed(path: &Path, why: &dyn std::fmt::Display) -> Failure {
    Failure::new(format!("{} cannot be used", path.display())).cause(why.to_string())
}

/// The context of this name, if there is one.
pub(crate) fn load(name: &str) -> Result<Option<Context>, Failure> {
    // Without a home directory there are none.
    let Ok(path) = path(name) else { return Ok(None) };
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(&path, &error)),
    };
    serde_json::from_slice(&text).map(Some).map_err(|error| failed(&path, &error))
}

/// The names of all contexts, sorted.
pub(crate) fn names() -> Result<Vec<String>, Failure> {
    let dir = dir()?;
    let entries = match std::fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(&dir, &error)),
    };
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.ok()?.file_name().to_str()?.strip_suffix(".json").map(str::to_owned)
    };
    let mut names: Vec<String> = entries.filter_map(name).collect();
    names.sort();
    Ok(names)
}

/// The first context that has one of these addresses.
pub(crate) fn of(addresses: &Addresses) -> Result<Option<Context>, Failure> {
    for name in names().unwrap_or_default() {
        if let Some(context) = load(&name)?
            && context.managers.split(',').any(|it| addresses.iter().any(|asked| asked == it.trim()))
        {
            return Ok(Some(context));
        }
    }
    Ok(None)
}

/// Saves a context, readable by this user only, and returns its path.
pub(crate) fn save(name: &str, context: &Context) -> Result<PathBuf, Failure> {
    let path = path(name)?;
    let written = || -> std::io::Result<()> {
        let dir = path.parent().unwrap_or(Path::new("."));
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        // Written to a temporary file and renamed, so that it is never incomplete.
        let unfinished = path.with_extension("new");
        let mut file = std::fs::File::options();
        let mut file = file.create(true).truncate(true).write(true).mode(0o600).open(&unfinished)?;
        file.write_all(serde_json::to_string_pretty(context)?.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(unfinished, &path)
    };
    written().map_err(|error| failed(&path, &error))?;
    Ok(path)
}

/// Removes a context; false if there was none.
pub(crate) fn remove(name: &str) -> Result<bool, Failure> {
    let path = path(name)?;
    match std::fs::remove_file(&path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(failed(&path, &error)),
    }
}
