"""Drives the demo's POP3 and SMTP servers with poplib and smtplib."""
import poplib, smtplib, sys
from email.message import EmailMessage

POP3, SMTP = int(sys.argv[1]), int(sys.argv[2])
USER, PASSWORD = "joe@example.net", "demo"


def connect():
    pop = poplib.POP3("127.0.0.1", POP3, timeout=20)
    pop.user(USER)
    pop.pass_(PASSWORD)
    return pop


def refused(action, *arguments):
    try:
        action(*arguments)
    except (poplib.error_proto, smtplib.SMTPException) as error:
        return error
    raise SystemExit(f"{action} {arguments} was taken")


# POP3: logging in, and not.
pop = poplib.POP3("127.0.0.1", POP3, timeout=20)
capabilities = pop.capa()
assert {"USER", "UIDL", "TOP"} <= capabilities.keys() and "PLAIN" in capabilities["SASL"], capabilities
refused(pop.stat)
refused(pop.pass_, PASSWORD)
pop.user(USER)
assert b"[AUTH]" in refused(pop.pass_, "wrong").args[0]
refused(pop.apop, USER, "wrong")
pop.apop(USER, PASSWORD)
pop.quit()

# Reading.
pop = connect()
count, size = pop.stat()
assert count == 4 and size == sum(int(line.split()[1]) for line in pop.list()[1])
ids = [line.split()[1] for line in pop.uidl()[1]]
assert len(set(ids)) == 4
assert any(b"what you are reading" in line for line in pop.retr(4)[1])
head = pop.top(4, 0)[1]
assert any(line.startswith(b"Subject: Welcome") for line in head) and b"Hello," not in head
assert b"Hello," in pop.top(4, 1)[1]
for action, arguments in [(pop.retr, (5,)), (pop.retr, (0,)), (pop.top, (9, 1)), (pop.dele, (5,)), (pop._shortcmd, ("X",))]:
    refused(action, *arguments)

# Deleting takes effect at QUIT only.
pop.dele(1)
refused(pop.retr, 1)
assert pop.stat()[0] == 3
pop.rset()
assert pop.stat()[0] == 4
pop.dele(1)
pop.close()
pop = connect()
assert pop.stat()[0] == 4, "a broken connection deletes nothing"
pop.dele(1)
pop.quit()
pop = connect()
assert [line.split()[1] for line in pop.uidl()[1]] == ids[1:]
pop.quit()

# SMTP.
smtp = smtplib.SMTP("127.0.0.1", SMTP, timeout=20)
smtp.ehlo("client.example")
for feature in ["size", "pipelining", "8bitmime", "smtputf8", "dsn", "enhancedstatuscodes", "auth"]:
    assert smtp.has_extn(feature), feature
for mechanism in [smtp.auth_plain, smtp.auth_login, smtp.auth_cram_md5]:
    with smtplib.SMTP("127.0.0.1", SMTP, timeout=20) as other:
        other.ehlo("client.example")
        other.user, other.password = USER, PASSWORD
        name = mechanism.__name__.removeprefix("auth_").upper().replace("_", "-")
        assert other.auth(name, getattr(other, mechanism.__name__))[0] == 235, name
        assert other.docmd("AUTH PLAIN")[0] == 503
assert refused(smtp.login, USER, "wrong").smtp_code == 535
smtp.login(USER, PASSWORD)

letter = EmailMessage()
letter["From"], letter["To"], letter["Subject"] = USER, "joe@example.net", "Grüße"
letter.set_content("Zeile\n.\n..\nEnde\n", cte="8bit")
smtp.send_message(letter, mail_options=["BODY=8BITMIME", "SMTPUTF8"])
pop = connect()
text = pop.retr(pop.stat()[0])[1]
assert [b"Zeile", b".", b"..", b"Ende"] == text[-4:], text
assert any(line.startswith(b"Received: from client.example") for line in text), text
assert b"X-Envelope-To: joe@example.net" in text
pop.quit()

for command, code in [
    ("RCPT TO:<joe@example.net>", 503),
    ("DATA", 503),
    ("MAIL FROM:joe", 501),
    ("MAIL FROM:<joe@example.net> SIZE=99999999", 552),
    ("MAIL FROM:<joe@example.net> ODD=1", 555),
    ("MAIL FROM:<joe@example.net> SIZE=100 RET=HDRS ENVID=x", 250),
    ("MAIL FROM:<joe@example.net>", 503),
    ("DATA", 503),
    ("RCPT TO:<>", 501),
    ("RCPT TO:<joe@example.net> NOTIFY=SUCCESS ORCPT=rfc822;joe@example.net", 250),
    ("RSET", 250),
    ("NOOP", 250),
    ("VRFY joe", 252),
    ("TURN", 500),
    ("X" * 20000, 500),
]:
    assert smtp.docmd(command)[0] == code, command

# Pipelined with the message and what comes behind it; the first line is a dot that ends nothing.
smtp.sock.sendall(
    b"MAIL FROM:<>\r\nRCPT TO:<joe@example.net>\r\nDATA\r\n..\r\n\n.\n\r\n.\r\n"
    b"MAIL FROM:<>\r\nRCPT TO:<joe@example.net>\r\nDATA\r\n.\r\nNOOP\r\n"
)
assert [smtp.getreply()[0] for _ in range(9)] == [250, 250, 354, 250, 250, 250, 354, 250, 250]
smtp.quit()
pop = connect()
number = pop.stat()[0]
assert pop.retr(number - 1)[1][-4:] == [b".", b"", b".", b""], pop.retr(number - 1)[1]
pop.quit()

# More than a message may be: read to its end and refused, and the connection lives on.
smtp = smtplib.SMTP("127.0.0.1", SMTP, timeout=60)
smtp.ehlo("client.example")
smtp.mail(USER), smtp.rcpt(USER)
assert smtp.data(b"Subject: large\r\n\r\n" + (b"x" * 998 + b"\r\n") * 27000)[0] == 552
assert smtp.noop()[0] == 250
smtp.quit()
print("done")
