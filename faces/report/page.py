"""The page of a report: header, cards, figures, tables and promises put together into one HTML text."""

import json
from base64 import b64encode
from collections import Counter
from collections.abc import Sequence
from hashlib import sha256
from html import escape
from importlib.resources import files

import numpy as np

from ringfence.faces.causes import BOUND_WORDS
from ringfence.faces.report.plots import BOUND_COLOURS, Figure, nav_figure, per_share_series, position_figure
from ringfence.faces.report.statements import StatementRow
from ringfence.faces.report.tables import (
    balances_table,
    costs_table,
    events_table,
    performance_table,
    positions_table,
    statements_table,
    table,
)
from ringfence.risk.events import Bound, Kind
from ringfence.risk.metrics import drawdown
from ringfence.runtime.figures import Figures
from ringfence.runtime.runs import VaultRun
from ringfence.vaults.mandate.terms import MILLION
from ringfence.words.numbers import (
    ABSENT,
    dashed,
    format_amount,
    format_count,
    format_mark,
    format_per_share,
    format_percentage,
    format_ppm,
    format_share_price,
)
from ringfence.words.times import stamp

__all__ = ["page"]


def page(
    runs: Sequence[VaultRun],
    statements: Sequence[StatementRow],
    measured: Sequence[Figures | None],
    *,
    title: str,
    source: str,
    verified: str | None,
) -> str:
    """The whole report as one HTML text that refers to nothing outside itself."""
    figures: dict[str, Figure] = {}
    each = zip(runs, measured, strict=True)
    sections = [_vault_section(run, number, statements, of, figures) for number, (run, of) in enumerate(each)]
    plotly, drawing = _library(), _inside("report.js")
    # A policy by hash: no other script can run, and nothing can be fetched, whatever a title or a name contains.
    policy = (
        f"default-src 'none'; script-src {_fingerprint(plotly)} {_fingerprint(drawing)}; "
        "style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; form-action 'none'"
    )
    return "\n".join(
        (
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            f"<title>{escape(title)}</title>\n<style>\n{_inside('report.css')}</style>\n</head>\n<body>",
            _header(runs, title, source, verified),
            '<main id="main">',
            '<section aria-labelledby="summary"><h2 id="summary">Summary</h2>',
            *(_card(run, number) for number, run in enumerate(runs)),
            '<p class="note">Lowest values are taken at the worst point of every bar; a drawdown reaches from a NAV '
            "per share struck at a decision down to the lowest after it. The distance to the wall is (NAV − wall) / "
            "NAV. A shortfall is the venue’s loss beyond a position’s margin, never the vault’s.</p></section>",
            _promise(runs, source),
            *sections,
            "</main>",
            f"<footer><p>{escape(title)}. Times are UTC; amounts are exact to the last unit of their currency; prices "
            "per share are rounded to six decimals. This page needs no network.</p></footer>",
            f'<script type="application/json" id="figures">{_json(figures)}</script>',
            f"<script>{plotly}</script>",
            f"<script>{drawing}</script>\n</body>\n</html>\n",
        )
    )


def _inside(name: str) -> str:
    return files("ringfence.faces.report").joinpath(name).read_text(encoding="utf-8")


def _library() -> str:
    """Plotly's own script, fit to stand inside a script element."""
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs()).replace("\r\n", "\n").replace("</script", r"<\/script").replace("<!--", r"<\!--")


def _fingerprint(script: str) -> str:
    return f"'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'"


def _json(figures: dict[str, Figure]) -> str:
    """JSON that can end no script element."""
    written = json.dumps(figures, allow_nan=False, separators=(",", ":"))
    return written.replace("<", r"\u003c").replace(">", r"\u003e").replace("&", r"\u0026")


def _period(runs: Sequence[VaultRun]) -> str:
    moments = [int(ts) for run in runs for ts in run.ts[[0, -1]]] if all(len(run.ts) for run in runs) else []
    moments = moments or [int(ts) for run in runs for ts in run.ts]
    return f"{stamp(min(moments))} to {stamp(max(moments))} UTC" if moments else "no decision was made"


def _header(runs: Sequence[VaultRun], title: str, source: str, verified: str | None) -> str:
    checked = verified or "This run was not re-checked against a journal."
    facts = (
        ("Period", _period(runs)),
        ("Prices", source),
        ("Verification", checked),
        ("Decisions", format_count(sum(len(run.ts) for run in runs))),
    )
    listed = "".join(f"<div><dt>{name}</dt><dd>{escape(value)}</dd></div>" for name, value in facts)
    rows = (
        f'<tr><th scope="row"><a href="#vault-{number}">{escape(run.title)}</a></th>'
        f"<td><code>{escape(run.vault)}</code></td><td>{escape(run.currency)}</td><td>{_loss_cap(run)}</td>"
        f"<td>{escape(', '.join(position.symbol for position in run.positions)) or ABSENT}</td>"
        f'<td class="print"><code>{escape(run.mandate)}</code></td></tr>\n'
        for number, run in enumerate(runs)
    )
    heads = ("Vault", "Name", "Currency", "Loss cap", "Markets", "Fingerprint of the mandate")
    mandates = table("Mandates", heads, rows, numeric_from=len(heads))
    return (
        '<header><a class="skip" href="#main">Skip to the report</a><p class="brand">Ringfence · report of a run</p>'
        f'<h1>{escape(title)}</h1><dl class="facts">{listed}</dl>{mandates}</header>'
    )


def _counted(run: VaultRun) -> dict[Kind, int]:
    return Counter(event.kind for event in run.events)


def _drawdown(run: VaultRun) -> float:
    """Largest fall of NAV per share from its own earlier peak to the worst point of any bar, a fraction."""
    held = run.shares > 0
    if not held.any():
        return float("nan")
    return drawdown(run.ts[held], run.nav[held] / run.shares[held], run.low[held]).depth


def _last(run: VaultRun) -> tuple[int, int, int, int]:
    """NAV, wall, shares and high-water mark at the last decision."""
    if not len(run.ts):
        return 0, 0, 0, 0
    return int(run.nav[-1]), int(run.wall[-1]), int(run.shares[-1]), int(run.high_water_mark[-1])


def _start(run: VaultRun) -> str:
    held = np.flatnonzero(run.shares > 0)
    if not len(held) or not run.shares[-1]:
        return "no shares at the end"
    nav = per_share_series(run.nav, run.shares)
    change = nav[-1] / nav[held[0]] - 1.0 if nav[held[0]] else float("nan")
    return f"{'+' if change > 0.0 else ''}{_percent(change)} since the start"


def _percent(fraction: float) -> str:
    return dashed(format_percentage(fraction, places=2))


def _loss_cap(run: VaultRun) -> str:
    return format_ppm(round(run.loss_cap * MILLION))


def _price(amount: int, shares: int) -> str:
    return dashed(format_per_share(amount, shares, for_people=True))


def _low(run: VaultRun) -> str:
    return dashed(format_share_price(run.price_low, for_people=True))


def _card(run: VaultRun, number: int) -> str:
    nav, wall, shares, mark = _last(run)
    kinds = _counted(run)
    shortfall = sum(event.shortfall for event in run.events)
    lowest = run.distance_low if np.isfinite(run.distance_low) else float("nan")
    facts = (
        ("NAV per share", _price(nav, shares), _start(run)),
        ("Lowest NAV per share", _low(run), f"in {run.currency}, at any bar"),
        ("Wall per share now", _price(wall, shares),
         f"high-water mark {dashed(format_mark(mark, for_people=True))}"),
        ("Worst drawdown", _percent(_drawdown(run)), f"loss cap {_loss_cap(run)}"),
        ("Lowest distance to the wall", _percent(lowest), "of NAV"),
        ("Resizes", format_count(kinds[Kind.resize]), ""),
        ("Margin calls", format_count(kinds[Kind.margin_call]), ""),
        ("Liquidations", format_count(kinds[Kind.liquidation]), ""),
        ("Refusals", format_count(kinds[Kind.refusal]), ""),
        ("Shortfall of the venue", format_amount(shortfall, run.decimals, for_people=True), run.currency),
    )  # fmt: skip
    cells = "".join(
        f"<div><dt>{name}</dt><dd><b>{escape(value)}</b><small>{escape(more)}</small></dd></div>"
        for name, value, more in facts
    )
    return (
        f'<article class="card"><h3><a href="#vault-{number}">{escape(run.title)}</a></h3>'
        f'<p class="sub">NAV <b>{format_amount(nav, run.decimals, for_people=True)}</b> {escape(run.currency)} · '
        f"behind the wall <b>{format_amount(wall, run.decimals, for_people=True)}</b> {escape(run.currency)}</p>"
        f"<dl>{cells}</dl></article>"
    )


def _promise(runs: Sequence[VaultRun], source: str) -> str:
    caps = list(dict.fromkeys(_loss_cap(run) for run in sorted(runs, key=lambda run: run.loss_cap)))
    cap = caps[0] if len(caps) == 1 else f"its loss cap ({', '.join(caps)})"
    constructed = ""
    if "construct" in source.lower():
        constructed = (
            " <strong>The path inside each bar of this report is constructed</strong>: it passes through the bar’s "
            "real high and low, but the order of its points and what lies between them are not recorded facts."
        )
    return (
        '<section class="promise" aria-labelledby="promise"><h2 id="promise">What the wall promises, and what it does '
        f"not</h2><p><strong>It promises</strong> that a share never falls more than {cap} below the highest price per "
        "share that the vault ever struck, as long as the venue honours isolation: that a position can lose its own "
        "margin and nothing else. The rest of the money stands behind the wall, and margin is never drawn from there; "
        "so this holds through gaps, funding, fees and liquidations, without a forecast.</p>"
        "<p><strong>It does not promise</strong> a profit, nor that the currency keeps its worth, nor that the venue "
        "stays solvent and pays. A gap past the bankruptcy price is the venue’s loss and is shown as a shortfall. A "
        "vault whose risk capital is spent stays at its wall and cannot recover by trading. What these rules did at "
        f"past prices is no forecast.{constructed}</p></section>"
    )


def _figure(identity: str, group: int, heading: str, description: str, key: str = "") -> str:
    tall = " tall" if key else ""
    return (
        f"<figure><figcaption><h4>{escape(heading)}</h4><p>{escape(description)}</p>{key}</figcaption>"
        f'<div class="plot{tall}" id="{identity}" data-group="{group}" role="img" '
        f'aria-label="{escape(description)}"></div></figure>'
    )


def _bound_key(bound: np.ndarray) -> str:
    """The colours of the strip, with how often each limit bound."""
    numbers, times = np.unique(bound, return_counts=True)
    order = np.argsort(-times, kind="stable")
    chips = "".join(
        f'<li><i style="background:{BOUND_COLOURS[Bound(int(numbers[k]))]}"></i>{BOUND_WORDS[Bound(int(numbers[k]))]} '
        f"<b>{format_count(times[k])}</b> ({format_percentage(times[k] / len(bound), places=1)})</li>"
        for k in order
    )
    return f'<p class="lead">What bound the decisions:</p><ul class="key">{chips}</ul>'


def _vault_section(
    run: VaultRun,
    number: int,
    statements: Sequence[StatementRow],
    measured: Figures | None,
    figures: dict[str, Figure],
) -> str:
    nav, wall, shares, _ = _last(run)
    parts = [
        f'<section class="vault" aria-labelledby="vault-{number}"><h2 id="vault-{number}">{escape(run.title)}</h2>',
        f'<p class="sub">Vault <code>{escape(run.vault)}</code> · loss cap {_loss_cap(run)} · '
        f"mandate <code>{escape(run.mandate)}</code></p>",
    ]
    if len(run.ts):
        identity = f"plot-{number}"
        figures[identity] = nav_figure(run)
        parts.append(_figure(identity, number, "NAV per share over the wall", (
            f"At the end NAV per share is {_price(nav, shares)}, its lowest {_low(run)}, and the wall stands at "
            f"{_price(wall, shares)} {run.currency}. Drag to zoom: every figure of this vault follows."
        )))  # fmt: skip
        for index, position in enumerate(run.positions):
            figures[f"{identity}-{index}"] = position_figure(run, index)
            parts.append(_figure(f"{identity}-{index}", number, f"{position.name}: {position.symbol}", (
                "Price and events; leverage proposed, allowed and actual; realised volatility; "
                "distance to liquidation; quantity."
            ), _bound_key(position.bound)))  # fmt: skip
        parts.append("<noscript><p>The figures need scripts; the tables below do not.</p></noscript>")
    else:
        parts.append("<p>This run made no decision, so there is nothing to draw.</p>")
    if measured is not None:
        parts += ["<h3>Figures</h3>", performance_table(run, measured), costs_table(run, measured)]
    parts += [
        "<h3>Holders</h3>",
        statements_table(run, statements),
        "<h3>Positions</h3>",
        positions_table(run),
        "<h3>Events</h3>",
        events_table(run, number),
        "<h3>Ledger</h3>" if run.balances else "",
        balances_table(run),
        "</section>",
    ]
    return "\n".join(parts)
