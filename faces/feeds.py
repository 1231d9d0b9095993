"""A feed as a person names it: `replay:2020-03`, `folder:DIR`, `ccxt:EXCHANGE`; one table of the kinds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple

from ringfence.faces.errors import InputRefused
from ringfence.faces.inputs import Inputs, prepare
from ringfence.markets.bars import Bars
from ringfence.markets.feeds.folder import Folder, Watching
from ringfence.markets.feeds.replay import Pace, Recording, Replay
from ringfence.markets.feeds.rest import Asking, Rest
from ringfence.markets.feeds.source import Source
from ringfence.markets.feeds.together import Judging, Member, Together
from ringfence.markets.instruments import VENUE_DEFAULT, instrument_key
from ringfence.markets.market import Funding
from ringfence.runtime.mandates import load
from ringfence.runtime.setup import Setup, set_up
from ringfence.words.hints import did_you_mean

__all__ = ["EXCHANGES", "KINDS", "Asked", "Feed", "Live", "chosen", "named", "parse_speed"]

_WARM = 3
"""A replay begins no later than after so many parts of its recording; before it is what strategies look back on."""
_BAR = 60_000
"""Length (ms) of the bars that an exchange is asked for."""
_SPARE = 60
"""Bars that are fetched beyond what strategies look back on, for those that do not exist."""
_EVERY = 2_000
"""Milliseconds between two rounds of requests to an exchange."""

EXCHANGES: Final[Mapping[str, str]] = MappingProxyType(
    {"binanceusdm": "binance", "bybit": "bybit", "okx": "okx", "gate": "gate", "bitget": "bitget"}
)
"""Exchanges that may be asked, by ccxt's name, and the venue whose instruments are theirs: those that can be asked for
the time, for bars and marks since a moment and for the history of funding. Only the first was tried, on a stand-in."""


@dataclass(frozen=True)
class Asked:
    """What a person said of the feed that he wants."""

    feeds: tuple[str, ...]
    mandates: tuple[Path, ...]
    speed: str = "60x"
    bars: tuple[str, ...] = ()
    funding: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()
    venues: tuple[Path, ...] | None = None


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

    def opening(self, now: int, known: Mapping[str, int]) -> int:
        """When (UTC ms) vaults open, where what is known of the symbols ends at `known`."""
        return max(self.start, min(known.values(), default=0))

    def source(self, started: int, start: int | None, known: Mapping[str, int]) -> Source:
        """The replay as a source whose clock stands at `start` (UTC ms; None: where vaults open, or where what is
        known ends) at the real time `started`; what is `known`, by symbol, is not delivered again."""
        bars, marks, funding = dict[str, Bars](), dict[str, Bars](), dict[str, Funding]()
        for _, market in self.inputs.vaults:
            recording = Recording.of(market)
            bars |= recording.bars
            marks |= recording.marks
            funding |= recording.funding
        start = self.opening(started, known) if start is None else start
        return Replay(Recording(bars, marks, funding), Pace(started, start, self.speed), known)


class _Named(NamedTuple):
    """One feed of those that live, as it was named."""

    kind: str
    name: str
    """Folder or exchange."""
    address: str | None = None
    """In place of the exchange's own hosts."""

    @property
    def venue(self) -> str | None:
        """Whose instruments it has; None for those of any."""
        return EXCHANGES.get(self.name) if self.kind == "ccxt" else None


@dataclass(frozen=True, eq=False)
class Live:
    """Sources that go with the present, ready to be made one."""

    setups: tuple[Setup, ...]
    feeds: tuple[_Named, ...]

    @property
    def symbols(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(symbol for setup in self.setups for symbol in setup.symbols))

    @property
    def warm(self) -> int:
        """Milliseconds of history that decisions look back on, with some bars to spare."""
        return max(setup.lookback * setup.mandate.timeframe for setup in self.setups) + _SPARE * _BAR

    def opening(self, now: int, known: Mapping[str, int]) -> int:
        """When (UTC ms) vaults open: at the present, or where what is known ends; on a folder where the files that are
        there end."""
        if known:
            return min(known.values())
        ends = [self._folder_end(feed, now) for feed in self.feeds[:1] if feed.kind == "folder"]
        return min([now, *(end for end in ends if end is not None)])

    def _folder_end(self, feed: _Named, now: int) -> int | None:
        """Where the first of the series ends that the folder's files hold; None where they hold none."""
        folder = Folder(Path(feed.name), dict.fromkeys(self.symbols, 0), Watching(settle=0))
        folder.poll(now)
        ends = [end for end in folder.poll(now).until.values() if end]
        return min(ends, default=None)

    def source(self, started: int, start: int | None, known: Mapping[str, int]) -> Source:
        """All of them as one; each symbol's series from the exchange of its venue, else from the first that was named.

        Bars from what strategies look back on before `start` (UTC ms; None: where vaults open) on, or from where what
        is `known` ends. Refused: InputRefused, and what the sources are refused for.
        """
        start = self.opening(started, known) if start is None else start
        givers = {symbol: self._giver(symbol) for symbol in self.symbols}
        if len(self.feeds) == 1 and self.feeds[0].kind == "folder":
            return Folder(Path(self.feeds[0].name), {symbol: known.get(symbol, 0) for symbol in self.symbols})
        members = []
        for feed in self.feeds:
            gives, witnesses, since = dict[str, str](), dict[str, tuple[str, ...]](), dict[str, int]()
            for ours in self.symbols:
                its = ours if feed.kind == "folder" else instrument_key(ours).partition(":")[2]
                if givers[ours] is not feed:
                    witnesses[its] = (*witnesses.get(its, ()), ours)
                    since.setdefault(its, start // _BAR * _BAR)
                elif its in gives:
                    reason = f"{gives[its]} and {ours} are the same there; name the exchange of each venue"
                    raise InputRefused("--feed", feed.name, reason)
                else:
                    gives[its] = ours
                    since[its] = known.get(ours, 0 if feed.kind == "folder" else (start - self.warm) // _BAR * _BAR)
            members.append(Member(_made(feed, since), gives, witnesses))
        return Together(members, Judging(live=start))

    def _giver(self, symbol: str) -> _Named:
        venue = instrument_key(symbol).partition(":")[0] or VENUE_DEFAULT
        return next((feed for feed in self.feeds if feed.venue == venue), self.feeds[0])

    def demand(self) -> None:
        """Passes where each source can be made. Refused: as `source` is."""
        self.source(0, _BAR, {})


def _made(feed: _Named, since: Mapping[str, int]) -> Source:
    if feed.kind == "folder":
        return Folder(Path(feed.name), since)
    return Rest(feed.name, since, _BAR, Asking(every=_EVERY), feed.address)


# ---------------------------------------------------------------------------------------------------- the kinds


class _Kind(NamedTuple):
    """One kind of feed."""

    form: str
    """How it is named."""
    make: Callable[[Asked, str], "Feed | _Named"]
    """Out of what was asked and the words after the colon."""


def _replay(asked: Asked, name: str) -> Feed:
    found = prepare(
        list(asked.mandates), bars=asked.bars, funding=asked.funding, marks=asked.marks, scenario_name=name or None,
        deposits=(), venues=None if asked.venues is None else list(asked.venues),
    )  # fmt: skip
    return Feed(found, parse_speed(asked.speed))


def _folder(asked: Asked, name: str) -> _Named:
    folder = Path(name).expanduser()
    if not name or not folder.is_dir():
        raise InputRefused("--feed", f"folder:{name}", "expected a folder that is there, like folder:bars")
    return _Named("folder", str(folder.resolve()))


def _ccxt(asked: Asked, name: str) -> _Named:
    exchange, _, address = name.partition("@")
    if exchange not in EXCHANGES:
        known = ", ".join(EXCHANGES)
        raise InputRefused("--feed", f"ccxt:{exchange}", f"expected one of {known}{did_you_mean(exchange, EXCHANGES)}")
    if address and (not address.startswith(("http://", "https://")) or "@" in address):
        reason = "expected an address like http://localhost:8080, without a password"
        raise InputRefused("--feed", f"ccxt:{exchange}@...", reason)
    return _Named("ccxt", exchange, address or None)


KINDS: Final[Mapping[str, _Kind]] = MappingProxyType(
    {
        "replay": _Kind("replay:SCENARIO, or replay with --bars", _replay),
        "folder": _Kind("folder:DIR", _folder),
        "ccxt": _Kind("ccxt:EXCHANGE", _ccxt),
    }
)


def named(asked: Asked) -> Feed | Live:
    """The feed that was asked for: one replay, or sources that live together. Everything is checked, and nothing asked
    of the world. Refused: InputRefused, PackageMissing, ExchangeRefused, and what mandates and series are."""
    made = []
    for text in dict.fromkeys(asked.feeds):
        kind, _, name = text.partition(":")
        if kind not in KINDS:
            forms = "; ".join(known.form for known in KINDS.values())
            raise InputRefused("--feed", text, f"expected one of: {forms}{did_you_mean(kind, KINDS)}")
        if kind != "replay" and (asked.bars or asked.funding or asked.marks):
            raise InputRefused("--feed", text, "brings its own series; --bars, --funding and --mark go with replay")
        if kind == "replay" and len(asked.feeds) > 1:
            raise InputRefused("--feed", text, "a replay has a clock of its own; give it alone")
        made.append(KINDS[kind].make(asked, name))
    if isinstance(made[0], Feed):
        return made[0]
    feeds = tuple(feed for feed in made if isinstance(feed, _Named))
    if len({(feed.kind, feed.name) for feed in feeds}) < len(feeds) or sum(f.kind == "folder" for f in feeds) > 1:
        raise InputRefused("--feed", ", ".join(asked.feeds), "expected each exchange once, and one folder at most")
    terms = load(list(asked.mandates), None if asked.venues is None else list(asked.venues))
    live = Live(tuple(set_up(mandate) for mandate in terms), feeds)
    for setup in live.setups if any(feed.kind == "ccxt" for feed in feeds) else ():
        if setup.mandate.timeframe % _BAR:
            reason = "its slots are no whole minutes, and an exchange is asked for bars of a minute"
            raise InputRefused("mandate", setup.mandate.name, reason)
    live.demand()
    return live


def chosen(
    feed: str,
    speed: str,
    mandates: Sequence[Path],
    bars: Sequence[str],
    funding: Sequence[str],
    marks: Sequence[str],
    venues: Sequence[Path] | None,
) -> Feed:
    """The replay of that name for the mandates, its series read and checked. More than five arguments because a replay
    is given what a back-test is given. Refused: InputRefused, and what `prepare` refuses."""
    asked = Asked((feed,), tuple(mandates), speed, tuple(bars), tuple(funding), tuple(marks),
                  None if venues is None else tuple(venues))  # fmt: skip
    found = named(asked)
    if not isinstance(found, Feed):
        raise InputRefused("--feed", feed, "expected replay:SCENARIO, or replay with --bars")
    return found


def parse_speed(text: str) -> float | None:
    """`60x` or `60` is 60 times as fast as it happened, `max` (None) as fast as it goes. Refused: InputRefused."""
    if text.strip().lower() == "max":
        return None
    number = text.strip().lower().removesuffix("x")
    if not number.replace(".", "", 1).isdecimal() or not number.isascii() or not 0 < float(number) <= 1e9:
        raise InputRefused("--speed", text, "expected a number above 0 like 60x, or max")
    return float(number)
