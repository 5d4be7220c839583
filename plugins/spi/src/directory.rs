//! Plugin discovery: the plugins in a directory (plugin-protocol §2).

use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper::Uri;
use model::PluginName;

use crate::client::Client;
use crate::error::{Class, Error};
use crate::transport::Endpoint;

/// A plugin directory. It is read at every lookup, because plugins come and go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    path: PathBuf,
    deadline: Duration,
}

/// An entry in the plugin directory; the plugin may not be running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The lookup name: the file name, without `.listen`.
    pub name: String,
    /// The path of the socket, or the URL of a `.listen` file.
    pub address: String,
    endpoint: Endpoint,
    deadline: Duration,
}

impl Directory {
    /// The default timeout of a call, as in Docker's InfraKit (plugin-protocol §3).
    pub const DEADLINE: Duration = Duration::from_secs(15);

    /// The plugins in this directory, whose calls have the default timeout.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), deadline: Self::DEADLINE }
    }

    /// The timeout of calls to plugins of this directory.
    pub fn deadline(&self) -> Duration {
        self.deadline
    }

    /// With another timeout.
    #[must_use]
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// The default directory: `$INFRAKIT_PLUGINS_DIR`, else `$INFRAKIT_HOME/plugins`, else
    /// `.infrakit/plugins` in the home directory. `var` reads the environment.
    pub fn by_environment(var: impl Fn(&str) -> Option<String>, home: Option<PathBuf>) -> Option<PathBuf> {
        let set = |name: &str| var(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        set("INFRAKIT_PLUGINS_DIR")
            .or_else(|| set("INFRAKIT_HOME").map(|path| path.join("plugins")))
            .or_else(|| home.map(|home| home.join(".infrakit/plugins")))
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All entries, sorted by name. A missing directory has none.
    pub fn list(&self) -> io::Result<Vec<Found>> {
        let entries = match std::fs::read_dir(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut found = Vec::new();
        for entry in entries {
            // An entry may vanish while the directory is read.
            if let Ok(entry) = entry
                && let Some(plugin) = self.understand(&entry)
            {
                found.push(plugin);
            }
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    fn understand(&self, entry: &std::fs::DirEntry) -> Option<Found> {
        let kind = entry.file_type().ok()?;
        let file = entry.file_name().into_string().ok()?;
        let path = entry.path();
        let (name, address, endpoint) = if kind.is_socket() {
            (file, path.display().to_string(), Endpoint::Unix(path))
        } else if kind.is_file() && path.extension().is_some_and(|extension| extension == "listen") {
            let address = std::fs::read_to_string(&path).ok()?;
            let name = file.split(".listen").next()?.to_owned();
            let endpoint = endpoint_of(&address)?;
            (name, address, endpoint)
        } else {
            return None;
        };
        Some(Found { name, address, endpoint, deadline: self.deadline })
    }

    /// The entry of the plugin `name`. It may be a stale socket, which shows at the first call.
    pub fn find(&self, name: &PluginName) -> Result<Found, Error> {
        let all = self.list().map_err(|error| {
            Error::new(Class::Unavailable, format!("{} cannot be read: {error}", self.path.display()))
        })?;
        all.into_iter()
            .find(|found| found.name == name.lookup())
            .ok_or_else(|| Error::new(Class::Unavailable, format!("plugin not found:{}", name.lookup())))
    }
}

impl Found {
    /// Whether it runs on this machine, and shares its clock.
    pub fn is_local(&self) -> bool {
        matches!(self.endpoint, Endpoint::Unix(_))
    }

    /// A client of it; it connects with the first call.
    pub fn client(&self) -> Client {
        Client::new(&self.name, self.endpoint.clone(), self.deadline)
    }
}

/// The endpoint in a `.listen` file (plugin-protocol §2.2). A trailing newline is accepted, unlike in
/// Docker's InfraKit.
fn endpoint_of(address: &str) -> Option<Endpoint> {
    let address = address.trim_end_matches('\n');
    if address.starts_with('/') {
        return Some(Endpoint::Unix(address.into()));
    }
    let rest = address.strip_prefix("tcp://").or_else(|| address.strip_prefix("http://"))?;
    let rest = if rest.contains('/') { rest.to_owned() } else { format!("{rest}/") };
    let uri: Uri = format!("http://{rest}").parse().ok()?;
    uri.authority().map(|_| ())?;
    Some(Endpoint::Http(uri))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn sockets_and_listen_files_are_plugins_and_nothing_else_is() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let at = |name: &str| dir.path().join(name);
        let _socket = UnixListener::bind(at("us-east.1")).expect("a socket");
        let _late = UnixListener::bind(at("zz")).expect("a socket");
        std::os::unix::fs::symlink(at("us-east.1"), at("link")).expect("a link");
        std::fs::create_dir(at("dir")).expect("a directory");
        for (name, content) in [
            ("us-east.1.pid", "123"),
            ("note", "tcp://h:1"),
            ("tcp.listen", "tcp://127.0.0.1:7"),
            ("web.listen", "http://127.0.0.1:7/sub/"),
            ("path.listen", "/run/x"),
            ("unix.listen", "unix:///run/x"),
            ("https.listen", "https://h:1"),
            ("rubbish.listen", "\u{1}"),
        ] {
            std::fs::write(at(name), content).expect("a file");
        }
        let found = Directory::new(dir.path()).list().expect("a listing");
        let names: Vec<_> = found.iter().map(|found| found.name.as_str()).collect();
        assert_eq!(names, ["path", "tcp", "us-east.1", "web", "zz"]);
        assert_eq!(found[1].endpoint, Endpoint::Http("http://127.0.0.1:7/".parse().expect("a URL")));
        assert_eq!(found[0].endpoint, Endpoint::Unix("/run/x".into()));
    }

    #[test]
    fn a_name_is_looked_up_by_its_first_part() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let _socket = UnixListener::bind(dir.path().join("simulator")).expect("a socket");
        let directory = Directory::new(dir.path());
        assert!(directory.find(&"simulator/compute".into()).is_ok());
        let error = directory.find(&"nosuch/x".into()).expect_err("there is none");
        assert_eq!((error.class, error.message.as_str()), (Class::Unavailable, "plugin not found:nosuch"));
        let absent = Directory::new(dir.path().join("absent"));
        assert_eq!(absent.list().expect("an empty listing"), []);
    }

    #[test]
    fn the_directory_comes_from_the_environment_in_infrakits_order() {
        let of = |set: &[(&str, &str)]| {
            let set: std::collections::BTreeMap<String, String> =
                set.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            Directory::by_environment(|name| set.get(name).cloned(), Some("/home/x".into()))
        };
        assert_eq!(of(&[("INFRAKIT_PLUGINS_DIR", "/p"), ("INFRAKIT_HOME", "/h")]), Some("/p".into()));
        assert_eq!(of(&[("INFRAKIT_PLUGINS_DIR", ""), ("INFRAKIT_HOME", "/h")]), Some("/h/plugins".into()));
        assert_eq!(of(&[]), Some("/home/x/.infrakit/plugins".into()));
        assert_eq!(Directory::by_environment(|_| None, None), None);
    }
}
