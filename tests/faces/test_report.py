"""The report of a run: whole, offline, exact and inert."""

import base64
import json
import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringfence.faces.causes import BOUND_WORDS, KIND_WORDS
from ringfence.faces.errors import ReportEmpty, ReportWithoutVault
from ringfence.faces.figures import LINES
from ringfence.faces.report import page as report_page
from ringfence.faces.report import write_report
from ringfence.faces.report.plots import BOUND_COLOURS, POINTS_MAX, spread
from ringfence.faces.report.statements import StatementRow
from ringfence.faces.report.tables import ROWS_MAX
from ringfence.risk.events import Bound, Event, Kind
from ringfence.risk.metrics import performance
from ringfence.runtime.errors import OutputNotWritten
from ringfence.runtime.figures import Costs, Figures, Measured
from ringfence.runtime.runs import PositionRun, VaultRun
from ringfence.words.refusal import RingfenceError
from ringfence.words.times import stamp

HOUR = 3_600_000
MARCH = 1_583_020_800_000
EVIL = '<script>alert(1)</script></script><img src=x onerror="alert(2)">&%{x}'

OLD = "<!doctype html>an earlier report of Ringfence"


def event(ts: int, kind: Kind, reason: Bound = Bound.nothing, position: int = 0, **more: Any) -> Event:
    blank = Event(ts, position, kind, reason, 0, 0, 0, 0, 0, 0.0, 0.0, 0.0, 0.0, 0.0)
    return replace(blank, **more)


def a_position(rng: np.random.Generator, name: str, symbol: str, start: float, decisions: int) -> PositionRun:
    crash = np.where(np.arange(decisions) == decisions * 2 // 5, -0.28, 0.0)
    price = start * np.exp(np.cumsum(rng.normal(0, 0.008, decisions) + crash))
    volatility = 0.6 + 1.8 * np.exp(-np.abs(np.arange(decisions) - decisions * 0.42) / (decisions * 0.08))
    warm = np.arange(decisions) < min(48, decisions // 4)
    proposed = np.ma.masked_array(np.clip(1.5 / volatility * 2.2, 0, 8), warm)
    bound = rng.choice([0, 1, 2, 3, 12, 12, 12, 6], decisions).astype(np.int64)
    bound[warm] = Bound.no_proposal
    allowed = np.ma.masked_array(np.where(bound == 0, proposed.data, proposed.data * 0.8), warm)
    leverage = np.ma.masked_array(allowed.data * (1 + rng.normal(0, 0.03, decisions)), warm)
    quantity = np.where(warm, 0, np.round(leverage.data * 12_345)).astype(np.int64)
    distance = np.ma.masked_array(1 / np.maximum(leverage.data, 0.3) * 0.95, warm)
    return PositionRun(name, symbol, price, quantity, proposed, allowed, leverage, leverage * 1.25, bound,
                       np.ma.masked_array(volatility, warm), distance, Decimal("0.001"))  # fmt: skip


def a_run(vault: str = "btc-eth-shield", decisions: int = 744, *, seed: int = 7, title: str = "") -> VaultRun:
    rng = np.random.default_rng(seed)
    ts = MARCH + HOUR * (1 + np.arange(decisions, dtype=np.int64))
    positions = (
        a_position(rng, "btc", "BTC/USDT:USDT", 8_600.0, decisions),
        a_position(rng, "eth", "ETH/USDT:USDT", 220.0, decisions),
    )
    shares = np.full(decisions, 250_000_000_000_000, np.int64)
    swing = np.cumsum(rng.normal(0, 0.002, decisions)) - 0.11 * (np.arange(decisions) > decisions * 0.4)
    each = np.maximum(1 + swing - swing[0] if decisions else swing, 0.8123)
    mark = np.minimum(np.maximum.accumulate(each), 1.02)
    nav = np.round(each * 250_000e6).astype(np.int64)
    wall = np.ceil(mark * 0.8 * 250_000e6).astype(np.int64)
    return VaultRun(
        vault=vault, title=title or "Bitcoin and ether behind a 20 % wall", currency="USDT", decimals=6, loss_cap=0.2,
        mandate="9f2c61d07be4a8835512c0ffee01d7aa94b3c6e8f1029384756aabbccddeeff0", ts=ts, nav=nav, wall=wall,
        shares=shares, high_water_mark=np.round(mark * 1e-3 * 2.0**50).astype(np.int64), positions=positions,
        events=tuple(some_events(rng, ts, positions)), price_low=0.000809417,
        low=nav / shares * 0.99,
        locked=np.arange(decisions) % 10 == 0, struck=np.ones(decisions, np.bool_), distance_low=0.01234567,
        balances={"reserve": 200_000_000_000, "cushion": 9_876_543_210, "margin:btc": 1_234_567_890, "costs": -42},
    )  # fmt: skip


def some_events(rng: np.random.Generator, ts: np.ndarray, positions: tuple[PositionRun, ...]) -> Iterator[Event]:
    decisions = len(ts)
    for k in range(50, decisions):
        moment = int(ts[k])
        for p, position in enumerate(positions):
            price = float(position.price[k])
            if k % 8 == 0:
                yield event(
                    moment, Kind.funding, position=p, amount=int(rng.integers(-9_000_000, 9_000_000)), mark=price
                )
            if rng.random() < 0.2:
                yield event(moment, Kind.resize, Bound(int(position.bound[k]) or 1), p,
                            quantity_before=int(position.quantity[k - 1]), quantity_after=int(position.quantity[k]),
                            price=price * 1.0003, mark=price, leverage_before=2.51, leverage_after=2.1,
                            amount=int(rng.integers(-5 * 10**9, 5 * 10**9)),
                            fee=int(rng.integers(1, 5 * 10**7)))  # fmt: skip
                yield event(moment, Kind.collateral, position=p, amount=int(rng.integers(-5 * 10**9, 5 * 10**9)))
        if k == decisions * 2 // 5:
            yield event(moment - HOUR // 2, Kind.margin_call, Bound.margin_call, 1,
                        quantity_before=900, quantity_after=450, price=153.21, mark=153.3,
                        leverage_before=9.0, leverage_after=4.5)  # fmt: skip
            yield event(moment, Kind.liquidation, Bound.maintenance_margin, 0, quantity_before=1234, quantity_after=0,
                        price=5012.3, mark=5020.1, amount=-9_876_543_210_123, fee=1_000_001, shortfall=7_654_321,
                        leverage_before=22.0)  # fmt: skip
            yield event(moment + HOUR, Kind.refusal, Bound.notional_min, 1)


def some_statements() -> list[StatementRow]:
    return [
        StatementRow(
            "btc-eth-shield", "alice", 150_000_000_000, 0, 150_000_000_000_000, 128_412_345_678, 122_400_000_001, 6
        ),
        StatementRow(
            "btc-eth-shield", "bob", 100_000_000_001, 1, 100_000_000_000_000, 101_000_000_000, 81_600_000_000, 6
        ),
    ]


class Reader(HTMLParser):
    """What a browser would find: elements with attributes, the text of each, tables as rows of cells."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.rows: list[list[str]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in {"meta", "input", "img", "br"}:
            self.open.append(tag)
            self.texts.setdefault(tag, []).append("")
        if tag == "tr":
            self.rows.append([])
        if tag in {"td", "th"}:
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, text: str) -> None:
        if self.open:
            self.texts[self.open[-1]][-1] += text
        if any(tag in {"td", "th"} for tag in self.open):
            self.rows[-1][-1] += text

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def written(tmp_path: Path, *runs: VaultRun, statements: list[StatementRow] | None = None, **more: str | None) -> str:
    path = tmp_path / "report.html"
    words: dict[str, Any] = {"title": "Crash of March 2020", "source": "recorded bars", "verified": None, **more}
    shown = runs or (a_run(),)
    held = some_statements() if statements is None else statements
    write_report(path, shown, held, [measured(run) for run in shown], **words)
    return path.read_text(encoding="utf-8")


def measured(run: VaultRun) -> Figures | None:
    """Figures whose series are the run's own; the yardstick is another."""
    if not run.shares.any():
        return None
    lived = performance(run.ts, run.nav / run.shares, run.low)
    held = performance(run.ts, run.positions[0].price)
    costs = Costs(1_234_567_891, 20_000_000, 3_000_000, -45_000_000)
    return Figures(
        Measured(lived, 12.5, 0.031, 0.1), costs, 251_000_000_000, 77, Measured(held, 1.0, 0.0008, 0.0), None
    )


def figures(page: Reader) -> dict[str, Any]:
    place = [attributes.get("id") for attributes in page.all("script")].index("figures")
    described: dict[str, Any] = json.loads(page.texts["script"][place])
    return described


def decoded(column: dict[str, str]) -> np.ndarray:
    return np.frombuffer(base64.b64decode(column["bdata"]), "<f8")


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    return written(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def page(text: str) -> Reader:
    return Reader(text)


def test_the_page_is_well_formed_and_every_element_is_closed(page: Reader) -> None:
    assert page.open == []
    assert page.all("html") == [{"lang": "en"}]
    assert page.texts["title"] == page.texts["h1"] == ["Crash of March 2020"]
    identities = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(identities) == len(set(identities))


def test_nothing_in_the_page_points_outside_it(text: str, page: Reader) -> None:
    for tag, attributes in page.elements:
        assert tag not in {"link", "iframe", "object", "embed", "base", "img"}
        for name, value in attributes.items():
            assert name not in {"src", "srcset", "action", "data"}, (tag, name, value)
            assert not name.startswith("on"), (tag, name)
            if name == "href":
                assert str(value).startswith("#")
    own = text.replace(report_page._library(), "")
    assert "//" not in re.sub(r"^\s*//.*$", "", own.split('id="figures"')[0] + own.split("</script>")[-2], flags=re.M)
    assert not re.search(r"@import|url\(", own)


def test_the_policy_of_the_page_forbids_the_network_and_allows_exactly_its_own_scripts(page: Reader) -> None:
    policy = next(meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none';")
    assert "http" not in policy
    assert "unsafe-eval" not in policy
    running = [body for body, kind in zip(page.texts["script"], page.all("script"), strict=True) if "type" not in kind]
    assert len(running) == 2
    allowed = {f"'sha256-{base64.b64encode(sha256(body.encode()).digest()).decode()}'" for body in running}
    assert set(re.findall(r"'sha256-[^']+'", policy)) == allowed


def test_no_button_of_a_figure_sends_it_anywhere(page: Reader) -> None:
    drawing = page.texts["script"][-1]
    assert "showSendToCloud: false" in drawing
    assert 'plotlyServerURL: ""' in drawing
    assert "modeBarButtons: buttons" in drawing
    assert "sendChartToCloud" not in drawing


def test_the_drawing_library_stands_in_the_page_once(text: str) -> None:
    from plotly.offline import get_plotlyjs

    assert text.count(get_plotlyjs()[:300]) == 1


def test_a_script_in_any_name_is_text_and_never_an_element(tmp_path: Path) -> None:
    run = a_run(vault=EVIL, decisions=100, title=EVIL)
    position = replace(run.positions[0], name=EVIL, symbol=EVIL)
    run = replace(run, currency=EVIL, mandate=EVIL, positions=(position, run.positions[1]), balances={EVIL: 1})
    row = replace(some_statements()[0], vault=EVIL, holder=EVIL)
    text = written(tmp_path, run, statements=[row], title=EVIL, source=EVIL, verified=EVIL)
    page = Reader(text)
    assert [kind.get("type") for kind in page.all("script")] == ["application/json", None, None]
    assert page.all("img") == []
    assert page.open == []
    assert page.texts["h1"] == [EVIL]
    assert EVIL not in text
    drawn = json.dumps(figures(page))
    assert "<script" not in drawn
    assert 'onerror=\\"' not in drawn
    assert "%{x}" not in drawn


def test_amounts_of_events_stand_in_the_table_to_the_last_unit(page: Reader) -> None:
    liquidation = next(row for row in page.rows if row[2:3] == ["Liquidation"])
    cause = "equity below the venue's maintenance margin"
    assert liquidation == ["2020-03-13 10:00", "btc", "Liquidation", cause, "1,234 → 0", "22.00× → –", "5,012.30",
                            "5,020.10", "-9,876,543.210123", "1.000001", "7.654321"]  # fmt: skip
    refusal = next(row for row in page.rows if row[2:3] == ["Refusal"])
    assert refusal[3] == "smallest order of the venue"


def test_every_event_has_its_row_in_order(page: Reader) -> None:
    run = a_run()
    names = set(KIND_WORDS.values())
    rows = [row for row in page.rows if len(row) == 11 and row[2] in names]
    assert [(row[0], row[2]) for row in rows] == [(stamp(e.ts), KIND_WORDS[e.kind]) for e in run.events]


def test_a_statement_shows_what_went_in_came_out_is_held_and_is_safe(page: Reader) -> None:
    rows = {row[0]: row[1:] for row in page.rows if row}
    assert rows["alice"] == ["150,000.000000", "0.000000", "–", "150,000.000000000", "128,412.345678", "-21,587.654322",
                             "122,400.000001", "6,012.345677"]  # fmt: skip
    assert rows["bob"][5] == "+1,000.000000"
    assert rows["All holders"] == ["250,000.000001", "0.000001", "–", "250,000.000000000", "229,412.345678",
                                   "-20,587.654322", "204,000.000001", "25,412.345677"]  # fmt: skip


def test_money_that_waits_to_enter_is_neither_gained_nor_lost(tmp_path: Path) -> None:
    waits = replace(some_statements()[0], deposited=150_000_000_000 + 7, entering=7)
    assert waits.profit == some_statements()[0].profit
    rows = {row[0]: row for row in Reader(written(tmp_path, statements=[waits])).rows if row}
    assert rows["alice"][3] == "0.000007"


def test_the_card_shows_the_figures_of_the_run(page: Reader) -> None:
    run = a_run()
    facts = dict(zip(page.texts["dt"][4:], page.texts["b"][2:], strict=False))
    assert facts["Lowest NAV per share"] == "0.809417"
    assert facts["Lowest distance to the wall"] == "1.23%"
    assert facts["Liquidations"] == facts["Margin calls"] == facts["Refusals"] == "1"
    assert facts["Resizes"] == str(sum(e.kind == Kind.resize for e in run.events))
    assert facts["Shortfall of the venue"] == "7.654321"
    exact = Decimal(int(run.nav[-1])) * 1000 / Decimal(int(run.shares[-1]))
    assert facts["NAV per share"] == f"{exact:.6f}"
    wall = Decimal(int(run.wall[-1])) * 1000 / Decimal(int(run.shares[-1]))
    assert facts["Wall per share now"] == f"{wall:.6f}"


def test_every_figure_stands_in_the_report_with_its_formula_beside_its_yardstick(page: Reader) -> None:
    rows = {row[0]: row[1:] for row in page.rows if row}
    assert rows["Figure"] == ["vault", "buy and hold", "Formula"]
    for line in LINES:
        assert rows[line.label.strip()][-1] == line.formula
    assert rows["turnover a year, × NAV"][1] == "11.79"  # 1.0 in 743 hours
    assert rows["return a year (CAGR)"][:2] == ["–", "–"]
    assert rows["fees"][:2] == ["1,234.567891", "0.49%"]
    assert rows["funding paid"][0] == "-45.000000"
    assert rows["in all"][0] == "1,212.567891"
    notes = " ".join(page.texts["p"])
    assert "n = 743 returns r between decisions, p = 8,760 a year, a year = 365 days" in notes
    assert "bought once" in notes


def test_what_happened_to_a_vault_as_a_whole_names_no_position(tmp_path: Path) -> None:
    whole = event(MARCH + HOUR, Kind.roll, position=-1, amount=5)
    run = a_run(decisions=60)
    page = Reader(written(tmp_path, replace(run, events=(whole,))))
    assert ["–", "Roll"] in [row[1:3] for row in page.rows if len(row) == 11]


def test_the_header_names_period_loss_cap_and_fingerprint(page: Reader) -> None:
    assert "2020-03-01 01:00 to 2020-04-01 00:00 UTC" in page.texts["dd"]
    assert any(row[3] == "20%" and row[5] == a_run().mandate for row in page.rows if len(row) == 6)


def test_every_figure_is_described_and_every_table_has_a_caption(page: Reader) -> None:
    plots = [div for div in page.all("div") if str(div.get("class")).startswith("plot")]
    assert [div["id"] for div in plots] == ["plot-0", "plot-0-0", "plot-0-1"] == list(figures(page))
    assert all(div["aria-label"] and div["role"] == "img" for div in plots)
    assert len(page.all("table")) == len(page.all("caption")) == 7
    assert all(caption.strip() for caption in page.texts["caption"])


def test_the_lines_of_a_figure_are_the_series_of_the_run(page: Reader) -> None:
    run = a_run()
    traces = {str(trace.get("name")): trace for trace in figures(page)["plot-0"]["data"]}
    np.testing.assert_array_equal(decoded(traces["NAV per share"]["x"]), run.ts)
    np.testing.assert_array_equal(decoded(traces["NAV per share"]["y"]), run.nav * 1000.0 / run.shares)
    leverage = {str(trace.get("name")): trace for trace in figures(page)["plot-0-1"]["data"]}["Actual"]
    np.testing.assert_array_equal(decoded(leverage["y"]), run.positions[1].leverage.filled(np.nan))


def test_the_strip_tells_what_bound_each_decision(page: Reader) -> None:
    run = a_run()
    strip = next(trace for trace in figures(page)["plot-0-0"]["data"] if trace["type"] == "heatmap")
    edges, told = decoded(strip["x"]), strip["text"][0]
    assert len(edges) == len(told) + 1
    cells = np.searchsorted(edges, run.ts, side="right") - 1
    assert [told[cell] for cell in cells] == [BOUND_WORDS[Bound(int(bound))] for bound in run.positions[0].bound]


def test_every_kind_and_bound_has_words_and_every_bound_a_colour_of_its_own() -> None:
    assert set(KIND_WORDS) == set(Kind)
    assert set(BOUND_WORDS) == set(BOUND_COLOURS) == set(Bound)
    assert len(set(BOUND_COLOURS.values())) == len(set(BOUND_WORDS.values())) == len(Bound)


def test_a_short_series_is_drawn_whole() -> None:
    np.testing.assert_array_equal(spread(np.arange(POINTS_MAX, dtype=float)), np.arange(POINTS_MAX))


@given(st.integers(POINTS_MAX + 1, 300_000), st.integers(0, 2**32))
def test_a_long_series_keeps_its_ends_its_extremes_and_its_gaps(size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=size)
    gap = int(rng.integers(0, size))
    values[gap] = np.nan
    chosen = spread(values)
    assert len(chosen) <= POINTS_MAX
    assert np.all(np.diff(chosen) > 0)
    assert {0, size - 1, gap, int(np.nanargmin(values)), int(np.nanargmax(values))} <= set(chosen.tolist())


def test_a_constructed_path_is_called_constructed_and_a_recorded_one_is_not(tmp_path: Path, text: str) -> None:
    built = written(tmp_path, source="hourly bars; the path inside a bar is constructed")
    assert "path inside each bar of this report is constructed" in built
    assert "path inside each bar of this report is constructed" not in text


def test_a_vault_without_a_single_decision_still_has_a_page(tmp_path: Path) -> None:
    run = replace(a_run(decisions=0), events=(), balances={}, price_low=np.inf, distance_low=np.inf)
    page = Reader(written(tmp_path, run, statements=[]))
    assert page.open == []
    assert figures(page) == {}
    assert "no decision was made" in page.texts["dd"]


def test_a_vault_without_shares_shows_no_price_and_no_infinity(tmp_path: Path) -> None:
    run = a_run(decisions=60)
    empty = replace(run, shares=np.zeros(60, np.int64), nav=np.zeros(60, np.int64), wall=np.zeros(60, np.int64),
                    high_water_mark=np.zeros(60, np.int64), price_low=np.inf, distance_low=np.inf)  # fmt: skip
    text = written(tmp_path, empty, statements=[])
    shown = " ".join(Reader(text).texts["b"] + Reader(text).texts["p"]).lower()
    assert " inf" not in shown
    assert "nan" not in shown


def test_one_decision_is_enough_for_a_figure(tmp_path: Path) -> None:
    assert set(figures(Reader(written(tmp_path, replace(a_run(decisions=1), events=()))))) == {
        "plot-0", "plot-0-0", "plot-0-1"
    }  # fmt: skip


def test_above_the_limit_the_rare_events_are_listed_and_the_page_says_so(tmp_path: Path) -> None:
    run = a_run(decisions=60)
    many = [event(MARCH + k, Kind.funding, amount=1) for k in range(ROWS_MAX + 500)]
    rare = event(MARCH + 10**9, Kind.liquidation, Bound.maintenance_margin, quantity_before=5)
    text = written(tmp_path, replace(run, events=(*many, rare)))
    page = Reader(text)
    rows = [row for row in page.rows if len(row) == 11][1:]
    assert len(rows) == ROWS_MAX
    assert rows[-1][2] == "Liquidation"
    assert "10,000 of 10,501 events are listed" in text


def test_two_vaults_zoom_apart_and_each_holder_stands_with_their_own_vault(tmp_path: Path) -> None:
    other = a_run("eth-only", seed=3, title="Ether alone")
    row = replace(some_statements()[0], vault="eth-only", holder="carol")
    page = Reader(written(tmp_path, a_run(), other, statements=[*some_statements(), row]))
    groups = [(div["id"], div["data-group"]) for div in page.all("div") if str(div.get("class")).startswith("plot")]
    assert {group for identity, group in groups if str(identity).startswith("plot-1")} == {"1"}
    holders = [row[0] for row in page.rows if len(row) == 9]
    assert holders == ["Holder", "alice", "bob", "All holders", "Holder", "carol", "All holders"]


def test_a_statement_of_an_unknown_vault_is_refused_by_name(tmp_path: Path) -> None:
    row = replace(some_statements()[0], vault="elsewhere")
    with pytest.raises(ReportWithoutVault, match="alice: vault elsewhere is not in this report, which has btc-eth"):
        written(tmp_path, statements=[row])
    assert list(tmp_path.iterdir()) == []


def test_a_report_about_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReportEmpty, match="at least one vault"):
        write_report(tmp_path / "report.html", [], [], [], title="t", source="s", verified=None)


def test_a_new_report_replaces_the_old_one_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text(OLD)
    assert written(tmp_path, a_run(decisions=60)).startswith("<!doctype html>")
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_a_report_through_a_link_leaves_the_link_a_link(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "report.html").symlink_to(tmp_path / "there" / "real.html")
    written(tmp_path, a_run(decisions=60))
    assert (tmp_path / "report.html").is_symlink()
    assert (tmp_path / "there" / "real.html").read_text().startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("", "it is a folder; name a file in it"),
        ("absent/report.html", "does not exist; create it"),
        ("file/report.html", "does not exist; create it"),
        ("x" * 300, "File name too long"),
        ("/dev/full", "not a regular file"),
        ("/sys/report.html", "read-only"),
    ],
    ids=["a folder", "in no folder", "under a file", "a name too long", "a device", "in a read-only folder"],
)
def test_a_place_where_no_report_can_stand_is_named_with_the_way_out(tmp_path: Path, place: str, message: str) -> None:
    if place.startswith("/") and not Path(place).parent.exists():
        pytest.skip(f"{place} is no place on this system")
    (tmp_path / "file").touch()
    with pytest.raises(OutputNotWritten, match=re.escape(message)) as refusal:
        write_report(tmp_path / place, [a_run(decisions=60)], [], [None], title="t", source="s", verified=None)
    assert isinstance(refusal.value, RingfenceError)
    assert str(tmp_path / place) in str(refusal.value)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_write_that_fails_half_way_leaves_the_old_report_and_no_part_of_the_new(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(OLD)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
    try:
        with pytest.raises(OutputNotWritten, match="larger than is allowed; allow larger files"):
            write_report(path, [a_run(decisions=60)], [], [None], title="t", source="s", verified=None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_text() == OLD
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_a_report_is_its_owners_alone(tmp_path: Path) -> None:
    written(tmp_path, a_run(decisions=60))
    assert (tmp_path / "report.html").stat().st_mode & 0o777 == 0o600


def test_plotly_and_numpy_are_loaded_only_when_a_report_is_written() -> None:
    program = "import sys, ringfence.faces.report; print([m for m in ('plotly', 'numpy', 'numba') if m in sys.modules])"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"


def test_the_same_run_gives_the_same_page_byte_for_byte(tmp_path: Path) -> None:
    assert written(tmp_path, a_run(decisions=60)) == written(tmp_path, a_run(decisions=60))
