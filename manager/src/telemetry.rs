//! OpenTelemetry traces: one for each revision of a group, from the commit through every intent to the plugin
//! calls, across changes of the leader.
//!
//! The ids of a trace and of its first span follow from the cluster, the group and the revision, so that
//! every manager adds to the same trace without an entry in the log. Off unless `OTEL_EXPORTER_OTLP_ENDPOINT`
//! (or `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`) is set: a collector's gRPC port, without TLS. The other
//! variables of the specification (headers, timeouts, batches, sampling, resource) apply too.

use std::cell::Cell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use model::answer::Committed;
use model::intent::Task;
use model::{Actor, ClusterId, GroupId, Outcome, PluginName, Revision};
use opentelemetry::trace::{
    Span, SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags, TraceId, TraceState, Tracer,
};
use opentelemetry::{Context, KeyValue, global};
#[cfg(feature = "otlp")]
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator, SdkTracerProvider};
use sha2::{Digest, Sha256};

use crate::world::Work;

/// The name of the tracer.
const SCOPE: &str = "infrakit";
/// How long a stopping manager waits for the export of the last spans.
const FLUSHED_IN: Duration = Duration::from_secs(2);

/// Exports spans until it is stopped.
pub struct Telemetry(SdkTracerProvider);

thread_local! {
    /// The ids of the next span on this thread, if they are not random.
    static NEXT: Cell<Option<(TraceId, SpanId)>> = const { Cell::new(None) };
}

/// Random ids, except for spans whose ids are derived from a revision.
#[derive(Debug, Default)]
#[cfg_attr(not(feature = "otlp"), allow(dead_code))]
struct Ids(RandomIdGenerator);

impl IdGenerator for Ids {
    fn new_trace_id(&self) -> TraceId {
        NEXT.get().map_or_else(|| self.0.new_trace_id(), |(trace, _)| trace)
    }

    fn new_span_id(&self) -> SpanId {
        NEXT.get().map_or_else(|| self.0.new_span_id(), |(_, span)| span)
    }
}

impl Telemetry {
    /// Starts the export, if the environment has an endpoint. Must be called within a runtime. Errors are
    /// logged.
    pub fn start() -> Option<Self> {
        let said = |name| std::env::var_os(name).is_some_and(|it| !it.is_empty());
        if !said("OTEL_EXPORTER_OTLP_ENDPOINT") && !said("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") {
            return None;
        }
        Self::exporting(said("OTEL_SERVICE_NAME"))
    }

    #[cfg(not(feature = "otlp"))]
    fn exporting(_: bool) -> Option<Self> {
        tracing::error!("traces are not exported: this build is without the feature `otlp`");
        None
    }

    #[cfg(feature = "otlp")]
    fn exporting(is_named: bool) -> Option<Self> {
        let exporter = match opentelemetry_otlp::SpanExporter::builder().with_tonic().build() {
            Ok(exporter) => exporter,
            Err(error) => {
                tracing::error!(%error, "traces are not exported: invalid OTEL_EXPORTER_OTLP_* variables");
                return None;
            }
        };
        let mut resource = Resource::builder();
        if !is_named {
            resource = resource.with_service_name(SCOPE);
        }
        let resource = resource.with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
        let provider = SdkTracerProvider::builder()
            .with_id_generator(Ids::default())
            .with_resource(resource.build())
            .with_batch_exporter(exporter)
            .build();
        global::set_tracer_provider(provider.clone());
        Some(Self(provider))
    }

    /// Exports the remaining spans. Blocks for a moment.
    pub fn stop(self) {
        if let Err(error) = self.0.shutdown_with_timeout(FLUSHED_IN) {
            tracing::debug!(%error, "the last spans were not exported");
        }
    }
}

/// The ids of the trace and of the first span of a revision.
fn beginning(cluster: &ClusterId, group: &GroupId, revision: Revision) -> (TraceId, SpanId) {
    let digest: [u8; 32] = Sha256::digest(format!("{cluster}\0{group}\0{revision}")).into();
    let trace = digest[..16].try_into().expect("sixteen of them");
    let span = digest[16..24].try_into().expect("eight of them");
    (TraceId::from_bytes(trace), SpanId::from_bytes(span))
}

/// Records the span of an accepted commit.
pub(crate) fn committed(cluster: &ClusterId, by: &Actor, began: SystemTime, it: &Committed) {
    if it.unchanged {
        return;
    }
    let tracer = global::tracer(SCOPE);
    let builder =
        tracer.span_builder("commit").with_kind(SpanKind::Server).with_start_time(began).with_attributes([
            KeyValue::new("infrakit.cluster", cluster.to_string()),
            KeyValue::new("infrakit.group", it.group.to_string()),
            KeyValue::new("infrakit.revision", it.revision.0 as i64),
            KeyValue::new("enduser.id", by.to_string()),
        ]);
    NEXT.set(Some(beginning(cluster, &it.group, it.revision)));
    let mut span = tracer.build_with_context(builder, &Context::new());
    NEXT.set(None);
    span.end();
}

/// Begins the span of an attempt of an intent.
pub(crate) fn attempted(cluster: &ClusterId, work: &Work) -> Context {
    let (trace, span) = beginning(cluster, &work.group, work.revision);
    let parent = SpanContext::new(trace, span, TraceFlags::SAMPLED, true, TraceState::default());
    let parent = Context::new().with_remote_span_context(parent);
    let tracer = global::tracer(SCOPE);
    let intent = &work.intent;
    let name = match &intent.task {
        Task::Provision { .. } => "provision",
        Task::Destroy { .. } => "destroy",
        Task::Label { .. } => "label",
    };
    let mut attributes = vec![
        KeyValue::new("infrakit.group", work.group.to_string()),
        KeyValue::new("infrakit.intent", work.token.clone()),
        KeyValue::new("infrakit.attempt", i64::from(intent.attempt)),
    ];
    attributes.extend(intent.task.slot().map(|slot| KeyValue::new("infrakit.slot", slot.to_string())));
    let builder = tracer
        .span_builder(name)
        .with_start_time(UNIX_EPOCH + Duration::from_millis(intent.since.0))
        .with_attributes(attributes);
    Context::new().with_span(tracer.build_with_context(builder, &parent))
}

/// Ends the span of an attempt with its outcome.
pub(crate) fn settled(attempt: &Context, outcome: &Outcome) {
    let span = attempt.span();
    match outcome {
        Outcome::Done(instance) => {
            span.set_attribute(KeyValue::new("infrakit.instance", instance.to_string()));
            span.set_status(Status::Ok);
        }
        Outcome::Refused { message, .. } => span.set_status(Status::error(format!("refused: {message}"))),
        Outcome::Unsure { message } => span.set_status(Status::error(format!("unsure: {message}"))),
    }
    span.end();
}

/// The span of a plugin call.
pub(crate) struct CallSpan(Context);

/// Begins the span of a plugin call within an attempt.
pub(crate) fn calls(attempt: &Context, plugin: &PluginName, method: &'static str) -> CallSpan {
    let tracer = global::tracer(SCOPE);
    let builder = tracer.span_builder(method).with_kind(SpanKind::Client).with_attributes([
        KeyValue::new("rpc.system", "jsonrpc"),
        KeyValue::new("rpc.method", method),
        KeyValue::new("infrakit.plugin", plugin.to_string()),
    ]);
    CallSpan(Context::new().with_span(tracer.build_with_context(builder, attempt)))
}

impl CallSpan {
    /// The `traceparent` header for the plugin, if the span is recorded (W3C Trace Context §3.2).
    pub(crate) fn traceparent(&self) -> Option<String> {
        let span = self.0.span();
        let context = span.span_context();
        // A span that is not recorded cannot be a parent.
        span.is_recording().then(|| {
            let flags = context.trace_flags().to_u8();
            format!("00-{}-{}-{flags:02x}", context.trace_id(), context.span_id())
        })
    }

    /// Ends the span. The message of the plugin is in the span of the attempt, without secrets.
    pub(crate) fn ended<T, E>(self, result: Result<T, E>) -> Result<T, E> {
        let span = self.0.span();
        span.set_status(if result.is_ok() { Status::Ok } else { Status::error("failed") });
        span.end();
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trace_of_a_revision_begins_at_the_same_place_wherever_it_is_told_of() {
        let of = |group: &str, revision| beginning(&"c".into(), &group.into(), Revision(revision));
        assert_eq!(of("web", 1), of("web", 1));
        let all = [of("web", 1), of("web", 2), of("db", 1)];
        assert!(all.iter().enumerate().all(|(at, one)| all[..at].iter().all(|other| other.0 != one.0)));
    }
}
