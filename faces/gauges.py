"""What a monitor knows of an installation, as Prometheus reads it. What is not known has no sample."""

from collections.abc import Iterable, Iterator

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily

from ringfence.faces.checks import Check, is_well
from ringfence.runtime.monitor import State
from ringfence.runtime.observation import Seen, SeenSeries, SeenVault

__all__ = ["gauges"]

_Sample = tuple[tuple[str, ...], float | None]


def gauges(state: State, checks: tuple[Check, ...]) -> Iterator[Metric]:
    """Every family, of the installation, its vaults and its series."""
    answer = state.database
    is_heard = answer.value is not None and any(check.part == "database" and check.well for check in checks)
    yield _one("ringfence_well", "1 where the health page finds nothing wrong", float(is_well(checks)))
    yield _one("ringfence_database_answers", "1 where the database was read at the last look", float(is_heard))
    heard = any(check.part == "broker" and check.well for check in checks)
    yield _one("ringfence_broker_answers", "1 where the broker answered at the last look", float(heard))
    if state.signs is not None:
        signs = [((sign.part, str(sign.pid)), sign.age) for sign in state.signs if not sign.ended]
        told = "Seconds since a process showed a sign of life"
        yield _of("ringfence_sign_age_seconds", told, ("part", "pid"), signs)
    if is_heard and answer.value is not None:
        yield from _installation(answer.value, answer.age)
        yield from _vaults(answer.value.vaults)
        yield from _series(answer.value.series)


def _one(name: str, told: str, value: float) -> Metric:
    return GaugeMetricFamily(name, told, value=value)


def _of(name: str, told: str, labels: tuple[str, ...], samples: Iterable[_Sample]) -> Metric:
    family = GaugeMetricFamily(name, told, labels=labels)
    for values, value in samples:
        if value is not None:
            family.add_metric(values, value)
    return family


def _installation(seen: Seen, age: float) -> Iterator[Metric]:
    yield _one("ringfence_look_age_seconds", "Seconds since the database was read", age)
    yield _one("ringfence_vaults", "Vaults that are open", len(seen.vaults))
    yield _one("ringfence_vaults_due", "Vaults with a slot to live, left aside ones not counted", len(seen.due))
    yield _one("ringfence_vaults_claimed", "Vaults that are being stepped, or whose next attempt waits", seen.claimed)
    yield _one("ringfence_vaults_left_aside", "Vaults that nobody steps any more", len(seen.left_aside))
    locked = sum(one.locked_since is not None for one in seen.vaults)
    yield _one("ringfence_vaults_locked", "Vaults that are locked at their wall", locked)
    yield _one("ringfence_queue_age_seconds", "Seconds for which the oldest due slot has been seen due", seen.oldest)
    attempts = [((one.vault,), float(one.attempts)) for one in seen.troubles]
    yield _of("ringfence_attempts", "Attempts to step a vault that came to nothing", ("vault",), attempts)


def _vaults(vaults: tuple[SeenVault, ...]) -> Iterator[Metric]:
    def amount(one: SeenVault, minor: int | None) -> float | None:
        return None if minor is None else minor / 10**one.decimals

    money = ("vault", "currency")
    yield _of("ringfence_vault_nav", "NAV at the last slot lived, in the vault's currency", money,
              (((one.name, one.currency), amount(one, one.nav)) for one in vaults))  # fmt: skip
    yield _of("ringfence_vault_over_wall", "NAV less the wall, in the vault's currency", money,
              (((one.name, one.currency), amount(one, one.over_wall)) for one in vaults))  # fmt: skip
    yield _of("ringfence_vault_wall_distance_ratio", "What part of the NAV stands over the wall", ("vault",),
              (((one.name,), one.wall_distance) for one in vaults))  # fmt: skip
    yield _of("ringfence_vault_leverage_ratio", "Notional at the last marks over the NAV", ("vault",),
              (((one.name,), one.leverage) for one in vaults))  # fmt: skip
    yield _of("ringfence_vault_liquidation_distance_ratio",
              "What part of the last mark lies before the nearest liquidation price; negative beyond it", ("vault",),
              (((one.name,), one.liquidation_distance) for one in vaults))  # fmt: skip
    yield _of("ringfence_vault_locked", "1 for a vault that is locked at its wall", ("vault",),
              (((one.name,), float(one.locked_since is not None)) for one in vaults))  # fmt: skip
    yield _of("ringfence_vault_lag_seconds", "What is fed in whole slots and not lived, in the feed's time", ("vault",),
              (((one.name,), None if one.lag is None else one.lag / 1_000) for one in vaults))  # fmt: skip


def _series(series: tuple[SeenSeries, ...]) -> Iterator[Metric]:
    yield _of("ringfence_feed_age_seconds", "How far a series is behind its feed's clock, in the feed's time",
              ("instrument",), (((one.instrument,), None if one.age is None else one.age / 1_000) for one in series)
              )  # fmt: skip
    yield _of("ringfence_feed_late_seconds", "Real seconds for which a bar was seen to be over and missing",
              ("instrument",), (((one.instrument,), one.late) for one in series))  # fmt: skip
