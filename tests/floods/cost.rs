//! What the gateway costs, as the kernel counts it.

use super::gateway::Gateway;
use std::fs;
use std::time::{Duration, Instant};

/// Octets of memory that are the process' own: neither its code nor what the kernel holds for its sockets.
pub fn memory(gateway: &Gateway) -> usize {
    let text = fs::read_to_string(format!("/proc/{}/smaps_rollup", gateway.pid())).expect("it runs");
    let line = text.lines().find_map(|line| line.strip_prefix("Anonymous:")).expect("a kernel that counts it");
    let kib: usize = line.trim().trim_end_matches("kB").trim().parse().expect("a number");
    kib * 1024
}

/// Looks at the memory until `is_over` says so, and gives the most that was seen.
pub fn peak_until(gateway: &Gateway, mut is_over: impl FnMut() -> bool) -> usize {
    let mut peak = memory(gateway);
    while !is_over() {
        std::thread::sleep(Duration::from_millis(20));
        peak = peak.max(memory(gateway));
    }
    peak.max(memory(gateway))
}

/// Waits until the process has hardly worked for a moment: it has done what there was to be done.
pub fn is_quiet(gateway: &Gateway, patience: Duration) {
    let deadline = Instant::now() + patience;
    let mut before = gateway.cpu_time();
    loop {
        std::thread::sleep(Duration::from_millis(100));
        let now = gateway.cpu_time();
        if now - before <= Duration::from_millis(10) {
            return;
        }
        assert!(Instant::now() < deadline, "busy for {patience:?}");
        before = now;
    }
}
