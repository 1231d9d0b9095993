"""Commands that move money into vaults and out of them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ringfence.faces.cli.app import Database, Json, app, database, print_figures, print_json

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from ringfence.runtime.acts import Answer
    from ringfence.vaults.errors import DepositAtRisk
    from ringfence.vaults.estimates import Estimate
    from ringfence.words.refusal import RingfenceError

__all__ = ["cancel", "deposit", "redeem"]

_NUMBERS = {"ignore_unknown_options": True}
"""So that -1 is read as an amount, and refused as one."""

_Vault = Annotated[str, typer.Argument(metavar="VAULT", help="The vault's name, which is its mandate's.")]
_Holder = Annotated[str, typer.Argument(metavar="HOLDER", help="Who holds the shares.")]
_Key = Annotated[
    str | None,
    typer.Option("--key", metavar="KEY", help="The same again under the same key is done once."),
]
_DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would happen; nothing changes.")]


@app.command(context_settings=_NUMBERS)
def deposit(
    vault: _Vault,
    holder: _Holder,
    amount: Annotated[str, typer.Argument(metavar="AMOUNT", help="In the vault's currency, such as 1500 or 0.25.")],
    key: _Key = None,
    new: Annotated[
        bool, typer.Option("--new", help="HOLDER is somebody else than the holder of a name that is nearly the same.")
    ] = False,
    into_locked: Annotated[
        bool, typer.Option("--into-locked", help="Pay in although the vault is locked at its wall.")
    ] = False,
    dry_run: _DryRun = False,
    db: Database = None,
    as_json: Json = False,
) -> None:
    """Pay money into a vault: it waits for the next strike and enters at its price, less the trading that it causes."""
    from ringfence.words.amounts import parse_amount
    from ringfence.words.numbers import format_amount, format_shares

    with _acting(db, dry_run) as engine:
        currency, decimals = _currency(engine, vault)
        paid_in = _parsed("amount", lambda: parse_amount(amount, decimals))
        from ringfence.runtime import acts  # slow to import; a refused amount need not wait for it

        with _worded(vault, holder, decimals):
            given = acts.deposit(
                engine, vault, holder, paid_in, _now(), key, new=new, accepts_locked=into_locked, rehearsed=dry_run
            )
    entry, expected = given.entry, given.estimate
    answer = {"amount": format_amount(entry.amount, decimals)}
    if entry.settled is not None:
        answer["shares_minted"] = format_shares(entry.settled.shares, decimals)
    if expected is not None:
        answer |= {
            "shares_about": format_shares(expected.shares, decimals),
            "swing_cost_about": format_amount(expected.swing_cost, decimals),
            "behind_the_wall_about": format_amount(expected.behind_wall, decimals),
            "at_risk_about": format_amount(expected.at_risk, decimals),
        }
    answer |= _waits(expected, "0" if entry.settled is None else answer["amount"], "entered_now")
    _print_act(answer | _after(vault, holder, currency, given, decimals, dry_run), "Deposit", as_json)


@app.command(context_settings=_NUMBERS)
def redeem(
    vault: _Vault,
    holder: _Holder,
    shares: Annotated[str, typer.Argument(metavar="SHARES|all", help="How many shares to redeem, or all.")],
    key: _Key = None,
    dry_run: _DryRun = False,
    db: Database = None,
    as_json: Json = False,
) -> None:
    """Ask for shares back: they are paid at the next strike, at its price, less the trading that this causes."""
    from ringfence.vaults.shares import LARGEST
    from ringfence.words.amounts import parse_amount
    from ringfence.words.numbers import SHARE_DECIMALS, format_amount, format_shares

    with _acting(db, dry_run) as engine:
        currency, decimals = _currency(engine, vault)
        wanted = None
        if shares != "all":
            wanted = _parsed("shares", lambda: parse_amount(shares, decimals + SHARE_DECIMALS, LARGEST))
        from ringfence.runtime import acts

        with _worded(vault, holder, decimals):
            given = acts.redeem(engine, vault, holder, wanted, _now(), key, rehearsed=dry_run)
    expected = given.estimate
    answer = {"shares_asked": format_shares(given.entry.shares, decimals)}
    if expected is not None:
        answer |= {
            "payment_about": format_amount(expected.assets, decimals),
            "swing_cost_about": format_amount(expected.swing_cost, decimals),
        }
    answer |= _waits(expected, "0", "free_now")
    _print_act(answer | _after(vault, holder, currency, given, decimals, dry_run), "Redemption", as_json)


@app.command(context_settings=_NUMBERS)
def cancel(
    vault: _Vault,
    holder: _Holder,
    order: Annotated[
        int | None,
        typer.Argument(metavar="[ORDER]", help="The number of the order; may be left out where only one waits."),
    ] = None,
    key: _Key = None,
    dry_run: _DryRun = False,
    db: Database = None,
    as_json: Json = False,
) -> None:
    """Take back an order that waits: a deposit's money is paid back, shares asked back stay."""
    from ringfence.words.numbers import format_amount, format_shares

    with _acting(db, dry_run) as engine:
        currency, decimals = _currency(engine, vault)
        from ringfence.runtime import acts

        with _worded(vault, holder, decimals):
            given = acts.cancel(engine, vault, holder, order, _now(), key, rehearsed=dry_run)
    entry = given.entry
    answer: dict[str, Any] = {"order": entry.request, "was_a": entry.side}
    if entry.side == "deposit":
        answer["paid_back"] = format_amount(entry.remaining, decimals)
    else:
        answer["shares_kept"] = format_shares(entry.remaining, decimals)
    _print_act(answer | _after(vault, holder, currency, given, decimals, dry_run), "Cancelled", as_json)


def _waits(expected: "Estimate | None", now: str, what: str) -> dict[str, Any]:
    """What comes to pass at once, what waits for which strike, and why."""
    from ringfence.words.times import utc

    if expected is None:
        return {}
    if expected.strike is None:
        return {what: now, "waits_for": None, "why": "the vault is all cash: it enters at once"}
    locked = "; the vault is locked at its wall" if expected.locked_since is not None else ""
    why = f"an order is settled at the first strike after it was given, at a price that nobody knows yet{locked}"
    return {what: now, "waits_for": f"the strike of {utc(expected.strike)}", "why": why}


@contextmanager
def _acting(db: str | None, dry_run: bool) -> "Iterator[Engine]":
    # It must be there: a mistyped name makes no new one.
    with database(db, writes=not dry_run, create=False) as engine:
        yield engine


def _currency(engine: "Engine", vault: str) -> tuple[str, int]:
    from ringfence.faces.queries import currency_of

    return currency_of(engine, vault)


def _now() -> int:
    """The wall clock, UTC ms; a vault that has lived through slots keeps its own time."""
    import time

    return time.time_ns() // 1_000_000


def _parsed(what: str, parse: Callable[[], int]) -> int:
    from ringfence.faces.errors import InputRefused
    from ringfence.words.units import UnitError

    try:
        return parse()
    except UnitError as refused:
        raise InputRefused(what, "", str(refused)) from None


@contextmanager
def _worded(vault: str, holder: str, decimals: int) -> Iterator[None]:
    """Refusals that count in minor units, told in the units that the person used."""
    from ringfence.faces.errors import ActRefused
    from ringfence.vaults.errors import DepositRefused, RedeemExceeds, ZeroAssets, ZeroShares

    try:
        yield
    except (RedeemExceeds, ZeroAssets, ZeroShares, DepositRefused) as refused:
        raise ActRefused(vault, holder, _reason(refused, decimals)) from refused


def _at_risk(refused: "DepositAtRisk", decimals: int) -> str:
    """What one who pays into a locked vault has to know first."""
    from ringfence.faces.causes import AT_WALL_WORDS
    from ringfence.words.numbers import format_amount
    from ringfence.words.times import utc

    paid_in, stands, after = (
        format_amount(amount, decimals) for amount in (refused.assets, refused.behind_wall, refused.behind_floor)
    )
    at_risk = format_amount(refused.assets - refused.behind_wall, decimals)
    told = (
        f"is locked at its wall since {utc(refused.locked_since)}; {AT_WALL_WORDS[refused.at_wall]}. Of {paid_in} "
        f"about {stands} would stand behind the wall from the start and {at_risk} would be at risk"
    )
    if refused.rebase_at is not None:
        told += f"; a rebase is announced for {utc(refused.rebase_at)}: from then on about {after} stand behind it"
    return f"{told}; pay in all the same with --into-locked"


def _reason(refused: "RingfenceError", decimals: int) -> str:
    from ringfence.vaults.errors import DepositAtRisk, RedeemExceeds, ZeroAssets, ZeroShares
    from ringfence.words.numbers import format_amount, format_shares

    match refused:
        case RedeemExceeds():
            asked, held = (format_shares(shares, decimals) for shares in (refused.asked, refused.held))
            return f"{asked} shares were to be redeemed, {held} can be; ask for no more, or for all"
        case ZeroAssets(shares=0):
            return "no shares are left that could be redeemed; those that wait already will be paid at the next slots"
        case ZeroAssets():
            return f"{format_shares(refused.shares, decimals)} shares are worth less than can be paid; redeem more"
        case DepositAtRisk():
            return _at_risk(refused, decimals)
        case ZeroShares():
            return f"{format_amount(refused.assets, decimals)} buys no shares; pay in more"
        case _:
            return str(refused)


def _after(
    vault: str, holder: str, currency: str, given: "Answer[Any]", decimals: int, dry_run: bool
) -> dict[str, Any]:
    """The vault after an act, and whether this one did anything."""
    from ringfence.words.numbers import format_amount, format_per_share, format_shares

    entry = given.entry
    return {
        "vault": vault,
        "holder": holder,
        "currency": currency,
        "nav": format_amount(entry.nav, decimals),
        "nav_per_share": format_per_share(entry.nav, entry.total_shares),
        "total_shares": format_shares(entry.total_shares, decimals),
        "wall": format_amount(entry.wall, decimals),
        "wall_per_share": format_per_share(entry.wall, entry.total_shares),
        "repeated": given.repeated,
        "dry_run": dry_run,
    }


def _print_act(answer: dict[str, Any], title: str, as_json: bool) -> None:
    if as_json:
        print_json(answer)
        return
    if answer["repeated"]:
        title = f"{title} (the answer given before under this key: nothing was done again)"
    elif answer["dry_run"]:
        title = f"{title} (dry run: nothing has changed)"
    words = {name.replace("_", " "): value for name, value in answer.items() if name not in ("dry_run", "repeated")}
    print_figures(title, words)
