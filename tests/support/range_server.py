"""A web server on loopback that serves byte ranges of the files in a folder, counts them, and can fail on demand."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class RangeServer:
    """What is served, what was asked of it, and how it fails.

    Attributes:
        address: of the folder, without a slash at the end.
        sent: bytes of bodies sent so far.
        requests: (method, name, first byte, bytes) of each.
        cut: how many of the next answers from `cut_from` on lose their connection in the middle of the body.
        cut_from: first byte of a range from which answers may be cut; the header of a file lies before.
    """

    def __init__(self, folder: Path) -> None:
        self.sent = 0
        self.requests: list[tuple[str, str, int, int]] = []
        self.cut = 0
        self.cut_from = 0
        self.lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self) -> None:
                self._answer(body=False)

            def do_GET(self) -> None:
                self._answer(body=True)

            def _answer(self, body: bool) -> None:
                path = folder / self.path.lstrip("/")
                if not path.is_file():
                    self.send_response(404)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                size = path.stat().st_size
                asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
                first = int(asked[1]) if asked else 0
                last = min(int(asked[2] or size) if asked else size, size - 1)
                self.send_response(206 if asked else 200)
                self.send_header("Accept-Ranges", "bytes")
                self.send_header("Content-Length", str(last - first + 1))
                if asked:
                    self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
                self.end_headers()
                with outer.lock:
                    cut = body and outer.cut > 0 and first >= outer.cut_from
                    outer.cut -= cut
                    outer.requests.append((self.command, path.name, first, last - first + 1))
                if not body:
                    return
                with path.open("rb") as file:
                    file.seek(first)
                    data = file.read(last - first + 1)
                if cut:
                    data = data[: len(data) // 2]
                    self.close_connection = True
                self.wfile.write(data)
                with outer.lock:
                    outer.sent += len(data)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"

    @contextmanager
    def running(self) -> Iterator["RangeServer"]:
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()
