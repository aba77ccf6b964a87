"""The ways to run and to call a server whose speeds are compared: metrics, tokens, TLS, the Open Inference Protocol.

Enters: a folder for files, and one with the code of another commit. Leaves: pairs of setups. Does not know: loads.
"""

import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from serve.bench.peers.triton import METHOD as MODEL_INFER
from serve.bench.peers.triton import make_tensor_request
from serve.bench.workload import CLASSIFY, Subject, make_requests
from serve.client.endpoint import Endpoint

TOKEN = "a-token-of-the-benchmark"  # noqa: S105  # of a server that lives for seconds
LENGTH_BYTES = 4
"""Of the number in front of an element of type BYTES."""


@dataclass(frozen=True, slots=True)
class Setup:
    """A server's flags, what its callers need, and what they send."""

    flags: Sequence[str] = ("--metrics-port", "0")
    method: str = CLASSIFY
    make_requests: Callable[[Subject], list[bytes]] = lambda subject: make_requests(subject.model, subject.encoded, 0)
    metrics_port: int = 0
    """The port that is scraped every second during the load; 0 is none."""
    tls_ca: Path | None = None
    token: str = ""
    code: Path | None = None
    """The folder with the code that runs, if it is not this."""

    def to_endpoint(self, address: str) -> Endpoint:
        """How to reach the server at an address."""
        return Endpoint(address, tls_ca=self.tls_ca, token=self.token)


@dataclass(frozen=True, slots=True)
class Pair:
    """Two setups of which the first is the measure of the second."""

    name: str
    without: Setup
    with_it: Setup


def make_pairs(folder: Path, before: Path | None) -> list[Pair]:
    """All pairs; their files are written to `folder`. With `before`, one is with the code in that folder."""
    plain = Setup()
    metrics, tokens = use_metrics(plain), use_tokens(plain, folder)
    both = use_tokens(metrics, folder)
    pairs = [
        Pair("metrics", plain, metrics),
        Pair("tokens", plain, tokens),
        Pair("metrics and tokens", plain, both),
        Pair("Open Inference, BYTES", plain, replace(plain, method=MODEL_INFER, make_requests=ask_with_bytes)),
        Pair("Open Inference, tensors", plain, replace(plain, method=MODEL_INFER, make_requests=ask_with_tensors)),
    ]
    if tls := use_tls(plain, folder):
        pairs.append(Pair("TLS", plain, tls))
    if before:
        pairs.append(Pair("metrics and tokens, over the code before", Setup(flags=(), code=before.resolve()), both))
    return pairs


def use_metrics(setup: Setup) -> Setup:
    """The same with metrics, which are scraped."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    return replace(setup, flags=("--metrics-port", str(port)), metrics_port=port)


def use_tokens(setup: Setup, folder: Path) -> Setup:
    """The same with a token in each call."""
    path = folder / "tokens"
    path.write_text(f"bench {TOKEN}\n")
    return replace(setup, flags=(*setup.flags, "--tokens", str(path)), token=TOKEN)


def use_tls(setup: Setup, folder: Path) -> Setup | None:
    """The same over TLS, by a certificate that is made now; None if openssl is not there to make it."""
    if not (openssl := shutil.which("openssl")):
        print("serve.bench: TLS is not measured: wanted the program openssl, found none", file=sys.stderr)
        return None
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    command += ["-keyout", str(key), "-out", str(certificate)]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(command, check=True, capture_output=True)  # noqa: S603  # our own words
    flags = (*setup.flags, "--tls-cert", str(certificate), "--tls-key", str(key))
    return replace(setup, flags=flags, tls_ca=certificate)


def ask_with_bytes(subject: Subject) -> list[bytes]:
    """A ModelInfer for each image file, as BYTES [1]."""
    return [
        make_tensor_request(subject.model, "images", "BYTES", (1,), len(file).to_bytes(LENGTH_BYTES, "little") + file)
        for file in subject.encoded
    ]


def ask_with_tensors(subject: Subject) -> list[bytes]:
    """A ModelInfer for each image, as UINT8 [1, H, W, C]."""
    return [
        make_tensor_request(subject.model, "images", "UINT8", (1, *pixels.shape), pixels.tobytes())
        for pixels in subject.images
    ]
