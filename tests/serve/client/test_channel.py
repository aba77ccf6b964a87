"""serve.client.channel: a call to this machine uses no proxy."""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from serve.client.channel import is_loopback, make_call_options
from serve.client.endpoint import to_endpoint
from tests.support import ROOT, Png, RunningServer


@pytest.mark.parametrize("address", ["127.0.0.1:50051", "127.8.0.1:1", "localhost:50051", "[::1]:50051"])
def test_a_loopback_address_is_recognised(address: str) -> None:
    assert is_loopback(address)


@pytest.mark.parametrize("address", ["10.0.0.1:50051", "inkling:50051", "[2001:db8::1]:50051", "dns:///inkling:1", ""])
def test_any_other_address_is_not_loopback(address: str) -> None:
    assert not is_loopback(address)


@pytest.mark.parametrize("command", ["health", "client"])
def test_the_commands_use_no_proxy_for_a_server_on_this_machine(
    command: str, server: RunningServer, png: Png, tmp_path: Path
) -> None:
    image = tmp_path / "image.png"
    image.write_bytes(png(1))
    arguments = {"health": [], "client": ["--model", "bands", str(image)]}[command]
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        proxy.settimeout(0)
        environment = {name: value for name, value in os.environ.items() if name.lower() != "no_proxy"}
        environment["http_proxy"] = f"http://127.0.0.1:{proxy.getsockname()[1]}"
        done = subprocess.run(
            [sys.executable, "-m", f"serve.{command}", "--address", server.address, *arguments],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        with pytest.raises(BlockingIOError):
            proxy.accept()


def test_the_page_of_other_clients_has_the_service_config_of_ours() -> None:
    (shown,) = re.findall(r"```json\n(.*?)```", (ROOT / "docs/serving/clients.md").read_text(), re.DOTALL)
    options = dict(make_call_options(to_endpoint("dns:///inkling:50051"), 2**20))
    assert json.loads(shown) == json.loads(options["grpc.service_config"])
