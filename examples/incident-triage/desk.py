"""The incident desk of the example: serves incidents, and pages the person on call.

A page carries a callback token. The desk takes it at once (202) and answers later, as any outside system would: with curl
against the server's REST API. The token is passed on stdin, so that it does not stand in the list of processes.

Environment: PORT (0: any free one), BATON_URL (where to answer).
"""

import errno
import json
import os
import pathlib
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

INCIDENTS = pathlib.Path(__file__).parent / "data" / "incidents.json"
BODY_BYTES_MAX = 1 << 20
# The person on call needs a moment.
ANSWER_AFTER_SECONDS = 1.5


def answer(page):
    """Answers a page: the person on call takes it."""
    body = {"callbackToken": page["callbackToken"], "output": {"acknowledgedBy": "dana", "incident": page["incident"]}}
    url = os.environ["BATON_URL"] + "/apis/baton.dev/v1/callbacks:complete"
    command = ["curl", "--silent", "--show-error", "--fail-with-body", "--max-time", "20"]
    command += ["--output", os.devnull, "--header", "Content-Type: application/json", "--data-binary", "@-", url]
    for _ in range(60):
        done = subprocess.run(command, input=json.dumps(body).encode(), check=False)
        # An answer that the server refuses (22) is final; one that it may not have got is given again.
        if done.returncode in (0, 22):
            break
        time.sleep(1)
    word = "acknowledged" if done.returncode == 0 else f"could not be acknowledged (curl ended with {done.returncode})"
    try:
        print(f"page for {page['incident']} {word}", file=sys.stderr, flush=True)
    except BrokenPipeError:
        pass  # whoever listened is gone


class Desk(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/incidents":
            self.reply(200, json.loads(INCIDENTS.read_text(encoding="utf-8")))
        else:
            self.reply(404, {"title": "not found"})

    def do_POST(self):
        length = int(self.headers.get("Content-Length") or 0)
        if self.path != "/pages" or not 0 < length <= BODY_BYTES_MAX:
            self.reply(404, {"title": "not found"})
            return
        page = json.loads(self.rfile.read(length))
        self.reply(202, {"paged": page["incident"]})
        timer = threading.Timer(ANSWER_AFTER_SECONDS, answer, (page,))
        timer.daemon = False  # a page that was taken is answered
        timer.start()

    def reply(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Says nothing of each request."""


def bind():
    """Listens, and gives a desk of an earlier run a moment to leave the port."""
    for attempt in range(50):
        try:
            return ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT") or 0)), Desk)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or attempt == 49:
                raise
            time.sleep(0.1)


def main():
    server = bind()
    print(f"listening on http://127.0.0.1:{server.server_address[1]}", flush=True)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    # `baton run` holds our standard input open. When it is gone, however it went, the port is given back for the next run;
    # pages that were taken are still answered, as soon as the server is there again.
    sys.stdin.read()
    server.shutdown()
    server.server_close()


if __name__ == "__main__":
    main()
