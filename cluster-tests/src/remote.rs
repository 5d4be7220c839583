//! Managers asked over the network, past their local sockets: as from another machine.

use std::sync::Arc;

use api::tls;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tonic::transport::{Channel, Endpoint, Error};

/// A connection of its own to `address`, with TLS as it is told.
pub async fn over_the_network(address: &str, tls: Arc<ClientConfig>) -> Result<Channel, Error> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
    let address = address.to_owned();
    let connector = tower::service_fn(move |_| {
        let (address, tls) = (address.clone(), tls.clone());
        async move { tls::connect(&address, tls).await.map(TokioIo::new) }
    });
    endpoint.connect_with_connector(connector).await
}
