//! gatepost as its users meet it. `transcript` reads the sessions under `tests/transcripts`; each runner beside it
//! plays them against a larger part of the program.

mod backend;
mod bare;
mod challenges;
mod faults;
mod garbage;
mod gate;
mod gateway;
mod lifecycle;
mod live;
mod mail;
mod secrets;
mod submission;
mod talk;
mod timing;
mod transcript;
