//! `gatepost check`.

use super::gateway::{Folder, IMAPS};
use std::net::TcpListener;

#[test]
fn a_good_file_is_called_good() {
    let folder = Folder::new();
    folder.configure(IMAPS, "");
    folder.gatepost(&["check"]).ends(0, &["good", "1 listener, 1 backend"]);
    assert!(!folder.at("state").exists(), "checking changes nothing");
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let folder = Folder::new();
    let file = folder.configure(
        "  imaps: { address: \"127.0.0.1:0\", protocol: imapp }\n  pop3s: { adress: \"127.0.0.1:0\", protocol: pop3 }",
        "tls: { certificates: [ { chain: absent.pem, key: absent.key } ] }\nlimits: { ban: soon }",
    );
    let outcome = folder.gatepost(&["check"]).ends(78, &["imapp", "adress", "absent.pem", "soon", "refused"]);
    let text = std::fs::read_to_string(&file).expect("written");
    let line = text.lines().position(|line| line.contains("imapp")).expect("it is there") + 1;
    let column = text.lines().find_map(|line| line.find("imapp")).expect("it is there") + 1;
    let place = format!("{}:{line}:{column}: error: ", file.display());
    assert!(outcome.err.contains(&place), "lacks {place}: {outcome:#?}");
}

#[test]
fn a_check_online_shows_what_the_old_server_can_do() {
    let folder = Folder::new();
    folder.configure(IMAPS, "");
    let outcome = folder.gatepost(&["check", "--online"]).ends(0, &["dialling main imap://127.0.0.1:"]);
    assert!(outcome.out.contains("IMAP4rev1") && outcome.out.contains("AUTH=PLAIN"), "{outcome:#?}");
}

#[test]
fn a_check_online_fails_when_a_server_is_down() {
    let folder = Folder::new();
    let down = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
    folder.write(
        "gatepost.yaml",
        format!("hostname: mail.example.net\nbackends: {{ main: {{ imap: \"{down}\" }} }}\nlisteners:\n{IMAPS}\n"),
    );
    folder.gatepost(&["check", "--online"]).ends(1, &[&format!("imap://{down}"), "refused"]);
}
