import json

import attrs
import pytest

from benchmarks._elsewhere import elsewhere
from benchmarks.micro._report import figure, markdown, terminal
from benchmarks.micro._results import Environment, Results, Row, Skip, Table, from_json, to_json
from benchmarks.micro._runner import FULL, QUICK
from benchmarks.micro._targets import TARGETS


def run(python, *rows, skips=()):
    machine = ("CPython, GIL", "Linux x86_64", "a processor", 2)
    where = Environment(python, *machine, "tsc", "2026-01-02 03:04", {"peer": "1.0"}, "a timer")
    tables = (Table("async_breaker", "Async breaker", "About it.", rows, skips),)
    return Results(where, tables, "quick: 3 processes of 21 rounds, 0.4 ms a subject")


def breaker(value, ns=50.0):
    return Row("resilio circuit_breaker", value, "W", value * 0.9, value * 1.1, ns, "tsc", "", "async_breaker")


def test_records_survive_json():
    """What a worker writes is what the report reads."""
    results = run("3.13.0", breaker(0.5), skips=(Skip("peer", "not there"),))
    assert from_json(json.loads(json.dumps(to_json(results)))) == results


@pytest.mark.parametrize(
    ("python", "value", "mark"),
    [
        ("3.11.7", 0.40, "aim met"),
        ("3.11.7", 0.41, "must met"),
        ("3.11.7", 0.71, "MISSED"),
        ("3.12.1", 0.71, "must met"),
        ("3.13.0", 0.65, "aim met"),
        ("3.13.0", 1.01, "MISSED"),
    ],
)
def test_a_figure_is_marked_against_the_limits_of_its_python(python, value, mark):
    """3.11 has limits of its own; must and aim include their limit."""
    assert TARGETS["async_breaker"].mark(value, python) == mark
    assert mark in terminal([run(python, breaker(value))])


def test_a_target_that_nobody_measured_is_said():
    """A target without a figure reads "not measured", never nothing."""
    line = next(line for line in terminal([run("3.13.0", breaker(0.5))]).splitlines() if "quantile" in line)
    assert line.endswith("not measured")


def test_markdown_has_every_python_in_one_table():
    """Runs on several Pythons become columns; a subject that one lacks is said."""
    peer = Row("peer", 5.0, "W", 4.9, 5.1, 400.0, "monotonic", "a note")
    text = markdown([run("3.11.7", breaker(0.5), peer), run("3.13.0", breaker(0.6, 60.0))], "How.")
    assert "| resilio circuit_breaker | 0.50 W (50 ns) ±10 % | 0.60 W (60 ns) ±10 % | tsc |  |" in text
    assert "| peer | 5.00 W (400 ns) ±2 % | not measured | monotonic | a note |" in text
    assert "a processor, 2 processors, Linux x86_64 | peer 1.0" in text


def test_the_report_says_how_thorough_a_run_was_and_when() -> None:
    """Both forms: effort, rounds, the end of the run, and both clocks."""
    results = run("3.13.0", breaker(0.5))
    line = "| 3.13.0 | quick: 3 processes of 21 rounds, 0.4 ms a subject | 2026-01-02 03:04 | a timer | tsc |"
    assert line in markdown([results])
    first, *_ = terminal([results]).splitlines()
    assert "clock tsc, timed by a timer, 2026-01-02 03:04 UTC; quick: 3 processes of 21 rounds" in first


def test_plans_say_what_they_are() -> None:
    """The words of the report come from the figures of the plan."""
    assert str(FULL) == "full: 9 processes of 41 rounds, 1.5 ms a subject"
    assert str(QUICK).startswith("quick: 3 processes")


def test_skips_are_said_with_the_pythons_they_happened_on():
    """A skip on every Python is said once; one on some names them."""
    everywhere, once = Skip("peer", "no wheel"), Skip("other", "a reason")
    runs = [run("3.11.7", breaker(0.5), skips=(everywhere, once)), run("3.13.0", breaker(0.5), skips=(everywhere,))]
    text = terminal(runs)
    assert "skipped: peer: no wheel\n" in text
    assert "skipped: other: a reason (3.11.7)" in text


@pytest.mark.parametrize(
    ("row", "text"),
    [
        (Row("a", 0.567, "W", ns=51.4), "0.57 W (51 ns)"),
        (Row("a", 23.44, "ns"), "23.4 ns"),
        (Row("a", 1234.5, "ns"), "1,234 ns"),
        (Row("a", 4096.0, "bytes"), "4,096 B"),
        (Row("a", 16384.0, "bytes"), "16.0 KB"),
        (Row("a", 0.7812, "%"), "0.78 %"),
        (Row("a", 1.052, "x"), "1.05 x"),
    ],
)
def test_figures_are_written_with_their_unit(row, text):
    """Each unit has one way to be written."""
    assert figure(row) == text


def on(processor, value):
    """A run on a processor of that name."""
    results = run("3.13.0", breaker(value))
    return attrs.evolve(results, environment=attrs.evolve(results.environment, processor=processor))


def test_what_other_processors_met_stays_in_the_report(tmp_path):
    """The targets of the last run on each other processor follow the tables; those of this one are measured anew."""
    report = tmp_path / "RESULTS.md"
    assert elsewhere(report, "A") == ""
    for processor, value in [("A", 0.5), ("B", 1.5), ("A", 0.6), ("C", 0.7), ("C", 0.8)]:
        others = elsewhere(report, processor)
        report.write_text(markdown([on(processor, value)]) + others + "\n# Efficacy\n\n## R1 kept\n", encoding="utf-8")
    assert "## C" not in others
    a, b = others.index("\n## A\n"), others.index("\n## B\n")
    assert "0.60 W (50 ns): aim met" in others[a:b]
    assert "1.50 W (50 ns): MISSED" in others[b:]
    assert "0.50 W" not in others
    assert "Efficacy" not in others
    assert "Ended 2026-01-02 03:04 UTC." in others[a:b]
