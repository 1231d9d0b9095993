"""A feed as a person names it: `replay:2020-03`, or `replay` with files of bars."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ringfence.faces.errors import InputRefused
from ringfence.faces.inputs import Inputs, prepare
from ringfence.markets.bars import Bars
from ringfence.markets.feeds.replay import Pace, Recording, Replay
from ringfence.markets.feeds.source import Source
from ringfence.markets.market import Funding
from ringfence.runtime.setup import Setup

__all__ = ["Feed", "chosen", "parse_speed"]

_WARM = 3
"""A replay begins no later than after so many parts of its recording; before it is what strategies look back on."""


@dataclass(frozen=True, eq=False)
class Feed:
    """A replay of recorded series, ready to be made a source."""

    inputs: Inputs
    speed: float | None
    """None: as fast as it goes."""

    @property
    def setups(self) -> tuple[Setup, ...]:
        return tuple(setup for setup, _ in self.inputs.vaults)

    @property
    def symbols(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(symbol for _, market in self.inputs.vaults for symbol in market.symbols))

    @property
    def start(self) -> int:
        """When (UTC ms) vaults open on it: once their strategies have what they look back on, or a third of the
        recording is over."""
        begin = min(int(market.ts[0]) for _, market in self.inputs.vaults)
        end = max(market.close_ts for _, market in self.inputs.vaults)
        longest = max(setup.mandate.timeframe for setup in self.setups)
        warm = max(setup.lookback * setup.mandate.timeframe for setup in self.setups)
        return (begin + min(warm, (end - begin) // _WARM)) // longest * longest

    def source(self, started: int, start: int | None, known: Mapping[str, int]) -> Source:
        """The replay as a source whose clock stands at `start` (UTC ms; None: where vaults open, or where what is
        known ends) at the real time `started`; what is `known`, by symbol, is not delivered again."""
        bars, marks, funding = dict[str, Bars](), dict[str, Bars](), dict[str, Funding]()
        for _, market in self.inputs.vaults:
            recording = Recording.of(market)
            bars |= recording.bars
            marks |= recording.marks
            funding |= recording.funding
        if start is None:
            start = max(self.start, min(known.values(), default=0))
        return Replay(Recording(bars, marks, funding), Pace(started, start, self.speed), known)


def chosen(
    feed: str,
    speed: str,
    mandates: Sequence[Path],
    bars: Sequence[str],
    funding: Sequence[str],
    marks: Sequence[str],
    venues: Sequence[Path] | None,
) -> Feed:
    """The feed of that name for the mandates, its series read and checked. More than five arguments because a replay
    is given what a back-test is given. Refused: InputRefused, and what `prepare` refuses."""
    kind, _, name = feed.partition(":")
    if kind != "replay":
        raise InputRefused("--feed", feed, "expected replay:SCENARIO, or replay with --bars")
    found = prepare(
        list(mandates), bars=bars, funding=funding, marks=marks, scenario_name=name or None, deposits=(),
        venues=None if venues is None else list(venues),
    )  # fmt: skip
    return Feed(found, parse_speed(speed))


def parse_speed(text: str) -> float | None:
    """`60x` or `60` is 60 times as fast as it happened, `max` (None) as fast as it goes. Refused: InputRefused."""
    if text.strip().lower() == "max":
        return None
    number = text.strip().lower().removesuffix("x")
    if not number.replace(".", "", 1).isdecimal() or not number.isascii() or not 0 < float(number) <= 1e9:
        raise InputRefused("--speed", text, "expected a number above 0 like 60x, or max")
    return float(number)
