//! gatepost puts what is safe in front of mail servers that are not.
pub mod proto;
pub mod tls;
