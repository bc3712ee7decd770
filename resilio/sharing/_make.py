"""`host()`: a group of processes by name."""

from __future__ import annotations

import re
from pathlib import Path

from resilio._options.validators import policy_name, positive_int, reject
from resilio.sharing._host import Host, hosts
from resilio.sharing._naming import absolute, default_directory, default_name

__all__ = ["host"]

WORKERS = 64
SIZE = 4 << 20
SMALLEST, LARGEST = 64 << 10, 64 << 30
_UNITS = {"": 1, "b": 1, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30}
_SIZE = re.compile(r"\s*(\d+)\s*([a-z]*)\s*", re.IGNORECASE)


def host(
    name: str | None = None,
    *,
    directory: str | Path | None = None,
    workers: int = WORKERS,
    size: int | str | None = None,
) -> Host:
    """
    Return a group of processes of this host, whose policies share their state: `scope=host("shop")`.

    Processes with the same name and directory, and the same user, are one group. `scope="host"` is the group without
    any of these options. The same name and directory give the same object.

    Args:
        name: The name of the group. None: `RESILIO_HOST_NAME`, else one made of the user, the interpreter, the program,
            the arguments that name an application, and the working directory: workers of one service find each other,
            and two services do not meet.

        directory: The directory of the memory, an absolute path on this machine and in memory (tmpfs); made if it does
            not exist and its parent does. Others must not be able to write to it. None: `RESILIO_SHARED_DIR`, else
            "resilio" in `XDG_RUNTIME_DIR`, else a directory of this user in `/dev/shm`.

        workers: The most processes that share, 1 to 64; those beyond have a state of their own.

        size: Bytes of the memory, as a number or like "4MiB"; the first process decides. None: 4 MiB, and more when
            policies need it, up to 1 GiB. A breaker takes 12.5 KiB, an adaptive limit 126 KiB, a keyed limit 22 bytes
            for each of `max_keys`, a bulkhead up to 64 bytes a permit.

    Raises:
        TypeError: An option of a wrong type; the message names it and the value.

        ValueError: An option out of range, or another number of workers or size than before.
    """
    given = default_name() if name is None else policy_name("name", name)
    where = default_directory() if directory is None else _directory(directory)
    slots, most = positive_int("workers", workers, high=WORKERS), SIZE if size is None else _bytes(size)
    made = Host(str(given), where, slots, most, grows=size is None)
    found = hosts.setdefault(made.path, made)
    if (found.workers, found.size, found.grows) != (slots, most, made.grows):
        raise ValueError(
            f"{found!r} has workers={found.workers} and size={found.size}, not workers={slots} and size={most}: "
            "use another name, or the same options"
        )
    return found


def _directory(value: object) -> Path:
    if not isinstance(value, (str, Path)) or not str(value):
        reject("directory", value, "a path, or None", TypeError)
    return absolute("directory", Path(value))


def _bytes(value: object) -> int:
    found = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if found is not None and found[2].lower() in _UNITS:
        value = int(found[1]) * _UNITS[found[2].lower()]
    if isinstance(value, bool) or not isinstance(value, int):
        reject(
            "size", value, "bytes as an int, or a text like '4MiB'", ValueError if isinstance(value, str) else TypeError
        )
    if not SMALLEST <= value <= LARGEST:
        reject("size", value, "from 64KiB to 64GiB")
    return value
