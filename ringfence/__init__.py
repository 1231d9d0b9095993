"""Ringfence: vaults for leveraged strategies whose loss is capped in the ledger, before the market moves.

This is the public face for Python. What a strategist needs, and no more:

* mandates and figures: `load_mandate`, `load_mandates`, `read_bars`, `read_funding`, `scenario`;
* runs: `backtest`, `replay`, and the `Result` that both return;
* a strategy of one's own: `Strategy`, `Proposal`, `Bars`, `check_causal`, and the units that its parameters are written
  in: `Fraction`, `Rate`, `Multiple`, `Duration`;
* `RingfenceError`, the base of every refusal, and `__version__`.

    import ringfence
    run = ringfence.backtest("mandates/btc-constant.yaml", {"BTC/USDT:USDT": "bars.csv"}, deposits={"alice": "50000"})
    run.frame()

Names are looked up when they are first used, so that importing the package costs nothing. The rooms behind it
(`ringfence.risk`, `ringfence.markets`, ...) are the program's own and change without notice.
"""

import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ringfence.faces.library import Result, backtest, load_mandate, load_mandates, replay
    from ringfence.markets.bars import Bars
    from ringfence.markets.files import read_bars, read_funding
    from ringfence.markets.scenarios import scenario
    from ringfence.strategies.causality import check_causal
    from ringfence.strategies.contract import Proposal, Strategy
    from ringfence.words.refusal import RingfenceError
    from ringfence.words.units import Duration, Multiple, Rate
    from ringfence.words.units import Fraction_ as Fraction

    __version__: str

__all__ = [
    "Bars",
    "Duration",
    "Fraction",
    "Multiple",
    "Proposal",
    "Rate",
    "Result",
    "RingfenceError",
    "Strategy",
    "__version__",
    "backtest",
    "check_causal",
    "load_mandate",
    "load_mandates",
    "read_bars",
    "read_funding",
    "replay",
    "scenario",
]

_PLACES = {
    "Bars": "markets.bars:Bars",
    "Duration": "words.units:Duration",
    "Fraction": "words.units:Fraction_",
    "Multiple": "words.units:Multiple",
    "Proposal": "strategies.contract:Proposal",
    "Rate": "words.units:Rate",
    "Result": "faces.library:Result",
    "RingfenceError": "words.refusal:RingfenceError",
    "Strategy": "strategies.contract:Strategy",
    "backtest": "faces.library:backtest",
    "check_causal": "strategies.causality:check_causal",
    "load_mandate": "faces.library:load_mandate",
    "load_mandates": "faces.library:load_mandates",
    "read_bars": "markets.files:read_bars",
    "read_funding": "markets.files:read_funding",
    "replay": "faces.library:replay",
    "scenario": "markets.scenarios:scenario",
}
"""Where each name stands: module and attribute."""

_ROOMS = ("words", "risk", "markets", "strategies", "vaults", "runtime", "faces")


def _demand_rooms() -> None:
    """Refuses a copy of the package without its rooms here, by the folder's name, and not later from inside.

    It is an ImportError because no room is there to bring another.
    """
    folder = os.path.dirname(os.path.abspath(__file__))
    lost = [room for room in _ROOMS if not os.path.isfile(os.path.join(folder, room, "__init__.py"))]
    if lost:
        raise ImportError(
            f"ringfence was found in {folder}, where it lacks {', '.join(lost)}. "
            "In a checkout the rooms are symbolic links to the folders beside it: clone it again where links are kept "
            "(git clone -c core.symlinks=true), or install the package (pip install .). An installation is mended by "
            "installing again, and an archive must be unpacked first",
            name="ringfence",
            path=folder,
        )


_demand_rooms()


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        found: Any = version("ringfence")
    elif name in _PLACES:
        from importlib import import_module

        module, _, attribute = _PLACES[name].partition(":")
        found = getattr(import_module(f"ringfence.{module}"), attribute)
    else:
        raise AttributeError(f"module 'ringfence' has no attribute {name!r}", name=name, obj=sys.modules[__name__])
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
