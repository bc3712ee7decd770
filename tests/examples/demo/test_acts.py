"""The acts: data that both runs share."""

from __future__ import annotations

import json

import pytest

from examples.demo._acts import HOME, Site, acts


@pytest.fixture(params=[False, True], ids=["full", "quick"])
def all_acts(request):
    return acts(quick=request.param)


def test_acts_have_names_and_sites(all_acts):
    """An outage, latency spikes, a retry storm and the loss of a region; what is flaky is asked for."""
    assert [act.name for act in all_acts] == ["outage", "spike", "storm", "region"]
    assert all(act.flaky in act.rates for act in all_acts)


def test_an_act_says_what_a_reader_has_to_know(all_acts):
    """All of it is plain data."""
    for act in all_acts:
        assert json.loads(json.dumps(act.to_json()))["guard"] == act.guard


def test_a_site_survives_json(all_acts):
    """The server process reads the very sites that it is sent."""
    for act in all_acts:
        for site in act.sites.values():
            assert Site.from_json(json.loads(json.dumps(site.to_json()))) == site


def test_replicas_pause_in_turns(all_acts):
    """In each pause of the act exactly one replica stops, and outside of them none does."""
    spike = all_acts[1]
    for phase, begin, end in spike.schedule.spans():
        stopped = [site.schedule.at((begin + end) / 2)[0].hang for site in spike.sites.values()]
        assert sum(stopped) == (phase.name == "paused")
    assert spike.schedule.outage() is None


def test_the_storm_is_one_only_with_retries(all_acts):
    """What is offered is within what the server can do, and three times as much is not."""
    storm = all_acts[2]
    site, offered = storm.sites["orders"], storm.rates["orders"]
    assert offered < site.workers / site.service < 3 * offered
    assert storm.schedule.outage() is not None


def test_the_region_away_can_serve_all_of_it(all_acts):
    """Each region alone has room for what is offered, and only the one at home is ever down."""
    region = all_acts[3]
    for home in (True, False):
        sites = [site for name, site in region.sites.items() if name.startswith(HOME) is home]
        assert region.rates["catalog"] < 0.6 * sum(site.workers / site.service for site in sites)
        assert all((site.schedule.outage() is not None) is home for site in sites)


def test_everything_together_takes_about_a_minute():
    """The load of both runs of every act, and the last answers of the bare ones."""
    longest = sum(2 * act.schedule.seconds for act in acts(quick=False)) + 6.0
    assert longest < 65


def test_quick_leaves_time_to_start_and_to_report():
    """The load of every act, whose two runs go side by side, and the last answer of the last."""
    quick = acts(quick=True)
    longest = sum(act.schedule.seconds for act in quick) + quick[-1].patience
    assert longest < 14
