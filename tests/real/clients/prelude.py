# What the Python scripts of these tests have in common: one function a protocol that connects by a scheme's name.
import hashlib, imaplib, os, poplib, smtplib, socket, ssl, time

GATE = os.environ['GATE']
imaplib._MAXLINE = poplib._MAXLINE = 100_000_000


def trusting():
    return ssl.create_default_context(cafile=os.environ['AUTHORITY'])


def imap(scheme='imaps'):
    if scheme == 'imaps':
        return imaplib.IMAP4_SSL(GATE, ssl_context=trusting(), timeout=50)
    session = imaplib.IMAP4(GATE, timeout=50)
    if scheme == 'imap+starttls':
        session.starttls(trusting())
    return session


def pop3(scheme='pop3s'):
    if scheme == 'pop3s':
        return poplib.POP3_SSL(GATE, context=trusting(), timeout=50)
    session = poplib.POP3(GATE, timeout=50)
    if scheme == 'pop3+stls':
        session.stls(trusting())
    return session


def log_in_by_pop3(user, password='secret'):
    """All of it, since a server that is not there may be told in the greeting already."""
    session = pop3()
    session.user(user)
    session.pass_(password)


def submission(scheme='smtps'):
    if scheme == 'smtps':
        session = smtplib.SMTP_SSL(GATE, 465, 'client.example', context=trusting(), timeout=50)
    else:
        session = smtplib.SMTP(GATE, 587, 'client.example', timeout=50)
    session.ehlo('client.example.org')
    if scheme == 'smtp+starttls':
        session.starttls(context=trusting())
        session.ehlo('client.example.org')
    return session


class Raw:
    """A TLS connection and its lines, for what the libraries do not do."""

    def __init__(self, port):
        plain = socket.create_connection((GATE, port), timeout=50)
        # An end without close_notify is an error here, as it is to a careful client.
        self.socket = trusting().wrap_socket(plain, server_hostname='mail.example.net', suppress_ragged_eofs=False)
        self.file = self.socket.makefile('rb')
        self.greeting = self.line()

    def line(self):
        line = self.file.readline()
        assert line.endswith(b'\r\n'), line
        return line

    def send(self, data):
        self.socket.sendall(data)

    def ask(self, data, until):
        """Sends a line and returns the lines up to the one that begins with `until`; any other verdict is an error."""
        self.send(data + b'\r\n')
        lines = []
        while not lines or not lines[-1].startswith(until):
            lines.append(self.line())
            refusal = lines[-1].startswith((data.split()[0] + b' ', b'-ERR', b'4', b'5'))
            assert lines[-1].startswith(until) or not refusal, (data, lines)
        return lines

    def ended(self):
        """The other side has nothing more to say, and said so properly."""
        return self.file.read() == b''


def refused(call):
    """The words of the server's refusal, which there must be."""
    try:
        answer = call()
    except (imaplib.IMAP4.error, poplib.error_proto) as e:
        return str(e)
    except smtplib.SMTPAuthenticationError as e:
        return f'{e.smtp_code} {e.smtp_error.decode()}'
    except smtplib.SMTPResponseException as e:
        return f'{e.smtp_code} {e.smtp_error.decode()}'
    raise AssertionError(f'was not refused: {answer}')
