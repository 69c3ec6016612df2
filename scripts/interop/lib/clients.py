"""What the clients' programs share: where the agents are, how to ask them, how to wait, how to fail and to skip.

WRITE_HTTP and READ_HTTP (host:port) are two agents of one datacenter, WRITE_DNS and READ_DNS their DNS ports, WRITE_NODE and READ_NODE
their names. Against a single server both are the same. TARGET tells which one it is; only checks of deliberate differences may ask.
"""

import contextlib
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

import tools

SKIPPED = 77
# Gossip on loopback takes milliseconds, Consul's own catalog up to a second after a failed push.
AWAIT_SECONDS = 10

TARGET = os.environ.get("TARGET", "consul")
DATACENTER = os.environ.get("DATACENTER", "dc1")
WRITE_HTTP = os.environ.get("WRITE_HTTP", "127.0.0.1:8500")
READ_HTTP = os.environ.get("READ_HTTP", WRITE_HTTP)
WRITE_DNS = int(os.environ.get("WRITE_DNS", "8600"))
READ_DNS = int(os.environ.get("READ_DNS", WRITE_DNS))
WRITE_NODE = os.environ.get("WRITE_NODE", "")
READ_NODE = os.environ.get("READ_NODE", WRITE_NODE)
SCRATCH = os.environ.get("SCRATCH", "/tmp")


class Failed(Exception):
    """A check that found something else than it expected."""


def main(run):
    """Runs a check as a program; its exit code is what scripts/interop/run understands."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        run()
    except tools.Missing as reason:
        print(f"skip: {reason}")
        sys.exit(SKIPPED)
    except Failed as finding:
        print(finding)
        sys.exit(1)


def expect(what, found, expected):
    if found != expected:
        raise Failed(f"{what}: expected {expected!r}, found {found!r}")


def await_that(what, probe, expected, seconds=AWAIT_SECONDS):
    """Asks until the answer is the expected one; the last answer is part of the failure."""
    deadline = time.monotonic() + seconds
    while True:
        found = probe()
        if found == expected:
            return
        if time.monotonic() > deadline:
            raise Failed(f"{what}: expected {expected!r} within {seconds} s, found {found!r}")
        time.sleep(0.05)


def ask(method, path, body=None, at=WRITE_HTTP, headers=None):
    """Status, headers and body (decoded if it is JSON) of one HTTP exchange; statuses are no exceptions here."""
    data = body.encode() if isinstance(body, str) else json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(f"http://{at}{path}", data=data, method=method, headers=headers or {})
    try:
        answer = urllib.request.urlopen(request, timeout=30)
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        text = answer.read().decode(errors="replace")
    try:
        return answer.status, answer.headers, json.loads(text)
    except ValueError:
        return answer.status, answer.headers, text


def put(path, body=None, at=WRITE_HTTP):
    """A write that has to succeed."""
    status, _, answer = ask("PUT", path, body, at)
    if status != 200:
        raise Failed(f"PUT {path}: expected 200, found {status} {answer!r}")
    return answer


def get(path, at=READ_HTTP):
    """The decoded body of a read that has to succeed."""
    status, _, answer = ask("GET", path, at=at)
    if status != 200:
        raise Failed(f"GET {path}: expected 200, found {status} {answer!r}")
    return answer


def register(service, port, **fields):
    """Registers an instance at the agent for writes, and deregisters nothing: agents last as long as the check."""
    put("/v1/agent/service/register", {"Name": service, "Port": port, "Address": "127.0.0.1", **fields})


@contextlib.contextmanager
def child(command, environment=None, log=None):
    """A program of others that runs while the block lasts."""
    output = open(log, "wb") if log else subprocess.DEVNULL
    process = subprocess.Popen([str(part) for part in command], env=os.environ | (environment or {}), stdin=subprocess.DEVNULL,
                               stdout=output, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def web_server(answer, path_status=None):
    """A small HTTP server on a free loopback port that answers every GET with a text; yields its port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = answer.encode()
            self.send_response((path_status or {}).get(self.path, 200))
            self.send_header("Content-Type", "text/plain")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
