"""What stands of cities after a look: never less than before by their own fault, never more than was verified."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge.sync.citystate import CityFault, CityState, is_news, settle_cities
from manifests.instants import Instant

CODES = ("410100", "410200", "410300")
VERSIONS = st.integers(1, 4)


def state(city: str, role: int, catalog: int, key: str) -> CityState:
    return CityState(city, role, Instant(0), (key,), catalog, f"{catalog:064}", 1)


def states() -> st.SearchStrategy[dict[str, CityState]]:
    one = st.tuples(VERSIONS, VERSIONS, st.sampled_from("ab"))
    found = st.dictionaries(st.sampled_from(CODES), one)
    return found.map(lambda by: {city: state(city, *values) for city, values in by.items()})


FAULTS = st.sets(st.sampled_from(CODES))


@given(states(), states(), FAULTS)
def test_settling(before: dict[str, CityState], found: dict[str, CityState], failed: set[str]) -> None:
    faults = [CityFault(city, 7, "why", "为何", True, True) for city in sorted(failed)]
    seen = [one for city, one in found.items() if city not in failed]
    kept, told = settle_cities(before.values(), seen, faults, 7)
    stands = {one.city: one for one in kept}
    named = {one.city for one in told}
    assert list(stands) == sorted(stands)
    assert failed <= named
    for city, one in stands.items():
        assert one in (before.get(city), found.get(city))
        assert one == before.get(city) or city not in failed, "a city at fault brings nothing new"
        old = before.get(city)
        assert old is None or one.catalog_version >= old.catalog_version
    for city in CODES:
        if city not in found and city not in failed:
            assert city not in stands, "it may not publish any more"
        if city in before and (city in failed or city in found):
            assert city in stands, "what was accepted stays"
        if city in found and city not in failed and city not in named:
            assert stands[city] == found[city]


def test_another_source_is_asked_about_what_may_be_better_there() -> None:
    def fault(*, followed: bool = True, untrusted: bool = True, snapshot: int = 7) -> CityFault:
        return CityFault("410100", snapshot, "why", "为何", followed, untrusted)

    assert is_news(fault(), [])
    assert is_news(fault(untrusted=False), [fault(untrusted=False)]), "who has nothing is not the last to ask"
    assert is_news(fault(), [fault(snapshot=6)])
    assert not is_news(fault(), [fault()])
    assert not is_news(fault(followed=False), [])
