"""`python -m serve.web` as a process on a free port, and requests to it, also such as no library sends."""

import http.client
import json
import re
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.support import ROOT

LONGEST_START_S = 60


@dataclass(frozen=True)
class Answer:
    """What came back."""

    code: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def reason(self) -> str:
        """The reason in the ErrorInfo of a Status."""
        (info,) = (each for each in self.json["details"] if each["@type"].endswith("google.rpc.ErrorInfo"))
        return str(info["reason"])


class Door:
    """A process that runs, and what it has logged."""

    def __init__(self, address: str, *flags: str, port: int = 0) -> None:
        command = [sys.executable, "-m", "serve.web", "--address", address, "--port", str(port), *flags]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT)
        self.lines: list[str] = []
        self._has_started = threading.Event()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        assert self._has_started.wait(LONGEST_START_S), self.lines
        found = [match for line in self.lines if (match := re.search(r"page on (\S+)/,", line))]
        assert found, self.lines
        self.url = found[0][1]

    def end(self) -> None:
        """Kill it, if it runs still."""
        self.process.kill()
        self.process.wait()
        self._reader.join(30)
        assert self.process.stderr
        self.process.stderr.close()

    def _read(self) -> None:
        assert self.process.stderr
        for line in self.process.stderr:
            self.lines.append(line)
            if "page on" in line:
                self._has_started.set()
        self._has_started.set()


@contextmanager
def open_door(address: str, *flags: str, port: int = 0) -> Iterator[Door]:
    """A door that is killed at the end."""
    door = Door(address, *flags, port=port)
    try:
        yield door
    finally:
        door.end()


def ask(
    url: str,
    path: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    *,
    method: str = "",
    trust: Path | None = None,
    cert: tuple[Path, Path] | None = None,
) -> Answer:
    """One request on a connection of its own; with a body it is a POST."""
    host = urlsplit(url).netloc
    if url.startswith("https"):
        context = ssl.create_default_context(cafile=trust)
        if cert:
            context.load_cert_chain(*cert)
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(host, timeout=60, context=context)
    else:
        connection = http.client.HTTPConnection(host, timeout=60)
    try:
        connection.request(method or ("GET" if body is None else "POST"), path, body, dict(headers or {}))
        reply = connection.getresponse()
        return Answer(reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read())
    finally:
        connection.close()


def send_raw(url: str, data: bytes, *, ends: bool = False) -> bytes:
    """Send bytes as they are, and read until the door closes or resets the connection.

    `ends` closes this side of the connection first.
    """
    host, _, port = urlsplit(url).netloc.rpartition(":")
    with socket.create_connection((host, int(port)), 30) as connection:
        with suppress(OSError):  # the door may have read enough
            connection.sendall(data)
            if ends:
                connection.shutdown(socket.SHUT_WR)
        received = b""
        with suppress(ConnectionResetError):
            while (ends or not is_complete(received)) and (piece := connection.recv(65536)):
                received += piece
        return received


def is_complete(received: bytes) -> bool:
    """Whether a whole response has come, by its Content-Length."""
    head, gap, body = received.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head)
    return bool(gap and length and len(body) >= int(length[1]))


def find_free_port() -> int:
    """A port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port
