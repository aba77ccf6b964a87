"""`python -m serve.process.worker`: one of many processes, started by `supervisor.py` and by nobody else.

Enters: the settings and its place among the workers, a line of JSON on stdin. Leaves: "ready" on stdout once it
serves; logs on stderr.
Ends when told by a signal, or when its stdin ends because the supervisor is gone.
"""

import asyncio
import json
import signal
import sys
from pathlib import Path

from serve.config import ServerConfig
from serve.errors import ConfigError
from serve.machine.cores import count_usable_cores
from serve.machine.event_loop import new_event_loop
from serve.machine.idle_cores import Neighbours
from serve.process.server import serve
from serve.process.startup import end
from serve.process.supervisor import READY_LINE
from serve.telemetry.logs import start_logging


def main() -> int:
    """Exit code 0 after a clean stop, 2 where it could not start."""
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # a terminal may be told to stop the process groups behind that log
    told = json.loads(sys.stdin.buffer.readline())
    config = ServerConfig(**told["settings"] | {"models": Path(told["settings"]["models"])})
    neighbours = Neighbours.at(count_usable_cores(), told["memory"], told["number"])
    start_logging(config.log_level)
    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(_serve(config, neighbours))
    except ConfigError as error:
        print(f"serve: {error}", file=sys.stderr)
        return 2
    return 0


async def _serve(config: ServerConfig, neighbours: Neighbours) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_reader(0, _notice_orphanage, stop)
    await serve(config, stop, _say_ready, neighbours)


def _notice_orphanage(stop: asyncio.Event) -> None:
    """The supervisor writes nothing more: stdin becomes readable when it ends, however it ends."""
    asyncio.get_running_loop().remove_reader(0)
    stop.set()


def _say_ready() -> None:
    sys.stdout.buffer.write(READY_LINE)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    end(main())
