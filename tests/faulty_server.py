"""A web server on this machine that fails in the ways of the real ones, as often as a test asks."""

import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class Behaviour:
    """What one path does. `faults` are used up one request after another; afterwards it serves `content`.

    A fault is a status code, `cut:N` (the connection breaks after N bytes), `slow` (nothing comes for a second),
    `html`, `deaf` (the Range header is ignored), `shifted` (it goes on at the wrong place), or `short:N` (it says and
    sends N bytes only).

    `heads` are sent with every answer, as a model hub tells what it has. A path asked by HEAD is noted as `HEAD /path`.
    """

    content: bytes
    faults: list[str] = field(default_factory=list)
    tag: str = '"1"'
    redirect: str = ""
    heads: dict[str, str] = field(default_factory=dict)


@dataclass
class Server:
    """Where it listens, what its paths do, and the (path, Range) of every request."""

    url: str
    paths: dict[str, Behaviour]
    asked: list[tuple[str, str]]


@contextmanager
def serving(paths: dict[str, Behaviour], certificate: Path | None = None) -> Iterator[Server]:
    asked: list[tuple[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments: object) -> None:
            pass

        def do_HEAD(self) -> None:
            asked.append((f"HEAD {self.path}", ""))
            behaviour = paths.get(self.path)
            fault = behaviour.faults.pop(0) if behaviour and behaviour.faults else ""
            status = int(fault) if fault else 404 if behaviour is None else 302 if behaviour.redirect else 200
            self.send_response(status)
            for name, value in (behaviour.heads if behaviour else {}).items():
                self.send_header(name, value)
            if behaviour and behaviour.redirect:
                self.send_header("Location", behaviour.redirect)
            self.send_header("Content-Length", str(len(behaviour.content)) if behaviour else "0")
            self.end_headers()

        def do_GET(self) -> None:
            asked.append((self.path, self.headers.get("Range", "")))
            behaviour = paths.get(self.path)
            if behaviour is None:
                self.answer(404, b"nothing here")
            elif behaviour.redirect:
                self.send_response(302)
                self.send_header("Location", behaviour.redirect)
                self.send_header("Content-Length", "0")
                self.end_headers()
            else:
                self.serve(behaviour, behaviour.faults.pop(0) if behaviour.faults else "")

        def serve(self, behaviour: Behaviour, fault: str) -> None:
            kind, _, number = fault.partition(":")
            if kind.isdigit():
                return self.answer(int(kind), b"no")
            if kind == "html":
                return self.answer(200, b"<!DOCTYPE html><title>Link does not exist</title>", "text/html")
            if kind == "slow":
                time.sleep(1.0)
            content = behaviour.content[: int(number)] if kind == "short" else behaviour.content
            start = self.start(behaviour, len(content), deaf=kind == "deaf")
            if start < 0:
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return None
            self.send_response(206 if start else 200)
            self.send_header("ETag", behaviour.tag)
            self.send_header("Content-Length", str(len(content) - start))
            if start:
                said = start + 1 if kind == "shifted" else start
                self.send_header("Content-Range", f"bytes {said}-{len(content) - 1}/{len(content)}")
            self.end_headers()
            body = content[start:]
            if kind == "cut":
                self.wfile.write(body[: int(number)])
                self.wfile.flush()
                self.close_connection = True
                self.connection.close()
                return None
            self.wfile.write(body)
            return None

        def start(self, behaviour: Behaviour, length: int, deaf: bool) -> int:
            asked_from = self.headers.get("Range", "")
            changed = self.headers.get("If-Range", behaviour.tag) != behaviour.tag
            if deaf or changed or not asked_from:
                return 0
            start = int(asked_from.removeprefix("bytes=").rstrip("-"))
            return start if start < length else -1

        def answer(self, status: int, body: bytes, kind: str = "application/octet-stream") -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def handle(self) -> None:
            with suppress(ValueError, OSError):  # the client went away, or we cut it off
                super().handle()

        def finish(self) -> None:
            with suppress(ValueError, OSError):
                super().finish()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        server.handle_error = lambda *_: None  # type: ignore[method-assign,assignment]
    scheme, host = ("http", "127.0.0.1") if certificate is None else ("https", "localhost")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield Server(f"{scheme}://{host}:{server.server_address[1]}", paths, asked)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
