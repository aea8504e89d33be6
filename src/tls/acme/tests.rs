use super::super::testing::{Authority, DAY, Folder as Directory};
use super::super::{Alpn, PrivateCa, ServerTls, Settings, Source, Watched};
use super::*;
use rcgen::CertificateSigningRequestParams;
use rustls::pki_types::CertificateSigningRequestDer;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

const URL: &str = "https://acme.example.net:14000/dir";

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// What a CA does with a request: it takes the names and the key out of it.
pub(super) fn issue(authority: &Authority, request: &Request, life: Duration, now: SystemTime) -> String {
    let csr = CertificateSigningRequestDer::from(request.csr().to_vec());
    let mut csr = CertificateSigningRequestParams::from_der(&csr).expect("a request");
    csr.params.not_before = time::OffsetDateTime::from(now);
    csr.params.not_after = time::OffsetDateTime::from(now + life);
    let certificate = csr.signed_by(&authority.intermediate).expect("signs");
    format!("{}{}", certificate.pem(), authority.intermediate.pem())
}

#[test]
fn what_the_ca_issues_on_a_request_is_kept_for_the_owner_alone_and_found_again() {
    let (directory, authority, now) = (Directory::new(), Authority::new(), SystemTime::now());
    let folder = Folder::of(directory.path(), URL);
    let names = names(&["imap.example.net", "mail.example.net"]);
    for kind in [KeyKind::Ecdsa, KeyKind::Rsa] {
        assert!(folder.certificate(kind, &names, now).is_none());
        let request = Request::new(kind, &names).expect("a request");
        let kept = folder.keep(&request, &issue(&authority, &request, 90 * DAY, now), &names, now).expect("sound");
        assert_eq!(kept.key_kind(), kind);
        let found = folder.certificate(kind, &names, now).expect("it is there");
        assert_eq!(found.chain(), kept.chain());
        let file = folder.files(kind).chain;
        let mode = |path: &Path| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!((mode(&file), mode(file.parent().expect("a folder"))), (0o600, 0o700));
        let later = now + 100 * DAY;
        assert!(folder.certificate(kind, &names, later).is_some(), "an expired one is due, not gone");
        assert!(folder.certificate(kind, &names[..1], now).is_none(), "other names take another certificate");
    }
}

#[test]
fn a_disk_that_takes_nothing_is_seen_before_a_certificate_is_asked_for() {
    let (directory, kind) = (Directory::new(), KeyKind::Ecdsa);
    let folder = Folder::of(directory.path(), URL);
    let file = folder.files(kind).chain;
    folder.prove_writable(kind).expect("a folder that can be made");
    assert_eq!(file.parent().expect("a folder").read_dir().expect("it is there").count(), 0, "nothing is left behind");
    std::fs::write(&file, "what is served").expect("written");
    folder.prove_writable(kind).expect("a file that can be replaced");
    assert_eq!(std::fs::read_to_string(&file).expect("there"), "what is served");
    std::fs::create_dir_all(file.with_extension("new").join("full")).expect("made");
    let error = folder.prove_writable(kind).expect_err("nothing can be written there").to_string();
    assert!(error.contains("ecdsa.new") && error.contains("state_dir must be"), "{error}");
}

#[test]
fn what_is_not_as_it_was_asked_for_does_not_replace_what_works() {
    let (directory, authority, now) = (Directory::new(), Authority::new(), SystemTime::now());
    let folder = Folder::of(directory.path(), URL);
    let (ours, others) = (names(&["mail.example.net"]), names(&["mail.example.org"]));
    let request = Request::new(KeyKind::Ecdsa, &ours).expect("a request");
    let good = folder.keep(&request, &issue(&authority, &request, 90 * DAY, now), &ours, now).expect("sound");
    let other_key = Request::new(KeyKind::Ecdsa, &ours).expect("a request");
    let other_names = Request::new(KeyKind::Ecdsa, &others).expect("a request");
    let expired = issue(&authority, &request, DAY, now - 10 * DAY);
    for (chain, expected) in [
        (issue(&authority, &other_key, 90 * DAY, now), "key"),
        (expired, "expired"),
        ("no PEM at all".to_owned(), "PEM"),
        (String::new(), "cannot be served"),
    ] {
        let error = folder.keep(&request, &chain, &ours, now).expect_err("it is not good").to_string();
        assert!(error.contains(expected), "{error}");
    }
    // What could not be read back would be asked for again at once.
    let chain = issue(&authority, &request, 90 * DAY, now);
    for (more, expected) in [
        ("a comment\n".repeat(110_000), "octets"),
        ("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n".to_owned(), "passphrase"),
    ] {
        let error =
            folder.keep(&request, &(chain.clone() + &more), &ours, now).expect_err("it is not good").to_string();
        assert!(error.contains(expected), "{error}");
    }
    let chain = issue(&authority, &other_names, 90 * DAY, now);
    let error = folder.keep(&other_names, &chain, &ours, now).expect_err("it is for others").to_string();
    assert!(error.contains("not for mail.example.net"), "{error}");
    let there = folder.certificate(KeyKind::Ecdsa, &ours, now).expect("it is there");
    assert_eq!(there.chain(), good.chain());
}

#[test]
fn renewal_is_due_after_two_thirds_and_not_for_all_at_once() {
    let (authority, now) = (Authority::new(), SystemTime::now());
    let names = names(&["mail.example.net"]);
    let mut moments = std::collections::BTreeSet::new();
    for _ in 0..4 {
        let directory = Directory::new();
        let folder = Folder::of(directory.path(), URL);
        let request = Request::new(KeyKind::Ecdsa, &names).expect("a request");
        let identity = folder.keep(&request, &issue(&authority, &request, 90 * DAY, now), &names, now).expect("sound");
        let at = renewal(&identity, None);
        let age = at.duration_since(identity.not_before()).expect("later");
        assert!((60 * DAY..=63 * DAY).contains(&age), "{age:?}");
        assert_eq!(renewal(&identity, None), at, "whenever it is asked");
        moments.insert(at);
    }
    assert!(moments.len() > 1, "{moments:?}");
}

#[test]
fn the_folders_of_two_cas_are_two_and_none_leads_elsewhere() {
    let state = Path::new("/var/lib/gatepost");
    let folder = |url| Folder::of(state, url).files(KeyKind::Ecdsa).chain;
    let urls = [URL, "https://acme.example.net:14000/other", "https://../..", "https://", "", "https://a/../../etc"];
    let mut seen = std::collections::BTreeSet::new();
    for url in urls {
        let file = folder(url);
        assert!(file.parent().and_then(Path::parent) == Some(&state.join("acme")), "{url}: {}", file.display());
        assert!(seen.insert(file), "{url}");
    }
    let shown = folder(URL).display().to_string();
    assert!(shown.starts_with("/var/lib/gatepost/acme/acme.example.net14000-"), "{shown}");
}

#[test]
fn the_private_ca_stands_in_until_there_is_a_certificate_and_is_gone_then() {
    let (directory, authority, now) = (Directory::new(), Authority::new(), SystemTime::now());
    let folder = Folder::of(directory.path(), URL);
    let private = Arc::new(PrivateCa::open_or_create(directory.path(), "mail.example.net", now).expect("a CA"));
    let names = names(&["mail.example.net"]);
    let source = |kind| Source::Public {
        files: folder.files(kind),
        meanwhile: Arc::clone(&private),
        names: vec!["mail.example.net".parse().expect("a name")],
    };
    let sources = || vec![source(KeyKind::Ecdsa), source(KeyKind::Rsa)];
    let (mut watched, findings) = Watched::open(sources(), now).expect("the private CA's");
    assert!(findings.is_empty(), "{findings:?}");
    let certificates = watched.certificates().expect("one");
    assert_eq!(certificates.identities().len(), 1, "one stands in for both");
    let tls = ServerTls::new(Settings::default(), certificates).expect("TLS");
    let served = |tls: &ServerTls| {
        tls.certificates().identities().iter().map(|identity| identity.issuer().to_owned()).collect::<Vec<_>>()
    };
    assert!(served(&tls)[0].contains("gatepost private CA"), "{:?}", served(&tls));
    assert!(watched.poll(&tls, now).is_empty());

    let request = Request::new(KeyKind::Rsa, &names).expect("a request");
    folder.keep(&request, &issue(&authority, &request, 90 * DAY, now), &names, now).expect("sound");
    assert_eq!(watched.poll(&tls, now).len(), 1);
    assert_eq!(served(&tls).len(), 1, "no client is shown the private CA's any more: {:?}", served(&tls));
    assert!(served(&tls)[0].contains("Test Intermediate"), "{:?}", served(&tls));
    assert!(tls.config(Alpn::Imap).alpn_protocols.iter().all(|protocol| protocol != b"acme-tls/1"));

    let request = Request::new(KeyKind::Ecdsa, &names).expect("a request");
    folder.keep(&request, &issue(&authority, &request, 90 * DAY, now), &names, now).expect("sound");
    watched.poll(&tls, now);
    let kinds: Vec<_> = tls.certificates().identities().iter().map(|identity| identity.key_kind()).collect();
    assert_eq!(kinds, [KeyKind::Ecdsa, KeyKind::Rsa]);

    std::fs::write(folder.files(KeyKind::Ecdsa).chain, "not PEM any more").expect("writes");
    let (watched, _) = Watched::open(sources(), now).expect("a damaged file keeps nobody from starting");
    let kinds: Vec<_> =
        watched.certificates().expect("one").identities().iter().map(|identity| identity.key_kind()).collect();
    assert_eq!(kinds, [KeyKind::Rsa]);
}

#[test]
fn a_proof_is_shown_to_who_asks_for_it_and_to_nobody_else() {
    let proofs = Arc::new(Proofs::default());
    proofs.show_page("token", "token.thumbprint");
    proofs.show_certificate("Mail.example.net", [7; 32]).expect("a certificate");
    assert_eq!(proofs.page("token").as_deref(), Some("token.thumbprint"));
    assert_eq!(proofs.page("another"), None);
    let handshake = |name: &str, alpn: &[&[u8]]| {
        let mut config = rustls::ClientConfig::clone(&super::super::witness().expect("TLS"));
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        let name = name.to_owned().try_into().expect("a name");
        let mut client = rustls::ClientConnection::new(Arc::new(config), name).expect("a client");
        let mut server = rustls::ServerConnection::new(proofs.tls().expect("TLS")).expect("a server");
        for _ in 0..4 {
            let mut bytes = Vec::new();
            client.write_tls(&mut bytes).expect("memory");
            server.read_tls(&mut bytes.as_slice()).expect("memory");
            server.process_new_packets().ok()?;
            let mut bytes = Vec::new();
            server.write_tls(&mut bytes).expect("memory");
            client.read_tls(&mut bytes.as_slice()).expect("memory");
            client.process_new_packets().ok()?;
        }
        client.peer_certificates().and_then(|chain| chain.first().cloned())
    };
    let shown = handshake("mail.example.net", &[b"acme-tls/1"]).expect("the proof");
    // id-pe-acmeIdentifier, critical, an octet string in an octet string (RFC 8737, section 3).
    let extension = [&[0x06, 8, 0x2b, 6, 1, 5, 5, 7, 1, 31, 1, 1, 0xff, 4, 34, 4, 32][..], &[7; 32]].concat();
    assert!(shown.windows(extension.len()).any(|part| part == extension), "{shown:02x?}");
    assert_eq!(handshake("mail.example.net", &[]), None);
    assert_eq!(handshake("mail.example.net", &[b"imap"]), None);
    assert_eq!(handshake("other.example.net", &[b"acme-tls/1"]), None);
    proofs.clear();
    assert_eq!(handshake("mail.example.net", &[b"acme-tls/1"]), None);
    assert_eq!(proofs.page("token"), None);
}

#[test]
fn a_key_is_in_no_debug_output() {
    let request = Request::new(KeyKind::Ecdsa, &names(&["mail.example.net"])).expect("a request");
    let shown = format!("{request:?}");
    assert!(!shown.contains("PRIVATE") && shown.contains("Ecdsa"), "{shown}");
}
