//! gatepost as its users meet it. `transcript` reads the sessions under `tests/transcripts`; each runner beside it
//! plays them against a larger part of the program.

mod bare;
mod transcript;
