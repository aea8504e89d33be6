//! The help page as curl and Chromium meet it, in front of Dovecot and Postfix.

use crate::clients::{client, limited, output_of, run};
use crate::gatepost::{Backend, Gatepost};
use crate::kept::directory;
use std::path::{Path, PathBuf};
use std::time::Duration;

const MORE: &str = "portal: { company: \"Example Networks\", help_contact: \"mailto:help@example.net\" }\n";

fn gateway() -> Gatepost {
    Gatepost::start_with_page(Backend::usual(), MORE)
}

/// Chromium without a window, as root, with nothing of its own on the network.
pub fn chromium(home: &Path) -> std::process::Command {
    let mut chromium = limited("chromium", Duration::from_secs(120));
    let profile = format!("--user-data-dir={}", home.display());
    chromium.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", &profile]);
    chromium.args(["--disable-background-networking", "--disable-component-update", "--disable-sync"]);
    chromium.args(["--ignore-certificate-errors", "--hide-scrollbars", "--disable-dev-shm-usage"]);
    chromium
}

#[test]
fn curl_trusts_the_page_by_the_authority_and_follows_no_foreign_name() {
    let gateway = gateway();
    let resolve = |port: u16| format!("mail.example.net:{port}:{}", gateway.address);
    let mut curl = client("curl");
    curl.args(["-sS", "--http1.1", "--cacert"]).arg(gateway.authority());
    curl.args(["--resolve", &resolve(443), "https://mail.example.net/"]);
    let page = output_of(curl, b"");
    assert!(page.contains("<h1>Example Networks</h1>") && page.contains("<dd>993</dd>"), "{page}");
    let mut curl = client("curl");
    curl.args(["-sS", "-i", "--http1.1", "--cacert"]).arg(gateway.authority());
    curl.args(["--resolve", &resolve(995), "https://mail.example.net:995/"]);
    let page = output_of(curl, b"");
    assert!(page.starts_with("HTTP/1.1 200 ") && !page.contains("+OK"), "{page}");
    let mut curl = client("curl");
    curl.args(["-sSk", "-i", "--http1.1", "--resolve", &format!("other.example.net:995:{}", gateway.address)]);
    curl.arg("https://other.example.net:995/");
    let astray = output_of(curl, b"");
    assert!(astray.starts_with("HTTP/1.1 421 ") && !astray.contains("Example Networks"), "{astray}");
}

#[test]
fn chromium_shows_the_page_on_a_wide_screen_and_on_a_telephone() {
    let gateway = gateway();
    // Where they are looked at by people: target/help-page.
    let shots = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("../help-page");
    std::fs::create_dir_all(&shots).expect("a folder");
    for (name, size) in [("wide", "1280,1700"), ("telephone", "500,2600")] {
        let (home, shot) = (directory("chromium"), shots.join(format!("{name}.png")));
        let _ = std::fs::remove_file(&shot);
        let mut browser = chromium(&home);
        browser.args([&format!("--window-size={size}"), &format!("--screenshot={}", shot.display())]);
        browser.arg(format!("https://{}/", gateway.address));
        let ended = run(browser, b"");
        let octets = std::fs::metadata(&shot).map(|file| file.len()).unwrap_or_default();
        assert!(ended.ok && octets > 20_000, "{octets}: {}", ended.said);
    }
    let mut browser = chromium(&directory("chromium"));
    browser.arg("--dump-dom").arg(format!("https://{}/", gateway.address));
    let dom = run(browser, b"").said;
    assert!(dom.contains("<h1>Example Networks</h1>") && dom.contains("SSL/TLS"), "{dom}");
    assert!(!dom.contains("Refused to apply inline style"), "the policy lets its own style in: {dom}");
}
