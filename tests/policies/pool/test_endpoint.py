"""Endpoints of pools, and the levels that follow from their zones."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import attrs
import pytest

from resilio._policies.pool.endpoint import Endpoint, endpoints_of
from resilio._policies.pool.zones import level_of, region_of, zone_here


def test_an_endpoint_is_called_by_its_target_unless_it_has_a_name() -> None:
    """The name is what snapshots and metrics show; most endpoints need none beside their address."""
    assert Endpoint("https://a.internal").name == "https://a.internal"
    assert Endpoint("https://a.internal", name="a").name == "a"


def test_labels_are_read_by_name_and_a_wrong_one_lists_those_that_exist() -> None:
    """A misspelt label is found by reading the message alone."""
    endpoint = Endpoint("azure-eu", tpm="90000/min", labels={"model-name": "large"})
    assert endpoint["tpm"] == "90000/min"
    assert endpoint["model-name"] == "large"
    assert "azure-eu" not in endpoint.labels
    with pytest.raises(KeyError, match=r"endpoint 'azure-eu' has no label 'rpm'; its labels: 'model-name', 'tpm'"):
        endpoint["rpm"]


def test_an_endpoint_is_frozen_with_its_labels() -> None:
    """An endpoint is shared by all threads that call it: nothing about it may change under them."""
    endpoint = Endpoint("a", model="large")
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        endpoint.weight = 2.0  # type: ignore[misc]
    with pytest.raises(TypeError):
        endpoint.labels["model"] = "small"  # type: ignore[index]


def test_equal_endpoints_are_interchangeable_and_clients_are_compared_by_identity() -> None:
    """A module that is loaded twice defines the same pool; two SDK clients are two, even if they are equal."""
    client: list[str] = []
    assert Endpoint("a", zone="eu-1a", use=client, tpm=[1]) == Endpoint("a", zone="eu-1a", use=client, tpm=[1])
    assert hash(Endpoint("a", use=client, tpm=[1])) == hash(Endpoint("a", use=client, tpm=[1]))
    assert Endpoint("a", use=client) != Endpoint("a", use=[])
    assert Endpoint("a", tpm=1) != Endpoint("a", tpm=2)


def test_copies_keep_all_that_was_given() -> None:
    """Endpoints travel to other processes, and `copy.replace` changes one thing about them."""
    endpoint = Endpoint("a", name="b", zone="c", level=3, weight=0.5, use=None, tpm=7)
    assert pickle.loads(pickle.dumps(endpoint)) == endpoint
    assert copy.deepcopy(endpoint) == endpoint
    assert attrs.evolve(endpoint, weight=2.0) == Endpoint("a", name="b", zone="c", level=3, weight=2.0, tpm=7)
    assert endpoint.__replace__(level=0)["tpm"] == 7


def test_a_repr_shows_what_differs_from_the_defaults() -> None:
    """A list of fifty endpoints has to be readable in a terminal."""
    assert repr(Endpoint("https://a")) == "Endpoint('https://a')"
    shown = "Endpoint('https://a', name='a', zone='eu-1a', weight=2.0, tpm=5)"
    assert repr(Endpoint("https://a", name="a", zone="eu-1a", weight=2, tpm=5)) == shown


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"target": ""}, ValueError, "target must be a URL or an address"),
        ({"target": "two words"}, ValueError, "target must be .*, not 'two words'"),
        ({"target": 7}, TypeError, "target must be .*, not 7"),
        ({"name": ""}, ValueError, "name must be .*, not ''"),
        ({"zone": 3}, TypeError, "zone must be .*, not 3"),
        ({"level": -1}, ValueError, "level must be an int from 0 to 31, not -1"),
        ({"level": True}, TypeError, "level must be .*, not True"),
        ({"weight": 0}, ValueError, "weight must be .*, not 0"),
        ({"weight": float("nan")}, ValueError, "weight must be .*, not nan"),
        ({"labels": 5}, TypeError, "labels must be a mapping of names to values, not 5"),
    ],
)
def test_a_wrong_value_is_named_with_its_parameter(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    """A configuration error is reported where it is made, not by the first call that goes nowhere."""
    with pytest.raises(error, match=message):
        Endpoint(**{"target": "a"} | options)


def test_endpoints_of_an_option_have_a_name_each() -> None:
    """Two endpoints of one name could not be drained apart."""
    assert endpoints_of("endpoints", [Endpoint("a"), Endpoint("b")]) == (Endpoint("a"), Endpoint("b"))
    with pytest.raises(ValueError, match=r"endpoints must have a name each; 2 have the name 'a'"):
        endpoints_of("endpoints", [Endpoint("a"), Endpoint("b", name="a")])
    with pytest.raises(TypeError, match=r"endpoints must be endpoints, like Endpoint\('https://a.internal'\), not 'a'"):
        endpoints_of("endpoints", ("a",))


@pytest.mark.parametrize(
    ("zone", "region"),
    [
        ("eu-1a", "eu-1"),
        ("eu-central-1a", "eu-central-1"),
        ("use1-az2", "use1"),
        ("europe-west1-b", "europe-west1"),
        ("westeurope/1", "westeurope"),
        ("eu-1", "eu-1"),
        ("berlin", "berlin"),
    ],
)
def test_the_region_of_a_zone_is_found_in_its_name(zone: str, region: str) -> None:
    """AWS and Google append a letter to the region; with any other scheme a slash separates the two."""
    assert region_of(zone) == region


def test_the_level_follows_from_the_distance_unless_it_is_given() -> None:
    """The own zone is called first, then the region, then all others; an explicit level stands."""
    assert level_of(Endpoint("a", zone="eu-1a"), "eu-1a") == 0
    assert level_of(Endpoint("a", zone="eu-1b"), "eu-1a") == 1
    assert level_of(Endpoint("a", zone="us-1a"), "eu-1a") == 2
    assert level_of(Endpoint("a", zone="us-1a", level=0), "eu-1a") == 0
    assert level_of(Endpoint("a"), "eu-1a") == 0
    assert level_of(Endpoint("a", zone="eu-1a"), None) == 0


def test_the_zone_of_the_process_is_that_of_the_environment_unless_code_names_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same image runs in all zones, and only the environment differs."""
    monkeypatch.delenv("RESILIO_ZONE", raising=False)
    assert zone_here(None) is None
    monkeypatch.setenv("RESILIO_ZONE", " eu-1b ")
    assert zone_here(None) == "eu-1b"
    assert zone_here("eu-1a") == "eu-1a"
    monkeypatch.setenv("RESILIO_ZONE", "eu\n1b")
    with pytest.raises(ValueError, match="environment variable RESILIO_ZONE must be"):
        zone_here(None)
