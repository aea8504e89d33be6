# An old webmail, as Python's HTTP/1.0 server has it: it logs in to an IMAP server for its users, knows nothing of TLS, and builds
# its redirects and cookies from what it is told. Arguments: its address, its port, the IMAP server.
import base64, hashlib, html, http.cookies, http.server, imaplib, secrets, struct, sys, threading, urllib.parse

ADDRESS, PORT, IMAP = sys.argv[1], int(sys.argv[2]), sys.argv[3]
BASE = "/squirrelmail/"
SESSIONS = {}
# Somebody has read what came over a WebSocket.
READ = threading.Event()
FORM = """<html><body><form name="login" method="post" action="redirect.py">
<input name="user"><input name="pass" type="password"></form>%s</body></html>"""
# What a user does, by hand of a script: the form is filled in and sent, the inbox is read, and new mail is waited for.
AUTO = """<p id="seen">nothing</p><script>
const say = words => document.getElementById("seen").textContent += " | " + words;
async function all() {
  const form = new URLSearchParams({ user: "%s", pass: "secret" });
  const inbox = await fetch("redirect.py", { method: "POST", body: form });
  say(new URL(inbox.url).protocol + new URL(inbox.url).pathname);
  say((await inbox.text()).replace(/<[^>]*>/g, " "));
  say("scripts see [" + document.cookie + "]");
  const live = new WebSocket("wss://" + location.host + location.pathname.replace("login.py", "live.py"));
  let heard = false;
  live.onmessage = event => { heard = true; say(event.data); live.close(); };
  live.onerror = () => say("no socket");
  // A browser without a window does not wait for sockets, but it does for answers; and it may hear the socket between two of them.
  for (let asked = 0; asked < 150 && !heard; asked++) await fetch("wait.py");
}
all().catch(error => say("failed: " + error));
</script>"""


class Webmail(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        path, _, query = self.path.partition("?")
        if path == BASE:
            # As scripts of old write it: the scheme that they are spoken to in, and the name in Host.
            self.redirect("http://%s%ssrc/login.py" % (self.headers["Host"], BASE))
        elif path == BASE + "src/login.py":
            READ.clear()
            user = urllib.parse.parse_qs(query).get("auto", [""])[0]
            self.answer(FORM % (AUTO % html.escape(user) if user else ""), "SQMTEST=1; path=%s" % BASE)
        elif path == BASE + "src/inbox.py":
            self.inbox()
        elif path == BASE + "src/live.py" and self.headers.get("Upgrade") == "websocket":
            self.live()
        elif path == BASE + "src/wait.py":
            self.answer("read" if READ.wait(0.2) else "not read")
        elif path == BASE + "src/who.py":
            self.answer("%s %s" % (self.headers["X-Forwarded-For"], self.headers["X-Forwarded-Proto"]))
        else:
            self.send_error(404)

    def do_POST(self):
        length = int(self.headers["Content-Length"])
        if self.path == BASE + "src/redirect.py":
            form = urllib.parse.parse_qs(self.rfile.read(length).decode())
            try:
                imap = imaplib.IMAP4(IMAP)
                imap.login(form["user"][0], form["pass"][0])
            except imaplib.IMAP4.error:
                return self.answer("Unknown user or password incorrect.")
            session = secrets.token_hex(8)
            SESSIONS[session] = imap
            self.redirect(BASE + "src/inbox.py", "SQMSESSID=%s; path=%s; HttpOnly" % (session, BASE))
        elif self.path == BASE + "src/attach.py":
            digest = hashlib.sha256()
            while length:
                piece = self.rfile.read(min(length, 65536))
                length -= len(piece)
                digest.update(piece)
            self.answer(digest.hexdigest())
        else:
            self.send_error(404)

    def inbox(self):
        cookies = http.cookies.SimpleCookie(self.headers.get("Cookie", ""))
        imap = SESSIONS.get(cookies["SQMSESSID"].value) if "SQMSESSID" in cookies else None
        if imap is None:
            return self.answer("You must be logged in to access this page.")
        imap.select("INBOX", readonly=True)
        found = imap.search(None, "ALL")[1][0].split()
        subjects = [imap.fetch(n, "(BODY[HEADER.FIELDS (SUBJECT)])")[1][0][1].decode().strip() for n in found]
        self.answer("<ul>%s</ul>" % "".join("<li>%s</li>" % html.escape(subject) for subject in subjects))

    def live(self):
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
        self.wfile.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: %s\r\n\r\n" % accept.encode()
        )
        READ.clear()
        words = b"you have new mail"
        self.wfile.write(struct.pack("!BB", 0x81, len(words)) + words)
        # The browser's close frame, and its end.
        if self.rfile.read(1) == b"\x88":
            READ.set()

    def redirect(self, place, cookie=None):
        self.send_response(302)
        self.send_header("Location", place)
        if cookie:
            self.send_header("Set-Cookie", cookie)
        self.end_headers()

    def answer(self, words, cookie=None):
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        if cookie:
            self.send_header("Set-Cookie", cookie)
        self.end_headers()
        self.wfile.write(words.encode())


http.server.ThreadingHTTPServer((ADDRESS, PORT), Webmail).serve_forever()
