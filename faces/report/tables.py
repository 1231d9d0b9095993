"""The tables of a report as HTML: positions, events, holders' statements, ledger balances."""

from collections import Counter
from collections.abc import Iterable, Sequence
from html import escape

from ringfence.faces.report.row import StatementRow
from ringfence.faces.report.words import (
    ABSENT,
    KIND_WORDS,
    SHARE_DECIMALS,
    cause,
    count,
    leverage,
    money,
    price,
    price_decimals,
    signed_money,
    stamp,
)
from ringfence.risk.events import Event, Kind
from ringfence.runtime.runs import VaultRun

__all__ = ["ROWS_MAX", "balances_table", "events_table", "positions_table", "statements_table", "table"]

ROWS_MAX = 10_000
"""A browser stays quick up to about this many rows; above it the routine events give way to the rare ones."""

ROUTINE = (Kind.collateral, Kind.funding)
"""Hidden at first where scripts run, so that what matters is seen."""

RARE = (Kind.liquidation, Kind.margin_call, Kind.refusal)


def table(caption: str, heads: Sequence[str], rows: Iterable[str], *, numeric_from: int, total: str = "") -> str:
    """A table in a frame that scrolls; columns from `numeric_from` on are numbers."""
    cells = "".join(
        f'<th scope="col"{" class=n" if column >= numeric_from else ""}>{escape(head)}</th>'
        for column, head in enumerate(heads)
    )
    foot = f"<tfoot>{total}</tfoot>" if total else ""
    return (
        f'<div class="frame" tabindex="0" role="region" aria-label="{escape(caption)}"><table>'
        f"<caption>{escape(caption)}</caption><thead><tr>{cells}</tr></thead>"
        f"<tbody>\n{''.join(rows)}</tbody>{foot}</table></div>"
    )


def _row(words: Sequence[str], numbers: Sequence[str], attributes: str = "") -> str:
    cells = "".join(f"<td>{escape(word)}</td>" for word in words)
    cells += "".join(f"<td class=n>{escape(number)}</td>" for number in numbers)
    return f"<tr{attributes}>{cells}</tr>\n"


def _change(before: str, after: str) -> str:
    return before if before == after else f"{before} → {after}"


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
    decimals = [price_decimals(position.price.tolist()) for position in run.positions]
    listed = _listed(run.events)
    kinds = Counter(event.kind for event in run.events)
    boxes = "".join(
        f'<label><input type="checkbox" data-kind="{kind.value}"{"" if kind in ROUTINE else " checked"}>'
        f"{KIND_WORDS[kind]} <b>{count(kinds[kind])}</b></label>"
        for kind in Kind
        if kinds[kind]
    )
    rows = (_event_row(run, event, decimals[event.position]) for event in listed)
    unit = f", {run.currency}"
    heads = ("Time (UTC)", "Position", "Event", "Cause", "Quantity, lots", "Leverage", "Price", "Mark",
             "Amount" + unit, "Fee" + unit, "Shortfall" + unit)  # fmt: skip
    cut = ""
    if len(listed) < len(run.events):
        cut = (
            f'<p class="note">{count(len(listed))} of {count(len(run.events))} events are listed: margin calls, '
            "liquidations and refusals before resizes, resizes before funding and collateral. "
            "The command <code>ringfence events</code> lists all.</p>"
        )
    return (
        f'<fieldset class="filter" data-table="events-{number}" hidden><legend>Show</legend>{boxes}'
        f'<output aria-live="polite"></output></fieldset>{cut}<div id="events-{number}" class="events">'
        + table(f"Events of {run.title}", heads, rows, numeric_from=4)
        + "</div>"
    )


def _event_row(run: VaultRun, event: Event, decimals: int) -> str:
    words = (stamp(event.ts), run.positions[event.position].name, KIND_WORDS[event.kind], cause(event))
    levers = _change(leverage(event.leverage_before), leverage(event.leverage_after))
    numbers = (
        _change(count(event.quantity_before), count(event.quantity_after)),
        levers,
        price(event.price, decimals),
        price(event.mark, decimals),
        signed_money(event.amount, run.decimals),
        money(event.fee, run.decimals) if event.fee else ABSENT,
        money(event.shortfall, run.decimals) if event.shortfall else ABSENT,
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
            count(position.quantity[-1]) if len(position.quantity) else ABSENT,
            *(count(kinds[kind]) for kind in (Kind.resize, Kind.margin_call, Kind.liquidation, Kind.refusal)),
            signed_money(funding, run.decimals),
            money(sum(event.fee for event in events), run.decimals),
            money(sum(event.shortfall for event in events), run.decimals),
        )
        rows.append(_row((position.name, position.symbol), numbers))
    unit = f", {run.currency}"
    heads = ("Position", "Symbol", "Quantity at the end, lots", "Resizes", "Margin calls", "Liquidations", "Refusals",
             "Funding" + unit, "Fees" + unit, "Shortfall" + unit)  # fmt: skip
    return table(f"Positions of {run.title}", heads, rows, numeric_from=2)


def statements_table(run: VaultRun, statements: Sequence[StatementRow]) -> str:
    """What each holder put in, took out and holds, now and at the wall."""
    held = [row for row in statements if row.vault == run.vault]
    if not held:
        return "<p>No holder's statement belongs to this run.</p>"
    rows = [_row((row.holder,), _statement(row)) for row in held]
    columns = ("deposited", "redeemed", "shares", "value", "value_worst")
    sums = {name: sum(getattr(row, name) for row in held) for name in columns}
    whole = StatementRow(vault=run.vault, holder="All holders", decimals=held[0].decimals, **sums)
    total = _row((whole.holder,), _statement(whole)) if len({row.decimals for row in held}) == 1 else ""
    unit = f", {run.currency}"
    heads = ("Holder", "Deposited" + unit, "Redeemed" + unit, "Shares", "Value now" + unit, "Gain or loss" + unit,
             "Value at the wall" + unit)  # fmt: skip
    return table(f"Holders of {run.title}", heads, rows, numeric_from=1, total=total)


def _statement(row: StatementRow) -> tuple[str, ...]:
    gain = row.value + row.redeemed - row.deposited
    return (
        money(row.deposited, row.decimals),
        money(row.redeemed, row.decimals),
        money(row.shares, row.decimals + SHARE_DECIMALS),
        money(row.value, row.decimals),
        signed_money(gain, row.decimals),
        money(row.value_worst, row.decimals),
    )


def balances_table(run: VaultRun) -> str:
    """What stands in each account of the vault's ledger at the end."""
    if not run.balances:
        return ""
    rows = (_row((account,), (money(amount, run.decimals),)) for account, amount in run.balances.items())
    return table(
        f"Ledger of {run.title} at the end", ("Account", f"Balance, {run.currency}"), rows, numeric_from=1
    ).replace('class="frame"', 'class="frame narrow"', 1)
