# A CA with renewal information (RFC 9773) made of one without, as Debian's pebble is: it stands in front of it under the same
# address, names `renewalInfo` in the directory, answers there, and takes `replaces` in orders.
# Arguments: address, certificate chain, key, and what it says: past, broken, refuses (like past, but takes no `replaces`), or
# nonces-N (like past, but refuses the nonces of the first N orders).
import base64
import datetime
import http.client
import json
import ssl
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ADDRESS, CHAIN, KEY, MANNER = sys.argv[1:]
REFUSED = iter(range(int(MANNER.removeprefix("nonces-")) if MANNER.startswith("nonces-") else 0))
OF_THE_CONNECTION = ("Content-Length", "Transfer-Encoding", "Date", "Connection")


def log(*words):
    print(*words, flush=True)


class Front(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path.startswith("/renewal/"):
            log("asked", self.path.removeprefix("/renewal/"))
            return self.renewal_info()
        self.forward(b"")

    def do_HEAD(self):
        self.forward(b"")

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        payload = json.loads(body)["payload"]
        order = json.loads(base64.urlsafe_b64decode(payload + "==") or b"{}")
        is_order = "identifiers" in order
        replaces = order.get("replaces") if is_order else None
        if replaces and MANNER == "refuses":
            log("order", replaces)
            return self.problem(409, "alreadyReplaced", "it has a successor")
        if is_order and next(REFUSED, None) is not None:
            log("nonce", "refused")
            return self.problem(400, "badNonce", "never seen it")
        self.forward(body, replaces, is_order)

    def renewal_info(self):
        now = datetime.datetime.now(datetime.timezone.utc)
        start, end = now - datetime.timedelta(days=2), now - datetime.timedelta(days=1)
        window = {"start": start.isoformat(), "end": end.isoformat()}
        page = {"suggestedWindow": window, "explanationURL": "https://ca.example.net/incident"}
        body = b'{"suggestedWindow":' if MANNER == "broken" else json.dumps(page).encode()
        self.answer(200, {"Content-Type": "application/json", "Retry-After": "21600"}, body)

    def problem(self, status, kind, detail):
        problem = {"type": f"urn:ietf:params:acme:error:{kind}", "detail": detail, "status": status}
        self.answer(status, {"Content-Type": "application/problem+json"}, json.dumps(problem).encode())

    def forward(self, body, replaces=None, is_order=False):
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        pebble = http.client.HTTPSConnection(ADDRESS, 14000, context=context, timeout=30)
        headers = {name: value for name, value in self.headers.items() if name != "Connection"}
        pebble.request(self.command, self.path, body, headers)
        answer = pebble.getresponse()
        said = answer.read()
        # pebble throws out nonces by chance; the order that comes again then is the same one.
        if is_order and b"badNonce" not in said:
            log("order", replaces)
        if self.path == "/dir":
            directory = json.loads(said)
            directory["renewalInfo"] = f"https://{self.headers['Host']}/renewal"
            said = json.dumps(directory).encode()
        if replaces and answer.status == 201:
            said = json.dumps({**json.loads(said), "replaces": replaces}).encode()
        kept = {name: value for name, value in answer.getheaders() if name not in OF_THE_CONNECTION}
        self.answer(answer.status, kept, said)

    def answer(self, status, headers, body):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer((ADDRESS, 14001), Front)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(CHAIN, KEY)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
