"""What tests of faults share: a broker that they may kill, and what living undisturbed ends in."""

from collections.abc import Iterator

import pytest

from tests.faults.fleet import Broker, Ledger, Seen
from tests.faults.fleet import undisturbed as lived_undisturbed


@pytest.fixture
def broker() -> Iterator[Broker]:
    """A broker of this test alone."""
    with Broker() as server:
        yield server


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    """What the fleet's history ends in, lived in this process."""
    return lived_undisturbed(f"sqlite:///{tmp_path_factory.mktemp('undisturbed') / 'ringfence.db'}")


@pytest.fixture
def seen(request: pytest.FixtureRequest) -> Iterator[list[Seen]]:
    """How long it took until a fault was over: told with the test's output (`-rP`)."""
    told: list[Seen] = []
    yield told
    for one in told:
        print(f"{request.node.name}: {one.seconds:.1f} s, {one.rounds} rounds")
