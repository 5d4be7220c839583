//! Clusters that this user has logged in to: where their managers are, and the certificate that was given.

use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use api::{Addresses, Credentials};
use serde::{Deserialize, Serialize};

use crate::report::Failure;

/// The one that is meant when none is named.
pub(crate) const DEFAULT: &str = "default";

/// What is saved.
#[derive(Serialize, Deserialize)]
pub(crate) struct Context {
    /// HOST:PORT[,HOST:PORT...]
    pub(crate) managers: String,
    /// The name under which this user is known there.
    pub(crate) user: String,
    pub(crate) role: String,
    /// The key, the certificate and the authorities, in PEM.
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
    let config = config.ok_or_else(|| Failure::new("this user has no home").remedy("set XDG_CONFIG_HOME"))?;
    Ok(config.join("infrakit/contexts"))
}

fn path(name: &str) -> Result<PathBuf, Failure> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.is_empty() || !name.chars().all(fits) {
        return Err(Failure::usage(format!("`{name}` is no name of a context"))
            .remedy("use letters, digits, - and _"));
    }
    Ok(dir()?.join(format!("{name}.json")))
}

fn failed(path: &Path, why: &dyn std::fmt::Display) -> Failure {
    Failure::new(format!("{} cannot be used", path.display())).cause(why.to_string())
}

/// The context of this name, when there is one.
pub(crate) fn load(name: &str) -> Result<Option<Context>, Failure> {
    // Without a home there is none.
    let Ok(path) = path(name) else { return Ok(None) };
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(&path, &error)),
    };
    serde_json::from_slice(&text).map(Some).map_err(|error| failed(&path, &error))
}

/// The names of all, in order.
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

/// The first context that has one of these managers.
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

/// Saves a context, readable to this user alone. Gives the file.
pub(crate) fn save(name: &str, context: &Context) -> Result<PathBuf, Failure> {
    let path = path(name)?;
    let written = || -> std::io::Result<()> {
        let dir = path.parent().unwrap_or(Path::new("."));
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        // Whole or not at all.
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

/// Removes a context. Whether there was one.
pub(crate) fn remove(name: &str) -> Result<bool, Failure> {
    let path = path(name)?;
    match std::fs::remove_file(&path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(failed(&path, &error)),
    }
}
