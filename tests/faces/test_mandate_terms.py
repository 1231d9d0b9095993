"""A mandate told to people: YAML that means the same, sentences that name what is multiplied, and useless limiters."""

from pathlib import Path

import pytest

from ringfence.faces.mandate_terms import as_yaml, remarks, sentences
from ringfence.vaults.mandate.check import load_mandate
from tests.reference.histories import MANDATES
from tests.reference.tide import tide

EVERY_KEY = """
mandate: every-key
title: "yes: a title, with 'quotes' # and a hash"
currency: USDT
loss_cap: 12.3456%
timeframe: 15m
venue: {name: paper, half_spread: 0.015%, slippage: 0%, taker_fee: 0.05%, liquidation_fee: 1%}
volatility: {estimator: garman_klass, window: 1d12h, floor: 0%}
limits: {gross_leverage_max: 1.25}
positions:
  "on":
    symbol: BTC/USDT:USDT
    share: 0.01%
    strategy: {name: constant, leverage: -2.5}
    leverage_max: 4.5
    volatility_max: 100000%
    liquidation_distance_min: {sigmas: 0, horizon: 1h, slippage: 0%}
    band: 0%
    margin_call: {at: 1.000001, then: reduce, to: 100}
"""


@pytest.mark.parametrize("name", [*MANDATES, "every key"])
def test_the_terms_as_yaml_are_a_mandate_of_the_same_meaning(project: Path, name: str) -> None:
    written = EVERY_KEY if name == "every key" else (project / "mandates" / f"{name}.yaml").read_text(encoding="utf-8")
    terms = load_mandate(written)
    again = load_mandate(as_yaml(terms))
    assert again == terms
    assert again.fingerprint == terms.fingerprint


def test_the_sentences_say_what_each_multiple_is_a_multiple_of() -> None:
    told = "\n".join(sentences(tide().mandate))
    assert "Holds at most 3 × NAV: the sum of all positions' |notional|." in told
    assert "a share never falls below 80% of the highest price per share ever struck" in told
    assert "at most 18% of the NAV" in told
    assert "btc holds at most 8 × that collateral (leverage_max), so at most 1.44 × NAV" in told
    assert "constant proposes (leverage 5)" in told


def test_a_limiter_that_never_binds_is_told_with_its_numbers() -> None:
    told = {remark["path"]: (remark["binds"], remark["message"]) for remark in remarks(tide().mandate)}
    # share 90 % x loss cap 20 % x proposed 5 = 0.9 of the NAV
    assert told["gross_leverage_max"] == (
        "never", "3 × NAV never binds: with a full cushion the positions hold at most 0.9 × NAV",
    )  # fmt: skip
    assert told["positions.btc.leverage_max"] == (
        "never", "8 × the collateral never binds: the strategy asks for at most 5 ×",
    )  # fmt: skip


def test_a_limiter_that_always_binds_is_told_with_its_numbers() -> None:
    told = {remark["path"]: remark for remark in remarks(tide(leverage="10").mandate)}
    assert told["positions.btc.leverage_max"]["binds"] == "always"
    assert told["positions.btc.leverage_max"]["message"] == (
        "8 × the collateral always binds: the strategy asks for at least 10 ×"
    )
