//! IMAP programs through the gateway, before Dovecot and before Courier.

use crate::clients::{client, curl, output_of, python, run};
use crate::gatepost::{self, Backend, Gatepost};
use crate::kept::write;
use crate::servers::{MARY, ODD, courier, dovecot};
use std::sync::OnceLock;

const MESSAGE: &str = "From: a@example.org\r\nSubject: a letter\r\n\r\nWith a line.\r\n.\r\nAnd another: \u{fc}\r\n";

/// Both ways to TLS, as curl wants them said.
const SCHEMES: [(&str, &[&str]); 2] = [("imaps", &[]), ("imap", &["--ssl-reqd"])];

#[test]
fn curl_reads_a_message() {
    let gateway = gatepost::usual();
    let user = dovecot::shared().user("imap-curl-reads");
    dovecot::shared().deliver(user, MESSAGE);
    for (scheme, options) in SCHEMES {
        let mut curl = curl(gateway);
        curl.args(options).args([
            "--user",
            &format!("{user}:secret"),
            &format!("{scheme}://mail.example.net/INBOX;UID=1"),
        ]);
        assert_eq!(output_of(curl, b""), MESSAGE, "{scheme}");
    }
}

#[test]
fn curl_stores_a_message() {
    let gateway = gatepost::usual();
    let folder = tempfile::tempdir().expect("a directory");
    write(&folder.path().join("letter"), MESSAGE);
    for (user, (scheme, options)) in ["imap-curl-stores-1", "imap-curl-stores-2"].iter().zip(SCHEMES) {
        dovecot::shared().user(user);
        let mut curl = curl(gateway);
        curl.args(options).args(["--user", &format!("{user}:secret"), &format!("{scheme}://mail.example.net/INBOX")]);
        curl.arg("--upload-file").arg(folder.path().join("letter"));
        output_of(curl, b"");
        assert_eq!(
            dovecot::shared().arrived(user).escape_ascii().to_string(),
            MESSAGE.as_bytes().escape_ascii().to_string()
        );
    }
}

#[test]
fn curl_logs_in_by_each_mechanism_and_the_event_names_it() {
    let gateway = gatepost::usual();
    for mechanism in ["PLAIN", "LOGIN", "CRAM-MD5"] {
        let user = format!("imap-curl-by-{}", mechanism.to_lowercase());
        dovecot::shared().user(&user);
        let mut curl = curl(gateway);
        curl.args(["--user", &format!("{user}:secret"), "--login-options", &format!("AUTH={mechanism}")]);
        curl.arg("imaps://mail.example.net/");
        assert!(output_of(curl, b"").contains("INBOX"), "{mechanism}");
        let event = gateway.event("auth.ok", &user);
        assert_eq!((event["mechanism"].as_str(), event["listener"].as_str()), (Some(mechanism), Some("imaps")));
        assert!(event["tls"]["version"].is_string(), "{event}");
    }
}

#[test]
fn python_logs_in_whatever_stands_in_name_and_password() {
    for scheme in ["imaps", "imap+starttls"] {
        python(
            gatepost::usual(),
            &format!(
                "def session():\n\
                 \x20   m = imap({scheme:?}); m._encoding = 'utf-8'; return m\n\
                 m = session(); m.login({odd:?}, {password:?}); m.select(); m.logout()\n\
                 m = session(); m.authenticate('PLAIN', lambda _: '\\0'.join(['', {odd:?}, {password:?}]).encode()); m.select(); m.logout()\n\
                 m = session(); m.login({mary:?}, {secret:?}); m.select(); m.logout()\n",
                odd = ODD.0,
                password = ODD.1,
                mary = MARY.0,
                secret = MARY.1,
            ),
        );
    }
}

#[test]
fn nothing_but_starttls_is_open_before_tls() {
    let user = dovecot::shared().user("imap-before-tls");
    python(
        gatepost::usual(),
        &format!(
            "m = imap('imap')\n\
             assert 'LOGINDISABLED' in m.capabilities and 'STARTTLS' in m.capabilities, m.capabilities\n\
             assert not any(c.startswith('AUTH=') for c in m.capabilities), m.capabilities\n\
             words = refused(lambda: m.login('{user}', 'secret'))\n\
             assert '[PRIVACYREQUIRED]' in words, words\n\
             m.starttls(trusting())\n\
             assert 'LOGINDISABLED' not in m.capabilities and 'STARTTLS' not in m.capabilities, m.capabilities\n\
             m.login('{user}', 'secret')\n\
             assert 'STARTTLS' not in imap('imaps').capabilities\n"
        ),
    );
    gatepost::usual().event_where("the refusal", |event| {
        event["event"] == "auth.refused" && event["reason"] == "tls_required" && event["listener"] == "imap"
    });
}

#[test]
fn a_client_that_idles_hears_of_new_mail_within_seconds() {
    let user = dovecot::shared().user("imap-idle");
    python(
        gatepost::usual(),
        &format!(
            "r = Raw(993)\n\
             r.ask(b'a LOGIN {user} secret', b'a OK'); r.ask(b'b SELECT INBOX', b'b OK'); r.ask(b'c IDLE', b'+')\n\
             other = imap(); other.login('{user}', 'secret'); other.append('INBOX', None, None, b'Subject: new\\r\\n\\r\\n')\n\
             began = time.monotonic()\n\
             while b' EXISTS' not in r.line(): pass\n\
             assert time.monotonic() - began < 5\n\
             r.ask(b'DONE', b'c OK'); r.ask(b'd LOGOUT', b'd OK'); assert r.ended()\n"
        ),
    );
}

#[test]
fn a_compressed_session_passes() {
    let user = dovecot::shared().user("imap-compress");
    python(
        gatepost::usual(),
        &format!(
            "import zlib\n\
             r = Raw(993)\n\
             r.ask(b'a LOGIN {user} secret', b'a OK'); r.ask(b'b COMPRESS DEFLATE', b'b OK')\n\
             deflate, inflate = zlib.compressobj(wbits=-15), zlib.decompressobj(wbits=-15)\n\
             r.send(deflate.compress(b'c SELECT INBOX\\r\\nd LOGOUT\\r\\n') + deflate.flush(zlib.Z_SYNC_FLUSH))\n\
             said = inflate.decompress(r.file.read())\n\
             assert b'c OK' in said and b'd OK' in said, said\n"
        ),
    );
}

#[test]
fn what_is_pipelined_behind_a_login_is_answered_in_order() {
    let user = dovecot::shared().user("imap-pipelined");
    python(
        gatepost::usual(),
        &format!(
            "r = Raw(993)\n\
             r.send(b'a NOOP\\r\\nb LOGIN {user} secret\\r\\nc SELECT INBOX\\r\\nd NOOP\\r\\ne LOGOUT\\r\\n')\n\
             tags = [line.split()[0] for line in r.file.read().splitlines() if line[:2] in (b'a ', b'b ', b'c ', b'd ', b'e ')]\n\
             assert tags == [b'a', b'b', b'c', b'd', b'e'], tags\n"
        ),
    );
}

#[test]
fn mbsync_copies_a_mailbox() {
    let gateway = gatepost::usual();
    for (name, ssl, port) in [("imap-mbsync-1", "IMAPS", 993), ("imap-mbsync-2", "STARTTLS", 143)] {
        let user = dovecot::shared().user(name);
        dovecot::shared().deliver(user, MESSAGE);
        let folder = tempfile::tempdir().expect("a directory");
        let at = folder.path().display();
        // mbsync compares names only, never addresses; the certificate itself is what it is told to trust.
        write(
            &folder.path().join("rc"),
            format!(
                "IMAPAccount gate\nHost {host}\nPort {port}\nSSLType {ssl}\nSystemCertificates no\nCertificateFile {certificate}\n\
                 User {user}\nPass secret\n\nIMAPStore far\nAccount gate\n\nMaildirStore near\nPath {at}/\nInbox {at}/INBOX\n\n\
                 Channel all\nFar :far:\nNear :near:\nPatterns *\nCreate Near\nSyncState *\n",
                host = gateway.address,
                certificate = gateway.certificate(0).display(),
            ),
        );
        let mut mbsync = client("mbsync");
        mbsync.arg("-c").arg(folder.path().join("rc")).arg("all").env("HOME", folder.path());
        let ended = run(mbsync, b"");
        assert!(ended.ok, "{}", ended.said);
        let copies: Vec<_> = std::fs::read_dir(folder.path().join("INBOX/new")).expect("a Maildir").collect();
        assert_eq!(copies.len(), 1, "{}", ended.said);
    }
}

#[test]
fn fetchmail_takes_the_mail_away() {
    let gateway = gatepost::usual();
    for (name, service) in [("imap-fetchmail-1", "port 993 ssl"), ("imap-fetchmail-2", "port 143 sslproto tls1.2+")] {
        let user = dovecot::shared().user(name);
        dovecot::shared().deliver(user, MESSAGE);
        let fetched = crate::pop3_clients::fetchmail(gateway, "IMAP", service, user);
        assert!(fetched.contains("Subject: a letter"), "{fetched}");
        assert_eq!(dovecot::shared().messages(user).len(), 0);
    }
}

#[test]
fn courier_behind_it_serves_logins_and_a_stored_message() {
    python(
        before_courier(),
        "for scheme in ('imaps', 'imap+starttls'):\n\
         \x20   m = imap(scheme); m.login('joe', 'secret'); m.select()\n\
         \x20   m.append('INBOX', None, None, b'Subject: kept\\r\\n\\r\\nbody\\r\\n'); m.select()\n\
         \x20   assert m.fetch('1', '(BODY[TEXT])')[1][0][1] == b'body\\r\\n'\n\
         \x20   m.logout()\n\
         m = imap(); m.login_cram_md5('joe', 'secret'); m.select(); m.logout()\n\
         words = refused(lambda: imap().login('joe', 'wrong'))\n\
         assert '[AUTHENTICATIONFAILED]' in words, words\n",
    );
    assert_eq!(before_courier().event("auth.failed", "joe")["reason"], "bad_credentials");
}

/// The gateway before Courier, which several tests share.
pub fn before_courier() -> &'static Gatepost {
    static SHARED: OnceLock<Gatepost> = OnceLock::new();
    SHARED.get_or_init(|| {
        let courier = courier::shared();
        Gatepost::start(Backend { imap: Some(courier.imap()), pop3: Some(courier.pop3()), smtp: None }, "")
    })
}
