//! x
#![allow(unreachable_pub, dead_code)]
mod clients;
mod gatepost;
mod kept;
mod servers;
