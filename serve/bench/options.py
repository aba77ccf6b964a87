"""The benchmark's command line -> frozen `Options`, and the load that they describe.

Enters: flags. Leaves: settings that fit together, or an exit with code 2 and the reason.
Does not know: servers, or how a load is sent.
"""

import argparse
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from serve.bench.load import Plan
from serve.bench.workload import BATCH_CLASSIFY, CLASSIFY
from serve.client.endpoint import FILE_FLAGS, ConnectionFlags, Endpoint
from serve.flags import count_from
from serve.program import name_program


def _flag(help_text: str, metavar: str = "N", **more: Any) -> dict[str, Any]:
    return {"help": help_text, "metavar": metavar, **more}


ANY, ONE_OR_MORE = count_from(0), count_from(1)
_MODELS = ("mnist-cnn", "cifar10-cnn")
_GENERATORS = {"choices": ("grpc", "h2load")}


@dataclass(frozen=True, slots=True)
class Options:
    """The flags by name, each with the sentence that `--help` shows. The last line of the output repeats them."""

    model: Sequence[str] = field(default=_MODELS, metadata=_flag("measure these models", "NAME", nargs="+"))
    models: Path = field(default=Path("models"), metadata=_flag("read model files from DIR", "DIR"))
    address: str = field(default="", metadata=_flag("measure this server (default: start one)", "HOST:PORT"))
    tls_ca: str = field(default="", metadata=_flag(f"at --address, {FILE_FLAGS['tls_ca']}", "FILE"))
    tls_cert: str = field(default="", metadata=_flag(f"at --address, {FILE_FLAGS['tls_cert']}", "FILE"))
    tls_key: str = field(default="", metadata=_flag(f"at --address, {FILE_FLAGS['tls_key']}", "FILE"))
    token_file: str = field(
        default="",
        metadata=_flag(f"at --address, {FILE_FLAGS['token_file']}; h2load shows it in the list of processes", "FILE"),
    )
    pid: int = field(
        default=0, metadata=_flag("read CPU time and memory of this process of the server; 0 does not", type=ANY)
    )
    workers: int = field(
        default=0, metadata=_flag("start a server with N workers; 0 is the server's default", type=ANY)
    )
    concurrency: int = field(default=64, metadata=_flag("keep N requests in flight", type=ONE_OR_MORE))
    connections: int = field(default=16, metadata=_flag("spread the requests over N connections", type=ONE_OR_MORE))
    rate: float = field(default=0.0, metadata=_flag("send N requests a second in an open loop; 0 is a closed loop"))
    overload: float = field(default=0.0, metadata=_flag("send N times the capacity in an open loop; 0 does not"))
    beside: int = field(default=0, metadata=_flag("measure single requests beside batches of N; 0 does not", type=ANY))
    peer: str = field(
        default="",
        metadata=_flag("compare with a Triton; PYTHON needs nvidia-pytriton, onnxruntime, pillow", "PYTHON"),
    )
    start: bool = field(
        default=False,
        metadata=_flag("measure the start of a server with 1 worker and with 2 (or --workers)"),
    )
    costs: bool = field(
        default=False,
        metadata=_flag(
            "measure a server with and without metrics, tokens, TLS and the Open Inference Protocol in turn"
        ),
    )
    before: str = field(
        default="", metadata=_flag("with --costs, compare with the code of another commit in DIR, too", "DIR")
    )
    precision: str = field(default="float32", metadata=_flag("start the server with files of this precision", "NAME"))
    images: str = field(
        default="", metadata=_flag("send pictures of DIR at the model's size, not drawn ones; h2load sends one", "DIR")
    )
    batch: int = field(default=0, metadata=_flag("send BatchClassify with N images; 0 sends Classify", type=ANY))
    seconds: float = field(default=8.0, metadata=_flag("send load for S seconds in each round", "S"))
    warm_up: float = field(default=2.0, metadata=_flag("warm up for S seconds before each round", "S"))
    rounds: int = field(default=3, metadata=_flag("print the medians of N rounds", type=ONE_OR_MORE))
    generator: str = field(default="grpc", metadata=_flag("send the load with grpc or h2load", "NAME", **_GENERATORS))
    short: bool = field(default=False, metadata=_flag("run one round of one second, to test the benchmark itself"))

    def read_endpoint(self) -> Endpoint:
        """The server at --address. Raises ConfigError."""
        flags = ConnectionFlags(self.address, self.tls_ca, self.tls_cert, self.tls_key, self.token_file)
        return flags.read_endpoint()

    def make_plan(self) -> Plan:
        """The load of one round."""
        return Plan(
            method=BATCH_CLASSIFY if self.batch else CLASSIFY,
            images_per_call=self.batch or 1,
            concurrency=self.concurrency,
            connections=min(self.connections, self.concurrency),
            rate=self.rate,
            seconds=self.seconds,
            warm_up_s=self.warm_up,
        )


def read_options(arguments: Sequence[str] | None) -> Options:
    """The options of a command line. Exits with code 2 if flags do not fit together."""
    parser = _parser()
    options = Options(**vars(parser.parse_args(arguments)))
    loads = (options.address, options.peer, options.beside, options.overload, options.rate, options.batch)
    if options.batch and (options.peer or options.beside):
        parser.error("--batch: the peer and the probe are sent single images; leave it out")
    if not options.address and (options.tls_ca or options.tls_cert or options.token_file):
        parser.error("--tls-ca, --tls-cert, --token-file: wanted --address with them: they are for a server that runs")
    if options.generator == "h2load" and options.tls_cert:
        parser.error("--tls-cert: wanted --generator grpc with it; h2load shows no certificate")
    if options.generator == "h2load" and not shutil.which("h2load"):
        parser.error("--generator: wanted h2load on the PATH (nghttp2), found none; grpc comes with Inkling")
    if options.rate and options.overload:
        parser.error("--rate, --overload: wanted one of them, got both")
    if options.beside and options.workers > 1:
        parser.error("--beside: with several workers, probe and load may not meet in one; leave out --workers")
    if options.start and any(loads):
        parser.error("--start: wanted it without --address and loads: it starts servers itself, and loads none")
    if options.costs and any((*loads, options.start)):
        parser.error("--costs: wanted it without --address, --start and other loads: it starts servers itself")
    if options.before and not (options.costs and Path(options.before, "serve/__main__.py").is_file()):
        parser.error("--before: wanted --costs with it, and a folder that has serve/__main__.py")
    if options.peer and not shutil.which(options.peer):
        parser.error(f"--peer: wanted an interpreter that can be run, got {options.peer!r}")
    return replace(options, seconds=1.0, warm_up=0.3, rounds=1) if options.short else options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=name_program("serve.bench"), description="Measure a server: a new one, or the one at --address."
    )
    for flag in fields(Options):
        name, help_text = "--" + flag.name.replace("_", "-"), flag.metadata["help"]
        if isinstance(flag.default, bool):
            parser.add_argument(name, action="store_true", help=help_text)
        else:
            default = list(flag.default) if isinstance(flag.default, tuple) else flag.default
            kind, shown = (str, " ".join(default)) if isinstance(default, list) else (type(default), str(default))
            help_text += f" (default: {shown.removesuffix('.0')})" if shown else ""
            parser.add_argument(name, default=default, **{"type": kind, **flag.metadata, "help": help_text})
    return parser
