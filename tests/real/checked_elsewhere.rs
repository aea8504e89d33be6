//! A Postfix that knows no AUTH and trusts its network: customers may send all the same, and nobody else.

use crate::clients::python;
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
