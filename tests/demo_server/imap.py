"""Drives the demo's IMAP server as mail programs do: imaplib, and a socket where imaplib has no word for it."""
import datetime, email, email.policy, imaplib, smtplib, socket, sys

IMAP, SMTP = int(sys.argv[1]), int(sys.argv[2])
USER, PASSWORD = "joe@example.net", "demo"


def ok(answer):
    kind, data = answer
    assert kind == "OK", answer
    return data


def connect():
    box = imaplib.IMAP4("127.0.0.1", IMAP, timeout=20)
    ok(box.login(USER, PASSWORD))
    return box


def parsed(box, number):
    raw = ok(box.fetch(number, "(BODY.PEEK[])"))[0][1]
    return email.message_from_bytes(raw, policy=email.policy.default)


# Logging in, and not.
box = imaplib.IMAP4("127.0.0.1", IMAP, timeout=20)
for word in ["IMAP4REV1", "LITERAL+", "IDLE", "UIDPLUS", "NAMESPACE", "ID", "AUTH=PLAIN"]:
    assert word in box.capabilities, word
try:
    box.login(USER, "wrong")
    raise SystemExit("a wrong password was taken")
except imaplib.IMAP4.error as error:
    assert "AUTHENTICATIONFAILED" in str(error), error
ok(box.authenticate("PLAIN", lambda _: b"\0joe@example.net\0demo"))
box.logout()
box = imaplib.IMAP4("127.0.0.1", IMAP, timeout=20)
ok(box.login_cram_md5("joe", PASSWORD))

# Folders.
names = b"\n".join(ok(box.list()))
for name in [b'"INBOX"', b'\\Sent) "/" "Sent"', b'"Drafts"', b'"Trash"', b'"Outbox (would have left)"']:
    assert name in names, (name, names)
ok(box.create("Work/Old"))
assert b"\\HasChildren" in ok(box.list('""', "Work"))[0]
ok(box.rename("Work", "Play"))
assert ok(box.list('""', "Play/%")) == [b'(\\HasNoChildren) "/" "Play/Old"']
ok(box.unsubscribe("Play/Old"))
assert ok(box.lsub('""', "Play*")) == [b'(\\HasChildren) "/" "Play"']
assert box.delete("Play")[0] == "NO"
ok(box.delete("Play/Old"))
assert box.select("Nowhere")[0] == "NO"
assert b"UNSEEN 2" in ok(box.status("INBOX", "(MESSAGES UNSEEN UIDNEXT UIDVALIDITY RECENT)"))[0]
assert ok(box.namespace()) == [b'(("" "/")) NIL NIL']

# Reading.
assert ok(box.select("INBOX")) == [b"4"]
welcome = parsed(box, "4")
assert "TLS" in welcome["Subject"] and "what you are reading" in welcome.get_content(), welcome
letter = parsed(box, "3")
assert letter["Subject"] == "Grüße, ✉ und ein Anhang (an attachment)", letter["Subject"]
assert letter["From"] == "Grüße <postmaster@example.net>"
assert "Grüße" in letter.get_body(("plain",)).get_content()
[table] = letter.iter_attachments()
assert table.get_filename() == "ports.csv" and "imap,143,993" in table.get_content()
assert b"\\Seen" not in ok(box.fetch("3", "(FLAGS)"))[0], "BODY.PEEK marks nothing as read"

shape = ok(box.fetch("3", "(BODYSTRUCTURE)"))[0].decode()
assert '"alternative"' in shape and '("attachment" ("filename" "ports.csv"))' in shape, shape
envelope = ok(box.fetch("3", "(ENVELOPE)"))[0].decode()
assert '"postmaster" "example.net"' in envelope and "=?utf-8?B?R3LDvMOfZSwg4pyJIHVuZCBlaW4gQW5oYW5n?=" in envelope
part = ok(box.fetch("3", "(BODY.PEEK[1.2.MIME] BODY.PEEK[1.2]<0.9>)"))
assert b"text/html" in part[0][1] and part[1][1] == b"<p>Gr=C3=", part
inner = ok(box.fetch("1", "(BODY.PEEK[2.HEADER.FIELDS (Subject)] BODY.PEEK[2.TEXT])"))
assert inner[0][1] == b"Subject: Which server do I enter?\r\n\r\n" and b"another" in inner[1][1], inner
whole = ok(box.fetch("2", "(RFC822 RFC822.SIZE INTERNALDATE UID)"))
size = int(whole[0][0].split(b"RFC822 {")[1].rstrip(b"}"))
assert f"RFC822.SIZE {size}".encode() in whole[1] and b"INTERNALDATE" in whole[1], whole
assert imaplib.Internaldate2tuple(whole[1]), whole
ok(box.fetch("4", "(BODY[TEXT])"))
assert b"\\Seen" in ok(box.fetch("4", "(FLAGS)"))[0], "BODY marks as read"

# Searching.
for criteria, found in [
    (("ALL",), b"1 2 3 4"),
    (("UNSEEN",), b"3"),
    (("FLAGGED",), b"2"),
    (("FROM", "postmaster"), b"2 3"),
    (("NOT", "SEEN", "OR", "SUBJECT", "nothing", "TEXT", "attachment"), b"3"),
    (("BODY", "imap,143"), b"3"),
    (("SINCE", (datetime.datetime.now() - datetime.timedelta(days=4)).strftime("%d-%b-%Y")), b"2 3 4"),
    (("LARGER", "100000"), b""),
]:
    assert ok(box.search(None, *criteria))[0] == found, (criteria, box.search(None, *criteria))
box.literal = "grüße".encode()
assert ok(box.search("UTF-8", "SUBJECT"))[0] == b"3"
assert box.search("KOI8-R", "ALL")[0] == "NO"

# Flags, copies, expunging.
ok(box.store("1", "+FLAGS", "(\\Flagged $Later)"))
assert ok(box.fetch("1", "(FLAGS)"))[0] == b"1 (FLAGS (\\Recent $Later \\Flagged \\Seen))"
ok(box.store("1", "-FLAGS.SILENT", "$Later"))
ok(box.copy("1:2", "Trash"))
assert box.response("COPYUID")[1][0].endswith(b" 1:2 1:2"), box.response("COPYUID")
assert b"MESSAGES 2" in ok(box.status("Trash", "(MESSAGES)"))[0]
assert box.copy("1", "Nowhere")[0] == "NO"
ok(box.uid("MOVE", "2", "Play"))
assert ok(box.search(None, "ALL"))[0] == b"1 2 3"
assert b"MESSAGES 1" in ok(box.status("Play", "(MESSAGES)"))[0]

# Appending.
draft = b"From: joe@example.net\r\nSubject: appended\r\n\r\nNothing odd.\r\n"
ok(box.append("Drafts", "(\\Draft \\Seen)", imaplib.Time2Internaldate(1_700_000_000), draft))
assert box.append("Nowhere", None, None, draft)[0] == "NO"
ok(box.select("Drafts"))
assert ok(box.fetch("2", "(BODY[] INTERNALDATE)"))[0][1] == draft
assert ok(box.search(None, "BEFORE", "1-Jan-2024"))[0] == b"2"
ok(box.store("1:*", "+FLAGS", "\\Deleted"))
ok(box.uid("EXPUNGE", "2"))
assert ok(box.search(None, "ALL"))[0] == b"1"
ok(box.expunge())
assert ok(box.search(None, "ALL"))[0] == b""
ok(box.close())
ok(box.select("INBOX", readonly=True))
assert box.store("1", "+FLAGS", "\\Deleted")[0] == "NO"
ok(box.unselect())

# IDLE: what arrives, what is flagged and what is expunged elsewhere is said at once.
idle = socket.create_connection(("127.0.0.1", IMAP), timeout=20)
lines = idle.makefile("rwb")


def until(prefix):
    seen = []
    while True:
        line = lines.readline()
        assert line, seen
        seen.append(line)
        if line.startswith(prefix):
            return seen


lines.write(b'a LOGIN {3+}\r\njoe "demo"\r\nb SELECT INBOX\r\nc IDLE\r\n')
lines.flush()
until(b"+ ")
with smtplib.SMTP("127.0.0.1", SMTP, timeout=20) as smtp:
    smtp.login(USER, PASSWORD)
    smtp.sendmail(USER, ["joe@example.net", "someone@example.com"], "Subject: pushed\r\n\r\n.dot\r\n..\r\n")
until(b"* 4 EXISTS")
ok(box.select("INBOX"))
assert parsed(box, "4").get_content().splitlines() == [".dot", ".."]
ok(box.store("4", "+FLAGS", "\\Answered"))
until(b"* 4 FETCH")
ok(box.store("4", "+FLAGS", "\\Deleted"))
ok(box.expunge())
until(b"* 4 EXPUNGE")
lines.write(b"DONE\r\nd NOOP\r\n")
lines.flush()
until(b"c OK")
until(b"d OK")
assert b"MESSAGES 2" in ok(box.status('"Outbox (would have left)"', "(MESSAGES)"))[0]

# What is wrong gets an answer, and the connection lives on.
for wrong, answer in [
    (b"e FETCH 1 (\r\n", b"e BAD"),
    (b"f FETCH 99 FLAGS\r\n", b"f BAD"),
    (b"g NONSENSE\r\n", b"g BAD"),
    (b"\r\n", b"* BAD"),
    (b"h APPEND INBOX {99999999999}\r\n", b"h NO [TOOBIG]"),
    (b"i SELECT {70000}\r\n", b"i NO [TOOBIG]"),
    (b"j SELECT {70000+}\r\n" + b"x" * 70000 + b"\r\n", b"j NO [TOOBIG]"),
    (b"k SEARCH " + b"x" * 70000 + b"\r\n", b"* BAD"),
    (b"l UID FETCH 4000000000 FLAGS\r\n", b"l OK"),
    (b"m LOGIN joe demo\r\n", b"m BAD"),
]:
    lines.write(wrong)
    lines.flush()
    said = lines.readline()
    assert said.startswith(answer), (wrong[:40], said)
lines.write(b"z LOGOUT\r\n")
lines.flush()
until(b"z OK")
assert lines.readline() == b""
box.logout()
print("done")
