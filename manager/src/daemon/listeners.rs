//! The addresses at which a manager is reached: bound first, published when it is about to accept calls, and
//! withdrawn at its end.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use tokio::net::{TcpListener, UnixListener};

use crate::accept::{self, Bound};
use crate::config::Config;
use crate::error::Error;

/// What is bound before anything is changed on the disk.
pub(super) struct Listeners {
    pub(super) network: NetworkSocket,
    /// For metrics and health.
    pub(super) monitor: Option<TcpListener>,
}

/// The address for peers and clients: bound, and not listening yet.
pub(super) struct NetworkSocket {
    pub(super) socket: Bound,
    /// As it is configured.
    pub(super) listen: String,
    /// As it is bound.
    pub(super) bound: SocketAddr,
    /// At which others reach it.
    pub(super) address: String,
}

impl NetworkSocket {
    /// Lets whoever calls wait from now on. Gives the listener.
    pub(super) fn hold(self) -> Result<Self, Error> {
        let listener = self.socket.hold().map_err(cannot_listen(&self.listen, "--listen"))?;
        Ok(Self { socket: Bound::Listening(listener), ..self })
    }

    pub(super) fn listener(&self) -> Option<&TcpListener> {
        match &self.socket {
            Bound::Reserved(_) => None,
            Bound::Listening(listener) => Some(listener),
        }
    }
}

impl Listeners {
    pub(super) async fn bind(config: &Config) -> Result<Self, Error> {
        let listen = config.listen.clone();
        let socket = accept::reserve(&listen).await.map_err(cannot_listen(&listen, "--listen"))?;
        let bound = socket.local_addr().map_err(|error| Error::new("cannot listen", error, ""))?;
        let address = config.advertise.clone().unwrap_or_else(|| bound.to_string());
        let monitor = match &config.monitor {
            None => None,
            Some(address) => {
                Some(TcpListener::bind(address).await.map_err(cannot_listen(address, "--monitor"))?)
            }
        };
        Ok(Self {
            network: NetworkSocket { socket: Bound::Reserved(socket), listen, bound, address },
            monitor,
        })
    }
}

/// The error for an address, and the option that names it.
pub(super) fn cannot_listen(address: &str, option: &str) -> impl Fn(io::Error) -> Error {
    move |error| {
        Error::new(
            format!("cannot listen on {address}"),
            error,
            format!("stop the process that listens there, or choose another {option}"),
        )
    }
}

/// The socket for clients on this machine until it is dropped, published under every address by which they may know this manager.
pub(super) struct LocalSocket {
    path: PathBuf,
    addresses: Vec<String>,
}

impl LocalSocket {
    pub(super) fn publish(config: &Config, network: &NetworkSocket) -> Result<(Self, UnixListener), Error> {
        let path = config.data_dir.join("manager.sock");
        // The database is locked, so the process that left the socket is gone.
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).map_err(|error| {
            Error::new(format!("cannot listen on {}", path.display()), error, "choose a shorter --data-dir")
        })?;
        let addresses = here(network);
        for address in &addresses {
            if let Err(error) = api::local::publish(address, &path) {
                tracing::warn!(%error, address, "the local socket cannot be published; use its path");
            }
        }
        Ok((Self { path, addresses }, listener))
    }

    fn withdraw(&self) {
        self.addresses.iter().for_each(|address| api::local::withdraw(address, &self.path));
        // What cannot be removed now is replaced at the next start.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Drop for LocalSocket {
    fn drop(&mut self) {
        self.withdraw();
    }
}

/// The addresses by which processes on this machine may reach this manager.
fn here(network: &NetworkSocket) -> Vec<String> {
    let bound = network.bound;
    let mut all = vec![network.address.clone(), bound.to_string(), network.listen.clone()];
    if bound.ip().is_unspecified() || bound.ip().is_loopback() {
        all.extend(["127.0.0.1", "[::1]", "localhost"].map(|host| format!("{host}:{}", bound.port())));
    }
    all
}
