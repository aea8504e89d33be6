//! The help page, its documents, and browsers on mail ports, as a browser and mail programs meet them.

use super::client::{Client, NAME};
use super::gateway::{Folder, Gateway};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

const LISTENERS: &str = "  imaps: { address: \"127.0.0.1:0\", protocol: imap }
  imap: { address: \"127.0.0.1:0\", protocol: imap, tls: starttls }
  help: { address: \"127.0.0.1:0\", protocol: https }
  lead: { address: \"127.0.0.1:0\", protocol: https, tls: off }";
const PORTAL: &str = "portal: { company: \"Example & Sons\", help_contact: \"mailto:help@example.net\", ports: { imaps: 993, imap: 143, help: 443 } }";

/// What came back.
pub struct Answer {
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("UTF-8")
    }

    /// A header's value; the name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    }

    #[track_caller]
    pub fn is(&self, status: u16) {
        assert!(self.head.starts_with(&format!("HTTP/1.1 {status} ")), "{}", self.head);
    }
}

pub fn connect(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(address).expect("it listens");
    socket.set_read_timeout(Some(super::outcome::PATIENCE)).expect("an option");
    socket
}

/// TLS with a name and ALPN; an error is the handshake's.
pub fn tls(
    root: &[u8],
    address: SocketAddr,
    name: &str,
    alpn: &[&str],
) -> Result<StreamOwned<ClientConnection, TcpStream>, std::io::Error> {
    tls_over(root, connect(address), name, alpn)
}

/// The same over a connection on which something was said before.
pub fn tls_over(
    root: &[u8],
    socket: TcpStream,
    name: &str,
    alpn: &[&str],
) -> Result<StreamOwned<ClientConnection, TcpStream>, std::io::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(root).expect("PEM")).expect("a root");
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let connection = ClientConnection::new(Arc::new(config), name).expect("a client");
    let mut stream = StreamOwned::new(connection, socket);
    stream.conn.complete_io(&mut stream.sock)?;
    Ok(stream)
}

/// Sends a request over a connection and reads to its end.
pub fn ask(mut stream: impl Read + Write, request: &str) -> Answer {
    stream.write_all(request.as_bytes()).expect("it listens");
    let mut all = Vec::new();
    // The end of a connection that refused the rest of a request may be a reset.
    let _ = stream.read_to_end(&mut all);
    let end = all.windows(4).position(|window| window == b"\r\n\r\n").map_or(all.len(), |at| at + 4);
    let body = all.split_off(end);
    Answer { head: String::from_utf8(all).expect("a head"), body }
}

pub fn request(method: &str, path: &str, body: &str) -> String {
    let length = body.len();
    format!("{method} {path} HTTP/1.1\r\nhost: {NAME}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}")
}

/// A browser's request to the page.
fn get(gateway: &Gateway, path: &str) -> Answer {
    send(gateway, "GET", path, "")
}

fn send(gateway: &Gateway, method: &str, path: &str, body: &str) -> Answer {
    let stream = tls(&gateway.folder.root(), gateway.address("help"), NAME, &["h2", "http/1.1"]).expect("TLS");
    ask(stream, &request(method, path, body))
}

/// What curl gets from the page, whoever signed for it.
fn curl(options: &[&str], address: SocketAddr, path: &str) -> String {
    let mut command = Command::new("curl");
    let said = command.args(["-sk", "--max-time", "20"]).args(options).arg(format!("https://{address}{path}")).output();
    String::from_utf8(said.expect("curl is installed").stdout).expect("text")
}

/// Python's own parsers judge what programs of others must read.
#[track_caller]
fn python(code: &str, input: &[u8]) -> String {
    let mut child = Command::new("python3")
        .args(["-c", code])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 is installed");
    child.stdin.take().expect("piped").write_all(input).expect("it reads");
    let output = child.wait_with_output().expect("our child");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(input));
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn a_customer_reads_every_setting_and_nothing_runs() {
    let gateway = Gateway::start(LISTENERS, PORTAL);
    let page = get(&gateway, "/");
    page.is(200);
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(page.header("cache-control"), Some("no-store"));
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(page.header("referrer-policy"), Some("no-referrer"));
    assert_eq!(page.header("strict-transport-security"), None, "a private CA must stay within reach");
    let policy = page.header("content-security-policy").expect("a policy");
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-") && !policy.contains("unsafe"), "{policy}");
    let html = page.text();
    for part in [
        "<dd>mail.example.net</dd><dt>Port</dt><dd>993</dd><dt>Security</dt><dd>SSL/TLS</dd>",
        "<dd class=\"other\">port 143 with STARTTLS</dd>",
        "<h1>Example &amp; Sons</h1>",
        "<a href=\"mailto:help@example.net\"",
        "<html lang=\"en\">",
        "<main>",
        "you@example.net",
        "Thunderbird",
        "Outlook",
        "Apple Mail",
        "Android",
        "mutt",
    ] {
        assert!(html.contains(part), "no {part} in\n{html}");
    }
    assert!(!html.contains("<script") && !html.contains(" style=") && !html.contains(" onclick"), "{html}");
    assert!(!html.contains("Outgoing mail"), "there is none on this gateway");
    // Every place it leads to on itself is there.
    for (_, after) in html.match_indices("href=\"#").map(|(at, found)| (at, &html[at + found.len()..])) {
        let id = after.split('"').next().expect("a name");
        assert!(html.contains(&format!("id=\"{id}\"")), "{id}");
    }
    let head = send(&gateway, "HEAD", "/", "");
    head.is(200);
    assert!(head.body.is_empty() && head.header("content-length").is_some_and(|length| length.len() > 3));
    get(&gateway, "/nothing-script").is(404);
    assert!(!get(&gateway, "/nothing-script").text().contains("script"));
    let posted = send(&gateway, "POST", "/", "x=1");
    posted.is(405);
    assert_eq!(posted.header("allow"), Some("GET, HEAD"));
}

#[test]
fn what_is_for_the_house_alone_is_shown_only_where_all_is() {
    let of_office = LISTENERS.replace("tls: starttls", "tls: starttls, allow: [10.0.0.0/8]");
    let of_all = LISTENERS.replace("imap: { address: \"127.0.0.1:0\"", "imap: { address: \"0.0.0.0:0\"");
    for (listeners, portal, expected) in [
        (LISTENERS, "", [true, true]),
        (&of_office, "", [true, true]),
        (LISTENERS, "portal: { ports: { imaps: 993 } }", [true, false]),
        (&of_office, "portal: { ports: { imaps: 993 } }", [true, false]),
        (&of_office, "portal: { ports: { imap: 143 } }", [false, true]),
        (&of_all, "", [false, true]),
    ] {
        let gateway = Gateway::start(listeners, portal);
        let page = get(&gateway, "/");
        let html = page.text();
        let seen = ["<dd>SSL/TLS</dd>", "STARTTLS"].map(|security| html.contains(security));
        assert_eq!(seen, expected, "{listeners}\n{portal}\n{html}");
    }
}

#[test]
fn the_private_ca_is_there_in_each_form_with_its_fingerprint() {
    let gateway = Gateway::start(LISTENERS, PORTAL);
    let root = gateway.folder.root();
    let pem = get(&gateway, "/ca.pem");
    assert_eq!(pem.body, root);
    assert_eq!(pem.header("content-disposition"), Some("attachment; filename=\"ca.pem\""));
    let der = CertificateDer::from_pem_slice(&root).expect("PEM");
    for path in ["/ca.crt", "/ca.der"] {
        let answer = get(&gateway, path);
        assert_eq!(answer.header("content-type"), Some("application/x-x509-ca-cert"));
        assert_eq!(answer.body, der.as_ref());
    }
    let digest = python(
        "import hashlib,sys;print(':'.join('%02X'%b for b in hashlib.sha256(sys.stdin.buffer.read()).digest()))",
        &der,
    );
    assert!(get(&gateway, "/").text().replace("<wbr>", "").contains(digest.trim()));
    let profile = get(&gateway, "/mail.mobileconfig");
    assert_eq!(profile.header("content-type"), Some("application/x-apple-aspen-config"));
    let read = "import plistlib,sys,json;p=plistlib.loads(sys.stdin.buffer.read());print(p['PayloadDisplayName'],[(c['PayloadType'],len(c.get('PayloadContent',b''))) for c in p['PayloadContent']])";
    let expected = format!("Example & Sons [('com.apple.security.root', {})]", der.len());
    assert_eq!(python(read, &profile.body).trim(), expected, "no account: nobody can send here");
}

#[test]
fn a_public_certificate_has_no_ca_to_hand_out() {
    let folder = Folder::new();
    for file in ["mail.pem", "mail.key"] {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config/files").join(file);
        folder.write(file, std::fs::read(from).expect("a file of the tests"));
    }
    std::fs::set_permissions(folder.at("mail.key"), PermissionsExt::from_mode(0o600)).expect("ours");
    folder.configure(LISTENERS, "tls: { certificates: [{ chain: mail.pem, key: mail.key }] }\nportal: { hsts: 365d }");
    let gateway = Gateway::start_in(&folder);
    let asked = |path: &str| curl(&["-i"], gateway.address("help"), path);
    assert!(asked("/ca.pem").starts_with("HTTP/1.1 404 "));
    let page = asked("/");
    assert!(page.contains("strict-transport-security: max-age=31536000"), "{page}");
    assert!(!page.contains("ca.pem") && !page.contains("SHA-256"), "{page}");
}

#[test]
fn thunderbird_and_outlook_find_the_settings() {
    let gateway = Gateway::start(LISTENERS, PORTAL);
    for path in ["/.well-known/autoconfig/mail/config-v1.1.xml", "/mail/config-v1.1.xml?emailaddress=joe%40example.net"]
    {
        let answer = get(&gateway, path);
        answer.is(200);
        assert_eq!(answer.header("content-type"), Some("text/xml; charset=utf-8"));
        let document = roxmltree::Document::parse(answer.text()).expect("XML");
        let servers: Vec<Vec<&str>> = document
            .descendants()
            .filter(|node| node.has_tag_name("incomingServer"))
            .map(|server| {
                let value = |name: &str| {
                    server
                        .children()
                        .find(|node| node.has_tag_name(name))
                        .and_then(|node| node.text())
                        .expect("a value")
                };
                ["hostname", "port", "socketType", "authentication", "username"].map(value).to_vec()
            })
            .collect();
        let own = |port, kind| vec![NAME, port, kind, "password-cleartext", "%EMAILADDRESS%"];
        assert_eq!(servers, [own("993", "SSL"), own("143", "STARTTLS")]);
        assert!(!answer.text().contains("joe"));
    }
    let question = "<Autodiscover xmlns=\"http://schemas.microsoft.com/exchange/autodiscover/outlook/requestschema/2006\"><Request><EMailAddress>joe@example.net</EMailAddress></Request></Autodiscover>";
    for path in ["/autodiscover/autodiscover.xml", "/Autodiscover/Autodiscover.xml"] {
        let answer = send(&gateway, "POST", path, question);
        answer.is(200);
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        let document = roxmltree::Document::parse(answer.text()).expect("XML");
        let value = |name: &str| document.descendants().find(|node| node.tag_name().name() == name)?.text();
        assert_eq!(
            (value("Type"), value("Port"), value("LoginName")),
            (Some("IMAP"), Some("993"), Some("joe@example.net"))
        );
    }
    get(&gateway, "/autodiscover/autodiscover.xml").is(405);
    assert!(get(&gateway, "/dns.txt").text().contains("_imaps._tcp.example.net."));
}

#[test]
fn what_is_too_large_is_refused_and_the_page_is_led_to() {
    let gateway = Gateway::start(LISTENERS, PORTAL);
    let long = format!("/{}", "x".repeat(20_000));
    let answer = get(&gateway, &long);
    assert!(answer.head.starts_with("HTTP/1.1 4"), "{}", answer.head);
    let body = " ".repeat(4 * 1024 + 1);
    send(&gateway, "POST", "/autodiscover/autodiscover.xml", &body).is(413);
    for (path, to) in [("/", "/"), ("/ca.pem", "/ca.pem"), ("//evil.example/", "/"), ("/x?y", "/")] {
        let answer = ask(connect(gateway.address("lead")), &request("GET", path, ""));
        answer.is(308);
        assert_eq!(answer.header("location"), Some(&*format!("https://{NAME}{to}")));
    }
}

#[test]
fn a_browser_on_a_mail_port_gets_the_page_and_a_mail_program_its_protocol() {
    let gateway = Gateway::start(LISTENERS, PORTAL);
    let (root, address) = (gateway.folder.root(), gateway.address("imaps"));
    let page = ask(tls(&root, address, NAME, &["h2", "http/1.1"]).expect("TLS"), &request("GET", "/", ""));
    page.is(200);
    assert!(!page.head.contains("* OK") && page.text().contains("Example &amp; Sons"), "{}", page.head);
    let closed = gateway.event("session.closed");
    assert_eq!((&closed["reason"], &closed["listener"]), (&"page".into(), &"imaps".into()));
    let posted = tls(&root, address, NAME, &["http/1.1"]).expect("TLS");
    ask(posted, &request("POST", "/autodiscover/autodiscover.xml", "a LOGIN joe secret\r\n")).is(404);
    for alpn in [&[][..], &["imap"], &["http/1.1", "imap"]] {
        let mut stream = tls(&root, address, NAME, alpn).expect("TLS");
        let mut greeting = [0; 4];
        stream.read_exact(&mut greeting).expect("a greeting");
        assert_eq!(&greeting, b"* OK", "{alpn:?}");
    }
    for alpn in ["h2", "pop3", "smtp"] {
        let error = tls(&root, address, NAME, &[alpn]).map(drop).expect_err("refused");
        assert!(error.to_string().contains("NoApplicationProtocol"), "{alpn}: {error}");
    }
    // Only mail programs upgrade.
    let mut clear = Client::plain(gateway.address("imap")).expect("it listens");
    assert!(clear.line().starts_with("* OK"));
}

#[test]
fn a_browser_on_a_mail_port_is_refused_where_there_is_no_page() {
    for (listeners, portal) in
        [("  imaps: { address: \"127.0.0.1:0\", protocol: imap }", ""), (LISTENERS, "portal: { on_mail_ports: false }")]
    {
        let gateway = Gateway::start(listeners, portal);
        let error =
            tls(&gateway.folder.root(), gateway.address("imaps"), NAME, &["http/1.1"]).map(drop).expect_err("refused");
        assert!(error.to_string().contains("NoApplicationProtocol"), "{error}");
    }
}

#[test]
fn the_reader_is_told_why_his_own_logins_fail_and_never_about_others() {
    let gateway = Gateway::start(LISTENERS, &format!("{PORTAL}\nlimits: {{ failure_delay: 0s }}"));
    assert!(get(&gateway, "/").text().contains("Nothing came from your address, <code>127.0.0.1</code>"));
    let root = gateway.folder.root();
    let mut client = Client::tls(gateway.address("imaps"), &root).expect("TLS");
    client.line();
    client.ask("a LOGIN joe.public wrong-password-here", "a NO");
    let mut clear = Client::plain(gateway.address("imap")).expect("it listens");
    clear.line();
    clear.ask("a LOGIN joe.public another-password", "a NO");
    // Something that is no TLS, as a program does that is set to "no encryption".
    let mut socket = connect(gateway.address("imaps"));
    socket.write_all(b"a CAPABILITY\r\n").expect("it listens");
    gateway.event("tls.failed");
    let page = get(&gateway, "/");
    let html = page.text();
    for words in [
        "The user name or the password was wrong.",
        "wanted to send the password without encryption",
        "did not begin with encryption",
        "<code>127.0.0.1</code>",
    ] {
        assert!(html.contains(words), "no {words} in\n{html}");
    }
    for secret in ["joe.public", "wrong-password-here", "another-password", "bad_credentials"] {
        assert!(!html.contains(secret), "{secret}");
    }
    let other = curl(&["--interface", "127.0.0.2"], gateway.address("help"), "/");
    assert!(other.contains("Nothing came from your address, <code>127.0.0.2</code>"), "{other}");
}

#[test]
fn a_banned_address_reads_until_when_it_has_to_wait() {
    let limits = "limits: { exempt: [], auth_failures_per_ip: 2/10min, failure_delay: 0s, ban: 30min }";
    let gateway = Gateway::start(LISTENERS, &format!("{PORTAL}\n{limits}"));
    let root = gateway.folder.root();
    for password in ["one", "two", "three"] {
        let Ok(mut client) = Client::tls(gateway.address("imaps"), &root) else { break };
        client.line();
        client.ask(&format!("a LOGIN joe {password}"), "a NO");
    }
    gateway.event("ban.added");
    assert!(Client::tls(gateway.address("imaps"), &root).is_err(), "banned");
    let page = get(&gateway, "/");
    assert!(page.text().contains("Your address has to wait until"), "{}", page.text());
    assert!(page.text().contains("30 minutes from now"), "{}", page.text());
}
