//! The servers of a manager: the public API and the protocol of its peers, over the network and locally.

use std::time::Duration;

use tokio::net::UnixListener;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::transport::Server;

use super::listeners::{NetworkSocket, cannot_listen};
use super::parts::Parts;
use crate::accept;
use crate::access::AuthLayer;
use crate::error::Error;
use crate::replica_thread::ReplicaThread;

/// How long open calls may take when the servers are closed; streams have no end of their own.
const CALLS_END: Duration = Duration::from_secs(2);

/// The running servers.
pub(super) struct Servers {
    serving: JoinHandle<Result<(), tonic::transport::Error>>,
    closing: watch::Sender<()>,
}

impl Servers {
    /// Listens, and serves on the thread of the replica.
    pub(super) async fn start(
        thread: &ReplicaThread,
        parts: &Parts,
        network: NetworkSocket,
        local: UnixListener,
    ) -> Result<Self, Error> {
        let NetworkSocket { socket, listen, .. } = network;
        let (closing, mut closed) = watch::channel(());
        let mut closed_too = closed.clone();
        let remote = {
            let (tls, work) = (parts.tls.clone(), Handle::current());
            let callers = accept::ForeignCallers::of(parts.replica.identity().cluster.clone());
            let listening = async move { accept::remote(socket, tls, callers, work) };
            thread.run(listening).await.map_err(cannot_listen(&listen, "--listen"))?
        };
        let routes = parts.service().routes();
        let auth = AuthLayer::new(parts.replica.watch_state());
        let tcp = Server::builder()
            .layer(auth.clone())
            .http2_keepalive_interval(Some(Duration::from_secs(2)))
            .http2_keepalive_timeout(Some(Duration::from_secs(3)))
            .initial_stream_window_size(4 << 20)
            .initial_connection_window_size(8 << 20)
            .add_routes(routes.clone().add_service(parts.replica.peer_server(parts.members.clone())))
            .serve_with_incoming_shutdown(remote, async move {
                let _ = closed.changed().await;
            });
        let unix = Server::builder()
            .layer(auth)
            .add_routes(routes.clone().add_service(parts.replica.peer_server(parts.members.clone())))
            .serve_with_incoming_shutdown(accept::local(local), async move {
                let _ = closed_too.changed().await;
            });
        let serving = thread.spawn(async move { tokio::try_join!(tcp, unix).map(drop) });
        Ok(Self { serving, closing })
    }

    /// Accepts nothing more, and gives open calls a moment. Fails if a server failed before.
    pub(super) async fn close(self) -> Result<(), Error> {
        drop(self.closing);
        match tokio::time::timeout(CALLS_END, self.serving).await {
            Ok(Ok(Err(error))) => Err(Error::new("the server failed", error, "")),
            Ok(Ok(Ok(())) | Err(_)) | Err(_) => Ok(()),
        }
    }
}
