"""Write the Python stubs of the .proto files into a folder: `python proto/generate.py serve/pb`.

Enters: the .proto files. Leaves: for each its `_pb2.py`, the types of that in `.pyi`, and its `_pb2_grpc.py`.
With `serve/pb` it also writes `proto/inkling.binpb`: all of them and their imports, for clients that read descriptors.
Needs the pinned grpcio-tools of the `test` extra: newer generators write stubs that refuse older protobufs.
"""

import subprocess
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

PROTO = Path(__file__).resolve().parent
COMMITTED_STUBS = PROTO.parent / "serve" / "pb"
DESCRIPTOR_SET = PROTO / "inkling.binpb"
SOURCES = ("inkling/v1/classifier.proto", "open_inference/open_inference.proto")


def generate(source: str, folder: Path) -> None:
    """Generate from the root `proto/`, so that the descriptor has the name that users' own stubs give it."""
    package = source.rpartition("/")[0].replace("/", ".")
    with tempfile.TemporaryDirectory() as made:
        _run_protoc(*(f"--{kind}_out={made}" for kind in ("python", "pyi", "grpc_python")), source)
        for stub in sorted((Path(made) / source).parent.iterdir()):
            text = stub.read_text().replace(f"from {package} import", "from serve.pb import")
            (folder / stub.name).write_text(text)


def make_descriptor_set() -> bytes:
    """A google.protobuf.FileDescriptorSet of all sources and what they import, so that it can be used alone."""
    with tempfile.TemporaryDirectory() as made:
        written = Path(made) / DESCRIPTOR_SET.name
        _run_protoc("--include_imports", f"--descriptor_set_out={written}", *SOURCES)
        return written.read_bytes()


def _run_protoc(*arguments: str) -> None:
    includes = (PROTO, files("grpc_tools") / "_proto", _googleapis())
    # A process of its own: protoc in one that has gRPC's threads may end it.
    command = [sys.executable, "-m", "grpc_tools.protoc", *(f"-I{include}" for include in includes), *arguments]
    if subprocess.run(command, check=False).returncode:  # noqa: S603  # our own flags
        raise SystemExit("protoc failed; its message is above")


def _googleapis() -> Path:
    from google.rpc import status_pb2  # only here: its folder is what protoc needs

    return Path(status_pb2.__file__).parents[2]


if __name__ == "__main__":
    for each in SOURCES:
        generate(each, Path(sys.argv[1]))
    if Path(sys.argv[1]).resolve() == COMMITTED_STUBS:
        DESCRIPTOR_SET.write_bytes(make_descriptor_set())
