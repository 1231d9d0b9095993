"""How the demo tells what happened: worth and walls, every rare event, the largest resizes, and the statements."""

import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.cli.app import console, print_table, remark

if TYPE_CHECKING:
    from rich.console import Console

    from risk.events import Event
    from runtime.demo import Demo
    from runtime.results import VaultRun

__all__ = ["demonstrate"]

_RESIZES_SHOWN = 15
_RARE_SHOWN = 30


def demonstrate(out: Path) -> None:
    """Play the demo into `out` and tell it on standard output."""
    from runtime.cli.progress import bar
    from runtime.demo import play

    started = time.monotonic()
    remark(
        "March 2020 again: three mandates, three holders. The very first run compiles the kernel: half a minute more."
    )
    found = play(out, bar, lambda: bar(None, "verifying", "journal rows verified"))
    shown = console()
    _heading(shown, "What the vaults were worth, and their walls")
    _print_worth(found, shown)
    _heading(shown, "What happened")
    _print_counts(found, shown)
    _print_rare(found, shown)
    _print_resizes(found, shown)
    _heading(shown, "The holders' statements")
    _print_statements(found, shown)
    _print_end(found, time.monotonic() - started)


def _heading(shown: "Console", text: str) -> None:
    from rich.text import Text

    shown.print()
    shown.print(Text(text, style="bold"))


def _lowest(run: "VaultRun") -> int:
    """The slot at whose close a share was worth least."""
    return int((run.nav / run.shares).argmin())


def _print_worth(found: "Demo", shown: "Console") -> None:
    from runtime.report_words import per_share, percent, stamp

    rows: list[list[object]] = []
    for run in found.runs:
        for label, k in (("at the lowest", _lowest(run)), ("at the end", len(run.ts) - 1)):
            nav, wall, shares = int(run.nav[k]), int(run.wall[k]), int(run.shares[k])
            rows.append(
                [
                    run.vault if label == "at the lowest" else "",
                    f"{label}, {stamp(int(run.ts[k]))[5:]}",
                    _money(nav, run.decimals),
                    _money(wall, run.decimals),
                    per_share(nav, shares)[:-2],
                    per_share(wall, shares)[:-2],
                    percent((nav - wall) / nav),
                ]
            )
    print_table("", ["vault", "", "NAV", "wall", "a share", "its wall", "above"], rows, on=shown)
    nearest = min(found.runs, key=lambda run: run.distance_low)
    shown.print(
        f"Nearest to its wall at any bar: {nearest.vault}, {percent(nearest.distance_low)} above it. "
        "No share was ever worth less than its wall."
        if all(run.distance_low >= 0 for run in found.runs)
        else "A WALL WAS BREACHED: run ringfence verify"
    )


def _print_counts(found: "Demo", shown: "Console") -> None:
    from risk.events import Kind

    kinds = (Kind.resize, Kind.margin_call, Kind.liquidation, Kind.refusal, Kind.funding, Kind.collateral)
    rows = []
    for run in found.runs:
        counts = Counter(event.kind for event in run.events)
        shortfall = sum(event.shortfall for event in run.events)
        rows.append(
            [run.vault, f"{len(run.ts):,}", *(f"{counts[kind]:,}" for kind in kinds), _money(shortfall, run.decimals)]
        )
    heads = ["vault", "decisions", "resizes", "margin calls", "liquidations", "refusals", "funding", "collateral moves"]
    print_table("", [*heads, "shortfall"], rows, on=shown)


def _rows_of(found: "Demo", wanted: "list[tuple[VaultRun, Event]]") -> list[list[object]]:
    """Rows under _EVENT_HEADS."""
    from runtime import figures
    from runtime.report_words import KIND_WORDS, leverage, price, stamp

    rows: list[list[object]] = []
    for run, event in wanted:
        one = found.vaults[run.vault].instruments[event.position]
        before, after = (figures.quantity(size, one) for size in (event.quantity_before, event.quantity_after))
        rows.append(
            [
                stamp(event.ts)[5:],
                run.vault,
                KIND_WORDS[event.kind].lower(),
                f"{before} → {after} {one.base}",
                f"{leverage(event.leverage_before)} → {leverage(event.leverage_after)}",
                price(event.price, 2),
                _why(found, run, event),
            ]
        )
    return rows


def _why(found: "Demo", run: "VaultRun", event: "Event") -> str:
    """The cause of an event; of a margin call, the mandate's own terms."""
    from risk.events import Kind
    from runtime.report_words import cause

    if event.kind != Kind.margin_call:
        return cause(event)
    call = found.vaults[run.vault].mandate.positions[run.positions[event.position].name].margin_call
    return f"equity below {call.at:g} x maintenance margin; reduced to {call.to:g} x"


_EVENT_HEADS = ["time", "vault", "event", "quantity", "leverage", "price", "cause"]


def _print_rare(found: "Demo", shown: "Console") -> None:
    from risk.events import Kind

    kinds = {Kind.margin_call, Kind.liquidation, Kind.refusal}
    rare = sorted(
        ((run, event) for run in found.runs for event in run.events if event.kind in kinds), key=lambda pair: pair[1].ts
    )
    shown.print("Every margin call, liquidation and refusal:" if rare else "No margin call, liquidation or refusal.")
    if rare:
        print_table("", _EVENT_HEADS, _rows_of(found, rare[:_RARE_SHOWN]), on=shown)
    if len(rare) > _RARE_SHOWN:
        shown.print(f"and {len(rare) - _RARE_SHOWN} more: ringfence events --db {found.database}")


def _print_resizes(found: "Demo", shown: "Console") -> None:
    from risk.events import Kind
    from runtime.report_words import cause

    resizes = [(run, event) for run in found.runs for event in run.events if event.kind == Kind.resize]

    def size(pair: "tuple[VaultRun, Event]") -> float:
        run, event = pair
        unit = found.vaults[run.vault].instruments[event.position].unit
        return abs(event.quantity_after - event.quantity_before) * unit * event.price

    largest = sorted(sorted(resizes, key=size, reverse=True)[:_RESIZES_SHOWN], key=lambda pair: pair[1].ts)
    causes = Counter(cause(event) for _, event in resizes)
    shown.print(f"{len(resizes):,} resizes: " + ", ".join(f"{n:,} by {why}" for why, n in causes.most_common()) + ".")
    shown.print(f"The {len(largest)} largest of them:")
    rows = [
        [cell for head, cell in zip(_EVENT_HEADS, row, strict=True) if head != "event"]
        for row in _rows_of(found, largest)
    ]
    print_table("", [head for head in _EVENT_HEADS if head != "event"], rows, on=shown)
    shown.print(f"All of them: ringfence events --kind resize --db {found.database}")


def _print_statements(found: "Demo", shown: "Console") -> None:
    from decimal import Decimal

    def short(amount: str) -> str:
        return f"{Decimal(amount):,.2f}"

    rows = [
        [
            one["vault"],
            one["holder"],
            short(one["deposited"]),
            short(one["shares"]),
            short(one["value"]),
            f"{Decimal(one['profit']):+,.2f}",
            short(one["value_worst"]),
        ]
        for one in found.statements
    ]
    heads = ["vault", "holder", "paid in", "shares", "worth", "profit", "at the wall"]
    print_table("", heads, rows, on=shown)


def _print_end(found: "Demo", seconds: float) -> None:
    breaches = [f"{one.vault}: {breach}" for one in found.verdicts for breach in one.breaches]
    slots, rows = sum(one.slots for one in found.verdicts), sum(one.rows for one in found.verdicts)
    print(
        f"\nVerified: {rows:,} journal rows and {slots:,} decisions again from their inputs, {len(breaches)} breaches."
    )
    for breach in breaches:
        print(f"  {breach}")
    for note in found.notes:
        print(f"Note: {note}")
    print(f"\nReport    {found.report}   (open it in a browser; it needs no network)")
    print(f"Database  {found.database}   ({seconds:.0f} s in all)")
    print("\nTry next:")
    vault = found.runs[0].vault
    for command in (
        f"ringfence vaults --db {found.database}",
        f"ringfence events {vault} --kind margin_call --db {found.database}",
        f"ringfence statement alice --db {found.database}",
        f"ringfence verify --db {found.database}",
    ):
        print(f"  {command}")


def _money(amount: int, decimals: int) -> str:
    return f"{amount / 10**decimals:,.2f}"
