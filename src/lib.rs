//! gatepost puts what is safe in front of mail servers that are not.
pub mod cli;
pub mod observe;
pub mod policy;
pub mod proto;
