//! Forwards calls to the leader.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use api::proto::manager_client::ManagerClient;
use model::NodeId;
use raft::{Replica, Role};
use tokio::sync::watch;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tower::service_fn;

use crate::access::Principal;
use crate::dial::Secure;

/// Metadata of a forwarded call, which is not forwarded again.
const FORWARDED: &str = "infrakit-forwarded";

/// Clients of the other managers.
#[derive(Clone)]
pub(super) struct Forward {
    replica: Replica,
    role: watch::Receiver<Role>,
    dial: Secure,
    clients: Arc<Mutex<Clients>>,
}

/// A client for each manager, with its address.
type Clients = BTreeMap<NodeId, (String, ManagerClient<Channel>)>;

impl Forward {
    pub(super) fn new(replica: Replica, role: watch::Receiver<Role>, dial: Secure) -> Self {
        Self { replica, role, dial, clients: Arc::default() }
    }

    /// A client of the leader; none if this manager is the leader.
    pub(super) fn leader<T>(&self, request: &Request<T>) -> Result<Option<ManagerClient<Channel>>, Status> {
        let leader = match *self.role.borrow() {
            Role::Leader { .. } => return Ok(None),
            Role::Other { leader, .. } => leader,
        };
        let Some(leader) = leader.filter(|_| request.metadata().get(FORWARDED).is_none()) else {
            return Err(Status::unavailable("there is no leader at the moment"));
        };
        let address = self
            .replica
            .address_of(leader)
            .ok_or_else(|| Status::unavailable("the leader's address is not known yet"))?;
        let mut clients = self.clients.lock().expect("nobody panics while holding the clients");
        if let Some((known, client)) = clients.get(&leader)
            && *known == address
        {
            return Ok(Some(client.clone()));
        }
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .map_err(|error| Status::unavailable(format!("the leader's address `{address}`: {error}")))?
            .connect_timeout(Duration::from_secs(1))
            .http2_keep_alive_interval(Duration::from_secs(1))
            .keep_alive_timeout(Duration::from_secs(2));
        let connector = service_fn(self.dial.connector(&address));
        let client = ManagerClient::new(endpoint.connect_with_connector_lazy(connector))
            .max_decoding_message_size(64 << 20)
            .max_encoding_message_size(64 << 20);
        clients.insert(leader, (address, client.clone()));
        Ok(Some(client))
    }

    /// Adds the metadata of a forwarded call.
    pub(super) fn mark<T>(mut request: Request<T>) -> Request<T> {
        if let Some(principal) = request.extensions().get::<Principal>().cloned() {
            principal.mark(request.metadata_mut());
        }
        request.metadata_mut().insert(FORWARDED, MetadataValue::from_static("1"));
        request
    }
}
