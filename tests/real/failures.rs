//! What people see when a password is wrong, and when it is the server behind that fails.

use crate::clients::{python, run};
use crate::gatepost::{self, Backend, Gatepost};
use crate::kept::{own_address, write};
use crate::servers::DISCREET;
use crate::servers::dovecot::{self, Dovecot};
use crate::servers::postfix;
use std::os::unix::fs::PermissionsExt;

#[test]
fn a_wrong_password_is_told_as_one_in_every_protocol_and_counted_as_one() {
    let gateway = gatepost::usual();
    let logins = [
        ("wrong-imap-login", "imap().login({user!r}, 'wrong')", "[AUTHENTICATIONFAILED]"),
        (
            "wrong-imap-plain",
            "imap().authenticate('PLAIN', lambda _: f'\\0{user}\\0wrong'.encode())",
            "[AUTHENTICATIONFAILED]",
        ),
        ("wrong-imap-cram", "imap().login_cram_md5(user, 'wrong')", "[AUTHENTICATIONFAILED]"),
        ("wrong-pop3-pass", "(lambda p: (p.user(user), p.pass_('wrong')))(pop3())", "-ERR [AUTH]"),
        ("wrong-pop3-apop", "pop3().apop(user, 'wrong')", "-ERR [AUTH]"),
        ("wrong-smtp", "submission().login(user, 'wrong')", "535 5.7.8"),
    ];
    for (user, login, words) in logins {
        dovecot::shared().user(user);
        let login = login.replace("{user!r}", "user");
        let said = python(gateway, &format!("user = {user:?}\nprint(refused(lambda: {login}))\n"));
        assert!(said.contains(words), "{user}: {said}");
        let event = gateway.event("auth.failed", user);
        assert_eq!(event["reason"], "bad_credentials", "{event}");
        assert!(event["client_ip"].is_string() && event["mechanism"].is_string(), "{event}");
    }
}

#[test]
fn an_unknown_user_hears_what_a_known_one_hears() {
    python(
        gatepost::usual(),
        "imaps = [refused(lambda: imap().login(user, 'wrong')) for user in ('joe', 'stranger')]\n\
         assert imaps[0] == imaps[1], imaps\n\
         def by_pop3(user):\n\
         \x20   p = pop3(); p.user(user); p.pass_('wrong')\n\
         pops = [refused(lambda: by_pop3(user)) for user in ('joe', 'stranger')]\n\
         assert pops[0] == pops[1], pops\n",
    );
}

#[test]
fn after_a_wrong_password_the_right_one_is_taken_in_the_same_session() {
    let user = dovecot::shared().user("second-try");
    python(
        gatepost::usual(),
        &format!(
            "m = imap(); refused(lambda: m.login('{user}', 'wrong')); m.login('{user}', 'secret'); m.select(); m.logout()\n\
             p = pop3(); p.user('{user}'); refused(lambda: p.pass_('wrong')); p.user('{user}'); p.pass_('secret'); p.quit()\n\
             s = submission(); s.user, s.password = '{user}', 'wrong'\n\
             refused(lambda: s.auth('PLAIN', s.auth_plain)); s.login('{user}', 'secret'); s.quit()\n"
        ),
    );
}

#[test]
fn no_password_is_ever_written_to_the_log() {
    let gateway = gatepost::usual();
    let (user, password) = DISCREET;
    python(
        gateway,
        &format!(
            "m = imap(); m.login('{user}', '{password}'); m.logout()\n\
             m = imap(); m.authenticate('PLAIN', lambda _: b'\\0{user}\\0{password}'); m.logout()\n\
             refused(lambda: imap().login('{user}', '{password}8'))\n\
             p = pop3(); p.user('{user}'); p.pass_('{password}'); p.quit()\n\
             s = submission(); s.login('{user}', '{password}'); s.quit()\n"
        ),
    );
    gateway
        .event_where("the login over submission", |event| event["user"] == user && event["protocol"] == "submission");
    let log = gateway.log();
    // The encoded forms are those of "Rosebud" at each of the three positions in a base64 group.
    for trace in ["Rosebud", "Um9zZWJ1", "c2VidW", "b3NlYnVk"] {
        assert!(!log.contains(trace), "{trace}");
    }
}

#[test]
fn a_server_that_is_down_is_no_wrong_password_and_is_used_again_when_it_is_up() {
    let mut behind = Dovecot::start("");
    let mut mta = postfix::with_auth();
    let backend = Backend { imap: Some(behind.imap()), pop3: Some(behind.pop3()), smtp: Some(mta.smtp()) };
    let gateway = Gatepost::start(backend, "");
    let log_in_everywhere = "m = imap(); m.login('joe', 'secret'); m.select(); m.logout()\n\
                             p = pop3(); p.user('joe'); p.pass_('secret'); p.stat(); p.quit()\n\
                             s = submission(); s.login('joe', 'secret'); s.quit()\n";
    python(&gateway, log_in_everywhere);

    behind.stop();
    mta.stop();
    python(
        &gateway,
        "began = time.monotonic()\n\
         words = refused(lambda: imap().login('joe', 'secret'))\n\
         assert '[UNAVAILABLE]' in words, words\n\
         words = refused(lambda: log_in_by_pop3('joe'))\n\
         assert words.startswith(\"b'-ERR [SYS/TEMP]\"), words\n\
         words = refused(lambda: submission().login('joe', 'secret'))\n\
         assert words.startswith('454 4.7.0'), words\n\
         assert time.monotonic() - began < 18\n",
    );
    assert_eq!(gateway.event("auth.error", "joe")["reason"], "backend_down");
    assert!(!gateway.events().iter().any(|event| event["event"] == "auth.failed"));

    behind.start_again();
    mta.start_again();
    python(&gateway, log_in_everywhere);
}

/// A server that cannot ask its users' database says so, and that is no verdict on a password either.
#[test]
fn a_server_that_cannot_check_passwords_is_no_wrong_password() {
    let folder = tempfile::tempdir().expect("a directory");
    let out_of_order = folder.path().join("check");
    // 111 is checkpassword's word for a trouble of its own.
    write(&out_of_order, "#!/bin/sh\nexit 111\n");
    for path in [folder.path(), &out_of_order] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("ours");
    }
    let behind =
        Dovecot::start(&format!("passdb {{\n  driver = checkpassword\n  args = {}\n}}\n", out_of_order.display()));
    let gateway = Gatepost::start(Backend { imap: Some(behind.imap()), pop3: Some(behind.pop3()), smtp: None }, "");
    python(
        &gateway,
        "imap().login('joe', 'secret')\n\
         words = refused(lambda: imap().login('elsewhere', 'secret'))\n\
         assert '[UNAVAILABLE]' in words, words\n\
         words = refused(lambda: log_in_by_pop3('elsewhere'))\n\
         assert words.startswith(\"b'-ERR [SYS/TEMP]\"), words\n",
    );
    assert_eq!(gateway.event("auth.error", "elsewhere")["reason"], "backend_temporary");
    assert!(!gateway.events().iter().any(|event| event["event"] == "auth.failed"));
}

#[test]
fn a_session_whose_server_goes_away_is_ended_properly() {
    let mut behind = Dovecot::start("");
    let gateway = Gatepost::start(Backend { imap: Some(behind.imap()), pop3: Some(behind.pop3()), smtp: None }, "");
    let folder = tempfile::tempdir().expect("a directory");
    let open = folder.path().join("open");
    let script = format!(
        "i = Raw(993); i.ask(b'a LOGIN joe secret', b'a OK')\n\
         p = Raw(995); p.ask(b'USER joe', b'+OK'); p.ask(b'PASS secret', b'+OK')\n\
         open({open:?}, 'w')\n\
         assert b'* BYE' in i.file.read()\n\
         p.file.read()\n"
    );
    std::thread::scope(|scope| {
        let session = scope.spawn(|| python(&gateway, &script));
        crate::kept::until("the sessions to be open", || open.exists().then_some(()));
        behind.stop();
        assert!(session.join().is_ok());
    });
}

#[test]
fn a_server_that_never_was_there_costs_no_one_a_greeting() {
    let nowhere = own_address();
    let backend = Backend {
        imap: Some((nowhere, 143).into()),
        pop3: Some((nowhere, 110).into()),
        smtp: Some((nowhere, 25).into()),
    };
    let gateway = Gatepost::start(backend, "auth: { mechanisms: [PLAIN, LOGIN, USER] }\n");
    python(
        &gateway,
        "words = refused(lambda: imap().login('joe', 'secret'))\n\
         assert '[UNAVAILABLE]' in words, words\n\
         words = refused(lambda: log_in_by_pop3('joe'))\n\
         assert words.startswith(\"b'-ERR [SYS/TEMP]\"), words\n",
    );
}

/// Another protocol's server at the address, as after a slip in the configuration.
#[test]
fn the_words_of_a_wrong_server_never_reach_a_client() {
    let gateway = Gatepost::start(Backend { imap: Some(postfix::shared().smtp()), ..Backend::default() }, "");
    let said = python(&gateway, "print(refused(lambda: imap().login('joe', 'secret')))\n");
    assert!(said.contains("[UNAVAILABLE]") && !said.contains("Postfix"), "{said}");
    assert_eq!(gateway.event("auth.error", "joe")["reason"], "backend_protocol");
}

#[test]
fn curl_takes_an_outage_for_an_outage() {
    let gateway = Gatepost::start(Backend { imap: Some((own_address(), 143).into()), ..Backend::default() }, "");
    let mut curl = crate::clients::curl(&gateway);
    curl.args(["--user", "joe:secret", "imaps://mail.example.net/"]);
    let ended = run(curl, b"");
    // 67 is what curl says of a refused login; only the words tell a person which of the two it was.
    assert!(!ended.ok, "{:?} {}", ended.code, ended.said);
    assert_eq!(gateway.event("auth.error", "joe")["reason"], "backend_down");
}
