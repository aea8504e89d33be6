use super::super::testing::Folder;
use super::*;
use std::fs;
use std::os::unix::fs::PermissionsExt;

#[test]
fn a_root_is_made_once_and_never_again() {
    let folder = Folder::new();
    let state = folder.path().join("lib/gatepost");
    assert!(PrivateCa::open(&state).expect("opens").is_none());
    let made = PrivateCa::open_or_create(&state, "mail.example.net", SystemTime::now()).expect("makes it");
    let opened = PrivateCa::open_or_create(&state, "other.example", SystemTime::now()).expect("opens it");
    assert_eq!(made.root_der(), opened.root_der());
    assert_eq!(made.root_pem(), opened.root_pem());
    assert_eq!(made.fingerprint(), PrivateCa::open(&state).expect("opens").expect("is there").fingerprint());

    let mode = |path: &str| fs::metadata(state.join(path)).expect("is there").permissions().mode() & 0o777;
    made.identity(&names(&["mail.example.net"]), SystemTime::now()).expect("issues");
    for (path, expected) in [("", 0o700), ("ca", 0o700), ("ca/root.key", 0o600), ("ca/server.pem", 0o600)] {
        assert_eq!(mode(path), expected, "{path}");
    }
    let left: Vec<_> = fs::read_dir(&state).expect("lists").map(|entry| entry.expect("lists").file_name()).collect();
    assert_eq!(left.len(), 2, "ca and ca.lock alone: {left:?}");
}

#[test]
fn the_root_is_what_clients_expect_of_one() {
    let folder = Folder::new();
    let now = SystemTime::now();
    let ca = PrivateCa::open_or_create(folder.path(), "mail.example.net", now).expect("makes it");
    let (_, root) = X509Certificate::from_der(ca.root_der()).expect("parses");
    assert_eq!(root.subject().to_string(), "CN=gatepost private CA (mail.example.net)");
    let constraints = root.basic_constraints().expect("parses").expect("is there").value;
    assert!(constraints.ca);
    assert_eq!(constraints.path_len_constraint, Some(0));
    let usage = root.key_usage().expect("parses").expect("is there").value;
    assert!(usage.key_cert_sign() && usage.crl_sign() && !usage.digital_signature());
    assert!(ca.root_not_after() > now + 3650 * DAY);
    assert_eq!(ca.fingerprint().len(), 32 * 3 - 1);
    assert!(!format!("{ca:?}").to_lowercase().contains("key"), "{ca:?}");

    let long = format!("{}.example.net", "m".repeat(60));
    let folder = Folder::new();
    let ca = PrivateCa::open_or_create(folder.path(), &long, now).expect("makes it");
    let (_, root) = X509Certificate::from_der(ca.root_der()).expect("parses");
    assert_eq!(root.subject().to_string(), "CN=gatepost private CA");
    ca.identity(&names(&[&long]), now).expect("a name may be longer than a common name");
}

#[test]
fn what_it_issues_is_verified_by_whoever_trusts_the_root() {
    use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
    use rustls::pki_types::UnixTime;
    let folder = Folder::new();
    let now = SystemTime::now();
    let ca = PrivateCa::open_or_create(folder.path(), "mail.example.net", now).expect("makes it");
    let issued = ca.issue(&names(&["mail.example.net", "192.0.2.1", "2001:db8::1"]), now).expect("issues");
    let der = CertificateDer::from_pem_slice(issued.certificate_pem.as_bytes()).expect("PEM");
    let parsed = rustls::server::ParsedCertificate::try_from(&der).expect("parses");
    let mut roots = rustls::RootCertStore::empty();
    roots.add(ca.root_der().to_vec().into()).expect("a root");
    let algorithms = super::super::provider().signature_verification_algorithms;
    verify_server_cert_signed_by_trust_anchor(&parsed, &roots, &[], UnixTime::now(), algorithms.all).expect("trusted");
    for name in ["mail.example.net", "192.0.2.1", "2001:db8::1"] {
        verify_server_name(&parsed, &name.try_into().expect("a name")).expect("is for it");
    }
    let (_, leaf) = X509Certificate::from_der(&der).expect("parses");
    let life = leaf.validity().not_after.timestamp() - leaf.validity().not_before.timestamp();
    assert_eq!(life, 397 * 24 * 3600, "no client refuses it for its length");
    assert!(leaf.extended_key_usage().expect("parses").expect("is there").value.server_auth);
    assert_eq!(seconds(leaf.validity().not_after.timestamp()), issued.not_after);
    assert!(!format!("{issued:?}").contains("PRIVATE"), "{issued:?}");
}

#[test]
fn the_certificate_outlives_restarts_but_not_its_names_or_its_time() {
    let folder = Folder::new();
    let now = SystemTime::now();
    let ca = || PrivateCa::open_or_create(folder.path(), "mail.example.net", now).expect("opens");
    let shown = |list: &[&str], now| ca().identity(&names(list), now).expect("issues").chain()[0].to_vec();
    let first = shown(&["mail.example.net", "192.0.2.1"], now);
    assert_eq!(shown(&["192.0.2.1", "mail.example.net"], now + 200 * DAY), first);
    let renewed = shown(&["mail.example.net", "192.0.2.1"], now + 265 * DAY);
    assert_ne!(renewed, first);
    let renamed = shown(&["imap.example.net"], now + 266 * DAY);
    assert_ne!(renamed, renewed);
    assert_eq!(shown(&["imap.example.net"], now + 267 * DAY), renamed);

    fs::write(folder.path().join("ca/server.pem"), "rubbish").expect("writes");
    let remade = shown(&["imap.example.net"], now + 267 * DAY);
    assert_ne!(remade, renamed);

    // Two roots, one state directory restored in part: the certificate is not the other root's to show.
    let other = Folder::new();
    PrivateCa::open_or_create(other.path(), "mail.example.net", now).expect("makes it");
    for file in ["ca/root.pem", "ca/root.key"] {
        fs::copy(other.path().join(file), folder.path().join(file)).expect("copies");
    }
    assert_ne!(shown(&["imap.example.net"], now + 267 * DAY), remade);
}

#[test]
fn it_is_sent_alone_and_its_findings_are_none() {
    let folder = Folder::new();
    let ca = PrivateCa::open_or_create(folder.path(), "mail.example.net", SystemTime::now()).expect("makes it");
    let identity = ca.identity(&names(&["mail.example.net"]), SystemTime::now()).expect("issues");
    assert_eq!(identity.chain().len(), 1);
    assert!(identity.covers("mail.example.net"));
    assert!(identity.issuer().contains("gatepost private CA"));
}

#[test]
fn a_damaged_root_is_left_alone_and_the_way_out_is_named() {
    let now = SystemTime::now();
    let other = Folder::new();
    PrivateCa::open_or_create(other.path(), "mail.example.net", now).expect("makes it");
    type Damage = fn(&Path, &Path);
    let cases: &[(&str, Damage)] = &[
        ("root.key is missing", |ca, _| fs::remove_file(ca.join("root.key")).expect("removes")),
        ("root.pem is missing", |ca, _| fs::remove_file(ca.join("root.pem")).expect("removes")),
        ("root.key holds no private key", |ca, _| fs::write(ca.join("root.key"), "").expect("writes")),
        ("root.pem holds no certificate", |ca, _| fs::write(ca.join("root.pem"), b"\xff\0rubbish").expect("writes")),
        ("root.key is not the key of root.pem", |ca, other| {
            fs::copy(other.join("ca/root.key"), ca.join("root.key")).expect("copies");
        }),
    ];
    for (why, damage) in cases {
        let folder = Folder::new();
        PrivateCa::open_or_create(folder.path(), "mail.example.net", now).expect("makes it");
        let dir = folder.path().join("ca");
        damage(&dir, other.path());
        let before = contents(&dir);
        let error = PrivateCa::open_or_create(folder.path(), "mail.example.net", now).expect_err("damaged").to_string();
        assert!(error.contains(why) && error.contains("backup") && error.contains("move"), "{error}");
        assert_eq!(contents(&dir), before);
    }
}

#[test]
fn an_attempt_that_died_half_way_is_no_obstacle() {
    let folder = Folder::new();
    fs::create_dir(folder.path().join("ca.new")).expect("makes it");
    fs::write(folder.path().join("ca.new/root.key"), "half").expect("writes");
    fs::create_dir(folder.path().join("ca")).expect("makes it");
    PrivateCa::open_or_create(folder.path(), "mail.example.net", SystemTime::now()).expect("makes it");
    assert!(!folder.path().join("ca.new").exists());
}

#[test]
fn gateways_that_start_at_the_same_time_share_one_root_and_one_certificate() {
    let folder = Folder::new();
    let now = SystemTime::now();
    let seen: Vec<(String, Vec<u8>)> = std::thread::scope(|scope| {
        let start = || {
            let ca = PrivateCa::open_or_create(folder.path(), "mail.example.net", now).expect("opens");
            let identity = ca.identity(&names(&["mail.example.net"]), now).expect("issues");
            (ca.fingerprint(), identity.chain()[0].to_vec())
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(start)).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    assert!(seen.iter().all(|one| *one == seen[0]));
}

#[test]
fn what_cannot_be_done_is_said() {
    let now = SystemTime::now();
    let folder = Folder::new();
    fs::write(folder.path().join("file"), "").expect("writes");
    let error = PrivateCa::open_or_create(&folder.path().join("file"), "x", now).expect_err("a file").to_string();
    assert!(error.contains("make the directory") && error.contains("state_dir must be"), "{error}");

    let ca = PrivateCa::open_or_create(folder.path(), "mail.example.net", now).expect("makes it");
    let many: Vec<String> = (0..101).map(|number| format!("m{number}.example.net")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for list in [&[][..], &many] {
        assert!(matches!(ca.issue(&names(list), now), Err(CaError::Names(_))));
    }
    let error = ca.identity(&names(&["mail.example.net"]), now + 3660 * DAY).expect_err("too late").to_string();
    assert!(error.contains("expired") && error.contains("move"), "{error}");
    let last = ca.issue(&names(&["mail.example.net"]), now + 3640 * DAY).expect("issues");
    assert_eq!(last.not_after, ca.root_not_after(), "nothing outlives the root");
}

fn names(list: &[&str]) -> Vec<Name> {
    list.iter().map(|name| name.parse().expect("a name")).collect()
}

fn contents(dir: &Path) -> Vec<(std::ffi::OsString, Vec<u8>)> {
    let entries = fs::read_dir(dir).expect("lists").map(|entry| entry.expect("lists"));
    let mut files: Vec<_> = entries.map(|entry| (entry.file_name(), fs::read(entry.path()).expect("reads"))).collect();
    files.sort();
    files
}
