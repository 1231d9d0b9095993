"""W3 as people read it: at no time is a share worth less than (1 - cap) of what it was ever struck at. Exact."""

from collections.abc import Iterable
from fractions import Fraction
from typing import NamedTuple

__all__ = ["Moment", "assert_promise"]

MILLION, ONE, VIRTUAL, PRICE_LARGEST = 10**6, 2**50, 1000, 2**53 - 1


class Moment(NamedTuple):
    """One decision, or, with `struck` false, any other time at which somebody looks."""

    nav: int
    """Minor units, after the decision's trades and before anybody enters or leaves at it."""
    shares: int
    """Share units in which that NAV, and the worst since the moment before, are held; 0: nobody holds any."""
    struck: bool
    mark: int
    """High-water mark afterwards, minor units per share unit x 2**50."""
    worst: int
    """Lowest NAV at any bar's worst point since the moment before."""
    rebased: bool = False
    """Whether an announced rebase happened at this strike: the promise counts from it for those who stay."""


def price(nav: int, shares: int) -> Fraction:
    """What a share unit is worth to whoever enters or leaves, unrounded."""
    return Fraction(nav + 1, shares + VIRTUAL)


def assert_promise(moments: Iterable[Moment], keep: int, mark: int = 0) -> int:
    """The law over a run that begins at `mark`, `keep` being 10**6 - loss_cap in parts per million; returns how many
    moments it was tested at.

    Each price, also at the worst point since the moment before, against the highest price struck before it; then that
    the mark is that highest price, rounded up. A vault that nobody holds a share of promises nothing, and a price
    beyond the largest mark, eight thousand times that of a first deposit, counts as the largest.
    """
    highest, tested, share = Fraction(mark, ONE), 0, Fraction(keep, MILLION)
    for number, moment in enumerate(moments):
        if moment.shares == 0:
            highest = Fraction(0)
            continue
        if highest == 0:
            highest = Fraction(moment.mark, ONE)  # of the first deposit, which settles at once
        tested += 1
        for name, nav in (("at its worst", moment.worst), ("at its end", moment.nav)):
            found = price(nav, moment.shares)
            assert found >= share * highest, f"W3: moment {number} {name}: {found} of {highest}"
        if moment.rebased:
            assert moment.struck, f"moment {number}: a rebase without a strike"
            highest = Fraction(0)
        if moment.struck:
            highest = max(highest, min(price(moment.nav, moment.shares), Fraction(PRICE_LARGEST, ONE)))
        exact = -(-highest.numerator * ONE // highest.denominator)
        assert moment.mark == exact, f"moment {number}: a mark of {moment.mark}, highest price struck {exact}"
    return tested
