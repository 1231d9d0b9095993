"""The tables of a report as HTML: positions, events, holders' statements, ledger balances."""

from collections import Counter
from collections.abc import Iterable, Sequence
from html import escape

import numpy as np

from ringfence.faces.causes import KIND_WORDS, cause
from ringfence.faces.figures import COSTS, LINES, YARDSTICKS, cost_rows, measured_rows, periods
from ringfence.faces.report.statements import StatementRow
from ringfence.risk.events import Event, Kind
from ringfence.runtime.figures import Figures
from ringfence.runtime.runs import VaultRun
from ringfence.words.numbers import (
    ABSENT,
    dashed,
    format_amount,
    format_count,
    format_multiple,
    format_price,
    format_shares,
    price_places,
)
from ringfence.words.times import stamp

__all__ = ["ROWS_MAX", "balances_table", "events_table", "positions_table", "statements_table", "table"]

ROWS_MAX = 10_000
"""A browser stays quick up to about this many rows; above it the routine events give way to the rare ones."""

ROUTINE = (Kind.collateral, Kind.funding)
"""Hidden at first where scripts run, so that what matters is seen."""

RARE = (Kind.liquidation, Kind.margin_call, Kind.refusal)


def table(
    caption: str,
    heads: Sequence[str],
    rows: Iterable[str],
    *,
    numeric_from: int,
    numeric_to: int | None = None,
    total: str = "",
) -> str:
    """A table in a frame that scrolls; columns from `numeric_from` on, up to `numeric_to`, are numbers."""
    numeric = range(numeric_from, len(heads) if numeric_to is None else numeric_to)
    cells = "".join(
        f'<th scope="col"{" class=n" if column in numeric else ""}>{escape(head)}</th>'
        for column, head in enumerate(heads)
    )
    foot = f"<tfoot>{total}</tfoot>" if total else ""
    return (
        f'<div class="frame" tabindex="0" role="region" aria-label="{escape(caption)}"><table>'
        f"<caption>{escape(caption)}</caption><thead><tr>{cells}</tr></thead>"
        f"<tbody>\n{''.join(rows)}</tbody>{foot}</table></div>"
    )


def _row(
    words: Sequence[str], numbers: Sequence[str | None], attributes: str = "", *, after: Sequence[str] = ()
) -> str:
    cells = "".join(f"<td>{escape(word)}</td>" for word in words)
    cells += "".join(f"<td class=n>{escape(dashed(number))}</td>" for number in numbers)
    cells += "".join(f"<td>{escape(word)}</td>" for word in after)
    return f"<tr{attributes}>{cells}</tr>\n"


def _change(before: str, after: str) -> str:
    return before if before == after else f"{before} → {after}"


def _money(amount: int, decimals: int) -> str:
    return format_amount(amount, decimals, for_people=True)


def _cost(amount: int, decimals: int) -> str | None:
    """What seldom happens: a dash where it did not."""
    return _money(amount, decimals) if amount else None


def _gain(amount: int, decimals: int) -> str | None:
    """What may be gained or lost, with its sign; a dash for neither."""
    return format_amount(amount, decimals, for_people=True, signed=True) if amount else None


def _listed(events: Sequence[Event]) -> list[Event]:
    """At most ROWS_MAX events in their order: the rare ones first, then resizes, then routine, the earlier before."""
    if len(events) <= ROWS_MAX:
        return list(events)

    def weight(place: int) -> tuple[int, int]:
        kind = events[place].kind
        return (0 if kind in RARE else 2 if kind in ROUTINE else 1), place

    return [events[place] for place in sorted(sorted(range(len(events)), key=weight)[:ROWS_MAX])]


def events_table(run: VaultRun, number: int) -> str:
    """Everything that happened to a vault, one row an event, with a filter for each kind where scripts run."""
    if not run.events:
        return "<p>Nothing happened: no event in this run.</p>"
    places = [price_places(position.price.tolist()) for position in run.positions]
    listed = _listed(run.events)
    kinds = Counter(event.kind for event in run.events)
    boxes = "".join(
        f'<label><input type="checkbox" data-kind="{kind.value}"{"" if kind in ROUTINE else " checked"}>'
        f"{KIND_WORDS[kind]} <b>{format_count(kinds[kind])}</b></label>"
        for kind in Kind
        if kinds[kind]
    )
    rows = (_event_row(run, event, places[event.position]) for event in listed)
    unit = f", {run.currency}"
    heads = ("Time (UTC)", "Position", "Event", "Cause", "Quantity, lots", "Effective leverage", "Price", "Mark",
             "Amount" + unit, "Fee" + unit, "Shortfall" + unit)  # fmt: skip
    cut = ""
    if len(listed) < len(run.events):
        cut = (
            f'<p class="note">{format_count(len(listed))} of {format_count(len(run.events))} events are listed: '
            "margin calls, liquidations and refusals before resizes, resizes before funding and collateral. "
            "The command <code>ringfence events</code> lists all.</p>"
        )
    return (
        f'<fieldset class="filter" data-table="events-{number}" hidden><legend>Show</legend>{boxes}'
        f'<output aria-live="polite"></output></fieldset>{cut}<div id="events-{number}" class="events">'
        + table(f"Events of {run.title}", heads, rows, numeric_from=4)
        + "</div>"
    )


def _event_row(run: VaultRun, event: Event, places: int) -> str:
    name = run.positions[event.position].name if event.position >= 0 else ABSENT
    words = (stamp(event.ts), name, KIND_WORDS[event.kind], cause(event))
    levers = [
        dashed(format_multiple(leverage, for_people=True)) for leverage in (event.leverage_before, event.leverage_after)
    ]
    numbers = (
        _change(format_count(event.quantity_before), format_count(event.quantity_after)),
        _change(*levers),
        format_price(event.price, places=places, for_people=True),
        format_price(event.mark, places=places, for_people=True),
        _gain(event.amount, run.decimals),
        _cost(event.fee, run.decimals),
        _cost(event.shortfall, run.decimals),
    )
    return _row(words, numbers, f" data-kind={event.kind.value}")


def positions_table(run: VaultRun) -> str:
    """What each position of a vault did and cost over the run."""
    rows = []
    for index, position in enumerate(run.positions):
        events = [event for event in run.events if event.position == index]
        kinds = Counter(event.kind for event in events)
        funding = sum(event.amount for event in events if event.kind == Kind.funding)
        numbers = (
            format_count(position.quantity[-1]) if len(position.quantity) else None,
            *(_multiple_at_end(column) for column in (position.leverage, position.effective_leverage)),
            *(format_count(kinds[kind]) for kind in (Kind.resize, Kind.margin_call, Kind.liquidation, Kind.refusal)),
            _gain(funding, run.decimals),
            _money(sum(event.fee for event in events), run.decimals),
            _money(sum(event.shortfall for event in events), run.decimals),
        )
        rows.append(_row((position.name, position.symbol), numbers))
    unit = f", {run.currency}"
    heads = ("Position", "Symbol", "Quantity at the end, lots", "Leverage, of collateral",
             "Effective leverage, of equity", "Resizes", "Margin calls", "Liquidations", "Refusals",
             "Funding" + unit, "Fees" + unit, "Shortfall" + unit)  # fmt: skip
    return table(f"Positions of {run.title}", heads, rows, numeric_from=2)


def _multiple_at_end(column: np.ma.MaskedArray) -> str | None:
    return (
        format_multiple(float(column[-1]), for_people=True) if len(column) and column[-1] is not np.ma.masked else None
    )


def performance_table(run: VaultRun, found: Figures) -> str:
    """Every figure of a run beside its yardsticks, with its formula and what it stands on."""
    heads, rows = measured_rows(found)
    told = (_row((str(row[0]).strip(),), row[1:], after=(line.formula,)) for row, line in zip(rows, LINES, strict=True))
    rules = "".join(
        f'<p class="note"><b>{escape(label)}</b>: {escape(rule)}.</p>'
        for label, rule in YARDSTICKS.values()
        if label in heads
    )
    standing = f'<p class="note">{escape(periods(found.vault.performance))}.</p>'
    heads = ["Figure", *heads[1:], "Formula"]
    return table(f"Figures of {run.title}", heads, told, numeric_from=1, numeric_to=len(heads) - 1) + standing + rules


def costs_table(run: VaultRun, found: Figures) -> str:
    """What a run cost, kind by kind."""
    rows = zip(cost_rows(found, run.decimals, None), COSTS.values(), strict=True)
    told = (_row((str(row[0]),), row[1:], after=(formula,)) for row, (_, formula) in rows)
    heads = ("Cost", run.currency, "Of mean NAV", "A year", "What it is")
    return table(f"Costs of {run.title}", heads, told, numeric_from=1, numeric_to=4)


def statements_table(run: VaultRun, statements: Sequence[StatementRow]) -> str:
    """What each holder put in, took out and holds, now and at the wall."""
    held = [statement for statement in statements if statement.vault == run.vault]
    if not held:
        return "<p>No holder's statement belongs to this run.</p>"
    rows = [_row((statement.holder,), _figures(statement)) for statement in held]
    columns = ("deposited", "redeemed", "shares", "value", "value_worst", "entering")
    sums = {name: sum(getattr(statement, name) for statement in held) for name in columns}
    whole = StatementRow(vault=run.vault, holder="All holders", decimals=held[0].decimals, **sums)
    total = _row((whole.holder,), _figures(whole)) if len({statement.decimals for statement in held}) == 1 else ""
    unit = f", {run.currency}"
    heads = ("Holder", "Deposited" + unit, "Redeemed" + unit, "Waits to enter" + unit, "Shares", "Value now" + unit,
             "Gain or loss" + unit, "Value at the wall" + unit, "Most to lose from here" + unit)  # fmt: skip
    return table(f"Holders of {run.title}", heads, rows, numeric_from=1, total=total)


def _figures(statement: StatementRow) -> tuple[str | None, ...]:
    decimals = statement.decimals
    return (
        _money(statement.deposited, decimals),
        _money(statement.redeemed, decimals),
        _cost(statement.entering, decimals),
        format_shares(statement.shares, decimals, for_people=True),
        _money(statement.value, decimals),
        _gain(statement.profit, decimals),
        _money(statement.value_worst, decimals),
        _money(statement.lose_most, decimals),
    )


def balances_table(run: VaultRun) -> str:
    """What stands in each account of the vault's ledger at the end."""
    if not run.balances:
        return ""
    rows = (_row((account,), (_money(amount, run.decimals),)) for account, amount in run.balances.items())
    return table(
        f"Ledger of {run.title} at the end", ("Account", f"Balance, {run.currency}"), rows, numeric_from=1
    ).replace('class="frame"', 'class="frame narrow"', 1)
