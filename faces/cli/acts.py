"""Commands that move money into vaults and out of them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ringfence.faces.cli.app import Database, Json, app, database, print_figures, print_json

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from ringfence.vaults.entries import Deposited, RedemptionAsked
    from ringfence.words.refusal import RingfenceError

__all__ = ["deposit", "redeem"]

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
    dry_run: _DryRun = False,
    db: Database = None,
    as_json: Json = False,
) -> None:
    """Pay money into a vault: shares are minted at its last NAV, and the wall behind them is filled first."""
    from ringfence.words.amounts import parse_amount
    from ringfence.words.numbers import format_amount, format_shares

    with _acting(db, dry_run) as engine:
        currency, decimals = _currency(engine, vault)
        paid_in = _parsed("amount", lambda: parse_amount(amount, decimals))
        from ringfence.runtime import acts  # slow to import; a refused amount need not wait for it

        with _worded(vault, holder, decimals):
            entry = acts.deposit(engine, vault, holder, paid_in, _now(), key, rehearsed=dry_run)
    answer = {
        "amount": format_amount(entry.amount, decimals),
        "shares_minted": format_shares(entry.shares, decimals),
        **_after(vault, holder, currency, entry, decimals, dry_run),
    }
    _print_act(answer, "Deposit", as_json)


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
    """Ask for shares back: what is free is paid now, the rest at the next slots, at most at today's price."""
    from ringfence.vaults.shares import LARGEST
    from ringfence.words.amounts import parse_amount
    from ringfence.words.numbers import SHARE_DECIMALS, format_amount, format_mark, format_shares

    with _acting(db, dry_run) as engine:
        currency, decimals = _currency(engine, vault)
        wanted = None
        if shares != "all":
            wanted = _parsed("shares", lambda: parse_amount(shares, decimals + SHARE_DECIMALS, LARGEST))
        from ringfence.runtime import acts

        with _worded(vault, holder, decimals):
            entry = acts.redeem(engine, vault, holder, wanted, _now(), key, rehearsed=dry_run)
    answer = {
        "shares_asked": format_shares(entry.shares, decimals),
        "paid": format_amount(entry.paid, decimals),
        "shares_burned": format_shares(entry.burned, decimals),
        "shares_waiting": format_shares(entry.shares - entry.burned, decimals),
        "price_at_most": format_mark(entry.price),
        **_after(vault, holder, currency, entry, decimals, dry_run),
    }
    _print_act(answer, "Redemption", as_json)


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
    from ringfence.faces.errors import ActMustWait, ActRefused
    from ringfence.vaults.errors import DepositRefused, RedeemExceeds, ZeroAssets, ZeroShares

    try:
        yield
    except (RedeemExceeds, ZeroAssets, ZeroShares, DepositRefused) as refused:
        kind = ActMustWait if refused.transient else ActRefused
        raise kind(vault, holder, _reason(refused, decimals)) from refused


def _reason(refused: "RingfenceError", decimals: int) -> str:
    from ringfence.vaults.errors import RedeemExceeds, ZeroAssets, ZeroShares
    from ringfence.words.numbers import format_amount, format_shares

    match refused:
        case RedeemExceeds():
            asked, held = (format_shares(shares, decimals) for shares in (refused.asked, refused.held))
            return f"{asked} shares were to be redeemed, {held} can be; ask for no more, or for all"
        case ZeroAssets(shares=0):
            return "no shares are left that could be redeemed; those that wait already will be paid at the next slots"
        case ZeroAssets():
            return f"{format_shares(refused.shares, decimals)} shares are worth less than can be paid; redeem more"
        case ZeroShares():
            return f"{format_amount(refused.assets, decimals)} buys no shares; pay in more"
        case _:
            return str(refused)


def _after(
    vault: str, holder: str, currency: str, entry: "Deposited | RedemptionAsked", decimals: int, dry_run: bool
) -> dict[str, Any]:
    """The vault after an act."""
    from ringfence.words.numbers import format_amount, format_per_share, format_shares

    return {
        "vault": vault,
        "holder": holder,
        "currency": currency,
        "nav": format_amount(entry.nav, decimals),
        "nav_per_share": format_per_share(entry.nav, entry.total_shares),
        "total_shares": format_shares(entry.total_shares, decimals),
        "wall": format_amount(entry.wall, decimals),
        "wall_per_share": format_per_share(entry.wall, entry.total_shares),
        "dry_run": dry_run,
    }


def _print_act(answer: dict[str, Any], title: str, as_json: bool) -> None:
    if as_json:
        print_json(answer)
        return
    dry_run = answer["dry_run"]
    words = {name.replace("_", " "): value for name, value in answer.items() if name != "dry_run"}
    print_figures(f"{title} (dry run: nothing has changed)" if dry_run else title, words)
