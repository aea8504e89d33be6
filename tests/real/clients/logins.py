# One login after the other by each protocol and mechanism; prints what came of each: in, or the class of the refusal.
import base64

ssl_names = ssl.create_default_context(cafile=os.environ['AUTHORITY'])
ssl_names.check_hostname = False

class There(Raw):
    def __init__(self, port):
        plain = socket.create_connection((GATE, port), timeout=50)
        self.socket = ssl_names.wrap_socket(plain, server_hostname='mail.example.net', suppress_ragged_eofs=True)
        self.file = self.socket.makefile('rb')
        self.greeting = self.line()

def b64(text): return base64.b64encode(text.encode())

def imap(user, password, how):
    r = There(993)
    if how == 'LOGIN':
        r.send(b'a LOGIN "%s" "%s"\r\n' % (user.encode(), password.encode()))
    elif how == 'PLAIN':
        r.send(b'a AUTHENTICATE PLAIN\r\n'); assert r.line().startswith(b'+')
        r.send(b64('\0' + user + '\0' + password) + b'\r\n')
    line = r.line()
    while line.startswith(b'*'): line = r.line()
    if line.startswith(b'a OK'):
        r.send(b'b LOGOUT\r\n'); return 'in'
    return 'no'

def pop3(user, password, how):
    r = There(995)
    r.send(b'USER %s\r\n' % user.encode()); assert r.line().startswith(b'+OK')
    r.send(b'PASS %s\r\n' % password.encode())
    if r.line().startswith(b'+OK'):
        r.send(b'QUIT\r\n'); return 'in'
    return 'no'

def smtp(user, password, how):
    r = There(465)
    r.send(b'EHLO client.example.org\r\n')
    while r.line()[3:4] == b'-': pass
    if how == 'PLAIN':
        r.send(b'AUTH PLAIN ' + b64('\0' + user + '\0' + password) + b'\r\n')
    else:
        r.send(b'AUTH LOGIN\r\n'); assert r.line().startswith(b'334')
        r.send(b64(user) + b'\r\n'); assert r.line().startswith(b'334')
        r.send(b64(password) + b'\r\n')
    line = r.line()
    if line.startswith(b'235'):
        r.send(b'QUIT\r\n'); return 'in'
    return line.split(b' ')[0].decode()

for protocol, how in [(imap, 'LOGIN'), (imap, 'PLAIN'), (pop3, 'USER'), (smtp, 'PLAIN'), (smtp, 'LOGIN')]:
    for user, password in [('nginx-joe', 'secret'), ('nginx-joe', 'wrong'), ('alias@example.net', 'anything'),
                           ('nginx joe', 'se%cr et'), ('busy', 'secret')]:
        if protocol is pop3 and ' ' in user + password: continue
        print(protocol.__name__, how, user, password, protocol(user, password, how), flush=True)
print('imap patient', imap('patient', 'secret', 'LOGIN'))
