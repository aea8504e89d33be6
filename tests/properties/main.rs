//! Properties of every machine in `proto`, and of what else reads a stranger's bytes. What must hold stands in the doors,
//! which the fuzz targets of `tests/fuzz` share; here proptest makes up the inputs, and the largest are written by hand.

// Public for the fuzz targets, to which they are a library.
mod bounds;
#[allow(unreachable_pub)]
#[path = "../fuzz/doors/lib.rs"]
mod doors;
mod seeds;
mod words;

use proptest::prelude::*;
use words::input;

/// Runs a target's door on inputs made of its words and of raw bytes.
macro_rules! properties {
    ($($name:ident: $target:ident, $cases:expr;)*) => {
        $(
            #[test]
            fn $name() {
                let target = stringify!($target);
                let (_, door) = doors::DOORS.into_iter().find(|(name, _)| *name == target).expect("a door");
                let config = ProptestConfig { cases: $cases, failure_persistence: None, ..ProptestConfig::default() };
                proptest!(config, |(data in input(target))| door(&data));
            }
        )*
    };
}

properties! {
    an_imap_client_may_say_anything: imap_front, 300;
    a_pop3_client_may_say_anything: pop3_front, 300;
    an_smtp_client_may_say_anything: smtp_front, 300;
    an_imap_backend_may_say_anything: imap_back, 300;
    a_pop3_backend_may_say_anything: pop3_back, 300;
    an_smtp_backend_may_say_anything: smtp_back, 300;
    a_reply_is_read_as_a_plain_loop_reads_it: replies, 300;
    an_exchange_loses_nothing_and_lets_nothing_through: sasl, 300;
    a_submission_is_the_same_session_to_both_sides: transaction, 300;
    a_message_ends_where_a_plain_loop_has_its_end: data, 500;
    a_list_means_what_its_lines_say_one_by_one: access_list, 300;
    a_proxy_header_is_read_as_a_plain_loop_reads_it: proxy_header, 300;
    a_hello_is_read_as_a_plain_loop_reads_it: tls_hello, 300;
    a_backend_may_say_anything_on_the_way_to_tls_and_to_who_the_client_is: introduction, 300;
    an_outlook_may_ask_anything: outlook, 300;
    a_configuration_is_taken_or_refused_with_a_place: config, 50;
}
