//! `Event/0.1.1`: events of a plugin, and subscriptions to their topics (plugin-protocol §9.7). The contract, its
//! messages, and both ends of the wire.

use async_trait::async_trait;
use futures_util::{Stream, StreamExt, stream};
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::header::ACCEPT;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use crate::call::Call;
use crate::client::Client;
use crate::error::{Class, Error};
use crate::json::{self, Any};
use crate::object::{Interface, Method, Object};
use crate::transport::Failure;
use crate::{bounds, rpc};

/// Its name and version.
pub const ID: &str = "Event/0.1.1";

pub(crate) static INTERFACE: Interface = Interface { id: ID, methods: &[Method::plain("List")] };

/// How many events a slow subscriber may lag before it loses some. An event only triggers a new listing, so a
/// lost one costs nothing while others follow.
const BEHIND: usize = 1024;

/// One event of a plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Components joined by `/`, such as `compute/found`.
    pub topic: String,
    /// `Found`, `Lost` or `Changed` for instances.
    pub kind: String,
    /// The id of the instance.
    pub id: String,
    /// A message; may be empty.
    pub message: String,
}

/// The publisher of the events of a plugin. Clones share their subscribers.
#[derive(Debug, Clone)]
pub struct Events {
    sender: broadcast::Sender<Event>,
    topics: Vec<String>,
}

impl Events {
    /// A publisher for these topics.
    pub fn new(topics: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let topics = topics.into_iter().map(Into::into).collect();
        Self { sender: broadcast::Sender::new(BEHIND), topics }
    }

    /// Publishes an event to the current subscribers.
    pub fn publish(&self, event: Event) {
        // Nobody may be listening.
        let _ = self.sender.send(event);
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.sender.subscribe()
    }

    /// The children of a topic; none if it is unknown.
    fn children(&self, topic: &str) -> Option<Vec<String>> {
        let topic = topic.trim_matches('/');
        let stem = if topic.is_empty() || topic == "." { String::new() } else { format!("{topic}/") };
        let mut known = stem.is_empty();
        let mut children = Vec::new();
        for other in &self.topics {
            known |= other == topic;
            if let Some(rest) = other.strip_prefix(&stem) {
                known = true;
                children.push(rest.split('/').next().unwrap_or(rest).to_owned());
            }
        }
        children.sort();
        children.dedup();
        known.then_some(children)
    }
}

#[async_trait]
impl Object for Events {
    async fn answer(&self, _: &'static str, request: &rpc::Request, _: &Call) -> rpc::Result {
        let asked: ListTopics = request.params()?;
        rpc::done(&Nodes { nodes: self.children(&asked.topic) })
    }
}

impl Client {
    /// Subscribes to events. The stream ends with the connection. A server of Docker's InfraKit answers a
    /// subscription only with the first event.
    pub async fn events(&self, topic: &str) -> Result<impl Stream<Item = Event> + Send + use<>, Error> {
        let target = self.transport.target();
        let query = form_urlencoded::Serializer::new(String::new()).append_pair("topic", topic).finish();
        let uri = hyper::Uri::builder()
            .scheme("http")
            .authority(target.authority().map_or("e", |authority| authority.as_str()))
            .path_and_query(format!("{}events?{query}", directory_of(target.path())))
            .build()
            .map_err(|error| Error::internal(format!("`{topic}` is not a topic: {error}")))?;
        let request = Request::get(uri)
            .header(ACCEPT, "text/event-stream")
            .body(Full::default())
            .map_err(Error::internal)?;
        let response = self.transport.open(request).await.map_err(|failure| match failure {
            Failure::NotConnected(why) => Error::new(Class::Unavailable, why),
            Failure::Broken(why) => Error::unsure(why),
        })?;
        if !response.status().is_success() {
            return Err(Error::internal(format!("the plugin does not serve events: {}", response.status())));
        }
        let state = (response.into_body(), Frames::default());
        let batches = stream::unfold(state, |(mut body, mut frames)| async move {
            let piece = body.frame().await?.ok()?;
            let events = piece.data_ref().map(|data| frames.push(data)).unwrap_or_default();
            Some((stream::iter(events), (body, frames)))
        });
        Ok(batches.flatten())
    }
}

fn directory_of(path: &str) -> &str {
    path.rfind('/').map_or("/", |at| &path[..=at])
}

#[derive(Serialize, Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
struct ListTopics {
    topic: String,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
struct Nodes {
    nodes: Option<Vec<String>>,
}

/// An event in a stream (plugin-protocol §9.7).
#[derive(Serialize, Deserialize, Default)]
#[serde(default)]
struct StreamEvent {
    #[serde(rename = "Topic")]
    topic: String,
    #[serde(rename = "Type", skip_serializing_if = "String::is_empty")]
    kind: String,
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "Message")]
    message: String,
    #[serde(rename = "Timestamp")]
    timestamp: String,
    #[serde(rename = "Received")]
    received: String,
    #[serde(rename = "Data", skip_serializing_if = "Option::is_none")]
    data: Any,
}

/// Whether a subscription covers a topic: by string prefix when it ends in `/`, else exactly.
pub(crate) fn covers(subscription: &str, topic: &str) -> bool {
    let rooted = |text: &str| match text {
        "" | "." => "/".to_owned(),
        text if text.starts_with('/') => text.to_owned(),
        text => format!("/{text}"),
    };
    let (subscription, topic) = (rooted(subscription), rooted(topic));
    if subscription.ends_with('/') { topic.starts_with(&subscription) } else { topic == subscription }
}

/// One frame of the stream: a line that begins with `data: `, and an empty line.
pub(crate) fn frame(event: &Event) -> String {
    let written = StreamEvent {
        topic: event.topic.clone(),
        kind: event.kind.clone(),
        id: event.id.clone(),
        message: event.message.clone(),
        timestamp: jiff::Timestamp::now().to_string(),
        received: "0001-01-01T00:00:00Z".to_owned(),
        data: None,
    };
    let json = serde_json::to_string(&written).expect("an event holds strings only");
    format!("data: {json}\n\n")
}

/// Parses frames from the chunks of a stream.
#[derive(Default)]
pub(crate) struct Frames {
    rest: Vec<u8>,
}

impl Frames {
    /// The longest incomplete line that is kept, so that a broken stream cannot fill the memory.
    const LONGEST: usize = 1 << 20;

    pub(crate) fn push(&mut self, piece: &[u8]) -> Vec<Event> {
        self.rest.extend_from_slice(piece);
        let mut events = Vec::new();
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            if let Some(data) = line.trim_end().strip_prefix("data:")
                && let Ok(read) = json::read::<StreamEvent>(data.trim_start())
            {
                let [topic, kind, id, message] =
                    [read.topic, read.kind, read.id, read.message].map(bounds::shorten);
                events.push(Event { topic, kind, id, message });
            }
        }
        if self.rest.len() > Self::LONGEST {
            self.rest.clear();
        }
        events
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscription_ends_in_a_slash_or_names_one_topic() {
        for (subscription, topic, yes) in [
            ("", "a/b", true),
            (".", "a/b", true),
            ("/", "a", true),
            ("a/", "a/b", true),
            ("a/b", "a/b", true),
            ("a", "a/b", false),
            ("a/b/", "a/b", false),
            ("streams/msec/5", "streams/msec/500", false),
        ] {
            assert_eq!(covers(subscription, topic), yes, "{subscription} {topic}");
        }
    }

    #[test]
    fn topics_are_listed_level_by_level() {
        let events = Events::new(["compute/found", "compute/lost", "disk/found"]);
        let list = |topic| events.children(topic);
        assert_eq!(list("."), Some(vec!["compute".to_owned(), "disk".to_owned()]));
        assert_eq!(list("compute"), Some(vec!["found".to_owned(), "lost".to_owned()]));
        assert_eq!(list("disk/found"), Some(vec![]));
        assert_eq!(list("nosuch"), None);
    }

    /// Chunks as InfraKit sent them, cut at every byte.
    #[test]
    fn recorded_frames_are_read_however_they_are_cut() {
        let recorded = include_str!("../../tests/transcripts/event-sse.jsonl");
        let mut stream = String::new();
        for line in recorded.lines() {
            let line: serde_json::Value = serde_json::from_str(line).expect("a line of JSON");
            if let Some(chunk) = line["chunk"].as_str() {
                // The chunk is recorded with its framing: a size line, the data, an empty line.
                let (_, data) = chunk.split_once("\r\n").expect("a chunk has a size");
                stream.push_str(data.strip_suffix("\r\n").expect("a chunk ends so"));
            }
        }
        let whole = Frames::default().push(stream.as_bytes());
        assert!(whole.len() > 20, "{}", whole.len());
        for size in [1, 7, 100] {
            let mut frames = Frames::default();
            let cut: Vec<Event> =
                stream.as_bytes().chunks(size).flat_map(|piece| frames.push(piece)).collect();
            assert_eq!(cut, whole);
        }
        let ours = frame(&whole[0]);
        assert_eq!(Frames::default().push(ours.as_bytes()), whole[..1]);
    }
}
