"""How the demo tells what happened: worth and walls, every rare event, the largest resizes, and the statements."""

import time
from collections import Counter
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from ringfence.faces.cli.app import console, print_table, print_text, program, remark

if TYPE_CHECKING:
    from rich.console import Console

    from ringfence.faces.demo import Demo
    from ringfence.risk.events import Event
    from ringfence.runtime.runs import VaultRun

__all__ = ["demonstrate"]

_RESIZES_SHOWN = 15
_RARE_SHOWN = 30
_SHORT = {"nothing": "proposal", "leverage_max": "cap", "liquidation_distance": "distance"}


def demonstrate(out: Path) -> None:
    """Play the demo into `out` and tell it on standard output."""
    from ringfence.faces.cli.progress import bar
    from ringfence.faces.demo import play

    started = time.monotonic()
    remark("March 2020 again, with the example mandates and three holders. The very first run compiles first.")
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
    from ringfence.words.numbers import dashed, format_per_share, format_percentage, shortened
    from ringfence.words.times import stamp

    rows: list[list[object]] = []
    for run in found.runs:
        for label, k in (("low", _lowest(run)), ("end", len(run.ts) - 1)):
            nav, wall, shares = int(run.nav[k]), int(run.wall[k]), int(run.shares[k])
            rows.append(
                [
                    run.vault if label == "low" else "",
                    f"{label} {stamp(int(run.ts[k]))[5:10]}",
                    _money(nav, run.decimals),
                    _money(wall, run.decimals),
                    shortened(dashed(format_per_share(nav, shares)), 4),
                    shortened(dashed(format_per_share(wall, shares)), 4),
                    format_percentage((nav - wall) / nav, places=2),
                ]
            )
    print_table("", ["vault", "at its", "NAV", "wall", "a share", "its wall", "above"], rows, on=shown)
    nearest = min(found.runs, key=lambda run: run.distance_low)
    if nearest.distance_low < 0:
        shown.print(f"THE WALL OF {nearest.vault} WAS BREACHED: run ringfence verify")
    else:
        distance = format_percentage(nearest.distance_low, places=2)
        shown.print(f"Nearest to its wall at any bar: {nearest.vault}, {distance} above it.")


def _print_counts(found: "Demo", shown: "Console") -> None:
    from ringfence.risk.events import Kind
    from ringfence.words.numbers import format_count

    kinds = (Kind.resize, Kind.margin_call, Kind.liquidation, Kind.refusal, Kind.funding)
    rows = []
    for run in found.runs:
        counts = Counter(event.kind for event in run.events)
        shortfall = sum(event.shortfall for event in run.events)
        times = [format_count(counts[kind]) for kind in kinds]
        rows.append([run.vault, format_count(len(run.ts)), *times, _money(shortfall, run.decimals)])
    heads = ["vault", "slots", "resizes", "margin\ncalls", "liqui-\ndations", "refusals", "funding", "shortfall"]
    print_table("", heads, rows, on=shown)


def _change(found: "Demo", run: "VaultRun", event: "Event") -> str:
    traded = found.vaults[run.vault].instruments[event.position]
    before, after = (traded.quantity_text(lots) for lots in (event.quantity_before, event.quantity_after))
    return f"{before}→{after} {traded.base}"


def _why(found: "Demo", run: "VaultRun", event: "Event") -> str:
    """The cause of an event; of a margin call, the mandate's own terms."""
    from ringfence.faces.causes import cause
    from ringfence.risk.events import Kind

    if event.kind != Kind.margin_call:
        return cause(event)
    call = found.vaults[run.vault].mandate.positions[run.positions[event.position].name].margin_call
    return f"equity below {call.at:g} x the maintenance margin, reduced to {call.to:g} x"


def _print_rare(found: "Demo", shown: "Console") -> None:
    from ringfence.faces.causes import KIND_WORDS
    from ringfence.risk.events import Kind
    from ringfence.words.numbers import dashed, format_price
    from ringfence.words.times import stamp

    kinds = {Kind.margin_call, Kind.liquidation, Kind.refusal}
    rare = sorted(
        ((run, event) for run in found.runs for event in run.events if event.kind in kinds), key=lambda pair: pair[1].ts
    )
    shown.print("Every margin call, liquidation and refusal:" if rare else "No margin call, liquidation or refusal.")
    for run, event in rare[:_RARE_SHOWN]:
        levers = ""
        if event.leverage_before or event.leverage_after:
            levers = f", leverage {_leverage(event.leverage_before)} → {_leverage(event.leverage_after)}"
        shown.print(f"  {stamp(event.ts)[5:]}  {run.vault}  {KIND_WORDS[event.kind].lower()}")
        price = dashed(format_price(event.price, places=2, for_people=True))
        shown.print(f"    {_change(found, run, event)} at {price}{levers}")
        shown.print(f"    cause: {_why(found, run, event)}")
    if len(rare) > _RARE_SHOWN:
        shown.print(f"  and {len(rare) - _RARE_SHOWN} more: {program()} events --db {found.database}")
    shown.print()


def _print_resizes(found: "Demo", shown: "Console") -> None:
    from ringfence.faces.causes import cause
    from ringfence.risk.events import Kind
    from ringfence.words.numbers import format_count, format_price
    from ringfence.words.times import stamp

    resizes = [(run, event) for run in found.runs for event in run.events if event.kind == Kind.resize]

    def size(pair: "tuple[VaultRun, Event]") -> float:
        run, event = pair
        unit = found.vaults[run.vault].instruments[event.position].unit
        return abs(event.quantity_after - event.quantity_before) * unit * event.price

    largest = sorted(sorted(resizes, key=size, reverse=True)[:_RESIZES_SHOWN], key=lambda pair: pair[1].ts)
    shown.print(f"{format_count(len(resizes))} resizes, by cause:")
    for why, times in Counter(cause(event) for _, event in resizes).most_common():
        shown.print(f"  {format_count(times):>5}  {why}")
    shown.print(f"\nThe {len(largest)} largest of them:")
    rows = [
        [stamp(event.ts)[5:], run.vault, _change(found, run, event), _leverage(event.leverage_after),
         format_price(event.price, places=2, for_people=True),
         _SHORT.get(event.reason.name, event.reason.name.replace("_", " "))]
        for run, event in largest
    ]  # fmt: skip
    print_table("", ["time", "vault", "quantity", "leverage", "price", "bound by"], rows, on=shown)
    shown.print(f"All of them: {program()} events --kind resize --db {found.database}")


def _print_statements(found: "Demo", shown: "Console") -> None:
    from ringfence.words.numbers import SHARE_DECIMALS

    rows: list[list[object]] = []
    for vault, held in groupby(found.statements, key=lambda statement: statement.vault):
        rows.append([vault, *[""] * 5])
        for statement in held:
            decimals = statement.decimals
            rows.append(
                [
                    f"  {statement.holder}",
                    _money(statement.deposited, decimals),
                    _money(statement.shares, decimals + SHARE_DECIMALS),
                    _money(statement.value, decimals),
                    _money(statement.profit, decimals, signed=True),
                    _money(statement.value_worst, decimals),
                ]
            )
    heads = ["vault, holder", "paid in", "shares", "worth", "profit", "at the wall"]
    print_table("", heads, rows, on=shown)


def _print_end(found: "Demo", seconds: float) -> None:
    from ringfence.risk.events import Kind
    from ringfence.words.numbers import format_count

    breaches = [f"{verdict.vault}: {breach}" for verdict in found.verdicts for breach in verdict.breaches]
    slots = format_count(sum(verdict.slots for verdict in found.verdicts))
    rows = format_count(sum(verdict.rows for verdict in found.verdicts))
    print(f"\nVerified: {rows} journal rows and {slots} decisions again from their inputs, {len(breaches)} breaches.")
    for breach in breaches:
        print(f"  {breach}")
    for note in found.notes:
        print_text(f"Note: {note}")
    print(f"\nReport    {found.report}   (open it in a browser; it needs no network)")
    print(f"Database  {found.database}   ({seconds:.0f} s in all)")
    print("\nTry next:")
    liquidated = [run.vault for run in found.runs for event in run.events if event.kind == Kind.liquidation]
    vault = liquidated[0] if liquidated else found.runs[0].vault
    for words in ("vaults", f"events {vault} --kind liquidation", "statement alice", "verify"):
        print(f"  {program()} {words} --db {found.database}")
    print(f"\nLet vaults live by themselves, until Ctrl-C:\n  {program()} up --demo")


def _money(amount: int, decimals: int, *, signed: bool = False) -> str:
    from ringfence.words.numbers import format_amount

    return format_amount(amount, decimals, for_people=True, signed=signed, places=2)


def _leverage(multiple: float) -> str:
    from ringfence.words.numbers import dashed, format_multiple

    return dashed(format_multiple(multiple, for_people=True))
