//! A Postfix that knows no AUTH and trusts its network: customers may send all the same, and nobody else.

use crate::clients::{Ended, curl, python, run};
use crate::gatepost::{Backend, Gatepost};
use crate::servers::{dovecot, postfix};

#[test]
fn customers_send_through_a_server_without_auth_and_strangers_do_not() {
    let (dovecot, postfix) = (dovecot::shared(), postfix::trusting());
    for checker in ["imap", "pop3"] {
        let user = format!("no-auth-{checker}");
        dovecot.user(&user);
        let backend = Backend { imap: Some(dovecot.imap()), pop3: Some(dovecot.pop3()), smtp: Some(postfix.smtp()) };
        let gateway = Gatepost::start(backend, &format!("auth: {{ submission: {checker} }}\n"));
        python(
            &gateway,
            &format!(
                "for scheme in ['smtps', 'smtp+starttls']:\n\
                 \x20   assert refused(lambda: submission(scheme).login('{user}', 'wrong')).startswith('535')\n\
                 \x20   s = submission(scheme)\n\
                 \x20   assert 'PLAIN' in s.esmtp_features['auth'], s.esmtp_features\n\
                 \x20   assert s.mail('{user}@example.net')[0] == 530\n\
                 \x20   s.login('{user}', 'secret')\n\
                 \x20   for n in range(3):\n\
                 \x20       s.sendmail('{user}@example.net', ['{user}@example.net'], 'Subject: without AUTH\\r\\n\\r\\nthere\\r\\n')\n\
                 \x20   s.quit()\n"
            ),
        );
        let arrived = dovecot.arrived(&user);
        assert!(arrived.ends_with(b"Subject: without AUTH\r\n\r\nthere\r\n"), "{}", arrived.escape_ascii());
        let login = gateway.event("auth.ok", &user);
        assert_eq!(login["protocol"], "submission", "{login}");
    }
}

#[test]
fn who_has_just_fetched_mail_sends_without_a_login() {
    let (dovecot, postfix) = (dovecot::shared(), postfix::trusting());
    let user = dovecot.user("pop-before-smtp");
    let backend = Backend { imap: Some(dovecot.imap()), pop3: Some(dovecot.pop3()), smtp: Some(postfix.smtp()) };
    let more = "auth: { pop_before_smtp: { window: 30m } }\nlimits: { exempt: [] }\n";
    let gateway = Gatepost::start(backend, more);
    python(
        &gateway,
        &format!(
            "s = submission()\n\
             assert s.mail('{user}@example.net')[0] == 530\n\
             log_in_by_pop3('{user}')\n\
             s.sendmail('{user}@example.net', ['{user}@example.net'], 'Subject: after POP\\r\\n\\r\\nthere\\r\\n')\n\
             s.quit()\n"
        ),
    );
    assert!(dovecot.arrived(user).ends_with(b"Subject: after POP\r\n\r\nthere\r\n"));
}

/// Without its word Postfix would see a client of an address that it does not trust, and relay nothing.
#[test]
fn a_postfix_that_hears_no_auth_knows_its_users_all_the_same() {
    let dovecot = dovecot::shared();
    let (joe, ann) = (dovecot.user("told-joe"), dovecot.user("told-ann"));
    let senders = [("told-joe@example.net", joe), ("told-ann@example.net", ann)];
    let postfix = postfix::told_of_logins(&senders);
    let backend = Backend { imap: Some(dovecot.imap()), pop3: None, smtp: Some(postfix.smtp()) };
    let gateway = Gatepost::start_towards_with(backend, "client_address: xclient", "auth: { submission: imap }\n");
    let send_as = |sender: &str| -> Ended {
        let mut curl = curl(&gateway);
        curl.args(["--user", "told-joe:secret", "smtps://mail.example.net/", "--upload-file", "-"]);
        curl.args(["--mail-from", sender, "--mail-rcpt", "somebody@elsewhere.example"]);
        run(curl, b"Subject: told\r\n\r\nthere\r\n")
    };
    let own = send_as("told-joe@example.net");
    assert!(own.ok, "{}\n{}\n{}", own.said, gateway.log(), postfix.log());
    let log = postfix.log();
    assert!(log.contains("sasl_method=XCLIENT, sasl_username=told-joe"), "{log}");
    let anothers = send_as("told-ann@example.net");
    assert!(
        !anothers.ok && postfix.log().contains("not owned by user told-joe"),
        "{}\n{}",
        anothers.said,
        postfix.log()
    );
}
