//! What lies in the mailbox when the demo begins.

use super::store::{Flags, FolderFault, INBOX, Message, OUTBOX, Store};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use time::format_description::well_known::Rfc2822;
use time::{Duration, OffsetDateTime};

/// Puts the first messages into the store.
pub(super) fn put_into(store: &Store) {
    let now = OffsetDateTime::now_utc();
    let put = |folder: &str, age: Duration, flags: &[&str], head: &str, body: &str| {
        let arrived = now - age;
        let date = arrived.format(&Rfc2822).unwrap_or_default();
        let id = super::login::timestamp();
        let text = format!("Date: {date}\nMessage-ID: {id}\n{head}\n{body}").replace('\n', "\r\n");
        let space = store.space(text.len()).expect("an empty store has room for these");
        store
            .change(|folders| {
                if let Err(fault @ (FolderFault::BadName | FolderFault::Full)) = folders.create(folder) {
                    return Err(fault);
                }
                folders.append(folder, Message::new(Bytes::from(text), space), Flags::of(flags), arrived)
            })
            .expect("an empty store has room for these");
    };
    put(INBOX, Duration::days(9), &["\\Seen"], FORWARDED.0, FORWARDED.1);
    put(INBOX, Duration::days(2), &["\\Seen", "\\Flagged"], PLAINTEXT.0, PLAINTEXT.1);
    put(INBOX, Duration::hours(3), &[], PICTURES.0, &PICTURES.1.replace("{csv}", &BASE64.encode(TABLE)));
    put(INBOX, Duration::ZERO, &[], WELCOME.0, WELCOME.1);
    put("Drafts", Duration::days(1), &["\\Seen", "\\Draft"], DRAFT.0, DRAFT.1);
    put(OUTBOX, Duration::days(1), &["\\Seen"], NOTE.0, NOTE.1);
}

const WELCOME: (&str, &str) = (
    "From: gatepost <gatepost@example.net>
To: joe@example.net
Subject: Welcome: this letter came to you through TLS
MIME-Version: 1.0
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: 8bit
",
    "Hello,

what you are reading lies on a mail server that has never heard of TLS. It speaks plain IMAP, POP3 and SMTP, on
ports of 127.0.0.1, as the servers of an ISP did for decades.

    your mail program  ──TLS──▶  gatepost  ──plaintext──▶  the old server

gatepost did the TLS, took your name and password out of the login, asked itself whether you may come in, and only
then called the old server. The login stands in the terminal as one AUTH event: who, from where, with which
mechanism, which version of TLS, and how it ended.

Things to try, with the terminal in view:

  * Give a wrong password, and see it counted, and the answer take its time.
  * Log in on the plain IMAP port without STARTTLS: you are refused before you could send a password.
  * Write to joe@example.net. It arrives here at once, also in a program that is waiting with IDLE.
  * Write to anyone else. Nothing leaves this machine: it lies in the folder “Outbox (would have left)”.
  * Send without a login. The old server would relay for everybody; gatepost does not let strangers reach it.

All this is gone when the demo ends.
",
);

const PICTURES: (&str, &str) = (
    "From: =?utf-8?Q?Gr=C3=BC=C3=9Fe?= <postmaster@example.net>
To: Joe <joe@example.net>
Cc: help@example.net
Subject: =?utf-8?B?R3LDvMOfZSwg4pyJIHVuZCBlaW4gQW5oYW5n?= (an attachment)
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary=\"outer\"
",
    "This text stands before the first part; no program shows it.
--outer
Content-Type: multipart/alternative; boundary=\"inner\"

--inner
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: quoted-printable

Gr=C3=BC=C3=9Fe. The same text is here twice, plain and as HTML, and a =
table is attached.

--inner
Content-Type: text/html; charset=utf-8
Content-Transfer-Encoding: quoted-printable

<p>Gr=C3=BC=C3=9Fe. The same text is here twice, plain and as <b>HTML</b>, =
and a table is attached.</p>

--inner--

--outer
Content-Type: text/csv; charset=utf-8; name=\"ports.csv\"
Content-Disposition: attachment; filename=\"ports.csv\"
Content-Transfer-Encoding: base64

{csv}
--outer--
",
);

const TABLE: &str = "service,plain,tls\r\nimap,143,993\r\npop3,110,995\r\nsubmission,587,465\r\n";

const PLAINTEXT: (&str, &str) = (
    "From: Postmaster <postmaster@example.net>
To: joe@example.net
Subject: The plain ports will close
MIME-Version: 1.0
Content-Type: text/plain; charset=us-ascii
",
    "Dear customer,

one of your devices still logs in without TLS. `gatepost report` shows us which: perhaps the scanner.

Postmaster
",
);

const FORWARDED: (&str, &str) = (
    "From: help@example.net
To: joe@example.net
Subject: Fwd: Which server do I enter?
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary=\"forward\"
",
    "--forward
Content-Type: text/plain; charset=us-ascii

The whole letter is attached.

--forward
Content-Type: message/rfc822
Content-Disposition: attachment

From: postmaster@example.net
To: help@example.net
Subject: Which server do I enter?
Date: Mon, 2 Nov 2026 08:00:00 +0000
Message-ID: <which-server@example.net>

The same one as ever. Only the port is another.

--forward--
",
);

const DRAFT: (&str, &str) = (
    "From: joe@example.net
To: postmaster@example.net
Subject: Re: The plain ports will close
MIME-Version: 1.0
Content-Type: text/plain; charset=us-ascii
",
    "It is the scanner.
",
);

const NOTE: (&str, &str) = (
    "From: gatepost <gatepost@example.net>
To: joe@example.net
Subject: What lies in this folder
MIME-Version: 1.0
Content-Type: text/plain; charset=us-ascii
",
    "Mail to any domain but example.net ends here. A real server would have sent it out.
",
);
