//! Tells the program which compiler built it, for `gatepost_build_info`.

use std::process::Command;

fn main() {
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let version = Command::new(rustc).arg("--version").output().ok().and_then(|run| String::from_utf8(run.stdout).ok());
    // "rustc 1.88.0 (hash date)": the number alone is the label.
    let number = version.as_deref().and_then(|text| text.split_whitespace().nth(1)).unwrap_or("unknown");
    println!("cargo:rustc-env=GATEPOST_RUSTC={number}");
    println!("cargo:rerun-if-changed=build.rs");
}
