//! Messages of 50 MiB, the most that is taken, pass unchanged in every direction.

use crate::clients::{curl, limited, output_of, run};
use crate::gatepost;
use crate::kept::write;
use crate::servers::dovecot;
use std::process::Command;
use std::time::Duration;

const SIZE: usize = 50 * 1024 * 1024;

/// A message of exactly [`SIZE`] bytes with all 8-bit values but those that end lines, in lines of all lengths, some of dots.
fn message() -> Vec<u8> {
    let mut message = b"From: a@example.net\r\nDate: Thu, 1 Jan 2026 00:00:00 +0000\r\nMessage-Id: <big@example.net>\r\nSubject: big\r\n\r\n".to_vec();
    let mut state = 1_u32;
    while message.len() < SIZE - 1200 {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let length = (state >> 16) % 900;
        if state.is_multiple_of(64) {
            message.extend_from_slice(&b"..."[..(length % 4) as usize]);
        }
        for position in 0..length {
            let byte = (state.wrapping_add(position.wrapping_mul(2_654_435_761)) >> 24) as u8;
            message.push(if matches!(byte, 0 | b'\r' | b'\n') { b'x' } else { byte });
        }
        message.extend_from_slice(b"\r\n");
    }
    while message.len() < SIZE - 2 {
        let length = (SIZE - 2 - message.len()).min(70);
        message.extend(std::iter::repeat_n(b'=', length));
        if SIZE - 2 - message.len() > 2 {
            message.extend_from_slice(b"\r\n");
        }
    }
    message.extend_from_slice(b"\r\n");
    assert_eq!(message.len(), SIZE);
    message
}

#[test]
fn a_big_message_stored_over_imap_is_read_back_unchanged_over_imap_and_pop3() {
    let user = dovecot::shared().user("big-imap");
    let folder = tempfile::tempdir().expect("a directory");
    let (sent, got) = (folder.path().join("sent"), folder.path().join("got"));
    let message = message();
    write(&sent, &message);

    let mut store = patient_curl(user);
    store.arg("imaps://mail.example.net/INBOX").arg("--upload-file").arg(&sent);
    let ended = run(store, b"");
    assert!(ended.ok, "{}", ended.said);
    for url in ["imaps://mail.example.net/INBOX;UID=1", "pop3s://mail.example.net/1"] {
        let mut fetch = patient_curl(user);
        fetch.arg(url).arg("--output").arg(&got);
        output_of(fetch, b"");
        assert!(std::fs::read(&got).expect("curl wrote it") == message, "{url}");
    }
}

#[test]
fn a_big_message_that_is_sent_arrives_unchanged() {
    let user = dovecot::shared().user("big-smtp");
    let folder = tempfile::tempdir().expect("a directory");
    let sent = folder.path().join("sent");
    let message = message();
    write(&sent, &message);
    let address = format!("{user}@example.net");
    let mut send = patient_curl(user);
    send.args(["smtps://mail.example.net", "--mail-from", &address, "--mail-rcpt", &address, "--upload-file"])
        .arg(&sent);
    let ended = run(send, b"");
    assert!(ended.ok, "{}", ended.said);
    let arrived = dovecot::shared().arrived(user);
    assert!(arrived.ends_with(&message), "{} bytes arrived", arrived.len());
}

fn patient_curl(user: &str) -> Command {
    let usual = curl(gatepost::usual());
    let mut patient = limited("curl", Duration::from_secs(300));
    patient.args(usual.get_args().skip(2)).args(["--user", &format!("{user}:secret")]);
    patient
}
