//! gatepost as its users meet it. `transcript` reads the sessions under `tests/transcripts`; each runner beside it
//! plays them against a larger part of the program.

mod backend;
mod balance;
mod bare;
mod behind_tls;
mod challenges;
mod checked_elsewhere;
mod client_address;
mod client_certificates;
mod cuts;
mod faults;
mod garbage;
mod gate;
mod gateway;
mod greeting;
mod hostile;
mod lifecycle;
mod live;
mod mail;
mod matrix;
mod no_verdict;
mod proxy_protocol;
mod relay_probe;
mod routes;
mod secrets;
mod senders;
mod settled;
mod slow_reader;
mod strangers;
mod submission;
mod talk;
mod timing;
mod transcript;
mod trusted_clients;
mod tunnels;
mod without_login;
