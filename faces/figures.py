"""The figures of a run as people and documents read them: each with its name and its formula, told in one place."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from ringfence.risk.metrics import Drawdown, Performance
from ringfence.runtime.figures import Costs, Figures, Measured
from ringfence.words.numbers import format_amount, format_count, format_percentage
from ringfence.words.times import format_duration, utc

__all__ = ["COSTS", "LINES", "YARDSTICKS", "Line", "cost_rows", "document", "measured_rows", "periods"]


@dataclass(frozen=True, slots=True)
class Line:
    """One figure: its key in documents, its name, its formula, and how a person reads it."""

    key: str
    label: str
    formula: str
    show: Callable[[Measured], str | None]


def _percent(fraction: float | None) -> str | None:
    return None if fraction is None else format_percentage(fraction, places=2)


def _ratio(value: float | None) -> str | None:
    return None if value is None else f"{value:,.2f}"


def _yearly(value: float | None, years: float) -> float | None:
    return None if value is None or years <= 0.0 else value / years


def _length(found: Drawdown) -> str | None:
    """Days where there are some; a fall that lasts is told as one."""
    if found.depth <= 0.0:
        return None
    days = found.length // 86_400_000
    told = f"{days:,} days" if days else format_duration(found.length)
    return told if found.recovered_ts is not None else f"{told}, lasts"


LINES: Final = (
    Line("total_return", "return", "last NAV per share / first - 1; a deposit enters at 1",
         lambda of: _percent(of.performance.total_return)),
    Line("cagr", "return a year (CAGR)", "(1 + return)^(1 / years) - 1; none under one year",
         lambda of: _percent(of.performance.cagr)),
    Line("volatility", "volatility a year", "s x sqrt(p), s the standard deviation of r with n - 1",
         lambda of: _percent(of.performance.volatility)),
    Line("sharpe", "Sharpe ratio", "mean(r) / s x sqrt(p), against a rate of 0",
         lambda of: _ratio(of.performance.sharpe)),
    Line("sortino", "Sortino ratio", "mean(r) / d x sqrt(p), d = sqrt(mean(min(r, 0)^2)), against a rate of 0",
         lambda of: _ratio(of.performance.sortino)),
    Line("drawdown", "deepest drawdown",
         "largest 1 - low / earlier peak; peaks at decisions, lows at any bar's worst point",
         lambda of: _percent(of.performance.drawdown.depth)),
    Line("drawdown_length", "  its length",
         "from its peak until NAV per share stands there again, or to the end (lasts)",
         lambda of: _length(of.performance.drawdown)),
    Line("turnover_yearly", "turnover a year, × NAV", "sum of the value of all fills / mean NAV / years",
         lambda of: _ratio(_yearly(of.turnover, of.performance.years))),
    Line("costs_yearly", "costs a year, of NAV", "(fees + spread + rolls + funding paid) / mean NAV / years",
         lambda of: _percent(_yearly(of.costs, of.performance.years))),
    Line("locked", "time at the wall",
         "part of the decisions with less than 1/20 of a full cushion (loss cap x NAV) left",
         lambda of: _percent(of.locked)),
)  # fmt: skip
"""Every figure of a vault and of a yardstick, in the order in which they are told."""

COSTS: Final = {
    "fees": ("fees", "the venue's fees on fills and liquidations, rolls left out"),
    "spread": ("spread, slippage", "lots x (fill price - middle): half the spread and the slippage of the same fills"),
    "rolls": ("rolls", "fees, spread and slippage of realising open profit at a strike"),
    "funding": ("funding paid", "sum over the stamps of side x notional x rate; below 0: received"),
    "total": ("in all", "the four together"),
}
"""Label and formula of each kind of cost."""

YARDSTICKS: Final = {
    "hold": (
        "buy and hold",
        "the same symbols, bought once in the proportion of the shares, without leverage or funding",
    ),
    "plain": (
        "plain CPPI",
        "floor (1 - cap) x the highest value so far, exposure = share x leverage_max x (value - floor), all together "
        "at most gross_leverage_max x value, traded outside the mandate's band at the same costs and funding; nothing "
        "but trading keeps it above its floor",
    ),
}


def periods(of: Performance) -> str:
    """What the figures stand on: n, p and the length of a year."""
    rate = "none" if of.periods_per_year is None else f"{of.periods_per_year:,.0f}"
    return f"n = {format_count(of.n)} returns r between decisions, p = {rate} a year, a year = 365 days"


def measured_rows(found: Figures) -> tuple[list[str], list[list[str | None]]]:
    """Heads and rows: every figure of the vault beside those of its yardsticks."""
    beside = [("vault", found.vault)]
    beside += [(YARDSTICKS[name][0], of) for name, of in (("hold", found.hold), ("plain", found.plain)) if of]
    heads = ["", *(name for name, _ in beside)]
    return heads, [[line.label, *(line.show(of) for _, of in beside)] for line in LINES]


def cost_rows(found: Figures, decimals: int, places: int | None = 2) -> list[list[str | None]]:
    """Each kind of cost: in money (rounded to `places`, None: exact), of the mean NAV, and that a year."""
    years, rows = found.vault.performance.years, []
    for key, (label, _) in COSTS.items():
        amount: int = getattr(found.costs, key)
        part = amount / found.nav_mean if found.nav_mean else None
        money = format_amount(amount, decimals, for_people=True, places=places)
        rows.append([label, money, _percent(part), _percent(_yearly(part, years))])
    return rows


def document(found: Figures, decimals: int) -> dict[str, Any]:
    """The figures as JSON holds them: fractions and ratios as numbers, money as text, None where there is none."""
    return {
        "vault": _measured(found.vault),
        "buy_and_hold": None if found.hold is None else _measured(found.hold),
        "plain_cppi": None if found.plain is None else _measured(found.plain),
        "costs": _costs(found.costs, decimals),
        "nav_mean": format_amount(found.nav_mean, decimals),
        "trades": found.trades,
        "trades_yearly": _yearly(float(found.trades), found.vault.performance.years),
        "formulas": {line.key: line.formula for line in LINES}
        | {f"costs.{key}": formula for key, (_, formula) in COSTS.items()},
    }


def _measured(of: Measured) -> dict[str, Any]:
    lived, fall = of.performance, of.performance.drawdown
    return {
        "n": lived.n,
        "years": lived.years,
        "periods_per_year": lived.periods_per_year,
        "total_return": lived.total_return,
        "cagr": lived.cagr,
        "volatility": lived.volatility,
        "sharpe": lived.sharpe,
        "sortino": lived.sortino,
        "drawdown": fall.depth,
        "drawdown_peak": utc(fall.peak_ts),
        "drawdown_low": utc(fall.low_ts),
        "drawdown_recovered": None if fall.recovered_ts is None else utc(fall.recovered_ts),
        "drawdown_length": format_duration(fall.length),
        "turnover": of.turnover,
        "turnover_yearly": _yearly(of.turnover, lived.years),
        "costs": of.costs,
        "costs_yearly": _yearly(of.costs, lived.years),
        "locked": of.locked,
    }


def _costs(costs: Costs, decimals: int) -> dict[str, str]:
    return {key: format_amount(getattr(costs, key), decimals) for key in COSTS}
