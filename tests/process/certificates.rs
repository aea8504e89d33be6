//! `gatepost cert` and `gatepost passwd`.

use super::gateway::{Folder, IMAPS};
use super::outcome::{Outcome, gatepost, outcome};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

fn cert(arguments: &[&str]) -> Outcome {
    gatepost(["cert"].iter().chain(arguments))
}

fn openssl(arguments: &[&str]) -> Outcome {
    let mut command = Command::new("openssl");
    command.args(arguments);
    outcome(command)
}

#[test]
fn a_ca_is_made_once_and_what_it_issues_is_believed() {
    let folder = Folder::new();
    folder.configure(IMAPS, "");
    let made = folder.gatepost(&["cert", "init"]).ends(0, &["made a private CA", "SHA-256 "]);
    assert_eq!(made.out, "");
    let root = folder.root();
    folder.gatepost(&["cert", "init"]).ends(0, &["already", "stays as it is"]);
    assert_eq!(folder.root(), root);

    let state = folder.at("state").display().to_string();
    let out = folder.at("").display().to_string();
    let issue = ["issue", "imap.example.net", "*.shell.example.net", "192.0.2.1", "--state-dir", &state, "--out", &out];
    cert(&issue).ends(0, &["imap.example.net.pem", "imap.example.net.key", "good until"]);
    let (chain, key) = (folder.at("imap.example.net.pem"), folder.at("imap.example.net.key"));
    assert_eq!(std::fs::metadata(&key).expect("a key").permissions().mode() & 0o777, 0o600);
    let root = format!("{state}/ca/root.pem");
    let chain_text = chain.display().to_string();
    let verify = [
        "verify",
        "-x509_strict",
        "-purpose",
        "sslserver",
        "-verify_hostname",
        "a.shell.example.net",
        "-CAfile",
        &root,
        &chain_text,
    ];
    openssl(&verify).ends(0, &[]);

    let before = std::fs::read(&chain).expect("a chain");
    cert(&issue).ends(1, &["imap.example.net.key", "move it away"]);
    assert_eq!(std::fs::read(&chain).expect("a chain"), before, "a certificate in use is not overwritten");
    cert(&["issue", "no name", "--state-dir", &state]).ends(2, &["neither a host name nor an address"]);
    cert(&["issue", "a.example", "--state-dir", &out]).ends(1, &["no private CA", "gatepost cert init"]);
}

#[test]
fn a_customer_gets_a_certificate_that_is_for_no_server() {
    let folder = Folder::new();
    folder.configure(IMAPS, "");
    folder.gatepost(&["cert", "init"]).ends(0, &[]);
    let state = folder.at("state").display().to_string();
    let out = folder.at("").display().to_string();
    let issue = |name: &str| cert(&["issue", "--client", name, "--state-dir", &state, "--out", &out]);
    let root = format!("{state}/ca/root.pem");
    issue("joe@example.net").ends(0, &["joe@example.net.pem", "good until", &root, "openssl pkcs12"]);
    let (chain, key) = (folder.at("joe@example.net.pem"), folder.at("joe@example.net.key"));
    assert_eq!(std::fs::metadata(&key).expect("a key").permissions().mode() & 0o777, 0o600);
    let chain = chain.display().to_string();
    openssl(&["verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", &root, &chain]).ends(0, &[]);
    openssl(&["verify", "-purpose", "sslserver", "-CAfile", &root, &chain]).ends(2, &["purpose"]);
    let shown = openssl(&["x509", "-noout", "-subject", "-ext", "subjectAltName", "-in", &chain]).out;
    assert!(shown.contains("email:joe@example.net"), "{shown}");
    let shown = cert(&["show", &chain]);
    assert!(
        shown.code == Some(0) && shown.out.contains("certificate 1, a client's\n  names    joe@example.net\n"),
        "{shown:#?}"
    );
    assert!(!shown.err.contains("error"), "{shown:#?}");

    issue("Joe Baker").ends(0, &["Joe_Baker.pem"]);
    issue("../.evil/Joe").ends(0, &["/_._.evil_Joe.pem"]);
    for (name, words) in [("", "write an address or a name"), ("jö@example.net", "ASCII"), (&"x".repeat(65), "64")] {
        issue(name).ends(1, &[words]);
    }
    cert(&["issue", "--client", "joe", "a.example", "--state-dir", &state]).ends(2, &["cannot be used with"]);
    cert(&["issue", "--state-dir", &state]).ends(2, &["NAME"]);
}

#[test]
fn a_ca_wants_a_name_and_is_made_for_whom_the_gateway_becomes() {
    let folder = Folder::new();
    let state = folder.at("state").display().to_string();
    cert(&["init", "--state-dir", &state]).ends(1, &["--hostname"]);
    cert(&["init", "--state-dir", &state, "--hostname", "pop.example.net"]).ends(0, &["made"]);
    let subject = openssl(&["x509", "-noout", "-subject", "-in", &format!("{state}/ca/root.pem")]);
    assert!(subject.out.contains("pop.example.net"), "{subject:#?}");

    if super::outcome::is_root_for("a CA of another user") {
        let folder = Folder::new();
        folder.configure(IMAPS, "runtime: { user: nobody }");
        folder.gatepost(&["cert", "init"]).ends(0, &["made"]);
        let nobody = nix::unistd::User::from_name("nobody").expect("asked").expect("a user");
        for file in ["state", "state/ca/root.key"] {
            assert_eq!(std::fs::metadata(folder.at(file)).expect(file).uid(), nobody.uid.as_raw(), "{file}");
        }
    }
}

#[test]
fn a_file_is_shown_with_its_names_its_dates_and_what_is_wrong() {
    let good = cert(&["show", "tests/config/files/mail.pem"]);
    assert_eq!(good.code, Some(0), "{good:#?}");
    for words in ["names    ", "issuer   ", "valid    ", "key      ECDSA P-256", "SHA-256  "] {
        assert!(good.out.contains(words), "lacks {words:?}: {good:#?}");
    }
    let fingerprint = openssl(&["x509", "-noout", "-fingerprint", "-sha256", "-in", "tests/config/files/mail.pem"]);
    let fingerprint = fingerprint.out.trim().rsplit('=').next().expect("a fingerprint").to_owned();
    assert!(good.out.contains(&fingerprint), "{good:#?}");

    cert(&["show", "tests/config/files/expired.pem"]).ends(1, &["error: ", "expired"]);
    cert(&["show", "tests/config/files/mail.key"]).ends(1, &["holds a private key"]);
    cert(&["show", "/absent.pem"]).ends(1, &["/absent.pem cannot be read"]);
    let json: serde_json::Value =
        serde_json::from_str(&cert(&["show", "--json", "tests/config/files/expired.pem"]).out).expect("JSON");
    assert_eq!(json["findings"][0]["code"], "expired");
    assert_eq!(json["certificates"][0]["ca"], false);
}

#[test]
fn the_profile_for_apples_devices_holds_the_root() {
    let folder = Folder::new();
    folder.configure(IMAPS, "");
    folder.gatepost(&["cert", "init"]).ends(0, &[]);
    let profile = folder
        .gatepost(&["cert", "export", "--format", "mobileconfig"])
        .ends(0, &["SHA-256 ", "Certificate Trust Settings"]);
    let again = folder.gatepost(&["cert", "export", "--format", "mobileconfig"]);
    assert_eq!(profile.out, again.out, "the same root is the same profile");
    let path = folder.write("root.mobileconfig", &profile.out);
    // Python reads property lists as Apple's programs do.
    let read = "import plistlib, sys; p = plistlib.load(open(sys.argv[1], 'rb')); c = p['PayloadContent'][0]; \
                assert p['PayloadType'] == 'Configuration' and c['PayloadType'] == 'com.apple.security.root'; \
                sys.stdout.buffer.write(c['PayloadContent'])";
    let mut command = Command::new("sh");
    command
        .args(["-c", "python3 -c \"$1\" \"$2\" | openssl x509 -inform DER -noout -fingerprint -sha256", "sh", read])
        .arg(&path);
    let fingerprint = outcome(command).ends(0, &[]).out;
    let said = profile.err.lines().find_map(|line| line.strip_prefix("SHA-256 ")).expect("a fingerprint");
    assert!(fingerprint.trim().ends_with(said), "{said} and {fingerprint}");
}

/// `gatepost passwd FILE USER`, with this on its standard input.
fn passwd(file: &Path, user: &str, input: &str) -> Outcome {
    let mut command = Command::new("sh");
    command.args(["-c", "printf %s \"$3\" | \"$0\" passwd \"$1\" \"$2\"", env!("CARGO_BIN_EXE_gatepost")]);
    command.arg(file).args([user, input]);
    outcome(command)
}

#[test]
fn a_user_gets_a_hash_and_no_password_is_anywhere() {
    let folder = Folder::new();
    let file = folder.at("users");
    passwd(&file, "joe", "hunter2\n").ends(0, &["joe is added", "submission: \"file:"]);
    passwd(&file, "ann@example.net", "swordfish").ends(0, &["is added"]);
    let first = std::fs::read_to_string(&file).expect("a file");
    passwd(&file, "JOE", "hunter3\n").ends(0, &["another password"]);
    let text = std::fs::read_to_string(&file).expect("a file");
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines.len() == 2 && lines[0].starts_with("JOE:$argon2id$v=19$m=19456,t=2,p=1$"), "{text}");
    assert_eq!(first.lines().nth(1), Some(lines[1]), "others stay as they are");
    assert!(!text.contains("hunter") && !text.contains("swordfish"));
    assert_eq!(std::fs::metadata(&file).expect("a file").permissions().mode() & 0o777, 0o600);
    let others = std::fs::read_dir(folder.at("")).expect("a folder").count();
    assert_eq!(others, 1, "nothing is left beside it");

    for (user, input, code, words) in
        [("joe", "", 1, "empty"), ("a:b", "x\n", 2, "no colon"), ("joe", &"x".repeat(5_000)[..], 1, "more than")]
    {
        passwd(&file, user, input).ends(code, &[words]);
        assert_eq!(std::fs::read_to_string(&file).expect("a file"), text);
    }
    passwd(Path::new("/absent/users"), "joe", "x\n").ends(1, &["cannot write /absent/users"]);
}
