"""Names: one policy a name, configuration by name, and what is forgotten when."""

from __future__ import annotations

import gc
import pickle
import subprocess
import sys
import textwrap
import threading
import weakref

import pytest

from resilio import (
    CircuitBreaker,
    RateLimit,
    RetryBudget,
    bulkhead,
    circuit_breaker,
    configure,
    fallback,
    pipeline,
    rate_limit,
    registry,
    retry,
    standard,
)
from resilio._registry import names

# ---- lists ----------------------------------------------------------------------------------------------------------


def test_a_policy_may_go_while_all_are_listed() -> None:
    """
    Without the GIL a finaliser in another thread removed its policy in the midst of it: "dictionary changed size".

    Here the finaliser runs between two references of the list.
    """
    kept, going = circuit_breaker(), circuit_breaker()

    class Goes:
        def __call__(self) -> None:
            names.unnamed.data.pop(id(going), None)

    before = dict(names.unnamed.data)
    names.unnamed.data.clear()  # the one that goes first, so that more follow
    names.unnamed.data[0] = Goes()  # type: ignore[assignment]
    names.unnamed.data |= before
    try:
        assert kept in registry.all()
        assert id(going) not in names.unnamed.data
    finally:
        del names.unnamed.data[0]


# ---- names --------------------------------------------------------------------------------------------------------


def test_the_same_name_and_options_give_the_same_policy() -> None:
    """A name identifies one policy, however its options are written."""
    first = circuit_breaker("payments", open_for=2, window=(100, "60s"))
    assert circuit_breaker("payments", open_for=2.0, window=["60s", 100]) is first
    assert registry.get("payments") is first


def test_other_options_under_a_name_are_rejected_with_both_places() -> None:
    """The error says what differs, where the policy was made, and where it was asked for again."""
    circuit_breaker("payments", open_for=2)
    with pytest.raises(ValueError, match=r"open_for=2\.0 against 3\.0") as error:
        circuit_breaker("payments", open_for=3)
    assert str(error.value).count(__file__) == 2


def test_policies_of_several_kinds_share_a_name() -> None:
    """`retry("payments")` beside `circuit_breaker("payments")` was rejected: a name is unique within a kind."""
    breaker, pool, budget = circuit_breaker("payments"), bulkhead(5, name="payments"), RetryBudget("payments")
    assert circuit_breaker("payments") is breaker
    assert [policy for policy in registry.all() if policy.name == "payments"] == [breaker, pool]
    assert registry.get("payments", CircuitBreaker) is breaker
    assert registry.get("bulkhead:payments") is pool
    assert registry.get("payments", RetryBudget) is budget
    with pytest.raises(
        LookupError, match=r"3 policies are named 'payments' \(circuit_breaker, bulkhead, retry_budget\)"
    ):
        registry.get("payments")
    with pytest.raises(LookupError, match="no policy is named 'payments'"):
        registry.get("payments", RateLimit)
    with pytest.raises(TypeError, match="kind must be the class"):
        registry.get("payments", "bulkhead")  # type: ignore[call-overload]
    assert [pickle.loads(pickle.dumps(one)) for one in (breaker, pool, budget)] == [breaker, pool, budget]


def test_a_pipeline_and_a_standard_stack_are_of_one_kind() -> None:
    """Both are shown as a pipeline, so one name cannot be both."""
    pipeline(circuit_breaker(), name="payments")
    with pytest.raises(ValueError, match="Pipeline against Standard"):
        standard("payments", on=OSError)


def test_a_name_may_have_a_colon() -> None:
    """What is written as kind and name is first looked for as a name."""
    odd, pool = circuit_breaker("bulkhead:a"), bulkhead(3, name="b")
    assert registry.get("bulkhead:a") is odd
    assert registry.get("bulkhead:b") is pool
    configure({"bulkhead:a": {"open_for": 1}})
    assert odd.config.open_for == 1.0


def test_functions_among_the_options_are_the_same_if_they_are_one_definition() -> None:
    """A factory that is called again, with its lambda and the same variables around it, asks for the same policy."""

    def client(status: int, name: str = "payments") -> object:
        return circuit_breaker(name, failed_if=lambda result: result >= status)

    assert client(500) is client(500)
    with pytest.raises(ValueError, match="failed_if"):
        client(400)
    with pytest.raises(ValueError, match="failed_if"):
        circuit_breaker("payments", failed_if=len)


def test_bad_names_are_rejected() -> None:
    """A name is a short printable string."""
    for name in ("", " x", "a\n", "x" * 201):
        with pytest.raises(ValueError, match="name must be"):
            circuit_breaker(name)
    with pytest.raises(TypeError, match="name must be"):
        circuit_breaker(3)


def test_a_named_policy_stays_and_an_unnamed_one_goes() -> None:
    """Named ones are kept for their state; unnamed ones live as long as somebody uses them."""
    before = {id(policy) for policy in registry.all()}  # what earlier tests left, while it waits for the collector

    def made_here() -> list[tuple[str | None, object]]:
        return [(policy.name, policy) for policy in registry.all() if id(policy) not in before]

    kept, unnamed = circuit_breaker("kept"), circuit_breaker()
    assert made_here() == [("kept", kept), (None, unnamed)]
    gone = weakref.ref(unnamed)
    del unnamed
    gc.collect()
    assert gone() is None
    assert made_here() == [("kept", kept)]
    assert registry.get("kept")


def test_an_unnamed_policy_is_called_after_the_first_function_it_guards() -> None:
    """Module and qualified name, once."""
    policy = circuit_breaker()
    assert policy.name is None

    @policy
    def first() -> None: ...

    @policy
    def second() -> None: ...

    assert policy.name == f"{__name__}.{first.__qualname__}"
    assert registry.get(policy.name) is policy
    assert second is not first


def test_a_name_that_nobody_or_several_have_is_told() -> None:
    """get says what is known, and asks for names where one function has two unnamed policies."""
    circuit_breaker("payments")
    with pytest.raises(LookupError, match="payments"):
        registry.get("payment")
    inner, outer = bulkhead(3), circuit_breaker()

    @outer
    @inner
    def call() -> None: ...

    with pytest.raises(LookupError, match="give them names"):
        registry.get(inner.name)
    assert call() is None


def test_clear_forgets_names_and_not_policies() -> None:
    """After clear a name is free, and who holds the policy may go on using it."""
    first = circuit_breaker("payments", open_for=1)
    registry.clear()
    assert registry.all() == ()
    assert circuit_breaker("payments", open_for=2) is not first
    assert first.call(lambda: 1) == 1


def test_threads_that_ask_at_once_get_one_policy() -> None:
    """There is no moment in which a name has two policies."""
    barrier, found = threading.Barrier(8), []

    def ask() -> None:
        barrier.wait()
        found.append(circuit_breaker("raced", open_for=3))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(map(id, found))) == 1


def test_pipelines_have_names_too() -> None:
    """The same policies in the same order are the same pipeline."""
    a, b = circuit_breaker("a"), bulkhead(3, name="b")
    assert pipeline(a, b, name="both") is pipeline(a, b, name="both")
    with pytest.raises(ValueError, match="policies"):
        pipeline(a, name="both")


# ---- pickling -----------------------------------------------------------------------------------------------------


def test_a_named_policy_is_pickled_by_name() -> None:
    """It arrives as the policy of that name."""
    policy = circuit_breaker("payments")
    assert pickle.loads(pickle.dumps(policy)) is policy


def test_an_unnamed_policy_is_not_pickled() -> None:
    """There is nothing by which another process could know it."""
    with pytest.raises(TypeError, match="give it a name"):
        pickle.dumps(circuit_breaker())


def test_another_process_imports_the_module_that_makes_the_policy(tmp_path) -> None:
    """Unpickling in a process that has not imported the module finds its policy all the same."""
    (tmp_path / "their_policies.py").write_text("import resilio\npayments = resilio.circuit_breaker('payments')\n")
    script = f"""
        import pickle, sys
        sys.path.insert(0, {str(tmp_path)!r})
        if len(sys.argv) == 1:
            import their_policies
            print(pickle.dumps(their_policies.payments).hex())
        else:
            print(pickle.loads(bytes.fromhex(sys.argv[1])).name, "their_policies" in sys.modules)
    """

    def run(*args: str) -> str:
        command = [sys.executable, "-c", textwrap.dedent(script), *args]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    assert run(run()) == "payments True"


def test_a_name_that_the_module_does_not_make_is_a_lookup_error() -> None:
    """What another process has configured otherwise is told, not guessed."""
    pickled = pickle.dumps(circuit_breaker("gone"))
    registry.clear()
    with pytest.raises(LookupError, match="gone"):
        pickle.loads(pickled)


# ---- configure ----------------------------------------------------------------------------------------------------


def test_configure_changes_options_by_name_and_keeps_the_state() -> None:
    """An open breaker stays open under its new options."""
    breaker, limit = circuit_breaker("payments"), bulkhead(3, name="pool")
    breaker.force_open()
    configure({"payments": {"open_for": 0.5, "min_calls": 5}, "pool": {"max_concurrent": 7}})
    assert (breaker.config.open_for, breaker.config.min_calls, limit.config.max_concurrent) == (0.5, 5, 7)
    assert (breaker.state, limit.snapshot().limit) == ("forced_open", 7)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"pool": {"max_concurrent": 0}}, ValueError, "bulkhead 'pool': max_concurrent must be .* not 0"),
        ({"pool": {"max_konkurrent": 5}}, TypeError, "no option 'max_konkurrent' .*; there are: .*max_concurrent"),
        ({"pool": {"max_concurrent": "5"}}, TypeError, "max_concurrent must be"),
        ({"pool": 5}, TypeError, "the options of 'pool' must be a mapping"),
        ({"later": {"max_konkurrent": 5}}, TypeError, "'later': no policy has an option 'max_konkurrent'"),
        ({"pool": {"max_concurent": 5}}, TypeError, r"'max_concurent' \(did you mean 'max_concurrent'\?\)"),
        (
            {"later": {"failur_rate": 0.5}},
            TypeError,
            r"'failur_rate' \(did you mean 'failure_rate'\?\)",
        ),
        ({"later": {"retry": {"attempts": 5}}}, TypeError, r"'later' has no table 'retry': .* \[.later.retry.\]"),
        ({"new": {"budget": {"cap": 5}}}, TypeError, r"'new' has no table 'budget': .* \[.new.budget.\]"),
        ({3: {}}, TypeError, "a policy's name must be a string"),
        ({"": {}}, ValueError, "a policy's name must be None or a printable string"),
        ({" pool": {}}, ValueError, "a policy's name must be None or a printable string"),
        ({"pool": {3: 5}}, TypeError, "an option of 'pool' must be a string"),
        ({"both": {"policies": ()}}, TypeError, "a pipeline has no options"),
    ],
)
def test_configure_is_all_or_nothing(options, error, message) -> None:
    """One rejection, and nothing has changed: not the others, and not what later names begin with."""
    breaker, limit = circuit_breaker("payments"), bulkhead(3, name="pool")
    pipeline(breaker, limit, name="both")
    RetryBudget("new.budget")
    before = (breaker.config, limit.config)
    with pytest.raises(error, match=message):
        configure({"payments": {"open_for": 0.5}, "new": {"open_for": 0.5}, **options})
    assert (breaker.config, limit.config) == before
    assert circuit_breaker("new").config.open_for == 0.2


def test_an_option_may_be_a_mapping() -> None:
    """What a fallback answers, for one."""
    empty = fallback(on=OSError, default=None, name="empty")
    configure({"empty": {"default": {"items": []}}})
    assert empty.config.default == {"items": []}


def test_configure_takes_a_mapping() -> None:
    """And says so."""
    with pytest.raises(TypeError, match=r"options must be a mapping .* not 5"):
        configure(5)  # type: ignore[arg-type]


def test_configure_rolls_back_if_a_gate_rejects(monkeypatch) -> None:
    """Also a failure in the middle of applying leaves all as it was."""
    breaker, limit = circuit_breaker("payments"), bulkhead(3, name="pool")
    swap = type(limit)._swap

    def fails_once(self, config):
        monkeypatch.setattr(type(limit), "_swap", swap)
        raise RuntimeError("no")

    monkeypatch.setattr(type(limit), "_swap", fails_once)
    with pytest.raises(RuntimeError):
        configure({"payments": {"open_for": 0.5}, "pool": {"max_concurrent": 7}})
    assert (breaker.config.open_for, limit.config.max_concurrent) == (0.2, 3)


def test_configure_reaches_names_made_later() -> None:
    """The options wait for the name; what is declared in the code is still what identifies it."""
    configure({"later": {"open_for": 0.5}})
    configure({"later": {"min_calls": 7}})
    policy = circuit_breaker("later", open_for=2)
    assert (policy.config.open_for, policy.config.min_calls) == (0.5, 7)
    assert circuit_breaker("later", open_for=2) is policy
    with pytest.raises(ValueError, match=r"open_for=2\.0 against 0\.5"):
        circuit_breaker("later", open_for=0.5)


def test_options_that_do_not_fit_the_kind_made_later_are_rejected_there() -> None:
    """Whose kind was unknown is checked when it is made, and the error says where the option came from."""
    configure({"later": {"max_concurrent": 5}})
    with pytest.raises(TypeError, match=r"configure\(\) for 'later': no option 'max_concurrent'"):
        circuit_breaker("later")
    configure({"bad": {"open_for": -1}})
    with pytest.raises(ValueError, match=r"configure\(\) for 'bad': open_for must be"):
        circuit_breaker("bad")


def test_reconfigured_options_survive_asking_for_the_policy_again() -> None:
    """Who asks again with the declared options gets the policy as it is now."""
    policy = circuit_breaker("payments")
    policy.reconfigure(open_for=1)
    assert circuit_breaker("payments").config.open_for == 1.0


def test_an_option_is_turned_off_by_the_word_none() -> None:
    """TOML and the environment have no None, so `consecutive` and its like could be changed and never turned off."""
    breaker = circuit_breaker("payments")
    configure(registry.from_env(environ={"RESILIO__PAYMENTS__CONSECUTIVE": "none"}))
    configure({"payments": {"slow_call": "none"}})
    assert (breaker.config.consecutive, breaker.config.slow_call) == (None, None)
    with pytest.raises(ValueError, match="leave no rule that opens the breaker"):
        configure({"payments": {"failure_rate": "none"}})
    assert breaker.config.failure_rate == 0.9


def test_a_shared_name_is_configured_with_its_kind() -> None:
    """A bare name would change whichever policy came first, so it is rejected with the kinds that share it."""
    breaker, again = circuit_breaker("payments"), retry(on=OSError, name="payments")
    configure({"circuit_breaker:payments": {"open_for": 0.5}, "retry:payments": {"attempts": 7}})
    assert (breaker.config.open_for, again.config.attempts) == (0.5, 7)
    with pytest.raises(
        ValueError, match=r"2 policies are named 'payments' \(circuit_breaker, retry\): write 'circuit_b"
    ):
        configure({"payments": {"open_for": 1}, "retry:payments": {"attempts": 2}})
    assert (breaker.config.open_for, again.config.attempts) == (0.5, 7)


def test_what_is_said_of_one_kind_is_not_taken_by_another_that_comes_later() -> None:
    """With its kind an option waits for its policy; a bare one goes to the first, and a second kind is rejected."""
    configure({"retry:search": {"attempts": 7}, "payments": {"on": OSError}})
    assert circuit_breaker("search").config.consecutive == 10
    assert retry(on=OSError, name="search").config.attempts == 7
    assert circuit_breaker("payments").config.on == (OSError,)
    with pytest.raises(ValueError, match="write 'circuit_breaker:payments' or 'retry:payments'"):
        retry(on=KeyError, name="payments")


def test_a_bare_name_that_was_clear_stays_with_its_policy() -> None:
    """Options for the one policy of a name are no claim on another kind that is made later."""
    breaker = circuit_breaker("payments")
    configure({"payments": {"open_for": 0.5}})
    assert retry(on=OSError, name="payments").config.attempts == 3
    assert breaker.config.open_for == 0.5


def test_names_that_never_come_up_are_pending() -> None:
    """A misspelt name in a file of options was remembered for ever without a word."""
    circuit_breaker("payments")
    configure({"payments": {"open_for": 0.5}, "paymants": {"open_for": 0.5}, "bulkhead:later": {"max_concurrent": 4}})
    assert registry.pending() == {"paymants": {"open_for": 0.5}, "bulkhead:later": {"max_concurrent": 4}}
    assert bulkhead(3, name="later").config.max_concurrent == 4
    circuit_breaker("paymants")
    assert registry.pending() == {}
    registry.forget("paymants")
    assert registry.pending() == {"paymants": {"open_for": 0.5}}


def test_strict_rejects_names_that_no_policy_has() -> None:
    """At the end of a start all names are known: one that is not is misspelt, and nothing is changed."""
    breaker = circuit_breaker("payments")
    with pytest.raises(ValueError, match=r"no policy is named 'paymants' \(did you mean 'payments'\?\)"):
        configure({"payments": {"open_for": 0.5}, "paymants": {"open_for": 0.5}}, strict=True)
    assert (breaker.config.open_for, registry.pending()) == (0.2, {})
    configure({"payments": {"open_for": 0.5}}, strict=True)
    assert breaker.config.open_for == 0.5


# ---- the environment ----------------------------------------------------------------------------------------------


def test_from_env_reads_toml_values_and_plain_strings() -> None:
    """Numbers, booleans and arrays as in TOML; what is none is a string."""
    environ = {
        "RESILIO__PAYMENTS__OPEN_FOR": "0.5",
        "RESILIO__PAYMENTS__WINDOW": '[200, "60s"]',
        "RESILIO__PAYMENTS__ENFORCE": "false",
        "RESILIO__SEARCH__WINDOW": "30s",
        "OTHER": "x",
    }
    assert registry.from_env(environ=environ) == {
        "payments": {"open_for": 0.5, "window": [200, "60s"], "enforce": False},
        "search": {"window": "30s"},
    }


def test_from_env_finds_names_with_other_signs() -> None:
    """A name in capitals is the known policy that it spells; a name in mixed case is itself."""
    policy = circuit_breaker("Payments-API.v2")
    environ = {"RESILIO__PAYMENTS_API_V2__OPEN_FOR": "0.5", "RESILIO__Mixed_a__OPEN_FOR": "1"}
    found = registry.from_env(environ=environ)
    assert found == {"Payments-API.v2": {"open_for": 0.5}, "Mixed_a": {"open_for": 1}}
    configure(found)
    assert policy.config.open_for == 0.5


def test_from_env_reads_the_process_environment(monkeypatch) -> None:
    """By default from os.environ, under a prefix of one's choice."""
    monkeypatch.setenv("MY__PAYMENTS__OPEN_FOR", "0.25")
    assert registry.from_env("MY__") == {"payments": {"open_for": 0.25}}


@pytest.mark.parametrize("variable", ["RESILIO__PAYMENTS", "RESILIO____OPEN_FOR", "RESILIO__PAYMENTS__"])
def test_from_env_rejects_what_it_cannot_read(variable: str) -> None:
    """A variable with the prefix that names no option is a mistake, not something to skip."""
    with pytest.raises(ValueError, match=variable):
        registry.from_env(environ={variable: "1"})


def test_from_env_takes_a_kind_before_the_name() -> None:
    """Names of variables have no colon."""
    circuit_breaker("payments-api"), retry(on=OSError, name="payments-api")
    environ = {
        "RESILIO__CIRCUIT_BREAKER__PAYMENTS_API__OPEN_FOR": "0.5",
        "RESILIO__RETRY__PAYMENTS_API__ATTEMPTS": "7",
        "RESILIO__RETRY__LATER__ATTEMPTS": "7",
    }
    found = registry.from_env(environ=environ)
    assert found == {
        "circuit_breaker:payments-api": {"open_for": 0.5},
        "retry:payments-api": {"attempts": 7},
        "retry:later": {"attempts": 7},
    }
    configure(found)
    assert registry.get("circuit_breaker:payments-api").config.open_for == 0.5


def test_a_rate_limit_is_configured_from_strings() -> None:
    """What TOML can say suffices for the options of a rate limit."""
    limit = rate_limit("10/s", name="api")
    configure(registry.from_env(environ={"RESILIO__API__MAX_WAIT": "2", "RESILIO__API__RATES": '["20/s"]'}))
    assert limit.config.max_wait == 2.0
