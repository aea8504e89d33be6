//! The gateway before an MTA that trusts it: nothing may be relayed for a stranger, whatever he tries.

use crate::clients::python;
use crate::gatepost::{Backend, Gatepost};
use crate::servers::postfix;
use std::sync::OnceLock;

/// In front of a Postfix without AUTH that relays for all of 127.0.0.0/8, the gateway included.
fn before_a_trusting_server() -> &'static Gatepost {
    static SHARED: OnceLock<Gatepost> = OnceLock::new();
    SHARED.get_or_init(|| {
        let backend = Backend { smtp: Some(postfix::trusting().smtp()), ..Backend::usual() };
        Gatepost::start(backend, "")
    })
}

/// What a stranger says in one session after EHLO, written at once or command by command.
const ATTEMPTS: &[&[&str]] = &[
    &["MAIL FROM:<a@spam.example>", "RCPT TO:<b@elsewhere.example>", "DATA", "Subject: x\\r\\n\\r\\nspam\\r\\n."],
    &["mail from:<a@spam.example>", "rcpt to:<b@elsewhere.example>", "data", "spam\\r\\n."],
    &["MAIL FROM:<>", "RCPT TO:<b@elsewhere.example>", "DATA", "spam\\r\\n."],
    &["  MAIL FROM:<a@spam.example>", "\\tRCPT TO:<b@elsewhere.example>", "DATA", "spam\\r\\n."],
    &["NOOP\\nMAIL FROM:<a@spam.example>\\nRCPT TO:<b@elsewhere.example>\\nDATA\\nspam\\n."],
    &["NOOP\\rMAIL FROM:<a@spam.example>\\rRCPT TO:<b@elsewhere.example>"],
    &["MAIL FROM:<a@spam.example> AUTH=joe@example.net", "RCPT TO:<b@elsewhere.example>", "DATA", "spam\\r\\n."],
    &["MAIL FROM:<a@spam.example>", "RCPT TO:<b@elsewhere.example>", "BDAT 4 LAST\\r\\nspam"],
    &["RSET", "MAIL FROM:<a@spam.example>", "RCPT TO:<b@elsewhere.example>", "DATA", "spam\\r\\n."],
    &["AUTH PLAIN", "*", "MAIL FROM:<a@spam.example>", "RCPT TO:<b@elsewhere.example>", "DATA", "spam\\r\\n."],
    &["AUTH LOGIN", "MAIL FROM:<a@spam.example>", "RCPT TO:<b@elsewhere.example>", "DATA", "spam\\r\\n."],
    &[
        "AUTH PLAIN AGpvZQB3cm9uZw==",
        "MAIL FROM:<a@spam.example>",
        "RCPT TO:<b@elsewhere.example>",
        "DATA",
        "spam\\r\\n.",
    ],
    &["AUTH ANONYMOUS dHJhY2U=", "MAIL FROM:<a@spam.example>", "RCPT TO:<b@elsewhere.example>", "DATA", "spam\\r\\n."],
    &["AUTH EXTERNAL am9l", "MAIL FROM:<a@spam.example>", "RCPT TO:<b@elsewhere.example>", "DATA", "spam\\r\\n."],
    &[
        "XCLIENT LOGIN=joe",
        "EHLO again",
        "MAIL FROM:<a@spam.example>",
        "RCPT TO:<b@elsewhere.example>",
        "DATA",
        "spam\\r\\n.",
    ],
    &["HELO again", "MAIL FROM:<a@spam.example>", "RCPT TO:<b@elsewhere.example>", "DATA", "spam\\r\\n."],
    &["PROXY TCP4 127.0.0.1 127.0.0.1 1 25", "MAIL FROM:<a@spam.example>", "RCPT TO:<b@elsewhere.example>"],
    &[
        "VRFY spam@elsewhere.example",
        "EXPN spam@elsewhere.example",
        "ETRN spam.example",
        "TURN",
        "SEND FROM:<a@spam.example>",
        "SAML FROM:<a@spam.example>",
    ],
];

#[test]
fn a_stranger_gets_nothing_relayed_whatever_he_tries() {
    let gateway = before_a_trusting_server();
    let attempts: Vec<String> = ATTEMPTS
        .iter()
        .map(|lines| {
            format!("[{}]", lines.iter().map(|line| format!("b\"{line}\\r\\n\"")).collect::<Vec<_>>().join(", "))
        })
        .collect();
    python(
        gateway,
        &format!(
            r#"
for attempt in [{}]:
    for at_once in (True, False):
        r = Raw(465)
        r.ask(b'EHLO stranger.example.org', b'250 ')
        answers = []
        try:
            if at_once:
                r.send(b''.join(attempt) + b'QUIT\r\n')
                answers = r.file.read().splitlines()
            else:
                for line in attempt:
                    r.send(line)
                    answers.append(r.line())
        except (OSError, AssertionError):
            pass  # being hung up on is an answer too
        # 354 asks for a message; 2.1.0 and 2.1.5 take a sender and a recipient.
        taken = [a for a in answers if a.startswith((b'354', b'250 2.1.0', b'250 2.1.5'))]
        assert not taken, (attempt, answers)
"#,
            attempts.join(", ")
        ),
    );
    let log = postfix::trusting().log();
    assert!(!log.contains("elsewhere.example") && !log.contains("spam.example"), "{log}");
}

#[test]
fn nothing_is_relayed_before_starttls_either() {
    python(
        before_a_trusting_server(),
        "s = submission('smtp')\n\
         for command in ('MAIL FROM:<a@plain.example>', 'RCPT TO:<b@elsewhere.example>', 'DATA'):\n\
         \x20   code, words = s.docmd(command)\n\
         \x20   assert code in (503, 530), (command, code, words)\n",
    );
    assert!(!postfix::trusting().log().contains("plain.example"));
}
