//! An old webmail in front of Dovecot, shown under TLS to curl and Chromium; nginx as the web server where one that is known is wanted.

use crate::clients::{client, output_of, run};
use crate::gatepost::{Backend, Gatepost};
use crate::help_page::chromium;
use crate::kept::{Kept, directory, own_address, until, write};
use crate::servers::dovecot;
use sha2::{Digest, Sha256};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;

/// The webmail, a program of Python's.
struct Webmail {
    address: Ipv4Addr,
    kept: Kept,
}

impl Webmail {
    fn start() -> Self {
        Self::start_at(own_address())
    }

    fn start_at(address: Ipv4Addr) -> Self {
        let directory = directory("webmail");
        let script = directory.join("webmail.py");
        write(&script, include_str!("servers/webmail.py"));
        let imap = dovecot::shared().address.to_string();
        let arguments = [script.display().to_string(), address.to_string(), "80".to_owned(), imap];
        let kept = Kept::start("/usr/bin/python3", &arguments, &directory.join("log"), Some(&directory));
        listens((address, 80).into(), &kept);
        Self { address, kept }
    }
}

fn listens(address: SocketAddr, kept: &Kept) {
    let found = std::panic::AssertUnwindSafe(|| until("the web server", || TcpStream::connect(address).ok()));
    if let Err(panic) = std::panic::catch_unwind(found) {
        eprintln!("it said:\n{}", kept.said());
        std::panic::resume_unwind(panic);
    }
}

fn gateway(webmail: &str) -> Gatepost {
    Gatepost::start_with_page(Backend::usual(), &format!("portal: {{ webmail: {webmail} }}\n"))
}

/// curl with a jar of cookies of its own, which it keeps to their rules.
fn curl(gateway: &Gatepost, jar: &std::path::Path) -> Command {
    let mut curl = client("curl");
    curl.args(["-sS", "--cacert"]).arg(gateway.authority());
    curl.args(["--resolve", &format!("mail.example.net:443:{}", gateway.address)]);
    curl.arg("--cookie-jar").arg(jar).arg("--cookie").arg(jar);
    curl
}

#[test]
fn a_customer_logs_in_and_reads_mail_with_curl() {
    let dovecot = dovecot::shared();
    let user = dovecot.user("webmail-curl");
    dovecot.deliver(user, "Subject: Lunch\n\nAt one?\n");
    let webmail = Webmail::start();
    let gateway = gateway(&format!("\"http://{}/squirrelmail/\"", webmail.address));
    let files = directory("curl");
    let jar = files.join("cookies");
    let asked = |more: &[&str], path: &str| {
        let mut curl = curl(&gateway, &jar);
        curl.args(more).arg(format!("https://mail.example.net{path}"));
        output_of(curl, b"")
    };
    // From the page's link to the form, to the inbox, by redirects alone; none of them leaves TLS.
    assert!(asked(&[], "/").contains("href=\"/webmail/\""));
    let only_tls = ["--location", "--proto-redir", "=https"];
    assert!(asked(&only_tls, "/webmail/").contains("<form name=\"login\""));
    let form = format!("user={user}&pass=secret");
    let wrong = asked(&["--data", &format!("user={user}&pass=wrong")], "/webmail/src/redirect.py");
    assert!(wrong.contains("password incorrect"), "{wrong}");
    let inbox = asked(&[&only_tls[..], &["--data", &form]].concat(), "/webmail/src/redirect.py");
    assert!(inbox.contains("Subject: Lunch"), "{inbox}");
    assert!(asked(&[], "/webmail/src/inbox.py").contains("Subject: Lunch"));
    let kept = std::fs::read_to_string(&jar).expect("a jar");
    let session = kept.lines().find(|line| line.contains("SQMSESSID")).expect("a session's cookie");
    let fields: Vec<&str> = session.trim_start_matches("#HttpOnly_").split('\t').collect();
    assert_eq!(fields[..4], ["mail.example.net", "FALSE", "/webmail/", "TRUE"], "for us, for its path, for TLS alone");
    // The address is the browser's, whatever the browser says.
    let who = asked(&["--interface", "127.0.0.9", "-H", "X-Forwarded-For: 10.9.9.9"], "/webmail/src/who.py");
    assert_eq!(who, "127.0.0.9 https");
    // An attachment of thirty MiB.
    let attachment: Vec<u8> = (0..30 << 20).map(|n: u32| n.to_le_bytes()[1]).collect();
    let file = files.join("attachment");
    write(&file, &attachment);
    let digest = asked(&["--data-binary", &format!("@{}", file.display())], "/webmail/src/attach.py");
    let expected: String = Sha256::digest(&attachment).iter().map(|octet| format!("{octet:02x}")).collect();
    assert_eq!(digest, expected);
    assert!(!gateway.log().contains("SQMSESSID") && !gateway.log().contains("redirect.py"), "{}", gateway.log());
    let _ = std::fs::remove_dir_all(files);
}

#[test]
fn chromium_logs_in_keeps_its_cookies_and_opens_a_websocket() {
    let dovecot = dovecot::shared();
    let user = dovecot.user("webmail-chromium");
    dovecot.deliver(user, "Subject: Supper\n\nAt eight?\n");
    let webmail = Webmail::start();
    for (entrance, path) in [("path: /webmail/", "/webmail/"), ("path: /squirrelmail/", "/squirrelmail/")] {
        let to = webmail.address;
        let gateway = gateway(&format!("[{{ {entrance}, to: \"http://{to}/squirrelmail/\" }}]"));
        let mut browser = chromium(&directory("chromium"));
        browser.args(["--virtual-time-budget=20000", "--dump-dom"]);
        browser.arg(format!("--host-resolver-rules=MAP mail.example.net {}", gateway.address));
        browser.arg(format!("https://mail.example.net{path}src/login.py?auto={user}"));
        let dom = run(browser, b"").said;
        for words in [
            format!("https:{path}src/inbox.py"),
            "Subject: Supper".to_owned(),
            // One is for scripts too, as old webmails have it; the session's says HttpOnly itself.
            "scripts see [SQMTEST=1]".to_owned(),
            "you have new mail".to_owned(),
        ] {
            assert!(dom.contains(&words), "no {words:?} in\n{dom}\n{}\n{}", webmail.kept.said(), gateway.log());
        }
    }
}

#[test]
fn a_plug_that_is_pulled_is_a_page_in_words() {
    let mut webmail = Webmail::start();
    let gateway = gateway(&format!("\"http://{}/squirrelmail/\"", webmail.address));
    let asked = || {
        let mut curl = client("curl");
        curl.args(["-sS", "-i", "--http1.1", "--cacert"]).arg(gateway.authority());
        curl.args(["--resolve", &format!("mail.example.net:443:{}", gateway.address)]);
        curl.arg("https://mail.example.net/webmail/src/login.py");
        output_of(curl, b"")
    };
    assert!(asked().starts_with("HTTP/1.1 200 "));
    webmail.kept.stop();
    let away = asked();
    assert!(away.starts_with("HTTP/1.1 502 ") && away.contains("Webmail is not there just now"), "{away}");
    // Where it is looked at by people: target/help-page.
    let shots = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("../help-page");
    std::fs::create_dir_all(&shots).expect("a folder");
    for (name, path) in [("webmail-away", "/webmail/"), ("page-with-webmail", "/")] {
        let shot = shots.join(format!("{name}.png"));
        let _ = std::fs::remove_file(&shot);
        let mut browser = chromium(&directory("chromium"));
        browser.args(["--window-size=1000,700", &format!("--screenshot={}", shot.display())]);
        browser.arg(format!("--host-resolver-rules=MAP mail.example.net {}", gateway.address));
        browser.arg(format!("https://mail.example.net{path}"));
        let ended = run(browser, b"");
        assert!(ended.ok && shot.exists(), "{}", ended.said);
    }
    let _again = Webmail::start_at(webmail.address);
    assert!(asked().starts_with("HTTP/1.1 200 "));
    assert!(gateway.log().contains("answers again"), "{}", gateway.log());
}

#[test]
fn nginx_serves_through_us_what_it_serves() {
    let (address, files) = (own_address(), directory("nginx"));
    let at = files.display();
    let content: Vec<u8> = (0..5 << 20).map(|n: u32| n.to_le_bytes()[1]).collect();
    write(&files.join("www/skins/large.bin"), &content);
    write(&files.join("www/index.html"), "<h1>webmail</h1>");
    write(
        &files.join("nginx.conf"),
        format!(
            "daemon off; error_log {at}/error.log; pid {at}/pid; events {{}}\nhttp {{ access_log off; gzip on; gzip_types text/html;\n\
             client_body_temp_path {at}/body; proxy_temp_path {at}/p; fastcgi_temp_path {at}/f; uwsgi_temp_path {at}/u; scgi_temp_path {at}/s;\n\
             server {{ listen {address}:80; root {at}/www; }} }}\n"
        ),
    );
    let configuration = files.join("nginx.conf");
    let arguments = ["-c".as_ref(), configuration.as_os_str()];
    let kept = Kept::start("nginx", &arguments, &files.join("log"), Some(&files));
    listens((address, 80).into(), &kept);
    let gateway = gateway(&format!("\"http://{address}\""));
    let jar = files.join("cookies");
    let asked = |more: &[&str], path: &str| {
        let mut curl = curl(&gateway, &jar);
        curl.args(more).arg(format!("https://mail.example.net{path}"));
        output_of(curl, b"")
    };
    assert_eq!(asked(&[], "/webmail/"), "<h1>webmail</h1>");
    assert_eq!(asked(&["--compressed"], "/webmail/"), "<h1>webmail</h1>");
    // nginx adds the slash by a redirect to itself, which is to us.
    let folder = asked(&["-i"], "/webmail/skins");
    assert!(folder.contains("\r\nlocation: https://mail.example.net/webmail/skins/\r\n"), "{folder}");
    let large = files.join("came");
    asked(&["--output", &large.display().to_string()], "/webmail/skins/large.bin");
    assert!(std::fs::read(&large).expect("a file") == content);
    let part = asked(&["-i", "--range", "10-19", "--output", &large.display().to_string()], "/webmail/skins/large.bin");
    assert_eq!(part, "");
    let part = std::fs::read(&large).expect("a file");
    assert!(
        part.starts_with(b"HTTP/1.1 206 ") && part.ends_with(&content[10..20]),
        "{}",
        String::from_utf8_lossy(&part)
    );
    let head = asked(&["--head"], "/webmail/skins/large.bin");
    assert!(head.to_ascii_lowercase().contains("\r\ncontent-length: 5242880\r\n"), "{head}");
    let gone = asked(&["-i"], "/webmail/none");
    assert!(gone.starts_with("HTTP/1.1 404 ") && gone.contains("nginx"), "its own words: {gone}");
}
