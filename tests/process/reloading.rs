//! SIGHUP, and what is read again without it.

use super::client::{Client, NAME};
use super::gateway::{Folder, Gateway, IMAP, IMAPS};
use super::outcome::{outcome, own_address};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::Signal;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

#[test]
fn sessions_outlive_a_reload_that_opens_one_door_and_closes_another() {
    let gateway = Gateway::start(IMAPS, "");
    let closed = gateway.address("imaps");
    let mut session = gateway.tls("imaps").imap_login("joe");

    gateway.folder.configure("  other: { address: \"127.0.0.2:0\", protocol: imap }", "");
    gateway.signal(Signal::SIGHUP);
    gateway.event("config.reloaded");
    gateway.message(&format!("no longer listening on {closed}"));
    gateway.tls("other").imap_login("ann").noop();
    let error = Client::plain(closed).err().expect("nobody listens there");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    session.noop();
}

#[test]
fn a_reload_that_changes_nothing_is_good_whatever_the_addresses_look_like() {
    let (first, second) = (own_address(), own_address());
    let listeners = format!(
        "  two: {{ address: [\"{first}:1993\", \"{second}:1993\"], protocol: imap }}\n\
         {IMAPS}\n  free: {{ address: \"[::]:0\", protocol: imap }}"
    );
    let gateway = Gateway::start(&listeners, "");
    for _ in 0..2 {
        let before = gateway.lines_so_far();
        gateway.signal(Signal::SIGHUP);
        gateway.event_after(before, "config.reloaded");
    }
    for listener in ["two", "imaps", "free"] {
        let doors = if listener == "two" { 2 } else { 1 };
        assert_eq!(gateway.addresses(listener).len(), doors, "{listener} was bound once\n{}", gateway.said());
    }
    for address in gateway.addresses("two") {
        Client::tls(address, &gateway.folder.root()).expect("TLS").imap_login("joe");
    }
}

#[test]
fn a_listener_s_rules_change_under_its_door() {
    let gateway = Gateway::start(IMAP, "");
    assert!(Client::plain(gateway.address("imap")).expect("connects").line().starts_with("* OK"));
    gateway.folder.configure(&IMAP.replace(" }", ", deny: [127.0.0.1] }"), "");
    gateway.signal(Signal::SIGHUP);
    gateway.event("config.reloaded");
    assert!(Client::plain(gateway.address("imap")).expect("connects").line().starts_with("* BYE"));
    assert_eq!(gateway.event("connection.refused")["reason"], "denied");
}

#[test]
fn a_refused_configuration_leaves_the_old_one_running() {
    let gateway = Gateway::start(IMAPS, "");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().expect("bound").to_string();
    let cases = [
        (IMAPS.to_owned(), "limits: { sesions: 5 }", "sesions"),
        (format!("{IMAPS}\n  other: {{ address: \"{taken}\", protocol: imap }}"), "", taken.as_str()),
        (IMAPS.to_owned(), "tls: { certificates: [ { chain: absent.pem, key: absent.key } ] }", "absent.pem"),
    ];
    for (listeners, more, words) in cases {
        gateway.folder.configure(&listeners, more);
        let before = gateway.lines_so_far();
        gateway.signal(Signal::SIGHUP);
        let refused = gateway.event_after(before, "config.refused");
        assert_eq!(refused["level"], "error");
        assert!(refused["detail"].to_string().contains(words), "{refused}");
        gateway.tls("imaps").imap_login("joe").noop();
    }
    gateway.folder.configure(IMAPS, "");
    gateway.signal(Signal::SIGHUP);
    gateway.event("config.reloaded");
}

#[test]
fn a_new_certificate_is_served_and_a_broken_one_is_not() {
    let folder = Folder::new();
    let authority = Authority::new(&folder);
    authority.issue(2100);
    folder.configure(IMAPS, "tls: { certificates: [ { chain: chain.pem, key: key.pem } ] }");
    let gateway = Gateway::start_in(&folder);
    let root = std::fs::read(folder.at("ca.pem")).expect("a root");
    let served = || last_day(&gateway);
    let first = served();
    let mut session = Client::tls(gateway.address("imaps"), &root).expect("TLS").imap_login("joe");

    authority.issue(2101);
    let before = gateway.lines_so_far();
    gateway.signal(Signal::SIGHUP);
    gateway.event_after(before, "certificate.loaded");
    let second = served();
    assert_ne!(first, second);

    // Expired: nothing that waiting would mend.
    authority.issue(2021);
    let before = gateway.lines_so_far();
    gateway.signal(Signal::SIGHUP);
    let refused = gateway.event_after(before, "certificate.refused");
    assert!(refused["detail"].to_string().contains("chain.pem"), "{refused}");
    assert_eq!(served(), second, "the old one goes on");

    // Torn: perhaps it is being written just now.
    folder.write("chain.pem", "-----BEGIN CERTIFICATE-----\nMIIB\n");
    let before = gateway.lines_so_far();
    gateway.signal(Signal::SIGHUP);
    gateway.line_after(before, "a word about chain.pem", |line| {
        line["level"] != "info" && line.to_string().contains("chain.pem")
    });
    assert_eq!(served(), second, "the old one goes on");

    // And put right without a signal.
    authority.issue(2102);
    let before = gateway.lines_so_far();
    gateway.event_after(before, "certificate.loaded");
    assert_ne!(served(), second);
    session.noop();
}

#[test]
fn a_slow_reload_holds_up_neither_the_end_nor_a_further_reload() {
    let mut gateway = Gateway::start(IMAPS, "");
    // Another host name wants a certificate of the private CA, which waits for whoever is at work there.
    let slow_reload = |hostname: &str| {
        let lock = std::fs::File::open(gateway.folder.at("state/ca.lock")).expect("there is a CA");
        let lock = Flock::lock(lock, FlockArg::LockExclusive).expect("nobody is at work");
        let address = SocketAddr::from((own_address(), 1993));
        let other = format!("{IMAPS}\n  other: {{ address: \"{address}\", protocol: imap }}");
        let file = gateway.folder.configure(&other, "");
        let text = std::fs::read_to_string(&file).expect("ours").replace(NAME, hostname);
        std::fs::write(&file, text).expect("ours");
        gateway.signal(Signal::SIGHUP);
        super::outcome::until("the new door", || std::net::TcpStream::connect(address).ok());
        lock
    };

    let lock = slow_reload("one.example.net");
    gateway.signal(Signal::SIGHUP);
    let before = gateway.lines_so_far();
    drop(lock);
    gateway.event_after(before, "config.reloaded");
    super::outcome::until("the reload for the second signal", || {
        (gateway.said().matches("\"config.reloaded\"").count() == 2).then_some(())
    });

    let lock = slow_reload("two.example.net");
    let began = Instant::now();
    gateway.signal(Signal::SIGTERM);
    assert_eq!(gateway.ended(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    drop(lock);
}

#[test]
fn a_renamed_auth_log_is_opened_anew() {
    let gateway = Gateway::start(IMAPS, "log: { auth_log: auth.log }");
    let (path, old) = (gateway.folder.at("auth.log"), gateway.folder.at("auth.log.1"));
    gateway.tls("imaps").imap_login("joe");
    gateway.event("auth.ok");
    std::fs::rename(&path, &old).expect("renamed");
    gateway.signal(Signal::SIGHUP);
    gateway.event("config.reloaded");
    gateway.tls("imaps").imap_login("ann");
    let read = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
    super::outcome::until("a line in the new file", || read(&path).contains("\"ann\"").then_some(()));
    assert!(read(&old).contains("\"joe\"") && !read(&old).contains("\"ann\""));
    assert!(!read(&path).contains("\"joe\""));
}

#[test]
fn a_log_level_changes_on_reload() {
    let gateway = Gateway::start(IMAPS, "log: { level: error }");
    assert_eq!(gateway.lines_so_far(), 0, "{}", gateway.said());
    gateway.folder.configure(IMAPS, "log: { level: info }");
    gateway.folder.gatepost(&["reload"]).ends(0, &["reloaded"]);
    gateway.message("room for");
}

#[test]
fn a_list_is_read_again_by_itself_and_the_last_good_one_stays() {
    let folder = Folder::new();
    let list = folder.write("clients", "127.0.0.0/8\n");
    let gateway = {
        folder.configure(&IMAP.replace(" }", ", allow: [\"file:clients\"] }"), "");
        Gateway::start_in(&folder)
    };
    let greeting = || Client::plain(gateway.address("imap")).expect("connects").line();
    assert!(greeting().starts_with("* OK"));

    std::fs::write(&list, "# nobody from here\n192.0.2.0/24\n").expect("written");
    gateway.message("is read again");
    assert!(greeting().starts_with("* BYE"));

    std::fs::write(&list, "192.0.2.0/24\n127.0.0.0/8\nnot an address\n").expect("written");
    let stays = gateway.message("the last good list stays");
    assert!(stays["message"].to_string().contains("clients"), "{stays}");
    assert!(greeting().starts_with("* BYE"));
}

#[test]
fn a_map_of_users_is_read_again_by_itself_and_the_last_good_one_stays() {
    let folder = Folder::new();
    let map = folder.write("users.map", "joe main\n");
    folder.configure(IMAP, "routes: [{ file: users.map }]\n");
    let gateway = Gateway::start_in(&folder);
    std::fs::write(&map, "joe nowhere\n").expect("written");
    let stays = gateway.message("the last good list stays");
    assert!(stays["message"].to_string().contains("there is no backend `nowhere`"), "{stays}");
    std::fs::write(&map, "ann main\n").expect("written");
    gateway.message("is read again");
}

/// A small authority that issues for one key.
pub struct Authority<'a> {
    folder: &'a Folder,
    root: CertifiedIssuer<'static, KeyPair>,
    key: KeyPair,
}

impl<'a> Authority<'a> {
    /// Writes `ca.pem` and `key.pem`.
    pub fn new(folder: &'a Folder) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "Test");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let key = || KeyPair::generate().expect("a key");
        let authority = Self { folder, root: CertifiedIssuer::self_signed(params, key()).expect("signs"), key: key() };
        folder.write("ca.pem", authority.root.pem());
        folder.write("key.pem", authority.key.serialize_pem());
        authority
    }

    /// Puts a certificate that is good until the end of that year in the place of the one before, whole at once.
    pub fn issue(&self, until: i32) {
        self.issue_as("chain.pem", until);
    }

    /// The same under another name.
    pub fn issue_as(&self, name: &str, until: i32) {
        let mut params = CertificateParams::new([NAME.to_owned()]).expect("a name");
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(until, 12, 31));
        let chain = params.signed_by(&self.key, &self.root).expect("signs").pem();
        let new = self.folder.write("new.pem", chain);
        std::fs::rename(new, self.folder.at(name)).expect("renamed");
    }
}

/// Until when the certificate is good that is served.
pub fn last_day(gateway: &Gateway) -> String {
    let mut shown = Command::new("sh");
    shown.args(["-c", "openssl s_client -connect \"$0\" 2>&1 | openssl x509 -noout -enddate"]);
    shown.arg(gateway.address("imaps").to_string());
    outcome(shown).ends(0, &[]).out
}
