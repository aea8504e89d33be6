//! What happened, for people, for logs and for metrics.

pub mod event;

pub use event::{Event, Kind};
