"""The figures as people and documents read them: each with a formula, none that JSON cannot hold."""

import json
from dataclasses import replace

import numpy as np
import pytest

from ringfence.faces.figures import COSTS, LINES, cost_rows, document, measured_rows, periods
from ringfence.risk.metrics import YEAR, performance
from ringfence.runtime.figures import Costs, Figures, Measured

HOUR = 3_600_000


def some(years: float = 2.0, steps: int = 100) -> Figures:
    ts = np.linspace(0, years * YEAR, steps + 1).astype(np.int64)
    value = np.linspace(1.0, 1.5, steps + 1)
    value[20:30] *= 0.5
    vault, hold = (Measured(performance(ts, found), 6.0, 0.03, 0.125) for found in (value, value[::-1].copy()))
    return Figures(vault, Costs(10_000_000, 2_500_001, 0, -1_000_000), 1_000_000_000, 50, hold, None)


def test_every_figure_of_a_document_has_a_formula_and_is_json() -> None:
    told = document(some(), 6)
    text = json.dumps(told, allow_nan=False)
    assert json.loads(text) == told
    assert {line.key for line in LINES} <= told["vault"].keys()
    assert told["formulas"].keys() == {line.key for line in LINES} | {f"costs.{key}" for key in COSTS}
    assert told["plain_cppi"] is None
    assert told["costs"] == {"fees": "10.000000", "spread": "2.500001", "rolls": "0.000000", "funding": "-1.000000",
                             "total": "11.500001"}  # fmt: skip
    assert told["trades_yearly"] == 25.0


def test_yearly_figures_are_those_of_the_run_over_its_years() -> None:
    told = document(some(2.0), 6)["vault"]
    assert (told["turnover_yearly"], told["costs_yearly"]) == (3.0, 0.015)
    assert told["cagr"] == pytest.approx(1.5**0.5 - 1)


def test_people_see_each_figure_of_the_vault_beside_its_yardstick() -> None:
    heads, rows = measured_rows(some())
    shown = {str(row[0]).strip(): row[1:] for row in rows}
    assert heads == ["", "vault", "buy and hold"]
    assert shown["return"] == ["50.00%", "-33.33%"]
    assert shown["turnover a year, × NAV"] == ["3.00", "3.00"]
    assert shown["time at the wall"] == ["12.50%", "12.50%"]
    assert shown["its length"][0] is not None
    assert shown["its length"][0].endswith("days")
    assert str(shown["its length"][1]).endswith("days, lasts")


def test_what_is_shorter_than_a_year_has_no_yearly_return_but_its_costs_are_told() -> None:
    heads, rows = measured_rows(some(years=0.5))
    shown = {str(row[0]).strip(): row[1] for row in rows}
    assert len(heads) == 3
    assert shown["return a year (CAGR)"] is None
    assert shown["costs a year, of NAV"] == "6.00%"


def test_costs_are_told_in_money_of_the_mean_nav_and_a_year() -> None:
    rows = {row[0]: row[1:] for row in cost_rows(some(), 6)}
    assert rows["fees"] == ["10.00", "1.00%", "0.50%"]
    assert rows["in all"] == ["11.50", "1.15%", "0.58%"]
    assert cost_rows(some(), 6, None)[1][1] == "2.500001"


def test_what_a_figure_stands_on_is_said() -> None:
    assert periods(some().vault.performance) == "n = 100 returns r between decisions, p = 50 a year, a year = 365 days"
    alone = replace(some().vault.performance, n=0, periods_per_year=None)
    assert periods(alone).startswith("n = 0 returns r between decisions, p = none a year")
