#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| gatepost_fuzz::back::pop3(data));
