"""`inkling models list|show|load|unload`: what a server has, and, if it allows that, which models it has.

Enters: a command and a model's name. Leaves: a table or JSON on stdout. Exit code 0, 1 if the call failed, 2 for bad
usage, 130 after Ctrl-C. Does not know: the stubs of the Open Inference Protocol, which has the calls that load and
unload. They clash with those of tritonclient in one process, so the two requests are written here, field by field.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.json_format import MessageToDict

from serve.client.channel import make_call_options, open_channel
from serve.client.client import DEFAULT_MAX_MESSAGE_BYTES, open_client
from serve.client.commands.output import (
    INTERRUPTED,
    describe_error,
    dump,
    escape,
    escape_unprintable_names,
    give_up_stdout,
)
from serve.client.endpoint import ConnectionFlags, Endpoint, add_connection_flags
from serve.client.handshake import explain_failure
from serve.client.messages import read_rpc_error
from serve.errors import CallError, ConfigError
from serve.flags import read_text
from serve.pb import classifier_pb2 as pb
from serve.program import name_program

LOAD_TIMEOUT_S = 600
"""Seconds that a load may take: the server tests and warms the model before it answers."""
SERVICE = "/inference.GRPCInferenceService/RepositoryModel"
"""What the names of the calls that load and unload begin with."""
MODEL_NAME_TAG = b"\x12"
"""Field 2, of text, of both requests: the model's name."""


@dataclass(frozen=True, slots=True)
class Options(ConnectionFlags):
    """The command line."""

    action: str
    json: bool
    model: str = ""
    version: str = ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says, and print the answer."""
    options = Options(**vars(_parser().parse_args(arguments)))
    escape_unprintable_names()
    try:
        print("\n".join(_answer(options)), flush=True)
    except ConfigError as error:
        _parser().exit(2, f"serve.client.commands.models: {error}\n")
    except CallError as error:
        if options.json:
            print(dump(describe_error(error)))
        print(f"serve.client.commands.models: {escape(options.address)}: {escape(str(error))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        give_up_stdout()
        print("serve.client.commands.models: interrupted", file=sys.stderr)
        return INTERRUPTED
    except OSError:  # the reader of stdout has closed it, or its disk is full
        give_up_stdout()
        return 1
    return 0


def _answer(options: Options) -> list[str]:
    """The lines to print. Raises ConfigError and CallError."""
    endpoint = options.read_endpoint()
    if options.action in ("load", "unload"):
        control(endpoint, options.action, options.model)
        done = {"model": options.model, "done": options.action}
        return [dump(done) if options.json else f"{options.action}ed {escape(options.model)}"]
    with open_client(endpoint) as client:
        if options.action == "show":
            model = client.get_model(options.model, options.version)
            return [dump(to_facts(model))] if options.json else describe(model)
        models = client.list_models()
    return [dump(to_facts(models))] if options.json else tabulate(models)


def control(endpoint: Endpoint, action: str, model: str) -> None:
    """Ask a server to `load` or to `unload` a model. Raises ConfigError, and CallError if it does not."""
    name = model.encode()
    request = MODEL_NAME_TAG + encode_length(len(name)) + name
    with open_channel(endpoint, make_call_options(endpoint, DEFAULT_MAX_MESSAGE_BYTES)) as channel:
        # Without serializers, requests and responses are bytes; the response has no fields that are needed.
        call: Any = channel.unary_unary(SERVICE + action.capitalize())
        try:
            call(request, timeout=LOAD_TIMEOUT_S, metadata=endpoint.metadata)
        except grpc.RpcError as error:
            found = read_rpc_error(error)
            sentence = explain_failure(endpoint) if found.code == "UNAVAILABLE" else ""
            raise (CallError("UNAVAILABLE", "TLS_FAILED", sentence) if sentence else found) from error


def encode_length(length: int) -> bytes:
    """A number as protobuf writes lengths: seven bits a byte, lowest first, with a mark on all but the last."""
    encoded = bytearray()
    while length > 0x7F:
        encoded.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes([*encoded, length])


def to_facts(message: pb.Model | pb.ListModelsResponse) -> dict[str, object]:
    """A message as JSON has it, with the field names of the .proto."""
    facts: dict[str, object] = MessageToDict(message, preserving_proto_field_name=True)
    return facts


def tabulate(models: pb.ListModelsResponse) -> list[str]:
    """A row for each model that is served, then one for each file that was refused."""
    rows = [("MODEL", "VERSION", "PRECISION", "DEVICE", "INPUT", "ACCURACY")]
    for each in models.models:
        shape = "x".join(map(str, each.input_shape))
        rows.append((each.name, each.version, each.precision, each.device, shape, tell_accuracy(each)))
    refused = [f"refused  {each.name}/{each.version}  {each.reason}" for each in models.refused_models]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [escape(line) for line in lines + refused]


def tell_accuracy(model: pb.Model) -> str:
    """The accuracy that a file states; a model that was measured on no image is unverified."""
    return f"{model.test_accuracy:.4f}" if model.test_count else "unverified"


def describe(model: pb.Model) -> list[str]:
    """What a model's file says about itself, and where it runs: a line for each fact."""
    facts = {
        "model": f"{model.name}, version {model.version}",
        "trained on": model.dataset,
        "input": f"{'x'.join(map(str, model.input_shape))}, {model.input_colour}, prepared by {model.prepare_policy}",
        "precision": model.precision,
        "device": model.device,
        "accuracy": tell_accuracy(model) + (f" of {model.test_count:,} test images" if model.test_count else ""),
        "familiarity": _tell_familiarity(model),
        "parameters": f"{model.parameter_count:,}",
        "created": model.create_time.ToJsonString(),
        "commit": model.source_commit,
        **{f"labels, {each.language_code}": ", ".join(each.labels) for each in model.label_sets},
    }
    width = max(map(len, facts))
    return [escape(f"{name:{width}}  {fact}") for name, fact in facts.items()]


def _tell_familiarity(model: pb.Model) -> str:
    """How it was fitted, and what a threshold turns away; `none` if the model gives no familiarity."""
    facts = model.familiarity
    if "method" not in facts:
        return "none"
    return f"{facts['method']}; below {facts['threshold']:g} are {facts['turned_away']:.1%} of the test images"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=name_program("serve.client.commands.models"), description="Ask a server for its models, or change them."
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="list|show|load|unload")
    _add_action(actions.add_parser("list", help="list the models that are served, and the files that were refused"))
    show = actions.add_parser("show", help="describe one model")
    only = "(default: the server's only model)"
    show.add_argument("model", type=read_text, nargs="?", default="", metavar="NAME", help=only)
    highest = "describe version V (default: the highest)"
    show.add_argument("--version", type=read_text, default="", metavar="V", help=highest)
    _add_action(show)
    for action, effect in (("load", "load a model, or load it again"), ("unload", "unload every version of a model")):
        control_parser = actions.add_parser(action, help=f"{effect}; the server has to allow it")
        control_parser.add_argument("model", type=read_text, metavar="NAME", help=f"{action} the model NAME")
        _add_action(control_parser)
    return parser


def _add_action(parser: argparse.ArgumentParser) -> None:
    add_connection_flags(parser)
    parser.add_argument("--json", action="store_true", help="print one line of JSON")


if __name__ == "__main__":
    sys.exit(main())
