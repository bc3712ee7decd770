"""The servers that tests start end with the test, however that ends."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest
from servers.processes import _alive
from serving.sockets import until

PROGRAM = """
import json, sys, time
from servers.postgres import Postgres

server = Postgres()
server.__enter__()
server.pause()
print(json.dumps([str(server.folder), server.pids()]), flush=True)
time.sleep(600)
"""


@pytest.mark.real(1.5)
def test_a_paused_server_ends_with_the_test_that_was_killed() -> None:
    """Processes of PostgreSQL that are stopped by a signal would outlive a killed test: they are ended as well."""
    if not (shutil.which("postgres") or os.path.isdir("/usr/lib/postgresql")):  # noqa: PTH112
        pytest.skip("postgres is missing: apt install postgresql")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen([sys.executable, "-c", PROGRAM], env=environment, stdout=subprocess.PIPE) as test:
        folder, pids = json.loads(test.stdout.readline())
        assert len(pids) > 3
        test.kill()
    until(lambda: not any(_alive(pid) for pid in pids))
    shutil.rmtree(folder)
