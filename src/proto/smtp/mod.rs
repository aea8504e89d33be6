//! SMTP.
mod back;
mod capability;
mod command;
mod data;
mod front;
mod path;
mod reply;
mod transaction;
mod words;

pub use back::SmtpBack;
pub use capability::shown_extensions;
pub use data::BareNewline;
pub use front::SmtpFront;
pub use path::Address;
pub use transaction::{
    Envelope, MAX_OUTSTANDING, MAX_RECIPIENTS, Message, Over, Progress, Recipients, Refused, Stage, Transaction,
    TransactionSettings, Turn,
};
