//! Forms of the peers' protocol, as somebody would write them who has read it.

use tonic::transport::Channel;

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Header {
    #[prost(string, tag = "1")]
    pub(crate) cluster: String,
    #[prost(uint32, tag = "2")]
    pub(crate) lineage: u32,
    #[prost(uint64, tag = "3")]
    pub(crate) from: u64,
    #[prost(uint64, tag = "4")]
    pub(crate) to: u64,
    #[prost(uint32, tag = "5")]
    pub(crate) version: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Vote {
    #[prost(uint64, tag = "1")]
    pub(crate) term: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) node: u64,
    #[prost(bool, tag = "3")]
    pub(crate) committed: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct VoteRequest {
    #[prost(message, optional, tag = "1")]
    pub(crate) header: Option<Header>,
    #[prost(message, optional, tag = "2")]
    pub(crate) vote: Option<Vote>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Manager {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) address: String,
    #[prost(string, tag = "3")]
    pub(crate) storage: String,
    #[prost(uint32, tag = "6")]
    pub(crate) level: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct JoinRequest {
    #[prost(uint32, tag = "1")]
    pub(crate) version: u32,
    #[prost(message, optional, tag = "2")]
    pub(crate) manager: Option<Manager>,
    #[prost(bytes = "vec", optional, tag = "3")]
    pub(crate) token: Option<Vec<u8>>,
    #[prost(bytes = "vec", tag = "4")]
    pub(crate) csr: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct JoinReply {
    #[prost(string, tag = "1")]
    pub(crate) cluster: String,
    #[prost(uint32, tag = "2")]
    pub(crate) lineage: u32,
    #[prost(uint64, tag = "3")]
    pub(crate) node: u64,
    #[prost(bytes = "vec", tag = "4")]
    pub(crate) certificate: Vec<u8>,
    #[prost(bytes = "vec", repeated, tag = "5")]
    pub(crate) trusted: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Anything {}

/// One call of the peers' service.
pub(crate) async fn unary<Q, R>(channel: Channel, method: &str, request: Q) -> Result<R, tonic::Status>
where
    Q: prost::Message + Send + Sync + 'static,
    R: prost::Message + Default + Send + Sync + 'static,
{
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.map_err(|error| tonic::Status::unavailable(error.to_string()))?;
    let path = format!("/infrakit.raft.v1.Peers/{method}").parse().expect("a path");
    let codec = tonic_prost::ProstCodec::<Q, R>::default();
    grpc.unary(tonic::Request::new(request), path, codec).await.map(tonic::Response::into_inner)
}
