"""`python -m serve --web-port`: the web process beside the workers, from its start to its end."""

import json
import os
import shutil
import signal
import stat
import threading
import time
from pathlib import Path

import pytest

from tests.certificates import Authority
from tests.serve.web.doors import Answer, ask, find_free_port
from tests.served import Served, is_alive, served, wait_until
from tests.support import Png

pytest.importorskip("starlette", reason="needs the extra [web]")

pytestmark = pytest.mark.slow

PATH = "/v1/models/bands:classify"
ALICES = "a-secret-of-many-letters"


def start_flags() -> tuple[str, ...]:
    return ("--web-port", str(find_free_port()), "--metrics-port", "0")


def find_url(server: Served) -> str:
    """Where the page is."""
    return server.wait_for(r"page on (\S+)/,")[0][1]


def find_pid(server: Served, count: int = 1) -> int:
    """The process that said so the last of so many times."""
    return int(server.wait_for(r"^\S+ \S+ (\d+) INFO serve\.web\S* page on", count)[-1][1])


def answers(url: str, png: Png) -> bool:
    try:
        return ask(url, PATH, png(1)).code == 200
    except OSError:
        return False


def test_the_page_is_served_beside_grpc_and_both_end_in_order(repository_folder: Path, png: Png) -> None:
    with served(repository_folder, *start_flags(), "--workers", "2") as server:
        url, pid = find_url(server), find_pid(server)
        for _ in range(8):
            assert ask(url, PATH, png(1)).json["classification"]["classes"][0]["label"] == "middle"
        assert b"<title>Inkling</title>" in ask(url, "/").body
        code, _ = server.stop()
        assert code == 0
        assert not is_alive(pid)
        assert "in front of 2 workers" in "".join(server.lines)
        order = [line for line in server.lines if line.rstrip().endswith(": stopped")]
        assert "serve.web" in order[0]


def test_a_web_process_that_dies_is_replaced(repository_folder: Path, png: Png) -> None:
    with served(repository_folder, *start_flags()) as server:
        url, pid = find_url(server), find_pid(server)
        os.kill(pid, signal.SIGKILL)
        assert server.wait_for("the web process ended with SIGKILL; starting another")
        assert wait_until(lambda: answers(url, png))
        assert find_pid(server, 2) != pid
        assert server.stop()[0] == 0


def test_a_worker_that_dies_costs_the_page_at_most_a_moment(repository_folder: Path, png: Png) -> None:
    with served(repository_folder, *start_flags(), "--workers", "2") as server:
        url = find_url(server)
        os.kill(server.worker_pids[0], signal.SIGKILL)
        codes = [ask(url, PATH, png(1)).code for _ in range(20)]
        assert codes == [200] * 20
        server.wait_for("is ready, process", 3)
        assert wait_until(lambda: answers(url, png))


def test_the_web_process_ends_with_a_supervisor_that_is_killed(repository_folder: Path) -> None:
    with served(repository_folder, *start_flags()) as server:
        pid = find_pid(server)
        server.process.kill()
        assert wait_until(lambda: not is_alive(pid))


def test_a_request_under_way_is_answered_when_the_server_stops(repository_folder: Path, png: Png) -> None:
    flags = ("--max-queue-delay-us", "1500000")
    with served(repository_folder, *start_flags(), *flags) as server:
        url = find_url(server)
        found: list[Answer] = []
        asking = threading.Thread(target=lambda: found.append(ask(url, PATH, png(1))))
        asking.start()
        time.sleep(0.5)
        assert server.stop()[0] == 0
        asking.join(30)
        assert [answer.code for answer in found] == [200]


def test_tokens_and_tls_of_the_server_are_those_of_the_page(repository_folder: Path, png: Png, tmp_path: Path) -> None:
    authority = Authority.make("authority")
    ca, _ = authority.write(tmp_path, "authority")
    cert, key = authority.sign().write(tmp_path)
    tokens = tmp_path / "tokens"
    tokens.write_text(f"alice {ALICES}\n")
    flags = ("--tls-cert", str(cert), "--tls-key", str(key), "--tokens", str(tokens))
    with served(repository_folder, *start_flags(), *flags) as server:
        url = find_url(server)
        assert ask(url, PATH, png(), {"Authorization": f"Bearer {ALICES}"}, trust=ca).code == 200
        assert ask(url, PATH, png(), trust=ca).code == 401
        assert ALICES not in "".join(server.lines)


def test_the_sockets_are_for_this_user_alone_and_go_in_the_end(repository_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "t"
    folder.mkdir()
    with served(repository_folder, *start_flags(), environment={"TMPDIR": str(folder)}) as server:
        find_url(server)
        places = [*folder.glob("inkling-*"), *Path("/dev/shm").glob("inkling-*")]  # noqa: S108
        mine = [place for place in places if place.stat().st_mtime > time.time() - 120]
        assert mine
        assert all(stat.S_IMODE(place.stat().st_mode) == 0o700 for place in mine)
        server.stop()
        assert not list(folder.glob("inkling-*"))


def test_a_taken_port_ends_the_start_with_4(repository_folder: Path) -> None:
    with served(repository_folder, *start_flags()) as first:
        port = find_url(first).rpartition(":")[2]
        with served(repository_folder, "--web-port", port, "--metrics-port", "0") as second:
            assert second.process.wait(60) == 4
            second.wait_for("--web-host, --web-port: cannot listen")


def test_every_line_is_json_if_that_is_wanted(repository_folder: Path, png: Png) -> None:
    with served(repository_folder, *start_flags(), "--log-format", "json") as server:
        url = server.wait_for(r"page on (\S+)/,")[0][1]
        ask(url, PATH, png())
        server.stop()
        assert all(isinstance(json.loads(line), dict) for line in server.lines)


def test_without_the_packages_the_start_says_what_to_install(repository_folder: Path, tmp_path: Path) -> None:
    """A finder in front of all others hides one of them."""
    hidden = tmp_path / "sitecustomize.py"
    hidden.write_text(
        "import importlib.util\n"
        "find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *rest: None if name == 'uvicorn' else find(name, *rest)\n"
    )
    path = os.pathsep.join([str(tmp_path), str(Path.cwd())])
    with served(repository_folder, *start_flags(), environment={"PYTHONPATH": path}) as server:
        assert server.process.wait(60) == 2
        server.wait_for(r"--web-port: uvicorn is not installed; install the extra \[web\]")
    shutil.rmtree(tmp_path)
