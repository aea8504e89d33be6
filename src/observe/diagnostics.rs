//! What the program says about itself (`tracing`), written by the same thread and in the same style as events.

use super::Observe;
use std::fmt;
use std::sync::Arc;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

/// The layer that turns a `tracing` event into a line. Fields of the spans around it come first, outermost first.
///
/// Of other crates it takes warnings and errors alone, whatever the level: what a TLS or HTTP library says
/// while debugging may hold what was in the stream.
pub struct Diagnostics(pub(super) Arc<Observe>);

/// A span's fields, kept with the span.
struct SpanFields(Fields);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Diagnostics {
    fn enabled(&self, metadata: &tracing::Metadata<'_>, _: Context<'_, S>) -> bool {
        // Spans pass: their fields belong to the messages inside.
        metadata.is_span() || self.takes(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        // Not below info: the spans of a session, whose fields belong to its warnings, are of that level.
        Some(LevelFilter::from_level(self.0.level().max(Level::INFO)))
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut fields = Fields::default();
            attributes.record(&mut fields);
            span.extensions_mut().insert(SpanFields(fields));
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(SpanFields(fields)) = span.extensions_mut().get_mut()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        if !self.takes(event.metadata()) {
            return;
        }
        let mut said = Fields::default();
        for span in context.event_scope(event).into_iter().flat_map(tracing_subscriber::registry::Scope::from_root) {
            if let Some(SpanFields(fields)) = span.extensions().get() {
                said.named.extend(fields.named.iter().cloned());
            }
        }
        event.record(&mut said);
        self.0.message(*event.metadata().level(), &said.message, &said.named);
    }
}

impl Diagnostics {
    fn takes(&self, metadata: &tracing::Metadata<'_>) -> bool {
        let worst_shown = match metadata.target().split("::").next() {
            Some("gatepost") => Level::TRACE,
            // It warns of what a client does wrong, with the client's words, as often as the client likes.
            Some("rustls") => Level::ERROR,
            _ => Level::WARN,
        };
        self.0.shows(*metadata.level()) && *metadata.level() <= worst_shown
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    named: Vec<(&'static str, String)>,
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }
}

impl Fields {
    fn put(&mut self, field: &Field, text: String) {
        if field.name() == "message" {
            self.message = text;
        } else if let Some((_, old)) = self.named.iter_mut().find(|(name, _)| *name == field.name()) {
            *old = text;
        } else {
            self.named.push((field.name(), text));
        }
    }
}
