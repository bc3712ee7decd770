"""The page in a real browser: what it shows of real policies, operations, a lost connection, dark, light, a phone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from oracles.browser import Page, browser, missing
from resilio import bulkhead, circuit_breaker, keyed, pipeline, rate_limit, retry

pytest.importorskip("uvicorn", reason="uvicorn is not installed")
if missing() is not None:
    pytest.skip(missing() or "", allow_module_level=True)

from resilio.live import live
from resilio.live._serve import listen, serving

TOKEN = "correct horse battery staple"
pytestmark = [
    pytest.mark.slow,
    # selenium leaves the sockets to its driver for the collector
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]


def boom() -> None:
    raise OSError("boom")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Page]:
    with browser() as page:
        yield page


@pytest.fixture
def page(chromium: Page) -> Iterator[Page]:
    """A window of a desktop's size in a light scheme, with nothing remembered."""
    chromium.size(1400, 900)
    chromium.scheme("light")
    yield chromium
    chromium.driver.get("about:blank")


@pytest.fixture
def served() -> Iterator[str]:
    with serving(live(token=TOKEN, interval=0.1), listen("127.0.0.1", 0)) as port:
        yield f"http://127.0.0.1:{port}/"


def contrast(page: Page) -> list[tuple[str, float]]:
    """All texts whose contrast to what is behind them is less than 4.5, as WCAG counts it."""
    return page.run(
        """
        const parse = (text) => text.match(/[\\d.]+/g).map(Number);
        const linear = (v) => v / 255 <= .03928 ? v / 255 / 12.92 : ((v / 255 + .055) / 1.055) ** 2.4;
        const light = ([r, g, b]) => .2126 * linear(r) + .7152 * linear(g) + .0722 * linear(b);
        const behind = (node) => {
          for (; node; node = node.parentElement) {
            const colour = parse(getComputedStyle(node).backgroundColor);
            if (colour.length < 4 || colour[3] > 0) return colour;
          }
          return [255, 255, 255];
        };
        const bad = [];
        for (const node of document.querySelectorAll("body *")) {
          const says = [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
          if (!says || !node.checkVisibility()) continue;
          if (node.closest(".hidden, .skip, noscript, option, [disabled]")) continue;
          const [a, b] = [light(parse(getComputedStyle(node).color)), light(behind(node))];
          const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
          if (ratio < 4.5) bad.push([`${node.tagName}.${node.className}: ${node.textContent.slice(0, 30)}`, ratio]);
        }
        return bad;
        """
    )


def test_the_page_shows_what_the_policies_do(page: Page, served: str) -> None:
    """States, loads, rates, latencies, reasons and events are those of the policies, problems first."""
    long = {"open_for": 600.0, "max_open_for": 600.0}
    breaker, pool = circuit_breaker("payments", consecutive=2, **long), bulkhead(3, name="pool")
    hosts = keyed(lambda: circuit_breaker(consecutive=1, **long), key=lambda host: host, name="hosts")
    circuit_breaker("a calm one")
    guarded = hosts(lambda host: boom())
    page.open(served)
    page.until(lambda: "payments" in page.rows())
    assert page.rows()["payments"]["state"] == page.rows()["pool"]["state"] == "healthy"
    breaker.try_call(boom)
    breaker.try_call(boom)
    for host in ("one", "two"):
        with pytest.raises(OSError, match="boom"):
            guarded(host)
    permits = [pool.acquire() for _ in range(3)]

    def shown() -> Any:
        """What is on the page once it has all of it; what is rejected is shown for a while only."""
        breaker.try_call(int)
        pool.try_call(int)
        rows = page.rows()
        rejected = rows["payments"]["line"].startswith("open: 2 against 2") and float(rows["pool"]["rejected"]) > 0
        return rows if rejected and rows["hosts"]["state"] == "2 of 2 open" else None

    rows = page.until(shown)
    assert list(rows)[:2] == ["hosts", "payments"]
    assert rows["payments"]["state"] == "open"
    assert "opened\N{NO-BREAK SPACE}1\N{MULTIPLICATION SIGN}" in rows["payments"]["since"]
    assert (rows["pool"]["state"], rows["pool"]["load"]) == ("rejecting", "3 of 3")
    assert list(rows)[-1] == "a calm one"
    assert page.text("#sum-policies") == "4"
    page.until(lambda: int(page.text("#sum-problems")) >= 2 and page.driver.title.startswith("("))
    events = page.text("#events")
    assert "payments closed → open (consecutive)" in events.replace("\n", " ")
    assert "key #" in events
    for permit in permits:
        permit.success()
    page.until(lambda: page.rows()["pool"]["load"] == "0 of 3")
    assert page.complaints() == []


def test_details_have_options_reasons_and_parts(page: Page, served: str) -> None:
    """A row opens by mouse and by keyboard, closes by Escape, and gives the focus back."""
    breaker = circuit_breaker("payments")
    pipeline(breaker, bulkhead(3, name="pool"), name="checkout")
    breaker.force_open()
    breaker.try_call(int)
    page.open(served)
    page.select("payments")
    detail = page.text("#detail")
    for part in (
        "circuit breaker",
        "REJECTIONS BY REASON",
        "forced open",
        "OPTIONS",
        "failure_rate",
        "200 calls and 60 s",
    ):
        assert part in detail
    page.find("body").send_keys("\ue00c")
    assert not page.find("#detail").is_displayed()
    assert page.run("return document.activeElement.innerText") == "payments"
    page.select("checkout")
    assert "bulkhead pool (max_concurrent=3)" in page.text("#detail .steps")


def test_the_parts_of_a_stack_stand_together(page: Page, served: str) -> None:
    """
    An open breaker was on top, and what it stops was somewhere among the healthy policies.

    The group goes where its worst policy belongs; a part whose stack is filtered out stands alone.
    """
    circuit_breaker("a calm one")
    inner = circuit_breaker("in the stack")
    guarded = retry(on=OSError, name="retry", attempts=1)(inner(boom))
    pipeline(circuit_breaker("breaker"), bulkhead(3, name="pool"), name="whole").policies[0].force_open()
    page.open(served)
    assert list(page.rows()) == ["whole", "breaker", "pool", "a calm one", "retry", "in the stack"]
    assert page.rows()["in the stack"]["line"] == "circuit breaker in retry"
    assert [row.get_attribute("class") for row in page.all("#rows tr")] == ["", "part", "part", "", "", "part"]
    page.find("#filter").send_keys("forced")
    page.until(lambda: list(page.rows()) == ["breaker"])
    page.until(lambda: page.rows()["breaker"]["line"] == "circuit breaker")
    assert guarded is not None


def test_a_keyed_limit_shows_its_keys(page: Page, served: str) -> None:
    """It has no states, so the table said "no keys", and the details had none."""
    limits = keyed(lambda: rate_limit("1/h"), key=lambda tenant: tenant, name="limits")
    for _ in range(3):
        limits.try_call(str, "noisy")
    limits.try_call(str, "quiet")
    page.open(served)
    page.until(lambda: page.rows()["limits"]["state"] == "all 2 healthy")
    page.select("limits")
    keys = page.text("#detail-live").split("KEYS, MOST REJECTED FIRST\n")[1].splitlines()
    assert (keys[1], keys[3]) == ("2 rejected, 3 calls", "1 call")


def test_operations_take_the_token_and_a_second_click(page: Page, served: str) -> None:
    """Locked at first; a wrong token is rejected; with the right one a breaker is forced, reset and reconfigured."""
    breaker = circuit_breaker("payments")
    page.open(served)
    page.select("payments")
    assert "Unlock them with the token" in page.text("#detail")
    assert page.all("[data-op]") == []
    for token in ("a wrong one, long enough", TOKEN):
        page.find("#unlock").click()
        page.find("#token").send_keys(token)
        page.find("#token-form button[type=submit]").click()
        page.until(lambda: page.all("[data-op=force_open]"))
        page.find("[data-op=force_open]").click()
        assert breaker.state == "closed"
        page.find("[data-yes=force_open]").click()
        if token != TOKEN:
            page.until(lambda: page.find("#token-form").is_displayed())
            assert breaker.state == "closed"
            page.find("#token-cancel").click()
    page.until(lambda: page.rows()["payments"]["state"] == "forced open")
    assert breaker.state == "forced_open"
    assert "Done: force open, it is forced open." in page.text("#answer")
    entry = page.find("[data-option=open_for]")
    entry.clear()
    entry.send_keys("-1")
    page.find("#detail form button[type=submit]").click()
    page.until(lambda: "open_for must be" in page.text("#detail form"))
    entry.clear()
    entry.send_keys("1.5")
    page.find("#detail form button[type=submit]").click()
    page.until(lambda: breaker.config.open_for == 1.5)
    page.until(lambda: "reconfigure open_for=1.5" in page.text("#events"))
    page.find("[data-op=reset]").click()
    page.find("[data-yes=reset]").click()
    page.until(lambda: breaker.state == "closed")
    assert TOKEN not in page.driver.page_source
    assert page.run("return JSON.stringify([Object.keys(localStorage), Object.keys(sessionStorage)])") == "[[],[]]"


def test_a_lost_connection_is_shown_and_caught_up_with(page: Page) -> None:
    """The server goes: the page says so and dims. It comes back, another process: the page shows what is now."""
    breaker = circuit_breaker("payments")
    with serving(live(interval=0.1), listen("127.0.0.1", 0)) as port:
        page.open(f"http://127.0.0.1:{port}/")
    page.until(lambda: page.state == "lost")
    assert page.find("#banner").is_displayed()
    assert "trying again" in page.text("#banner")
    breaker.force_open()
    with serving(live(interval=0.1), listen("127.0.0.1", port)):
        page.until(lambda: page.state == "live")
        page.until(lambda: page.rows()["payments"]["state"] == "forced open")
        assert not page.find("#banner").is_displayed()


def test_a_page_that_wants_a_token_asks_for_it(page: Page) -> None:
    """Without it nothing is shown but the question; with it the page is live."""
    circuit_breaker("payments")
    with serving(live(read_token=TOKEN, interval=0.1), listen("127.0.0.1", 0)) as port:
        page.driver.get(f"http://127.0.0.1:{port}/")
        page.until(lambda: page.find("#token-form").is_displayed())
        assert page.rows() == {}
        page.find("#token").send_keys(TOKEN)
        page.find("#token-form button[type=submit]").click()
        page.until(lambda: "payments" in page.rows())


def test_names_are_data_and_never_markup(page: Page, served: str) -> None:
    """Whoever names a policy after a script runs none."""
    evil = "<img src=x onerror=document.title='owned'>"
    circuit_breaker(evil).force_open()
    page.open(served)
    assert evil in page.rows()
    page.select(evil)
    assert evil in page.text("#detail-name")
    assert page.driver.title == "(1) resilio"
    assert page.run("try { eval('1'); return 'ran'; } catch (error) { return error.name; }") in ("EvalError", "ran")
    assert page.all("img[src=x]") == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1400, 390])
def test_it_is_readable_in_light_and_dark_on_a_desk_and_a_phone(
    page: Page, served: str, scheme: str, width: int
) -> None:
    """Nothing is cut off at the side, and every text has a contrast of 4.5 or more."""
    breaker, pool = (
        circuit_breaker("payments", consecutive=1),
        bulkhead(1, name="a pool with a long name, " * 4 + "it is"),
    )
    breaker.try_call(boom)
    breaker.force_open()
    breaker.try_call(int)
    permit = pool.acquire()
    pool.try_call(int)
    page.size(width, 844)
    page.scheme(scheme)
    page.open(served)
    page.select("payments")
    assert page.run("return document.documentElement.dataset.theme") == scheme
    assert page.run("return document.documentElement.scrollWidth") <= width
    assert page.run("const e = document.querySelector('.scroll'); return e.scrollWidth - e.clientWidth") <= 0
    assert contrast(page) == []
    page.run("document.querySelector('h1').style.color = getComputedStyle(document.body).backgroundColor")
    assert [text for text, _ in contrast(page)] == ["H1.: resilio"]  # it does see what cannot be read
    permit.success()


@pytest.mark.parametrize("width", [320, 600, 860, 861, 1000, 1091, 1240, 1400])
def test_no_column_is_out_of_sight_at_any_width(page: Page, served: str, width: int) -> None:
    """What has no room is left out or put below; nothing has to be scrolled to at the side."""
    breaker, pool = circuit_breaker("payments", consecutive=1), bulkhead(10_000, name="a pool, " * 15 + "it is")
    breaker.try_call(boom)
    breaker.try_call(int)
    with pool.permit():
        page.size(width, 844)
        page.open(served)
        page.until(lambda: breaker.try_call(int) and page.run("return document.querySelector('#policies.timed')"))
        assert page.run("const e = document.querySelector('.scroll'); return e.scrollWidth - e.clientWidth") <= 0
        assert page.run("return document.documentElement.scrollWidth") <= width


def test_the_sums_count_a_call_once(page: Page, served: str) -> None:
    """A call through three policies of a pipeline is one in flight, and one that fails; both figures of one frame."""
    pool, failing = bulkhead(5, name="pool"), circuit_breaker("breaker", failure_rate=None, consecutive=10_000)
    whole = pipeline(failing, pool, name="whole")
    page.open(served)
    page.until(lambda: "whole" in page.rows())
    with whole.permit():
        page.until(lambda: page.rows()["pool"]["load"].startswith("1"))
        assert page.text("#sum-inflight") == "1"
    rate = "return [...document.querySelectorAll('#sum-failures, td[data-label^=failed]')].map((e) => e.innerText)"

    def is_once() -> bool:
        whole.try_call(boom)
        total, *rows = page.run(rate)
        return total not in ("0", "\N{EN DASH}") and total in rows

    page.until(is_once)


def test_the_sums_count_a_failure_in_a_stack_of_decorators_once(page: Page, served: str) -> None:
    """A call that failed through two decorators was two failures a second."""
    inner = circuit_breaker("breaker", failure_rate=None, consecutive=10_000)
    guarded = retry(on=OSError, name="retry", attempts=1)(inner(boom))
    page.open(served)
    page.until(lambda: "retry" in page.rows())
    rate = "return [...document.querySelectorAll('#sum-failures, td[data-label^=failed]')].map((e) => e.innerText)"

    def is_once() -> bool:
        with pytest.raises(OSError, match="boom"):
            guarded()
        total, *rows = page.run(rate)
        return total not in ("0", "\N{EN DASH}") and rows == [total, total]

    page.until(is_once)


def test_a_policy_whose_calls_fail_needs_a_look(page: Page, served: str) -> None:
    """Every fourth call failed, in yellow, and the head-line said that all is well."""
    breaker, calm = circuit_breaker("payments", failure_rate=None, consecutive=10_000), circuit_breaker("a calm one")
    page.open(served)

    def is_counted() -> bool:
        calm.call(int)
        for work in (int, int, int, boom):
            breaker.try_call(work)
        return page.text("#sum-problems") == "1"

    page.until(is_counted)
    assert list(page.rows()) == ["payments", "a calm one"]


def test_a_trend_goes_on_while_nothing_is_new(page: Page, served: str) -> None:
    """A burst moves to the left as time passes, though the server has nothing to tell of."""
    breaker = circuit_breaker("payments")
    page.open(served)
    points = "return (document.querySelector('.spark polyline').getAttribute('points') || '').split(' ').length"
    page.until(lambda: breaker.call(int) == 0 and page.rows()["payments"]["calls"] != "0")
    page.until(lambda: page.rows()["payments"]["calls"] == "0")
    last = page.run("return performance.now()")
    before = page.run(points)
    page.until(lambda: page.run("return performance.now()") > last + 2500)
    assert page.run(points) >= before + 10


def test_the_colours_of_the_bars_are_explained(page: Page, served: str) -> None:
    """Below the table stands which colour is which segment, of those that took a millisecond and more."""
    breaker = circuit_breaker("payments")
    page.open(served)
    page.until(lambda: breaker.call(time.sleep, 0.02) is None and page.text("#legend"))
    assert page.text("#legend") == "attempt"


def test_the_colours_can_be_switched_and_stay(page: Page, served: str) -> None:
    """Auto, light, dark: what was chosen is chosen at the next visit too."""
    page.open(served)
    page.find("#theme").click()
    page.find("#theme").click()
    assert page.run("return document.documentElement.dataset.theme") == "dark"
    page.open(served)
    assert page.run("return document.documentElement.dataset.theme") == "dark"
    assert page.find("#theme").get_attribute("aria-label") == "Colours: dark"
    page.find("#theme").click()
    assert page.run("return document.documentElement.dataset.theme") == "light"


def test_five_hundred_policies_are_filtered_and_sorted(page: Page, served: str) -> None:
    """The table has them all, draws those on the screen, and finds one by any word of name, kind or state."""
    policies = [circuit_breaker(f"service {number:03}") for number in range(499)]
    bulkhead(3, name="the only pool")
    policies[321].force_open()
    page.open(served)
    assert len(page.all("#rows tr")) == 500
    assert next(iter(page.rows())) == "service 321"
    page.find("body").send_keys("/")
    assert page.run("return document.activeElement.id") == "filter"
    for words, shown in [("only", 1), ("bulkhead", 1), ("service 32", 15), ("forced open", 1), ("nothing", 0)]:
        page.find("#filter").clear()
        page.find("#filter").send_keys(words)
        page.until(lambda shown=shown: len(page.all("#rows tr")) == shown)
    assert "No policy matches" in page.text("#empty")
    page.find("#filter").send_keys(*["\ue003"] * len("nothing"))
    page.until(lambda: len(page.all("#rows tr")) == 500)
    page.find("th[data-sort=name] button").click()
    assert next(iter(page.rows())) == "service 000"
    assert page.find("th[data-sort=name]").get_attribute("aria-sort") == "ascending"
    page.until(lambda: policies[7].call(int) == 0 and page.rows()["service 007"]["calls"] != "0")


def test_the_page_speaks_to_screen_readers(page: Page, served: str) -> None:
    """A table with headers and a caption, names for all controls, and state changes said politely."""
    breaker = circuit_breaker("payments")
    page.open(served)
    tree: list[Any] = page.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    roles = {node["role"]["value"] for node in tree if "role" in node and not node.get("ignored")}
    assert {"table", "row", "columnheader", "cell", "main", "search", "heading", "list"} <= roles
    controls = [node for node in tree if node.get("role", {}).get("value") in ("button", "searchbox", "combobox")]
    assert controls
    assert all(node["name"]["value"] for node in controls if not node.get("ignored"))
    breaker.force_open()
    said = "return document.getElementById('announce').textContent"
    page.until(lambda: page.run(said) == "payments is forced open")
    breaker.reset()  # at once after the first: it is said when that has been heard
    page.until(lambda: page.run(said) == "payments is closed")


def test_a_phone_opens_the_details_as_a_sheet(page: Page, served: str) -> None:
    """At 390 px each policy is a card, and the details cover the lower part of the screen."""
    circuit_breaker("payments")
    page.size(390, 844)
    page.open(served)
    page.select("payments")
    box = page.run(
        "const b = document.getElementById('detail').getBoundingClientRect(); return [b.left, b.right, b.bottom]"
    )
    assert box == [0, 390, 844]
    assert page.run("return getComputedStyle(document.querySelector('#rows tr')).display") == "grid"


def test_the_browser_sends_no_operation_from_another_site(page: Page, served: str) -> None:
    """A page elsewhere that posts with the token it does not have is rejected by site before anything else."""
    breaker = circuit_breaker("payments")
    page.driver.get("about:blank")
    page.run(
        "const asked = {method: 'POST', mode: 'no-cors', body: '{}'};"
        "fetch(arguments[0] + 'operate', asked).finally(() => { window.done = 1 })",
        served,
    )
    page.until(lambda: page.run("return window.done"))
    assert breaker.state == "closed"
