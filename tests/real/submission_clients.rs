//! Programs that send mail through the gateway, before a Postfix that knows AUTH.

use crate::clients::{client, curl, output_of, python, run};
use crate::gatepost::{self, Backend, Gatepost};
use crate::kept::{until, write};
use crate::servers::{ODD, dovecot, exim, postfix};

/// What is legal in a message and tempting to change.
const MESSAGE: &str = "Subject:  two  spaces\r\nX-Folded: a\r\n\tb\r\n  c\r\nFrom: \"A\" <a@example.net>\r\nDate: Thu, 1 Jan 2026 00:00:00 +0000\r\n\
                       Message-Id: <1@example.net>\r\nContent-Transfer-Encoding: 8bit\r\n\r\n.\r\n..\r\n.a\r\n\u{e4}\u{f6}\u{fc} \u{20ac}\r\ntrailing \t \r\n\r\n\r\nFrom here\r\n";

/// Both ways to TLS, as curl wants them said.
const SCHEMES: [(&str, &[&str]); 2] =
    [("smtps://mail.example.net:465", &[]), ("smtp://mail.example.net:587", &["--ssl-reqd"])];

#[test]
fn a_message_sent_by_curl_arrives_unchanged() {
    let gateway = gatepost::usual();
    let folder = tempfile::tempdir().expect("a directory");
    write(&folder.path().join("letter"), MESSAGE);
    for (user, (url, options)) in ["smtp-curl-1", "smtp-curl-2"].iter().zip(SCHEMES) {
        dovecot::shared().user(user);
        let mut curl = curl(gateway);
        curl.args(options).args([
            "--user",
            &format!("{user}:secret"),
            url,
            "--mail-from",
            &format!("{user}@example.net"),
        ]);
        curl.args(["--mail-rcpt", &format!("{user}@example.net"), "--upload-file"]).arg(folder.path().join("letter"));
        output_of(curl, b"");
        let arrived = dovecot::shared().arrived(user);
        assert!(arrived.ends_with(MESSAGE.as_bytes()), "{}", arrived.escape_ascii());
        let event = gateway
            .event_where("message.accepted", |event| event["event"] == "message.accepted" && event["user"] == *user);
        assert_eq!(event["recipients"], 1, "{event}");
    }
}

#[test]
fn swaks_logs_in_by_each_mechanism() {
    let gateway = gatepost::usual();
    for mechanism in ["PLAIN", "LOGIN", "CRAM-MD5"] {
        for (port, tls) in [("465", "--tls-on-connect"), ("587", "--tls")] {
            let user = format!("smtp-swaks-{}-{port}", mechanism.to_lowercase());
            let address = format!("{}@example.net", dovecot::shared().user(&user));
            let mut swaks = client("swaks");
            swaks.args([
                "--server",
                &gateway.address.to_string(),
                "--port",
                port,
                tls,
                "--tls-verify",
                "--tls-ca-path",
            ]);
            swaks.arg(gateway.authority()).args([
                "--auth",
                mechanism,
                "--auth-user",
                &user,
                "--auth-password",
                "secret",
            ]);
            swaks.args(["--from", &address, "--to", &address, "--header", "Subject: from swaks"]);
            let ended = run(swaks, b"");
            assert!(ended.ok, "{}", ended.said);
            assert!(String::from_utf8_lossy(&dovecot::shared().arrived(&user)).contains("Subject: from swaks"));
            assert_eq!(gateway.event("auth.ok", &user)["mechanism"], mechanism);
        }
    }
}

#[test]
fn python_logs_in_whatever_stands_in_the_password() {
    python(
        gatepost::usual(),
        &format!(
            "import base64\n\
             for scheme in ('smtps', 'smtp+starttls'):\n\
             \x20   s = submission(scheme)\n\
             \x20   login = '\\0'.join(['', {odd:?}, {password:?}]).encode()\n\
             \x20   code, words = s.docmd('AUTH', 'PLAIN ' + base64.b64encode(login).decode())\n\
             \x20   assert code == 235, words\n\
             \x20   s.quit()\n",
            odd = ODD.0,
            password = ODD.1,
        ),
    );
}

#[test]
fn no_login_is_offered_or_taken_before_tls() {
    python(
        gatepost::usual(),
        "s = submission('smtp')\n\
         assert s.has_extn('starttls') and not s.has_extn('auth'), s.esmtp_features\n\
         for command in ('AUTH PLAIN AGpvZQBzZWNyZXQ=', 'AUTH LOGIN', 'MAIL FROM:<joe@example.net>'):\n\
         \x20   code, words = s.docmd(command)\n\
         \x20   assert (code, words[:5]) == (530, b'5.7.0'), (command, code, words)\n\
         s.starttls(context=trusting()); s.ehlo()\n\
         assert s.has_extn('auth') and not s.has_extn('starttls'), s.esmtp_features\n\
         s.login('joe', 'secret')\n",
    );
}

#[test]
fn a_session_carries_many_pipelined_messages() {
    let user = dovecot::shared().user("smtp-pipelined");
    python(
        gatepost::usual(),
        &format!(
            "import base64\n\
             r = Raw(465)\n\
             assert any(line.rstrip().endswith(b'PIPELINING') for line in r.ask(b'EHLO client.example.org', b'250 '))\n\
             r.ask(b'AUTH PLAIN ' + base64.b64encode(b'\\0{user}\\0secret'), b'235')\n\
             envelope = b'MAIL FROM:<{user}@example.net>\\r\\nRCPT TO:<{user}@example.net>\\r\\nDATA\\r\\n'\n\
             r.send(envelope)\n\
             for i in range(40):\n\
             \x20   assert [r.line()[:3] for _ in range(3)] == [b'250', b'250', b'354']\n\
             \x20   r.send(b'Subject: %d\\r\\n\\r\\nbody %d\\r\\n.\\r\\n' % (i, i) + (envelope if i < 39 else b'QUIT\\r\\n'))\n\
             \x20   assert r.line()[:3] == b'250'\n\
             assert r.line()[:3] == b'221' and r.ended()\n"
        ),
    );
    until("40 messages", || (dovecot::shared().messages(user).len() == 40).then_some(()));
    let mut subjects: Vec<String> = dovecot::shared()
        .messages(user)
        .iter()
        .filter_map(|message| {
            String::from_utf8_lossy(message).lines().find_map(|line| line.strip_prefix("Subject: ").map(str::to_owned))
        })
        .collect();
    subjects.sort_by_key(|subject| subject.parse::<u32>().ok());
    assert_eq!(subjects, (0..40).map(|i: u32| i.to_string()).collect::<Vec<_>>());
    let closed = gatepost::usual()
        .event_where("the session's end", |event| event["event"] == "session.closed" && event["user"] == user);
    assert_eq!(closed["messages"], 40, "{closed}");
}

/// What is shown must work, whether BDAT (RFC 3030) is shown or not.
#[test]
fn a_message_in_chunks_arrives_where_chunking_is_shown_and_is_refused_where_not() {
    let user = dovecot::shared().user("smtp-chunks");
    python(
        gatepost::usual(),
        &format!(
            "import base64\n\
             message = b'Subject: chunks\\r\\n\\r\\n.\\r\\n..\\r\\nno dots added\\r\\n'\n\
             r = Raw(465)\n\
             shown = any(b'CHUNKING' in line for line in r.ask(b'EHLO client.example.org', b'250 '))\n\
             r.ask(b'AUTH PLAIN ' + base64.b64encode(b'\\0{user}\\0secret'), b'235')\n\
             r.ask(b'MAIL FROM:<{user}@example.net>', b'250'); r.ask(b'RCPT TO:<{user}@example.net>', b'250')\n\
             if shown:\n\
             \x20   r.send(b'BDAT 20\\r\\n' + message[:20]); assert r.line()[:3] == b'250'\n\
             \x20   r.send(b'BDAT %d LAST\\r\\n' % len(message[20:]) + message[20:]); assert r.line()[:3] == b'250'\n\
             else:\n\
             \x20   r.send(b'BDAT 6 LAST\\r\\nNOOP\\r\\n'); assert r.line()[:1] == b'5'; r.line()\n\
             \x20   r.ask(b'DATA', b'354'); r.send(message.replace(b'\\n.', b'\\n..') + b'.\\r\\n'); assert r.line()[:3] == b'250'\n\
             r.ask(b'QUIT', b'221')\n"
        ),
    );
    let arrived = dovecot::shared().arrived(user);
    assert!(arrived.ends_with(b"Subject: chunks\r\n\r\n.\r\n..\r\nno dots added\r\n"), "{}", arrived.escape_ascii());
}

#[test]
fn delivery_notifications_are_asked_for_as_the_client_asked() {
    let user = dovecot::shared().user("smtp-dsn");
    python(
        gatepost::usual(),
        &format!(
            "s = submission(); s.login('{user}', 'secret')\n\
             assert s.has_extn('dsn'), s.esmtp_features\n\
             s.sendmail('{user}@example.net', ['joe@example.net'], 'Subject: x\\r\\n\\r\\ny\\r\\n',\n\
             \x20   mail_options=['RET=HDRS', 'ENVID=envelope-77'], rcpt_options=['NOTIFY=SUCCESS', 'ORCPT=rfc822;joe+2Bx@example.net'])\n\
             s.quit()\n"
        ),
    );
    let report = String::from_utf8_lossy(&dovecot::shared().arrived(user)).into_owned();
    assert!(report.contains("Original-Envelope-Id: envelope-77"), "{report}");
    assert!(report.contains("Original-Recipient: rfc822;joe+x@example.net"), "{report}");
}

#[test]
fn a_wrong_sender_recipient_or_size_is_refused_and_the_session_goes_on() {
    let user = dovecot::shared().user("smtp-refusals");
    python(
        gatepost::usual(),
        &format!(
            "s = submission(); s.login('{user}', 'secret')\n\
             code, words = s.docmd('MAIL FROM:<{user}@example.net> SIZE=90000000')\n\
             assert (code, words[:5]) == (552, b'5.3.4'), (code, words)\n\
             assert s.docmd('MAIL FROM:<>')[0] == 250\n\
             assert s.docmd('RCPT TO:<not an address>')[0] // 100 == 5\n\
             assert s.docmd('DATA')[0] // 100 == 5\n\
             s.rset()\n\
             s.sendmail('{user}@example.net', ['{user}@example.net'], 'Subject: after all\\r\\n\\r\\n'); s.quit()\n"
        ),
    );
    assert!(String::from_utf8_lossy(&dovecot::shared().arrived(user)).contains("Subject: after all"));
}

#[test]
fn exim_behind_it_takes_mail_from_who_logs_in() {
    let exim = exim::shared();
    let gateway = Gatepost::start(Backend { smtp: Some(exim.smtp()), ..Backend::default() }, "");
    let user = dovecot::shared().user("smtp-exim");
    python(
        &gateway,
        &format!(
            "for scheme in ('smtps', 'smtp+starttls'):\n\
             \x20   s = submission(scheme)\n\
             \x20   assert not s.has_extn('pipeconnect'), s.esmtp_features\n\
             \x20   s.login('{user}', 'secret')\n\
             \x20   s.sendmail('{user}@example.net', ['{user}@example.net'], 'Subject: hello\\r\\n\\r\\nthere\\r\\n'); s.quit()\n\
             for mechanism in ('PLAIN', 'LOGIN', 'CRAM-MD5'):\n\
             \x20   for password in ('secret', 'wrong'):\n\
             \x20       s = submission(); s.user, s.password = '{user}', password\n\
             \x20       call = getattr(s, 'auth_' + mechanism.lower().replace('-', '_'))\n\
             \x20       log_in = lambda: s.auth(mechanism, call, initial_response_ok=mechanism == 'PLAIN')\n\
             \x20       if password == 'secret': assert log_in()[0] == 235\n\
             \x20       else: assert refused(log_in).startswith('535 5.7.8')\n"
        ),
    );
    let arrived = dovecot::shared().arrived(user);
    assert!(arrived.ends_with(b"\r\n\r\nthere\r\n"), "{}\n{}", arrived.escape_ascii(), exim.log());
}

/// A site's own MTA hands all its mail to its provider's submission port.
#[test]
fn a_postfix_with_the_gateway_as_smarthost_delivers() {
    let gateway = gatepost::usual();
    let user = dovecot::shared().user("smtp-smarthost");
    let site = postfix::smarthost_client(gateway.address, &gateway.authority(), &format!("{user}:secret"));
    crate::clients::python_alone(&format!(
        "import smtplib\n\
         for i in range(5):\n\
         \x20   s = smtplib.SMTP('{at}', 25, 'client.example')\n\
         \x20   s.sendmail('{user}@example.net', ['{user}@example.net'], f'Subject: {{i}}\\r\\n\\r\\nfrom the site\\r\\n'); s.quit()\n",
        at = site.address,
    ));
    let waited = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        until("5 messages", || (dovecot::shared().messages(user).len() == 5).then_some(()));
    }));
    assert!(waited.is_ok(), "{}", site.log());
}
