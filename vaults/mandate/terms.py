"""The terms of a mandate: its sections as frozen models, what each value means, and which values contradict each other.

A section checks itself, however it is made. Contradictions carry the path of the value at fault, relative to the
section, so that a loader can say where it stands.

Longer than 400 lines because a mandate's sections are read together: each is bound by what the others say.
"""

import hashlib
import json
import math
import re
from collections.abc import Collection, Iterator, Mapping
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from ringfence.vaults.errors import MandateError
from ringfence.vaults.mandate.recorded import Recorded
from ringfence.words.numbers import format_percentage, format_ppm
from ringfence.words.source import Path, Problem, dotted
from ringfence.words.times import format_duration
from ringfence.words.units import (
    Duration,
    Fee,
    Fraction_,
    Multiple,
    MultipleUnit,
    Percentage,
    Rate,
    UnitError,
    parse_duration,
    shown,
)

__all__ = [
    "MILLION",
    "POSITIONS_MAX",
    "SHARE",
    "AtWall",
    "Contradiction",
    "Defaults",
    "Distance",
    "Mandate",
    "MandateLimits",
    "MarginCall",
    "Position",
    "Rebase",
    "Section",
    "StrategyTerms",
    "Terms",
    "Venue",
    "Volatility",
    "across",
    "as_written",
    "millionths",
]  # fmt: skip

Contradiction = tuple[Path, str]

MILLION = 1_000_000
MINUTE, DAY = 60_000, 86_400_000
SLOTS_MAX = 100_000
POSITIONS_MAX = 32
_ANY = Percentage("percentage", low="-1000000", high="1000000", bare_max="1000000")


def _patterned(pattern: str, description: str, longest: int) -> Any:
    def check(value: Any) -> str:
        if not isinstance(value, str):
            raise PydanticCustomError("text", "{message}", {"message": f"{shown(value)} is not text; put it in quotes"})
        if len(value) > longest or not re.fullmatch(pattern, value):
            raise PydanticCustomError("text", "{message}", {"message": f"{shown(value)} is not {description}"})
        return value

    schema = {
        "type": "string",
        "pattern": f"^{pattern}$",
        "maxLength": longest,
        "description": f"Expected: {description}.",
    }
    return BeforeValidator(check), WithJsonSchema(schema)


_NAME = "a name of at most 48 lower-case letters, digits and dashes, like btc-shield"
Slug = Annotated[str, *_patterned(r"[a-z][a-z0-9]*(?:[-_][a-z0-9]+)*", _NAME, 48)]
Symbol = Annotated[
    str,
    *_patterned(
        r"(?:[a-z0-9][a-z0-9-]*:)?[A-Z0-9]+/[A-Z0-9]+:[A-Z0-9]+",
        "a symbol like BTC/USDT:USDT, or with its venue like okx:BTC/USDT:USDT",
        65,
    ),
]
Currency = Annotated[str, *_patterned(r"[A-Z][A-Z0-9]{1,9}", "a currency like USDT", 10)]
Title = Annotated[str, *_patterned(r"(?=.*\S)[^\r\n]+", "one line of at most 120 characters", 120)]

Cost = Annotated[float, Percentage("cost", high="0.1", bare_max="0.02")]
Band = Annotated[float, Percentage(high="0.5", bare_max="0.5")]
SHARE = Percentage(low_open=True, ppm=True)
Share = Annotated[int, SHARE]
LossCap = Annotated[int, Percentage(low_open=True, high="0.999999", bare_max="1", ppm=True)]
CallMultiple = Annotated[float, MultipleUnit(high="100")]
VolumeShare = Annotated[float, Percentage(low_open=True)]
Sigmas = Annotated[float, MultipleUnit(low_open=False, high="100")]


def millionths(value: float) -> int | None:
    """A number in parts per million where that is exact, else None."""
    scaled = Decimal(repr(float(value))).scaleb(6)
    return int(scaled) if scaled == scaled.to_integral_value() else None


def _default(written: str | int, description: str) -> Any:
    """A default as a person would write it; it is validated like everything else."""
    return Field(written, description=description)


class Section(BaseModel):
    """A part of a mandate: frozen, strict about its keys, and free of contradictions."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, populate_by_name=False)

    def contradictions(self) -> Iterator[Contradiction]:
        """What in this section cannot hold together: the path of the value at fault, and why, with numbers."""
        yield from ()

    @model_validator(mode="after")
    def _consistent(self) -> "Section":
        found = list(self.contradictions())
        if found:
            message = "; ".join(reason for _, reason in found)
            raise PydanticCustomError("contradiction", "{message}", {"message": message, "found": found})
        return self


class Venue(Section):
    """Where orders go, and what the paper venue charges for them."""

    name: Literal["paper"] = "paper"
    half_spread: Cost = _default("0.01%", "Half the bid-ask spread, of the price.")
    slippage: Cost = _default("0.02%", "Added to half the spread on every fill, of the price.")
    taker_fee: Fee | None = Field(default=None, description="Of the fill's value; the instrument's own where left out.")
    liquidation_fee: Fee | None = Field(
        default=None, description="Of the fill's value; the instrument's own where left out."
    )
    volume_share: VolumeShare = _default("10%", "Of a bar's volume, the most that the paper venue fills in it.")


class Volatility(Section):
    """How realised volatility is measured for the limiters."""

    estimator: Literal[
        "ewma", "close_to_close", "parkinson", "garman_klass", "rogers_satchell", "yang_zhang"
    ] = "ewma"  # fmt: skip
    half_life: Duration | None = Field(default=None, description="Of the weights; for ewma only, 12h where left out.")
    window: Duration = _default("3d", "How far back the measurement looks.")
    floor: Rate = _default("20%", "Measured volatility never counts as less than this, per year.")

    _HALF_LIFE: ClassVar[str] = "12h"

    @model_validator(mode="before")
    @classmethod
    def _half_life_of_ewma(cls, values: Any) -> Any:
        if (
            isinstance(values, Mapping)
            and values.get("half_life") is None
            and values.get("estimator", "ewma") == "ewma"
        ):
            return {**values, "half_life": cls._HALF_LIFE}
        return values

    def contradictions(self) -> Iterator[Contradiction]:
        if self.half_life is None:
            return
        if self.estimator != "ewma":
            reason = f"only ewma has a half-life, and the estimator is {self.estimator}; leave it out"
            yield ("half_life",), reason
        elif self.half_life > self.window:
            lengths = f"{format_duration(self.half_life)} is longer than the window of {format_duration(self.window)}"
            yield ("half_life",), f"{lengths}; expected at most the window"


class MandateLimits(Section):
    """What the vault as a whole may do."""

    gross_leverage_max: Multiple = _default(2, "Largest sum of |notional| over the vault's net asset value.")


class Rebase(Section):
    """The wall of a locked vault set anew: its mark becomes the NAV of a strike that was announced beforehand."""

    after: Duration = _default("30d", "How long the vault is locked before the rebase is announced.")
    notice: Duration = _default("7d", "From the announcement to the rebase; no shorter than the longest exit.")


def _at_wall_schema(schema: dict[str, Any]) -> None:
    """As it is written: one word, or what a rebase keeps to."""
    rebase = schema["properties"]["rebase"]
    told = {key: schema[key] for key in ("description", "title") if key in schema}
    schema.clear()
    schema |= told | {
        "anyOf": [
            {"enum": ["hold", "wind_down", "rebase"]},
            {"type": "object", "properties": {"rebase": rebase}, "required": ["rebase"],
             "additionalProperties": False},
        ]
    }  # fmt: skip


class AtWall(Section):
    """What a vault does that is locked at its wall, having less than a twentieth of its full cushion left: `hold` what
    it has, `wind_down` every position, or `rebase` the wall."""

    model_config = ConfigDict(json_schema_extra=_at_wall_schema)

    then: Literal["hold", "wind_down", "rebase"] = "hold"
    rebase: Rebase | None = None

    @model_validator(mode="before")
    @classmethod
    def _as_written(cls, values: Any) -> Any:
        """`hold`, or {rebase: {after: 30d, notice: 7d}}."""
        if isinstance(values, str):
            values = {"then": values}
        if not isinstance(values, Mapping):
            return values
        if values.get("rebase") is not None:
            return {"then": "rebase", **values}
        return {**values, "rebase": {}} if values.get("then") == "rebase" else values

    def contradictions(self) -> Iterator[Contradiction]:
        if (self.rebase is None) != (self.then != "rebase"):
            yield ("rebase",), f"a rebase is stated beside `{self.then}`; a locked vault does one thing"


class Distance(Section):
    """The limiter L <= 1 / (maintenance rate + sigmas x volatility x sqrt(horizon) + slippage)."""

    sigmas: Sigmas = _default(4, "Standard deviations that must lie between the price and liquidation.")
    horizon: Duration = _default("8h", "The time over which they are counted.")
    slippage: Fraction_ = _default("1%", "Added to the distance, of the price.")


class MarginCall(Section):
    """The mandate's own threshold, above the venue's; both numbers are multiples of the maintenance margin."""

    at: CallMultiple = _default("1.5", "Called when equity falls below this multiple; above 1.")
    then: Literal["reduce"] = "reduce"
    to: CallMultiple = _default(3, "Reduced until equity reaches this multiple; above `at`.")

    def contradictions(self) -> Iterator[Contradiction]:
        for name, value in (("at", self.at), ("to", self.to)):
            if millionths(value) is None:
                yield (name,), f"{value!r} has more than 6 decimals; the kernel counts in millionths"
        if self.at <= 1:
            yield ("at",), f"{self.at:g} is not above 1, where the venue liquidates; expected more, like 1.5"
        if self.to <= self.at:
            yield ("to",), f"{self.to:g} is not above `at`, {self.at:g}; a call that reduces must end above it"


class StrategyTerms(BaseModel):
    """The strategy's name and its parameters as written; what they mean is the strategy's own affair.

    Spellings are unified (`0.50` and `0.5`, `60m` and `1h`, `20.0%` and `20%`); `20%` and `0.20` stay apart, since
    only the strategy knows which of them its parameter takes.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    name: Slug

    @model_validator(mode="before")
    @classmethod
    def _written_alike(cls, values: Any) -> Any:
        return {str(key): as_written(value) for key, value in values.items()} if isinstance(values, Mapping) else values

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters without the name: int, float, bool, text, or lists and mappings of them."""
        return dict(self.model_extra or {})

    @property
    def meaning(self) -> dict[str, Any]:
        """Name and parameters with percentages as numbers: equal where the terms mean the same."""
        return {"name": self.name, **{key: _meaning(value) for key, value in self.parameters.items()}}


class Terms(Section):
    """What holds for a position, and may stand under `defaults` for all of them."""

    leverage_max: Multiple = _default(5, "Hard cap on notional / collateral.")
    volatility_max: Rate = _default("300%", "Limiter: leverage x realised volatility, per year.")
    liquidation_distance_min: Distance = Distance()
    band: Band = _default("10%", "No-trade band below the allowed leverage, as a part of it; at most 50%.")
    margin_call: MarginCall = MarginCall()


class Defaults(Terms):
    """Terms for every position that does not state its own; a key in a position replaces the default's key whole."""

    strategy: StrategyTerms | None = None


class Position(Terms):
    """One isolated sub-position."""

    symbol: Symbol
    share: Share = Field(
        description="Of the risk capital (net asset value less the wall); all shares are at most 100%."
    )
    strategy: StrategyTerms


class Mandate(Section):
    """What a vault may do: a frozen set of terms, identified by its fingerprint.

    Shares, fees and the loss cap are ints of parts per million, durations ints of milliseconds, the rest floats.
    `positions` are in the order of their names, so that a mandate does the same in whatever order it was written.
    """

    name: Slug = Field(alias="mandate", description="The vault's name: lower-case letters, digits and dashes.")
    title: Title = Field(description="One line for people; the name where left out.")
    currency: Currency
    loss_cap: LossCap = Field(
        description="The wall, from the highest NAV per share ever struck; above 0 and below 100%."
    )
    timeframe: Duration = Field(description="Decisions fall at the close of each slot of this length; divides a day.")
    venue: Venue = Venue()
    volatility: Volatility = Volatility()
    limits: MandateLimits = MandateLimits()
    sweep: Literal["roll", "trim"] = Field(
        default="roll",
        description="How open profit is realised that the wall needs: closed and opened again, or closed.",
    )
    at_wall: AtWall = AtWall()
    on_strategy_failure: Literal["hold", "derisk"] = Field(
        default="hold",
        description="A strategy that gives no answer in time: its position may only shrink, or is closed.",
    )
    positions: dict[Slug, Position]
    instruments: Recorded
    """What it trades by a user's own table: recorded by whoever loads the mandate, never written in it."""

    @model_validator(mode="before")
    @classmethod
    def _title_of_name(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and "title" not in values and "mandate" in values:
            return {**values, "title": values["mandate"]}
        return values

    @field_validator("positions")
    @classmethod
    def _in_order(cls, positions: dict[str, Position]) -> dict[str, Position]:
        return dict(sorted(positions.items()))

    def contradictions(self) -> Iterator[Contradiction]:
        shares = {name: position.share for name, position in self.positions.items()}
        symbols = {name: position.symbol for name, position in self.positions.items()}
        notice = None if self.at_wall.rebase is None else self.at_wall.rebase.notice
        yield from across(self.timeframe, self.volatility.window, notice, self.positions, shares, symbols)

    def canonical(self) -> str:
        """The mandate as one line of JSON: sorted keys, every default written out; `from_canonical` reads it back."""
        return _json(self._form())

    def _form(self) -> dict[str, Any]:
        """Every term as plain values; one that came later than the first mandates is told where it is stated, so that
        theirs stay what they were."""
        form = self.model_dump(mode="json", by_alias=True)
        for name, default in (("on_strategy_failure", "hold"),):
            if form[name] == default:
                del form[name]
        return form

    @classmethod
    def from_canonical(cls, text: str) -> "Mandate":
        """The mandate that `canonical` wrote; MandateError where the text is not one."""
        try:
            return cls.model_validate(json.loads(text))
        except ValidationError as error:
            found = [Problem("stored mandate", 1, 1, dotted(e["loc"]), e["msg"]) for e in error.errors()]
        except (ValueError, RecursionError) as error:
            found = [Problem("stored mandate", 1, 1, "", f"is not JSON: {shown(error)}")]
        raise MandateError(found)

    @property
    def fingerprint(self) -> str:
        """SHA-256, hex, of the canonical form with the strategies' percentages as numbers and without the words of
        tables: equal for equal meaning."""
        form = self._form()
        for name, position in self.positions.items():
            form["positions"][name]["strategy"] = position.strategy.meaning
        for recorded in form.get("instruments", ()):
            del recorded["source"]  # words
        return hashlib.sha256(_json(form).encode()).hexdigest()


def across(
    timeframe: int | None,
    window: int | None,
    notice: int | None,
    positions: Collection[str],
    shares: Mapping[str, int],
    symbols: Mapping[str, str],
) -> Iterator[Contradiction]:
    """Contradictions between sections, from as much as is known of them (None and absent keys: not known)."""
    if timeframe is not None and (DAY % timeframe or timeframe < MINUTE):
        reason = f"{format_duration(timeframe)} does not divide a day into slots of a minute or more"
        yield ("timeframe",), f"{reason}; expected one like 1m, 15m, 1h, 4h or 1d"
    elif timeframe is not None and window is not None:
        slot, length = format_duration(timeframe), format_duration(window)
        if window < 2 * timeframe:
            yield ("volatility", "window"), f"{length} is shorter than 2 slots of {slot}; nothing can be measured in it"
        if window > SLOTS_MAX * timeframe:
            yield ("volatility", "window"), f"{length} is longer than {SLOTS_MAX} slots of {slot}"
    if timeframe is not None and notice is not None and notice < timeframe:
        exit, given = format_duration(timeframe), format_duration(notice)
        reason = f"{given} is shorter than the longest exit: an order to leave waits up to one slot, {exit}"
        yield ("at_wall", "rebase", "notice"), f"{reason}; expected at least {exit}"
    if not 1 <= len(positions) <= POSITIONS_MAX:
        yield ("positions",), f"holds {len(positions)} positions; expected 1 to {POSITIONS_MAX}"
    total = sum(shares.values())
    if total > MILLION:
        parts = ", ".join(f"{name} {format_ppm(share)}" for name, share in sorted(shares.items())[:POSITIONS_MAX])
        yield ("positions",), f"the shares sum to {format_ppm(total)} ({parts}); expected at most 100%"
    first: dict[str, str] = {}
    for name, symbol in symbols.items():
        if symbol in first:
            reason = f"{symbol} is already the symbol of {first[symbol]}; most venues net two positions of one symbol"
            yield ("positions", name, "symbol"), f"{reason}, so a vault may hold one"
        first.setdefault(symbol, name)


def as_written(value: Any) -> Any:
    """One spelling for what is the same without knowing the parameter's type; numbers become int or float."""
    if isinstance(value, Mapping):
        return {str(key): as_written(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [as_written(inner) for inner in value]
    if isinstance(value, Decimal | float) and math.isfinite(value):
        return int(value) if value == int(value) else float(value)
    if isinstance(value, str):
        try:
            percent = value.endswith("%")
            return format_percentage(_ANY.parse(value)) if percent else format_duration(parse_duration(value))
        except UnitError:
            return value
    return value


def _meaning(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _meaning(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_meaning(inner) for inner in value]
    if isinstance(value, str) and value.endswith("%"):
        try:
            return as_written(float(_ANY.parse(value)))
        except UnitError:
            return value
    return value


def _json(form: Any) -> str:
    return json.dumps(form, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
