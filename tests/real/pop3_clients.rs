//! POP3 programs through the gateway, before Dovecot, Courier and popa3d.

use crate::clients::{client, curl, output_of, python, run};
use crate::gatepost::{self, Backend, Gatepost};
use crate::imap_clients::before_courier;
use crate::kept::write;
use crate::servers::{ODD, dovecot, small_pop3};
use std::os::unix::fs::PermissionsExt;
use std::sync::OnceLock;

const MESSAGE: &str =
    "From: a@example.org\r\nSubject: a letter\r\n\r\nWith a line.\r\n.\r\n..\r\nAnd another: \u{fc}\r\n";

const SCHEMES: [(&str, &[&str]); 2] = [("pop3s", &[]), ("pop3", &["--ssl-reqd"])];

#[test]
fn curl_reads_a_message() {
    let gateway = gatepost::usual();
    let user = dovecot::shared().user("pop3-curl");
    dovecot::shared().deliver(user, MESSAGE);
    for (scheme, options) in SCHEMES {
        let mut curl = curl(gateway);
        curl.args(options).args(["--user", &format!("{user}:secret"), &format!("{scheme}://mail.example.net/1")]);
        assert_eq!(output_of(curl, b""), MESSAGE, "{scheme}");
    }
}

#[test]
fn curl_logs_in_by_each_mechanism_and_the_event_names_it() {
    let gateway = gatepost::usual();
    for mechanism in ["PLAIN", "LOGIN", "CRAM-MD5", "APOP"] {
        let user = format!("pop3-curl-by-{}", mechanism.to_lowercase());
        dovecot::shared().user(&user);
        let option = if mechanism == "APOP" { "AUTH=+APOP".to_owned() } else { format!("AUTH={mechanism}") };
        let mut curl = curl(gateway);
        curl.args(["--user", &format!("{user}:secret"), "--login-options", &option, "pop3s://mail.example.net/"]);
        output_of(curl, b"");
        assert_eq!(gateway.event("auth.ok", &user)["mechanism"], mechanism);
    }
}

#[test]
fn python_logs_in_whatever_stands_in_the_password() {
    python(
        gatepost::usual(),
        &format!(
            "for scheme in ('pop3s', 'pop3+stls'):\n\
             \x20   p = pop3(scheme); p.user({:?}); p.pass_({:?}); p.stat(); p.quit()\n",
            ODD.0, ODD.1
        ),
    );
}

#[test]
fn apop_reaches_the_server_on_the_tls_port_and_is_not_shown_where_it_cannot() {
    let user = dovecot::shared().user("pop3-apop");
    python(
        gatepost::usual(),
        &format!(
            "p = pop3('pop3s'); p.apop('{user}', 'secret'); p.stat(); p.quit()\n\
             words = refused(lambda: pop3('pop3s').apop('{user}', 'wrong'))\n\
             assert words.startswith(\"b'-ERR [AUTH]\"), words\n\
             assert b'<' not in pop3('pop3').getwelcome()\n"
        ),
    );
}

#[test]
fn nothing_but_stls_is_open_before_tls() {
    let user = dovecot::shared().user("pop3-before-tls");
    python(
        gatepost::usual(),
        &format!(
            "p = pop3('pop3')\n\
             capabilities = p.capa()\n\
             assert 'STLS' in capabilities and not {{'USER', 'SASL'}} & set(capabilities), capabilities\n\
             words = refused(lambda: (p.user('{user}'), p.pass_('secret')))\n\
             assert 'STLS' in words, words\n\
             p.stls(trusting())\n\
             assert 'STLS' not in p.capa()\n\
             p.user('{user}'); p.pass_('secret'); p.quit()\n\
             assert 'STLS' not in pop3('pop3s').capa()\n"
        ),
    );
}

#[test]
fn what_is_pipelined_behind_a_login_is_answered_in_order() {
    let user = dovecot::shared().user("pop3-pipelined");
    dovecot::shared().deliver(user, MESSAGE);
    python(
        gatepost::usual(),
        &format!(
            "r = Raw(995)\n\
             r.send(b'USER {user}\\r\\nPASS secret\\r\\nSTAT\\r\\nNOOP\\r\\nQUIT\\r\\n')\n\
             said = r.file.read().splitlines()\n\
             assert [line[:3] for line in said] == [b'+OK'] * 5 and said[2].startswith(b'+OK 1 '), said\n"
        ),
    );
}

/// A server that keeps one session a mailbox answers `[IN-USE]`, which is no verdict on the password.
#[test]
fn a_locked_mailbox_is_not_a_wrong_password() {
    let gateway = gatepost::usual();
    let user = dovecot::shared().user("pop3-locked");
    dovecot::shared().deliver(user, MESSAGE);
    python(
        gateway,
        &format!(
            "first = pop3(); first.user('{user}'); first.pass_('secret')\n\
             second = pop3(); second.user('{user}')\n\
             words = refused(lambda: second.pass_('secret'))\n\
             assert words.startswith(\"b'-ERR [IN-USE]\"), words\n\
             first.quit()\n\
             third = pop3(); third.user('{user}'); third.pass_('secret'); third.quit()\n"
        ),
    );
    assert_eq!(gateway.event("auth.error", user)["reason"], "backend_temporary");
    assert!(!gateway.events().iter().any(|event| event["event"] == "auth.failed" && event["user"] == user));
}

#[test]
fn fetchmail_takes_the_mail_away() {
    for (name, service) in [("pop3-fetchmail-1", "port 995 ssl"), ("pop3-fetchmail-2", "port 110 sslproto tls1.2+")] {
        let user = dovecot::shared().user(name);
        dovecot::shared().deliver(user, MESSAGE);
        let fetched = fetchmail(gatepost::usual(), "POP3", service, user);
        assert!(fetched.contains("Subject: a letter"), "{fetched}");
        assert_eq!(dovecot::shared().messages(user).len(), 0);
    }
}

#[test]
fn courier_behind_it_serves_logins() {
    python(
        before_courier(),
        "for scheme in ('pop3s', 'pop3+stls'):\n\
         \x20   p = pop3(scheme); p.user('joe'); p.pass_('secret'); p.stat(); p.quit()\n\
         p = pop3(); p.user('joe')\n\
         words = refused(lambda: p.pass_('wrong'))\n\
         assert words.startswith(\"b'-ERR [AUTH]\"), words\n",
    );
}

/// popa3d knows no CAPA, no SASL and no pipelining, and hangs up after a wrong password.
#[test]
fn a_small_old_server_behind_it_serves_logins() {
    let server = small_pop3::shared();
    server.deliver("joe", "Subject: a letter\n\nfrom long ago\n");
    let gateway = before_popa3d();
    python(
        gateway,
        &format!(
            "for scheme in ('pop3s', 'pop3+stls'):\n\
             \x20   p = pop3(scheme); p.user('joe'); p.pass_('secret')\n\
             \x20   assert b'from long ago' in p.retr(1)[1]; p.quit()\n\
             p = pop3(); p.user({odd:?}); p.pass_({password:?}); p.stat(); p.quit()\n\
             p = pop3(); p.user('joe')\n\
             words = refused(lambda: p.pass_('wrong'))\n\
             assert words.startswith(\"b'-ERR [AUTH]\"), words\n\
             p.user('joe'); p.pass_('secret'); p.stat(); p.quit()\n",
            odd = ODD.0,
            password = ODD.1,
        ),
    );
    assert_eq!(gateway.event("auth.failed", "joe")["reason"], "bad_credentials");
}

fn before_popa3d() -> &'static Gatepost {
    static SHARED: OnceLock<Gatepost> = OnceLock::new();
    SHARED
        .get_or_init(|| Gatepost::start(Backend { pop3: Some(small_pop3::shared().pop3()), ..Backend::default() }, ""))
}

/// Runs fetchmail once and returns what it handed to its delivery program.
pub fn fetchmail(gateway: &Gatepost, protocol: &str, service: &str, user: &str) -> String {
    let folder = tempfile::tempdir().expect("a directory");
    let (rc, mail) = (folder.path().join("rc"), folder.path().join("mail"));
    write(
        &rc,
        format!(
            "poll {host} protocol {protocol} {options} user \"{user}\" password \"secret\" {ssl} sslcertck \
             sslcertfile {authority} sslcommonname mail.example.net fetchall no keep mda \"/usr/bin/tee -a {mail}\"\n",
            host = gateway.address,
            options = service.split_whitespace().take(2).collect::<Vec<_>>().join(" "),
            ssl = service.split_whitespace().skip(2).collect::<Vec<_>>().join(" "),
            authority = gateway.authority().display(),
            mail = mail.display(),
        ),
    );
    std::fs::set_permissions(&rc, std::fs::Permissions::from_mode(0o600)).expect("ours");
    let mut fetchmail = client("fetchmail");
    fetchmail.arg("--nodetach").arg("--fetchmailrc").arg(&rc).arg("--pidfile").arg(folder.path().join("pid"));
    fetchmail.env("HOME", folder.path()).env("FETCHMAILHOME", folder.path());
    let ended = run(fetchmail, b"");
    assert!(ended.ok, "{}", ended.said);
    std::fs::read_to_string(mail).expect("fetchmail delivered something")
}
