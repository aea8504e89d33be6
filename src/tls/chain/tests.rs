use super::super::testing::{Authority, DAY, Folder, ca_params, key, leaf_params};
use super::super::{ChainFinding, Checked, Identity, Severity};
use rcgen::{CertifiedIssuer, ExtendedKeyUsagePurpose};
use std::time::SystemTime;
use time::OffsetDateTime;

fn load(chain: &str, key: &str) -> Checked {
    load_at(chain, key, SystemTime::now())
}

fn load_at(chain: &str, key: &str, now: SystemTime) -> Checked {
    let folder = Folder::new();
    Identity::load(&folder.pair(chain.as_bytes(), key.as_bytes()), now)
}

fn codes(checked: &Checked) -> Vec<&'static str> {
    checked.findings.iter().map(ChainFinding::code).collect()
}

#[test]
fn a_good_pair_is_taken_without_a_word() {
    let leaf = Authority::new().leaf(&["mail.example.net", "*.Example.ORG", "192.0.2.1", "2001:db8::1"]);
    let checked = load(&leaf.chain(), &leaf.key);
    assert_eq!(codes(&checked), [""; 0]);
    assert!(checked.is_sound());
    let identity = checked.identity.expect("an identity");
    let names: Vec<String> = identity.names().iter().map(ToString::to_string).collect();
    assert_eq!(names, ["mail.example.net", "*.example.org", "192.0.2.1", "2001:db8::1"]);
    assert_eq!(identity.chain().len(), 2);
    assert!(identity.covers("MAIL.example.net") && identity.covers("192.0.2.1") && !identity.covers("example.net"));
    assert_eq!(identity.finding_for("a.example.org"), None);
    let wrong = identity.finding_for("other.example").expect("a finding");
    assert_eq!(wrong.severity(), Severity::Warning);
    assert!(
        wrong
            .to_string()
            .ends_with("is not for other.example but for mail.example.net, *.example.org, 192.0.2.1, 2001:db8::1")
    );
}

#[test]
fn what_is_wrong_with_the_files_is_said_in_words() {
    let ca = Authority::new();
    let leaf = ca.leaf(&["mail.example.net"]);
    let other = ca.leaf(&["mail.example.net"]);
    let chain = leaf.chain();
    let cut = &leaf.key[..leaf.key.len() / 2];
    let garbled = chain.replace("MII", "M!I");
    let encrypted = include_str!("../testdata/encrypted-pkcs8.key");
    let encrypted_old = include_str!("../testdata/encrypted-sec1.key");
    let request = "-----BEGIN CERTIFICATE REQUEST-----\nMIIB\n-----END CERTIFICATE REQUEST-----\n";
    let nonsense = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for (chain, key, code, words) in [
        (chain.as_str(), other.key.as_str(), "key_mismatch", "does not belong to the certificate in"),
        (&leaf.key, &leaf.key, "no_certificate", "it holds a private key"),
        (request, &leaf.key, "no_certificate", "to which a CA has not answered"),
        ("", &leaf.key, "no_certificate", "it holds nothing"),
        ("hello", &leaf.key, "no_certificate", "it holds no PEM"),
        (&garbled, &leaf.key, "garbled", "copy it again whole"),
        (nonsense, &leaf.key, "bad_certificate", "certificate 1 in"),
        (&chain, &chain, "no_key", "it holds certificates"),
        (&chain, "", "no_key", "it holds nothing"),
        (&chain, cut, "garbled", "copy it again whole"),
        (&chain, encrypted, "encrypted_key", "write it without one"),
        (&chain, encrypted_old, "encrypted_key", "write it without one"),
        (&chain, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "bad_key", "RSA of 2048 to 8192"),
    ] {
        let checked = load(chain, key);
        assert_eq!(codes(&checked), [code], "{words}");
        assert!(checked.identity.is_none());
        let text = checked.findings[0].to_string();
        assert!(text.contains(words), "{text}");
        assert!(text.contains("chain.pem") || text.contains("key.pem"), "names the file: {text}");
        assert!(!text.contains("BEGIN") || code.starts_with("no_"), "{text}");
    }
}

#[test]
fn everything_wrong_is_said_at_once() {
    let ca = Authority::new();
    let mut params = leaf_params(&["mail.example.net"]);
    params.not_after = OffsetDateTime::from(SystemTime::now() - DAY);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let leaf = ca.sign(params, &key());
    let checked = load(&leaf.certificate, &ca.leaf(&["x.example"]).key);
    assert_eq!(codes(&checked), ["expired", "not_for_servers", "key_mismatch", "incomplete_chain"]);

    let gone = Folder::new().pair(b"", b"");
    let checked = Identity::load(&gone, SystemTime::now());
    assert_eq!(codes(&checked), ["unreadable", "unreadable"], "the folder is gone");
    assert!(checked.findings.iter().all(ChainFinding::may_settle));
}

#[test]
fn files_that_are_no_pem_are_recognised() {
    use rustls::pki_types::pem::PemObject;
    let leaf = Authority::new().leaf(&["mail.example.net"]);
    let der = rustls::pki_types::CertificateDer::from_pem_slice(leaf.certificate.as_bytes()).expect("PEM");
    let folder = Folder::new();
    let files = folder.pair(&der, leaf.key.as_bytes());
    assert_eq!(codes(&Identity::load(&files, SystemTime::now())), ["not_pem"]);

    let files = folder.pair(&vec![b'a'; 2 * 1024 * 1024], b"\x30\x82\x09\x00\x02\x01\x03");
    assert_eq!(codes(&Identity::load(&files, SystemTime::now())), ["too_large", "not_pem"]);

    let files = super::super::CertificateFiles { chain: "/dev/zero".into(), key: "/".into() };
    assert_eq!(codes(&Identity::load(&files, SystemTime::now())), ["unreadable", "unreadable"], "and returns at all");
}

#[test]
fn a_key_that_all_can_read_is_worth_a_warning() {
    use std::os::unix::fs::PermissionsExt;
    let leaf = Authority::new().leaf(&["mail.example.net"]);
    let folder = Folder::new();
    let files = folder.pair(leaf.chain().as_bytes(), leaf.key.as_bytes());
    std::fs::set_permissions(&files.key, std::fs::Permissions::from_mode(0o644)).expect("chmod");
    let checked = Identity::load(&files, SystemTime::now());
    assert_eq!(codes(&checked), ["key_readable"]);
    assert!(checked.findings[0].to_string().contains("mode 0644"));
    assert!(checked.is_sound());
}

#[test]
fn dates_are_judged_by_the_time_that_is_given() {
    let ca = Authority::new();
    let leaf = ca.leaf(&["mail.example.net"]);
    let now = SystemTime::now();
    for (at, expected, sound) in [
        (now, None, true),
        (now - 2 * DAY, Some("not_yet_valid"), false),
        (now + 77 * DAY, None, true),
        (now + 78 * DAY, Some("expires_soon"), true),
        (now + 90 * DAY, Some("expired"), false),
    ] {
        let checked = load_at(&leaf.chain(), &leaf.key, at);
        assert_eq!(codes(&checked), expected.into_iter().collect::<Vec<_>>());
        assert_eq!(checked.is_sound(), sound);
        assert!(checked.is_sound_but_for_time(), "it can be served, if the caller wants to");
        let late = checked.identity.expect("an identity").expires_soon(at);
        assert_eq!(late, matches!(expected, Some("expires_soon" | "expired")));
    }
    let late = load_at(&leaf.chain(), &leaf.key, now + 1000 * DAY);
    assert_eq!(codes(&late), ["expired", "expired"], "the intermediate too");
}

#[test]
fn a_chain_in_any_order_is_served_in_the_right_one_without_its_root() {
    let ca = Authority::new();
    let leaf = ca.leaf(&["mail.example.net"]);
    let (own, middle, root) = (leaf.certificate.as_str(), leaf.intermediate.as_str(), &ca.root.pem());
    let stranger = &ca_params("Other Root").self_signed(&key()).expect("signs").pem();
    for (chain, expected) in [
        (vec![own, middle, root], vec![]),
        (vec![middle, own], vec!["wrong_order"]),
        (vec![root, middle, own], vec!["wrong_order"]),
        (vec![own, root, middle], vec!["wrong_order"]),
        (vec![own, middle, middle], vec![]),
        (vec![own, middle, stranger], vec!["stranger_in_chain"]),
    ] {
        let checked = load(&chain.concat(), &leaf.key);
        assert_eq!(codes(&checked), expected);
        let sent = checked.identity.expect("an identity").chain().to_vec();
        let good = load(&leaf.chain(), &leaf.key).identity.expect("an identity").chain().to_vec();
        assert_eq!(sent, good);
    }
}

#[test]
fn a_chain_that_proves_nothing_is_broken() {
    let ca = Authority::new();
    let leaf = ca.leaf(&["mail.example.net"]);
    // Another authority of the same names: only the signature tells.
    let impostor = Authority::new();
    let mut powerless = ca_params("Test Intermediate");
    powerless.is_ca = rcgen::IsCa::ExplicitNoCa;
    let powerless = CertifiedIssuer::signed_by(powerless, key(), &ca.root).expect("signs");
    let key = key();
    let by_powerless = leaf_params(&["mail.example.net"]).signed_by(&key, &powerless).expect("signs").pem();

    for (chain, key, why) in [
        (vec![leaf.certificate.as_str(), &Authority::new().root.pem()], leaf.key.as_str(), "did not issue it"),
        (vec![&leaf.certificate, &impostor.leaf(&["x.example"]).intermediate], &leaf.key, "not by the key"),
        (vec![&leaf.certificate, &leaf.intermediate, &impostor.root.pem()], &leaf.key, "not by the key"),
        (vec![&by_powerless, &powerless.pem(), &ca.root.pem()], &key.serialize_pem(), "may not issue"),
        (vec![&by_powerless, &powerless.pem()], &key.serialize_pem(), "may not issue"),
    ] {
        let checked = load(&chain.concat(), key);
        assert_eq!(codes(&checked), ["broken_chain"]);
        let text = checked.findings[0].to_string();
        assert!(text.contains(why), "{text}");
        assert!(!checked.is_sound());
    }
}

#[test]
fn a_lone_certificate_is_complete_only_below_a_known_root() {
    let ca = Authority::new();
    let leaf = ca.leaf(&["mail.example.net"]);
    let checked = load(&leaf.certificate, &leaf.key);
    assert_eq!(codes(&checked), ["incomplete_chain"]);
    assert!(checked.is_sound(), "a private root may well sign without an intermediate");
    let text = checked.findings[0].to_string();
    assert!(text.contains("CN=Test Intermediate") && text.contains("fullchain.pem"), "{text}");

    let known = rcgen_name("O=Internet Security Research Group, CN=ISRG Root X1, C=US");
    assert!(super::is_known_root(&known));
}

/// Gives a root's name as certificates carry it: webpki-roots keeps it without its outer tag.
fn rcgen_name(name: &str) -> Vec<u8> {
    let [organisation, common_name, country] = name.split(", ").collect::<Vec<_>>()[..] else { panic!("three parts") };
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    for (kind, value) in [
        (rcgen::DnType::CountryName, country),
        (rcgen::DnType::OrganizationName, organisation),
        (rcgen::DnType::CommonName, common_name),
    ] {
        let (_, value) = value.split_once('=').expect("a value");
        params.distinguished_name.push(kind, rcgen::DnValue::PrintableString(value.try_into().expect("printable")));
    }
    let certificate = params.self_signed(&key()).expect("signs");
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate.der()).expect("parses");
    parsed.subject().as_raw().to_vec()
}

#[test]
fn keys_and_signatures_that_clients_refuse_are_found() {
    for (pem, expected, served, words) in [
        (include_str!("../testdata/rsa-1024.pem"), vec!["weak_key"], false, "RSA, 1024 bits"),
        (include_str!("../testdata/secp256k1.pem"), vec!["weak_key"], false, "curve 1.3.132.0.10"),
        (include_str!("../testdata/sha1.pem"), vec!["weak_signature"], true, "signed with SHA-1"),
        (include_str!("../testdata/md5.pem"), vec!["weak_signature"], true, "signed with MD5"),
        (include_str!("../testdata/p521.pem"), vec!["unusual_key"], true, "ECDSA P-521"),
        (include_str!("../testdata/ed25519.pem"), vec!["unusual_key"], true, "Ed25519"),
        (include_str!("../testdata/self-signed.pem"), vec!["self_signed"], true, "signed by itself"),
        (include_str!("../testdata/version-1.pem"), vec!["no_names"], true, "no subjectAltName"),
    ] {
        let checked = load(pem, pem);
        assert_eq!(codes(&checked), expected);
        assert_eq!(checked.identity.is_some(), served, "{expected:?}");
        let text = checked.findings[0].to_string();
        assert!(text.contains(words) && text.contains("mail.example.net"), "{text}");
    }
}

mod anything {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_file_can_make_the_examination_panic(cut in 0_usize..6000, flip in any::<(usize, u8)>()) {
            static GOOD: &str = include_str!("../testdata/sha1.pem");
            let mut bytes = GOOD.as_bytes().to_vec();
            bytes.truncate(cut);
            if !bytes.is_empty() {
                let place = flip.0 % bytes.len();
                bytes[place] ^= flip.1;
            }
            let files = super::super::super::CertificateFiles { chain: "chain".into(), key: "key".into() };
            let contents = super::super::super::files::Contents::of(&bytes, &bytes);
            let checked = Identity::examine(&files, &contents, SystemTime::now());
            // Without a certificate there is nothing to serve, and somebody must be told.
            prop_assert!(checked.identity.is_some() || !checked.findings.is_empty());
        }

        #[test]
        fn no_der_can_make_the_examination_panic(place in any::<usize>(), with in any::<u8>()) {
            let leaf = super::super::super::testing::identity(&AUTHORITY.leaf(&["mail.example.net"]));
            let mut chain = leaf.chain().to_vec();
            let mut der = chain[0].to_vec();
            let place = place % der.len();
            der[place] = with;
            chain[0] = der.into();
            super::super::examine("chain".as_ref(), chain, None, SystemTime::now(), &mut Vec::new());
        }
    }

    static AUTHORITY: std::sync::LazyLock<Authority> = std::sync::LazyLock::new(Authority::new);
}
