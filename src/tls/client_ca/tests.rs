use super::super::testing::{Authority, DAY, Folder, ca_params, key, leaf_params};
use super::*;
use rcgen::{
    CertificateRevocationListParams, CertifiedIssuer, ExtendedKeyUsagePurpose, Issuer, KeyIdMethod, KeyUsagePurpose,
    RevokedCertParams, SerialNumber,
};
use time::OffsetDateTime;

/// A list as openssl makes it without more ado.
const VERSION_1: &str = "-----BEGIN X509 CRL-----\n\
MIGVMDwwCgYIKoZIzj0EAwIwDjEMMAoGA1UEAwwDT2xkFw0yNjExMjgxMTIzMTVa\n\
GA8yMTA5MDExNzExMjMxNVowCgYIKoZIzj0EAwIDSQAwRgIhAKc5eEENpyc0dVKA\n\
9mo1+pCrxrNubV4s0hv6uqoLZPzrAiEAhq42BXwUCpIYFyFKgswn3acKSVBeleuK\n\
3x8GMvG40J4=\n\
-----END X509 CRL-----\n";

const WEAK: &str = "-----BEGIN CERTIFICATE-----\n\
MIIB/DCCAWWgAwIBAgIUau6gEuPXZ160yfe2RkwlWJnTcWIwDQYJKoZIhvcNAQEL\n\
BQAwDzENMAsGA1UEAwwEV2VhazAgFw0yNjExMjgxMTM5MTJaGA8yMTA5MDExNzEx\n\
MzkxMlowDzENMAsGA1UEAwwEV2VhazCBnzANBgkqhkiG9w0BAQEFAAOBjQAwgYkC\n\
gYEArF8XjwZHHUc1Wi7rJSFfazQ4Jy5VUgQ5hhuccWpM6fCnOV2JP4MhMFSaqbvk\n\
tAVGJTq+QgVGm2SYKsljf6JzxKn2fNrqf5ELu7OkFGMadaJM0zx4+PxP/XK8rMWf\n\
OOw48XkmR+kO4I+YqPKn1AjfRrI27NSX7qIbkpsbGo3EETkCAwEAAaNTMFEwHQYD\n\
VR0OBBYEFCrHCtvghzMsNWd5WBSN6D+TkGkdMB8GA1UdIwQYMBaAFCrHCtvghzMs\n\
NWd5WBSN6D+TkGkdMA8GA1UdEwEB/wQFMAMBAf8wDQYJKoZIhvcNAQELBQADgYEA\n\
AOgHLAaAQPXQe7vOUAXrcVwUxdj0abr4rBBF50ui9cj2YY9ZVnwY80vgwoYqGYWU\n\
k7qZAtmBaY+bQAxVaGt9QOByVR0Fx3MftDFpev26YYvNOvSuAoMXQ10TAUyS2J0b\n\
TOmNLAtiOCrThwiMx5rpqt4OFTnUQkgDxzJn9GQTm2M=\n\
-----END CERTIFICATE-----\n";

fn read(text: impl AsRef<[u8]>) -> Result<(ClientCa, Vec<ClientCaWarning>), ChainFinding> {
    ClientCa::understand(Path::new("clients.pem"), text.as_ref(), SystemTime::now())
}

/// Who is named in the handshake.
fn hints(ca: &ClientCa) -> usize {
    ca.verifier(Demand::Require).expect("asks").root_hint_subjects().len()
}

/// A list of the root's that was due then, PEM.
fn list(ca: &Authority, due: SystemTime) -> String {
    let params = CertificateRevocationListParams {
        this_update: OffsetDateTime::from(due - DAY),
        next_update: OffsetDateTime::from(due),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: Vec::new(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let mut ca_params = ca_params("Test Root");
    ca_params.key_usages.push(rcgen::KeyUsagePurpose::CrlSign);
    params.signed_by(&Issuer::from_params(&ca_params, ca.root.key())).expect("signs").pem().expect("PEM")
}

#[test]
fn a_sound_file_says_nothing_and_names_its_cas() {
    let (one, other) = (Authority::new(), Authority::new());
    let (ca, warnings) = read(one.root.pem() + &other.root.pem()).expect("two CAs");
    assert_eq!((hints(&ca), warnings), (2, vec![]));
    let list = list(&one, SystemTime::now() + DAY);
    assert_eq!(read(one.root.pem() + &list).expect("a CA and its list").1, vec![]);
    assert!(ca.verifier(Demand::Nothing).is_none());
    assert!(ca.verifier(Demand::Require).expect("asks").client_auth_mandatory());
    assert!(!ca.verifier(Demand::Request).expect("asks").client_auth_mandatory());
}

#[test]
fn so_many_cas_that_their_names_would_fill_the_handshake_are_not_named() {
    let many: String = (0..150)
        .map(|number| ca_params(&format!("{number} {}", "x".repeat(60))).self_signed(&key()).expect("signs").pem())
        .collect();
    assert_eq!(hints(&read(many).expect("CAs").0), 0);
}

#[test]
fn what_may_not_be_meant_is_told() {
    let ca = Authority::new();
    let leaf = ca.leaf(&["mail.example.net"]).certificate;
    let said = |text: String| read(text).expect("readable").1.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert!(said(leaf)[0].contains("in clients.pem is not a CA's"));

    let mut params = ca_params("Old");
    params.not_after = OffsetDateTime::from(SystemTime::now() - DAY);
    let old = params.self_signed(&key()).expect("signs").pem();
    assert!(said(old)[0].contains("CN=Old in clients.pem expired on 2"));

    // By `openssl req -x509 -newkey rsa:1024`: rcgen makes none so short.
    assert!(said(WEAK.to_owned())[0].contains("weak key (RSA, 1024 bits)"));

    let due = said(ca.root.pem() + &list(&ca, SystemTime::now() - DAY));
    assert!(due.len() == 1 && due[0].contains("was to be renewed by 2"), "{due:?}");

    // As many systems have it, one of those that issue to whoever asks.
    let public = rustls_native_certs::load_native_certs().certs;
    let known = public
        .iter()
        .filter(|der| X509Certificate::from_der(der).is_ok_and(|(_, ca)| chain::is_known_root(ca.subject().as_raw())));
    let known: Vec<u8> = known.take(3).flat_map(|der| pem(der).into_bytes()).collect();
    if !known.is_empty() {
        let warnings = read(known).expect("CAs").1;
        assert!(matches!(warnings.as_slice(), [ClientCaWarning::Public { .. }]), "{warnings:?}");
    }
}

fn pem(der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
}

#[test]
fn what_is_wrong_with_a_file_is_said_and_none_of_it_is_taken() {
    let ca = Authority::new();
    let good = ca.root.pem();
    for (text, code) in [
        (String::new(), "no_client_ca"),
        (ca.leaf(&["a.example"]).key, "no_client_ca"),
        (format!("{good}{}", &good[..200]), "garbled"),
        (format!("{good}{}", pem(b"nothing")), "bad_certificate"),
        (format!("{good}-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n"), "bad_list"),
        (format!("{good}{}", &list(&ca, SystemTime::now() + DAY)[..200]), "garbled"),
        (format!("{good}{VERSION_1}"), "bad_list"),
    ] {
        let finding = read(&text).expect_err(code);
        assert_eq!(finding.code(), code, "{finding}");
        assert!(finding.to_string().contains("clients.pem"), "{finding}");
        assert_eq!(finding.may_settle(), code != "bad_list", "{finding}");
    }
    assert!(read(good + VERSION_1).expect_err("version 1").to_string().contains("crlnumber"));
    let absent = ClientCa::read(Path::new("/absent.pem"), SystemTime::now()).expect_err("absent");
    assert_eq!(absent.code(), "unreadable");
}

#[test]
fn a_change_is_seen_once_and_what_is_still_wrong_is_told_to_who_asks() {
    let folder = Folder::new();
    let file = folder.path().join("clients.pem");
    let now = SystemTime::now();
    let (one, other) = (Authority::new().root.pem(), Authority::new().root.pem());
    std::fs::write(&file, &one).expect("written");
    let (mut watched, _, _) = WatchedClientCa::open(file.clone(), now).expect("a CA");
    assert!(watched.poll(now, false).is_none() && watched.poll(now, true).is_none());

    // Half of it, and then all.
    std::fs::write(&file, one.clone() + &other[..200]).expect("written");
    assert!(watched.poll(now, false).is_none(), "it may still be in the writing");
    std::fs::write(&file, one.clone() + &other).expect("written");
    assert!(watched.poll(now, false).is_none(), "it may still be in the writing");
    let (ca, _) = watched.poll(now, false).expect("a change").expect("good");
    assert_eq!(hints(&ca), 2);
    assert!(watched.poll(now, false).is_none());

    std::fs::write(&file, "nothing").expect("written");
    assert!(watched.poll(now, false).is_none());
    assert_eq!(watched.poll(now, false).expect("a change").expect_err("broken").code(), "no_client_ca");
    assert!(watched.poll(now, false).is_none(), "told once");
    assert!(watched.poll(now, true).expect("asked").is_err());
    std::fs::remove_file(&file).expect("ours");
    assert_eq!(watched.poll(now, true).expect("a change").expect_err("gone").code(), "unreadable");

    std::fs::write(&file, &one).expect("written");
    assert!(watched.poll(now, true).expect("a change, and somebody says so").is_ok());
    assert!(watched.poll(now, true).is_none());
}

#[test]
fn of_two_lists_of_one_ca_the_newer_counts_wherever_it_stands() {
    let mut params = ca_params("Customers");
    params.key_usages.push(KeyUsagePurpose::CrlSign);
    let ca = CertifiedIssuer::self_signed(params, key()).expect("signs");
    let mut params = leaf_params(&[]);
    params.serial_number = Some(SerialNumber::from(7));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let customer = params.signed_by(&key(), &ca).expect("signs");
    let now = SystemTime::now();
    let list = |age, serials: &[u64]| {
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: OffsetDateTime::from(now - DAY),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: OffsetDateTime::from(now - age),
            next_update: OffsetDateTime::from(now + DAY),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&ca).expect("signs").pem().expect("PEM")
    };
    let (old, new) = (list(2 * DAY, &[1]), list(DAY, &[1, 7]));
    for text in [ca.pem() + &old + &new, ca.pem() + &new + &old] {
        let (believed, warnings) = read(text).expect("a CA and its lists");
        assert!(matches!(&warnings[..], [ClientCaWarning::TwoLists { .. }]), "{warnings:?}");
        let verifier = believed.verifier(Demand::Require).expect("asks");
        let verdict = verifier.verify_client_cert(customer.der(), &[], UnixTime::now());
        assert_eq!(verdict.err(), Some(Error::InvalidCertificate(CertificateError::Revoked)));
    }
}
