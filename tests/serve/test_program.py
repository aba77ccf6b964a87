"""serve.program: a command prints any name, whatever stdout can encode."""

import os
import subprocess
import sys

PROGRAM = "from serve.program import prepare_streams; prepare_streams(); print('\\u732b \\udcff')"


def test_what_stdout_cannot_encode_is_escaped() -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "\\u732b \\udcff\n"), done.stderr
