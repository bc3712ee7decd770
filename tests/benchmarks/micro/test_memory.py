import pytest

from benchmarks.micro._comparison import Unavailable
from benchmarks.micro._memory import bytes_each

MODULE = """
def known_size(_number):
    return bytearray(100_000)
"""


@pytest.fixture
def objects(tmp_path, monkeypatch):
    (tmp_path / "objects_of_known_size.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    return "objects_of_known_size"


def test_memory_of_a_known_size_is_found(objects):
    """100,000 bytes are measured as 100,000 and a little for the object and the allocator."""
    try:
        found = bytes_each(f"{objects}:known_size", 50)
    except Unavailable as reason:
        pytest.skip(f"cannot measure here: {reason}")
    assert 100_000 <= found < 101_000


def test_what_cannot_be_made_is_unavailable_with_the_reason(objects):
    """A factory that fails gives the reason, not a figure."""
    with pytest.raises(Unavailable, match="no_such_function"):
        bytes_each(f"{objects}:no_such_function", 2)
