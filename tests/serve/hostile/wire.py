"""HTTP/2 by hand (RFC 9113), for peers that a gRPC library would not be: they stall, never read, or say odd things."""

import socket
import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, END_HEADERS, ACK = 1, 4, 1
INITIAL_WINDOW_SIZE = 4


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """One frame (section 4.1)."""
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def hello(window: int | None = None) -> bytes:
    """How a client begins; `window` is how much of each answer it is ready to take."""
    settings = b"" if window is None else struct.pack(">HI", INITIAL_WINDOW_SIZE, window)
    return PREFACE + frame(SETTINGS, 0, 0, settings)


def call(stream: int, method: str, *messages: bytes, ends: bool = True) -> bytes:
    """A gRPC call `package.Service/Method` with its messages (RFC 7541 without its tables, but for the static one)."""
    path = f"/{method}".encode()
    fields = b"\x83\x86\x04" + bytes([len(path)]) + path
    fields += b"\x01\x01x\x0f\x10\x10application/grpc\x00\x02te\x08trailers"
    data = b"".join(b"\0" + struct.pack(">I", len(message)) + message for message in messages)
    return frame(HEADERS, END_HEADERS, stream, fields) + frame(DATA, END_STREAM if ends else 0, stream, data)


def goaway(text: bytes) -> bytes:
    """A GOAWAY frame with a text for debugging (section 6.8)."""
    return frame(GOAWAY, 0, 0, struct.pack(">II", 0, 2) + text)


def connect(address: str, data: bytes = b"") -> socket.socket:
    """A connection that has sent some bytes."""
    host, _, port = address.rpartition(":")
    connection = socket.create_connection((host.strip("[]"), int(port)), timeout=10)
    connection.sendall(data)
    return connection
