//! gatepost puts what is safe in front of mail servers that are not.

pub mod config;
pub mod gate;
pub mod observe;
pub mod policy;
pub mod proto;
pub mod store;
pub mod tls;
