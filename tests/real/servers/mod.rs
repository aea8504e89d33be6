//! The old servers, one private instance each, and what a test needs to know of them.

pub mod courier;
pub mod dovecot;
pub mod exim;
pub mod known;
pub mod old_root;
pub mod postfix;
pub mod small_pop3;

pub use known::{DISCREET, JOE, MARY, ODD, first_line, greeted};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Says `lines` one after the other, each after an answer line, and returns all answers: for one-line dialogues in the clear.
pub fn dialogue(address: SocketAddr, lines: &[&str]) -> Vec<String> {
    let stream = TcpStream::connect(address).expect("the server listens");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket option");
    let mut reader = BufReader::new(&stream);
    let mut answers = vec![String::new()];
    reader.read_line(&mut answers[0]).expect("a greeting");
    for line in lines {
        (&stream).write_all(format!("{line}\r\n").as_bytes()).expect("the server reads");
        let mut answer = String::new();
        reader.read_line(&mut answer).expect("an answer");
        answers.push(answer);
    }
    answers
}

mod each_server_answers_without_a_gateway {
    use super::{JOE, ODD, courier, dialogue, dovecot, exim, postfix, small_pop3};
    use crate::clients::python_alone;

    #[test]
    fn dovecot_logs_in_by_every_mechanism() {
        let dovecot = dovecot::shared();
        let script = format!(
            "import imaplib, poplib\n\
             m = imaplib.IMAP4('{at}'); m.login('joe', 'secret'); m.select(); m.logout()\n\
             m = imaplib.IMAP4('{at}'); m.login_cram_md5('joe', 'secret'); m.logout()\n\
             m = imaplib.IMAP4('{at}'); m.login('mary@example.net', 'secret'); m.logout()\n\
             m = imaplib.IMAP4('{at}')\n\
             m.authenticate('PLAIN', lambda _: b'\\0odd\\0' + {odd:?}.encode()); m.logout()\n\
             p = poplib.POP3('{at}'); p.apop('joe', 'secret'); p.quit()\n\
             p = poplib.POP3('{at}'); p.user('joe'); p.pass_('secret'); p.quit()\n",
            at = dovecot.address,
            odd = ODD.1,
        );
        python_alone(&script);
    }

    #[test]
    fn postfix_delivers_to_dovecot_what_a_login_sends() {
        let (dovecot, postfix) = (dovecot::shared(), postfix::shared());
        let user = dovecot.user("postfix-direct");
        python_alone(&format!(
            "import smtplib\n\
             s = smtplib.SMTP('{at}', 25, 'client.example'); s.ehlo(); s.login('{user}', 'secret')\n\
             s.sendmail('{user}@example.net', ['{user}@example.net'], 'Subject: hello\\r\\n\\r\\nthere\\r\\n'); s.quit()\n",
            at = postfix.address,
        ));
        let arrived = dovecot.arrived(user);
        assert!(arrived.ends_with(b"Subject: hello\r\n\r\nthere\r\n"), "{}", arrived.escape_ascii());
    }

    #[test]
    fn postfix_with_auth_relays_for_nobody_else_and_the_trusting_one_for_all() {
        let stranger = ["EHLO x", "MAIL FROM:<a@stranger.example>", "RCPT TO:<b@foreign.example>"];
        let lines = ["HELO x", stranger[1], stranger[2], "QUIT"];
        assert!(dialogue(postfix::shared().smtp(), &lines)[3].starts_with("554"));
        assert!(dialogue(postfix::trusting().smtp(), &lines)[3].starts_with("250"));
    }

    #[test]
    fn exim_delivers_to_dovecot_what_a_login_sends() {
        let (dovecot, exim) = (dovecot::shared(), exim::shared());
        let user = dovecot.user("exim-direct");
        python_alone(&format!(
            "import smtplib\n\
             s = smtplib.SMTP('{at}', 25, 'client.example'); s.ehlo(); s.login('{user}', 'secret')\n\
             s.sendmail('{user}@example.net', ['{user}@example.net'], 'Subject: hello\\r\\n\\r\\nthere\\r\\n'); s.quit()\n",
            at = exim.address,
        ));
        let arrived = dovecot.arrived(user);
        assert!(arrived.ends_with(b"\r\n\r\nthere\r\n"), "{}\n{}", arrived.escape_ascii(), exim.log());
    }

    #[test]
    fn courier_logs_in_over_both_protocols() {
        let courier = courier::shared();
        python_alone(&format!(
            "import imaplib, poplib\n\
             m = imaplib.IMAP4('{at}'); m.login('{user}', '{password}'); m.select(); m.logout()\n\
             m = imaplib.IMAP4('{at}'); m.login_cram_md5('{user}', '{password}'); m.logout()\n\
             p = poplib.POP3('{at}'); p.user('{user}'); p.pass_('{password}'); p.quit()\n",
            at = courier.address,
            user = JOE.0,
            password = JOE.1,
        ));
    }

    #[test]
    fn popa3d_logs_in() {
        let said = dialogue(small_pop3::shared().pop3(), &["USER joe", "PASS secret", "QUIT"]);
        assert!(said.iter().all(|line| line.starts_with("+OK")), "{said:?}");
    }
}
