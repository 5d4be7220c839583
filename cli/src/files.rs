//! The files that commands read specs from: on disk, on the standard input, or behind a URL.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use model::draft::{self, Converted, LARGEST_FILE, Yaml};
use model::problem::Problems;
use spi::http::{self, Trust};

use crate::commands::read_file;
use crate::report::{self, Failure};

/// How files are read.
#[derive(Args)]
pub(crate) struct Reading {
    /// Read YAML files by version 1.1, as Docker's InfraKit did, or 1.2. Without it, properties are read by 1.1
    /// with a warning where the versions differ, and other fields in which they differ are refused
    #[arg(long, value_name = "VERSION", value_parser = ["1.1", "1.2"])]
    yaml: Option<String>,
}

impl Reading {
    pub(crate) fn version(&self) -> Yaml {
        match self.yaml.as_deref() {
            None => Yaml::Unsaid,
            Some("1.1") => Yaml::V1_1,
            Some(_) => Yaml::V1_2,
        }
    }

    /// A document as JSON, for a plugin.
    pub(crate) async fn json(&self, path: &Path) -> Result<String, Failure> {
        let (name, bytes) = read(path).await?;
        Ok(told(draft::to_json(&name, &bytes, self.version())?))
    }

    /// The same of a map with these fields; with the name of the file.
    pub(crate) async fn map(&self, path: &Path, known: &[&'static str]) -> Result<(String, String), Failure> {
        let (name, bytes) = read(path).await?;
        let json = told(draft::map_to_json(&name, &bytes, self.version(), known)?);
        Ok((name, json))
    }
}

fn told(converted: Converted) -> String {
    warn(&converted.warnings);
    converted.json
}

pub(crate) fn warn(warnings: &Problems) {
    for warning in warnings.to_string().lines() {
        report::warn(warning);
    }
}

/// How long a URL may take.
const FETCH: Duration = Duration::from_secs(30);

/// The name of a file, for messages, and its bytes.
pub(crate) async fn read(path: &Path) -> Result<(String, Vec<u8>), Failure> {
    let Some(url) = path.to_str().filter(|text| http::is_url(text)) else { return read_file(path) };
    let failed =
        |why: String| Failure::new(format!("{url} cannot be read")).cause(why).exit(report::INVALID_FILE);
    let response = http::get(url, Trust::System, LARGEST_FILE, FETCH).await.map_err(failed)?;
    match response.status {
        200 => Ok((url.to_owned(), response.body)),
        status => Err(failed(format!("the server responded with status {status}"))),
    }
}

/// The file, or the JSON and YAML files of a directory, by name.
pub(crate) fn expanded(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let cannot = |why: String| {
        Failure::new(format!("{} cannot be read", path.display())).cause(why).exit(report::INVALID_FILE)
    };
    let entries = std::fs::read_dir(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    // Editors leave hidden files beside what they edit.
    let is_spec = |it: &PathBuf| {
        let is_kind = it.extension().is_some_and(|kind| kind == "json" || kind == "yaml" || kind == "yml");
        let is_hidden = it.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        is_kind && !is_hidden && it.is_file()
    };
    let entries = entries.map_err(|error| cannot(error.to_string()))?;
    let mut found: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).filter(is_spec).collect();
    found.sort();
    if found.is_empty() {
        return Err(cannot("the directory has no file that ends with .yaml, .yml or .json".to_owned()));
    }
    Ok(found)
}
