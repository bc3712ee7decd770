"""Definitions that are made again at the same place: cells of notebooks, scripts that run again, modules reloaded."""

from __future__ import annotations

import importlib
import itertools
import logging
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from resilio import CircuitBreaker, RetryBudget, circuit_breaker, configure, keyed, registry
from resilio._registry import names as _names

Cell = Callable[[str], dict[str, Any]]


@pytest.fixture
def cell() -> Cell:
    """Run source as a cell of one notebook: one namespace without a file, code compiled anew, a name of its own."""
    names: dict[str, Any] = {"__name__": "__main__"}
    numbers = itertools.count(1)

    def run(source: str) -> dict[str, Any]:
        exec(compile(textwrap.dedent(source), f"/tmp/ipykernel_7/{next(numbers)}.py", "exec"), names)
        return names

    return run


@pytest.fixture
def script() -> Iterator[Callable[[Any, dict[str, Any]], dict[str, Any]]]:
    """Run compiled code as Streamlit does: the same code each time, in a new `__main__`."""
    before = sys.modules["__main__"]

    def run(code: Any, given: dict[str, Any]) -> dict[str, Any]:
        module = ModuleType("__main__")
        module.__dict__.update(given, __file__="/srv/app.py")
        sys.modules["__main__"] = module
        exec(code, module.__dict__)
        return module.__dict__

    yield run
    sys.modules["__main__"] = before


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Return what was logged about definitions made again."""
    caplog.set_level(logging.INFO, logger="resilio")
    return lambda: [text for text in caplog.messages if "defined again" in text]


# ---- notebooks -------------------------------------------------------------------------------------------------------


def test_a_cell_that_is_edited_and_run_again_changes_the_policy(cell: Cell, lines: Callable[[], list[str]]) -> None:
    """A cell run again with another number was a ValueError, and the only way out was to restart the kernel."""
    breaker = cell("import resilio; b = resilio.circuit_breaker('payments', open_for=2)")["b"]
    breaker.force_open()
    again = cell("\n\nb = resilio.circuit_breaker('payments', open_for=3)")["b"]
    assert again is breaker
    assert (breaker.config.open_for, breaker.state) == (3.0, "forced_open")
    assert len(lines()) == 1
    assert "circuit_breaker 'payments' is defined again at /tmp/ipykernel_7/2.py:3, before at" in lines()[0]
    assert "open_for=2.0 against 3.0; its state is kept" in lines()[0]


def test_a_cell_run_again_as_it_was_gives_the_same_policy_without_a_word(
    cell: Cell, lines: Callable[[], list[str]]
) -> None:
    """Options changed by hand stay too: nothing was said against them."""
    source = "import resilio; b = resilio.circuit_breaker('payments', failed_if=lambda answer: answer is None)"
    breaker = cell(source)["b"]
    configure({"payments": {"open_for": 2}})
    assert cell(source)["b"] is breaker
    assert (breaker.config.open_for, lines()) == (2.0, [])


def test_a_class_defined_again_is_what_the_policy_looks_for(cell: Cell) -> None:
    """The breaker of a cell with its exception class kept the old class, so it saw no failure after the second run."""
    source = """
        import resilio
        class Down(Exception): pass
        b = resilio.circuit_breaker('payments', on=Down, consecutive=1)
    """
    cell(source)
    names = cell(source)
    with pytest.raises(names["Down"]):
        names["b"].call(raising(names["Down"]))
    assert names["b"].state == "open"


def raising(kind: type[Exception]) -> Callable[[], None]:
    """Return a function that raises."""

    def fails() -> None:
        raise kind

    return fails


def test_a_helper_that_a_cell_calls_again_makes_the_definition_again(cell: Cell, tmp_path: Path) -> None:
    """The helper's code is the same; the cell around it is run anew."""
    helper = module(
        tmp_path, "their_helper", "import resilio\ndef make(**options): return resilio.circuit_breaker('h', **options)"
    )
    first = cell("import their_helper; b = their_helper.make(open_for=1)")["b"]
    assert cell("b = their_helper.make(open_for=2)")["b"] is first
    assert first.config.open_for == 2.0
    with pytest.raises(ValueError, match=r"open_for=2\.0 against 3\.0"):
        cell("their_helper.make(open_for=2); their_helper.make(open_for=3)")
    assert helper.make(open_for=2) is first


def test_one_run_with_two_definitions_is_rejected(cell: Cell) -> None:
    """Within one cell nothing is made again: two options for one name are a mistake."""
    with pytest.raises(ValueError, match=r"open_for=1\.0 against 2\.0"):
        cell("import resilio\nfor seconds in (1, 2): resilio.circuit_breaker('payments', open_for=seconds)")


def test_two_lambdas_of_one_line_are_two_definitions(cell: Cell) -> None:
    """The second took over the first one's breaker as if it were the same one, edited."""
    one, other = (f"lambda: resilio.circuit_breaker('x', open_for={seconds})" for seconds in (1, 2))
    source = f"import resilio\nmake = [{one}, {other}]"
    names = cell(source)
    first = names["make"][0]()
    with pytest.raises(ValueError, match=r"open_for=1\.0 against 2\.0"):
        names["make"][1]()
    assert cell(source)["make"][0]() is first


# ---- scripts that run again ------------------------------------------------------------------------------------------


def test_a_script_that_runs_again_gets_its_policies(
    script: Callable[[Any, dict[str, Any]], dict[str, Any]], lines: Callable[[], list[str]]
) -> None:
    """Streamlit runs the same code in a new namespace on each click; a slider that was moved was a ValueError."""
    code = compile("import resilio\nb = resilio.circuit_breaker('payments', open_for=seconds)", "/srv/app.py", "exec")
    breaker = script(code, {"seconds": 1})["b"]
    for seconds, told in ((1, 0), (2, 1), (2, 1), (1, 2)):
        assert script(code, {"seconds": seconds})["b"] is breaker
        assert (breaker.config.open_for, len(lines())) == (seconds, told)


# ---- reload ----------------------------------------------------------------------------------------------------------


def module(folder: Path, name: str, source: str) -> Any:
    """Import a module of this source, in this test only."""
    (folder / f"{name}.py").write_text(textwrap.dedent(source))
    sys.modules.pop(name, None)
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    return importlib.import_module(name)


def edit(reloaded: Any, source: str) -> Any:
    """Reload a module whose file was edited."""
    path = Path(reloaded.__file__)
    path.write_text(textwrap.dedent(source))
    for stale in path.parent.glob("__pycache__/*"):
        stale.unlink()  # by size and second it would pass for the same
    importlib.invalidate_caches()
    return importlib.reload(reloaded)


@pytest.fixture(autouse=True)
def _paths(tmp_path: Path) -> Iterator[None]:
    yield
    sys.path[:] = [one for one in sys.path if one != str(tmp_path)]


def test_a_reloaded_module_changes_its_policies_and_keeps_their_state(tmp_path: Path) -> None:
    """Lines have moved, and a policy that a function makes at its first call is made again too."""
    theirs = module(
        tmp_path,
        "their_policies",
        """
        import resilio
        b = resilio.circuit_breaker("payments", open_for=1)
        def pool(): return resilio.bulkhead(3, name="pool")
        """,
    )
    breaker, pool = theirs.b, theirs.pool()
    breaker.force_open()
    edit(
        theirs,
        """
        # a comment
        import resilio
        def pool(): return resilio.bulkhead(7, name="pool")
        b = resilio.circuit_breaker("payments", open_for=2)
        """,
    )
    assert theirs.b is breaker
    assert theirs.pool() is pool
    assert (breaker.config.open_for, breaker.state, pool.config.max_concurrent) == (2.0, "forced_open", 7)
    assert str(_names.place_of("payments")).endswith("their_policies.py:5")


def test_another_module_does_not_make_a_definition_again(tmp_path: Path) -> None:
    """Two modules that call one helper with different options mean two policies, or have made a mistake."""
    helper = "import resilio\ndef make(seconds): return resilio.circuit_breaker('shared', open_for=seconds)"
    module(tmp_path, "their_helper", helper)
    module(tmp_path, "one_user", "import their_helper; b = their_helper.make(1)")
    with pytest.raises(ValueError, match=r"open_for=1\.0 against 2\.0"):
        module(tmp_path, "other_user", "import their_helper; b = their_helper.make(2)")
    with pytest.raises(ValueError, match=r"open_for=1\.0 against 3\.0"):
        circuit_breaker("shared", open_for=3)


def test_options_by_configure_go_before_those_of_a_definition_made_again(cell: Cell) -> None:
    """What the operator has said of a name holds, as for the first definition."""
    configure({"payments": {"open_for": 0.5}})
    breaker = cell("import resilio; b = resilio.circuit_breaker('payments', open_for=2)")["b"]
    cell("b = resilio.circuit_breaker('payments', open_for=3, min_calls=7)")
    assert (breaker.config.open_for, breaker.config.min_calls) == (0.5, 7)


# ---- what cannot change ----------------------------------------------------------------------------------------------


def test_a_pipeline_of_other_policies_begins_anew(cell: Cell, lines: Callable[[], list[str]]) -> None:
    """It is made of its policies; those that have names keep their state in the new one."""
    first = cell("""
        import resilio
        b = resilio.circuit_breaker('payments')
        p = resilio.pipeline(b, resilio.bulkhead(3), name='both')
    """)["p"]
    first.policies[0].force_open()
    second = cell("p = resilio.pipeline(b, resilio.bulkhead(5), name='both')")["p"]
    assert second is not first
    assert registry.get("both") is second
    assert second.policies[0].state == "forced_open"
    assert [line.rpartition("; ")[2] for line in lines()] == ["it begins anew"]


def test_a_standard_stack_defined_again_keeps_its_parts(cell: Cell, lines: Callable[[], list[str]]) -> None:
    """One line for the stack, none for each part that has changed with it."""
    first = cell("import resilio; s = resilio.standard('payments', on=OSError)")["s"]
    breaker = registry.get("payments.circuit_breaker", CircuitBreaker)
    breaker.force_open()
    second = cell("s = resilio.standard('payments', on=OSError, attempts=5)")["s"]
    assert second is not first
    assert (breaker.state, registry.get("payments.retry").config.attempts) == ("forced_open", 5)
    assert breaker in second.policies
    assert len(lines()) == 1
    assert "pipeline 'payments'" in lines()[0]


def test_a_keyed_policy_keeps_its_keys_while_its_factory_stays(cell: Cell) -> None:
    """Another bound changes in place; another factory means other policies."""
    source = (
        "import resilio; k = resilio.keyed(lambda: resilio.bulkhead({size}), key='host', max_keys={keys}, name='k')"
    )
    first = cell(source.format(size=3, keys=10))["k"]
    inside = first["a"]
    assert cell(source.format(size=3, keys=20))["k"] is first
    assert (first.config.max_keys, first["a"]) == (20, inside)
    other = cell(source.format(size=5, keys=20))["k"]
    assert other is not first
    assert other["a"].config.max_concurrent == 5


def test_a_gate_of_ones_own_is_another_policy_when_its_object_is_another(cell: Cell) -> None:
    """The state is in the object."""
    source = """
        import resilio
        class Gate:
            def admit(self, call): ...
            def settle(self, call, outcome, seconds): ...
        gate = Gate()
        g = resilio.custom_gate(gate, name='mine', kind='quota')
    """
    first = cell(source)["g"]
    assert cell("g = resilio.custom_gate(gate, name='mine', kind='quota', enforce=False)")["g"] is first
    assert first.config.enforce == 0.0
    assert cell(source)["g"] is not first
    assert registry.get("quota:mine") is not first


def test_a_budget_defined_again_keeps_its_balance(cell: Cell) -> None:
    """Retries do not get new money by running a cell."""
    budget = cell("import resilio; b = resilio.RetryBudget('shared', initial=3)")["b"]
    assert budget.withdraw()
    assert cell("b = resilio.RetryBudget('shared', initial=3, cap=9)")["b"] is budget
    assert (budget.config.cap, budget.balance) == (9.0, pytest.approx(2.0, abs=0.1))
    assert isinstance(budget, RetryBudget)


# ---- forgetting ------------------------------------------------------------------------------------------------------


def test_a_name_that_is_forgotten_is_free() -> None:
    """Its policy lives on for those who hold it; the next definition makes another, with what configure has said."""
    first = circuit_breaker("payments", open_for=1)
    configure({"payments": {"min_calls": 7}})
    registry.forget("payments")
    with pytest.raises(LookupError, match="no policy is named 'payments'"):
        registry.get("payments")
    with pytest.raises(LookupError, match="no policy is named 'payments'"):
        registry.forget("payments")
    second = circuit_breaker("payments", open_for=2)
    assert second is not first
    assert second.config.min_calls == 7
    assert first.call(int) == 0


def test_a_shared_name_is_forgotten_with_its_kind() -> None:
    """A bare name would forget more than was meant."""
    kept = RetryBudget("payments")
    circuit_breaker("payments")
    with pytest.raises(LookupError, match=r"write 'retry_budget:payments' or 'circuit_breaker:payments'"):
        registry.forget("payments")
    registry.forget("circuit_breaker:payments")
    assert registry.get("payments") is kept


def test_a_forgotten_standard_stack_takes_its_parts_along(cell: Cell) -> None:
    """Its parts have names that only it has given."""
    cell("import resilio; resilio.standard('payments', on=OSError)")
    other = keyed(circuit_breaker, key="host", name="payments2.keys")
    registry.forget("payments")
    assert [name for name in ("payments.retry", "payments.budget") if name in str(_names.everything())] == []
    assert registry.get("payments2.keys") is other
