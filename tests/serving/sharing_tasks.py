"""A celery application whose children make a shared call when they start, and write what they saw."""

from __future__ import annotations

import json
import os
from pathlib import Path

from celery import Celery
from celery.signals import worker_process_init

from serving.sharing_app import worker

app = Celery("sharing", broker="memory://")


@worker_process_init.connect
def report(**_: object) -> None:
    """Write what this child of the pool sees."""
    Path(os.environ["RESILIO_TEST_FOLDER"], f"child-{os.getpid()}").write_text(json.dumps(worker.call()))
