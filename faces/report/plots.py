"""The figures of a report as plotly descriptions: plain dictionaries, drawn by the page."""

import base64
from html import escape
from typing import Any

import numpy as np

from ringfence.faces.causes import BOUND_WORDS, KIND_WORDS, cause
from ringfence.risk.book import Floats, Ints
from ringfence.risk.events import Bound, Event, Kind
from ringfence.runtime.runs import PositionRun, VaultRun
from ringfence.words.numbers import dashed, format_count, format_multiple, format_price, price_places
from ringfence.words.times import stamp

__all__ = ["BOUND_COLOURS", "POINTS_MAX", "nav_figure", "per_share_series", "position_figure", "spread"]

Figure = dict[str, Any]

POINTS_MAX = 20_000
"""Series up to this length are drawn whole."""

BUCKETS = 5_000
"""Longer series keep the lowest, the highest and one absent value of each of this many stretches."""

BLUE, ORANGE, RED, GREY, GREEN, PURPLE = "#2563eb", "#d97706", "#c81e3a", "#8a94a6", "#15803d", "#7c3aed"

BOUND_COLOURS = {
    Bound.nothing: "#9fd3b0",
    Bound.volatility: "#3b82f6",
    Bound.liquidation_distance: "#f59e0b",
    Bound.gross_leverage: "#8b5cf6",
    Bound.leverage_max: "#0d9488",
    Bound.venue_leverage: "#475569",
    Bound.cushion: "#c2410c",
    Bound.notional_min: "#b59b6a",
    Bound.no_proposal: "#d5dbe5",
    Bound.no_price: "#1f2937",
    Bound.margin_call: "#ec4899",
    Bound.maintenance_margin: "#be123c",
    Bound.band: "#c7d9f7",
    Bound.costs: "#7f1d1d",
    Bound.strike: "#15803d",
    Bound.flow: "#06b6d4",
    Bound.at_wall: "#a21caf",
    Bound.volume: "#a3a30f",
    Bound.venue: "#525252",
    Bound.doubted_price: "#9f1239",
}

MARKERS = {
    Kind.resize: {"symbol": "circle", "color": BLUE, "size": 5},
    Kind.margin_call: {"symbol": "triangle-up", "color": ORANGE, "size": 10},
    Kind.liquidation: {"symbol": "x", "color": RED, "size": 10},
    Kind.refusal: {"symbol": "diamond-open", "color": PURPLE, "size": 9},
    Kind.roll: {"symbol": "circle-open", "color": GREEN, "size": 6},
}


def per_share_series(numerator: Ints, shares: Ints) -> Floats:
    """Currency per share at each decision; NaN while there are no shares (a figure's way to draw nothing)."""
    held = shares > 0
    return np.where(held, numerator * 1000.0 / np.where(held, shares, 1), np.nan)


def _plain(series: np.ma.MaskedArray | Floats) -> Floats:
    values = np.ma.filled(np.ma.asarray(series, dtype=np.float64), np.nan)
    return np.where(np.isfinite(values), values, np.nan)


def spread(values: Floats) -> Ints:
    """Which points to draw: all up to POINTS_MAX, else the first, the last and the extremes of each stretch."""
    size = len(values)
    if size <= POINTS_MAX:
        return np.arange(size, dtype=np.int64)
    width = -(-size // BUCKETS)
    rows = -(-size // width)
    padded = np.full(rows * width, np.nan)
    padded[:size] = values
    table = padded.reshape(rows, width)
    absent = np.isnan(table)
    picks = [np.where(absent, np.inf, table).argmin(1), np.where(absent, -np.inf, table).argmax(1), absent.argmax(1)]
    chosen = np.concatenate([np.arange(rows) * width + pick for pick in picks] + [np.array([0, size - 1])])
    return np.unique(chosen[chosen < size]).astype(np.int64)


def _numbers(values: Floats | Ints) -> dict[str, str]:
    """Plotly's binary form of an array: shorter than digits, and exact."""
    return {"dtype": "f8", "bdata": base64.b64encode(np.ascontiguousarray(values, "<f8").tobytes()).decode()}


def _line(ts: Ints, series: np.ma.MaskedArray | Floats, name: str, hover: str, colour: str, **more: Any) -> Figure:
    values = _plain(series)
    chosen = spread(values)
    style = {"color": colour, "width": more.pop("width", 1.6), "dash": more.pop("dash", "solid")}
    if more.pop("step", True):
        style["shape"] = "hv"
    return {
        "type": "scatter",
        "mode": "lines" if len(ts) > 2 else "lines+markers",
        "name": name,
        "x": _numbers(ts[chosen]),
        "y": _numbers(values[chosen]),
        "hovertemplate": f"{hover}<extra></extra>",
        "line": style,
        "showlegend": more.pop("showlegend", True),
        **more,
    }


def _inert(text: str) -> str:
    """Text that plotly shows as it is: no tags, no links, no templates."""
    return escape(text).replace("%", "&#37;")


def _told(event: Event, run: VaultRun) -> str:
    position = run.positions[event.position]
    told = f"{stamp(event.ts)} · {KIND_WORDS[event.kind]} · {position.name} · {cause(event)}"
    if event.quantity_before != event.quantity_after:
        told += f" · {format_count(event.quantity_before)} → {format_count(event.quantity_after)} lots"
    if event.price > 0.0:
        told += f" at {format_price(event.price, places=price_places([event.price]), for_people=True)}"
    if event.leverage_before or event.leverage_after:
        before, after = (
            format_multiple(each, for_people=True) for each in (event.leverage_before, event.leverage_after)
        )
        told += f" · {dashed(before)} → {dashed(after)}"
    return _inert(told)


def _marks(run: VaultRun, kind: Kind, events: list[Event], heights: Floats, **more: Any) -> Figure:
    chosen = spread(heights)
    return {
        "type": "scatter",
        "mode": "markers",
        "name": f"{KIND_WORDS[kind]} ({format_count(len(events))})",
        "x": _numbers(np.array([events[k].ts for k in chosen], np.int64)),
        "y": _numbers(heights[chosen]),
        "text": [_told(events[k], run) for k in chosen],
        "hovertemplate": "%{text}<extra></extra>",
        "marker": {**MARKERS[kind], "line": {"width": 1.5 if kind == Kind.refusal else 0}},
        **more,
    }


def _layout(ts: Ints, panels: dict[str, tuple[float, float]]) -> Figure:
    """Panels under one another over one time axis; colours of text and grid are the page's."""
    # A stated range: each figure of a vault returns to the same one, whatever its markers would ask for.
    edge = max(int(ts[-1] - ts[0]) // 200, 60_000)
    layout: Figure = {
        "margin": {"l": 64, "r": 16, "t": 56, "b": 44},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "hovermode": "x unified",
        "hoversubplots": "axis",
        "hoverlabel": {"namelength": -1, "align": "left"},
        "font": {"size": 12},
        "legend": {"orientation": "h", "x": 1, "xanchor": "right", "y": 1, "yanchor": "bottom"},
        "annotations": [],
        "xaxis": {
            "type": "date",
            "range": [int(ts[0]) - edge, int(ts[-1]) + edge],
            "hoverformat": "%Y-%m-%d %H:%M UTC",
            "showgrid": True,
            "ticks": "outside",
            "anchor": "free",
            "position": 0,
            "title": {"text": "Time (UTC)", "standoff": 8},
        },
    }
    for axis, domain in panels.items():
        layout[axis] = {"domain": list(domain), "anchor": "x", "zeroline": False, "fixedrange": True, "nticks": 6}
    return layout


def _heading(layout: Figure, text: str, top: float) -> None:
    layout["annotations"].append(
        {"text": f"<b>{text}</b>", "x": 0, "xref": "paper", "xanchor": "left", "y": top, "yref": "paper",
         "yanchor": "bottom", "showarrow": False, "yshift": 3}
    )  # fmt: skip


def nav_figure(run: VaultRun) -> Figure:
    """NAV per share over the wall and under the high-water mark, with its events; needs at least one decision."""
    nav = per_share_series(run.nav, run.shares)
    wall = per_share_series(run.wall, run.shares)
    peak = np.where(run.shares > 0, run.high_water_mark * (1000.0 / 2.0**50), np.nan)
    unit = _inert(run.currency)
    traces = [
        _line(run.ts, wall, "The wall", f"wall %{{y:,.6f}} {unit} per share", RED, width=1.5,
              fill="tozeroy", fillcolor="rgba(200,30,58,0.10)"),
        _line(run.ts, peak, "High-water mark", f"high-water mark %{{y:,.6f}} {unit} per share", GREY, dash="dash"),
        _line(run.ts, nav, "NAV per share", f"NAV %{{y:,.6f}} {unit} per share", BLUE, width=2.2, step=False),
    ]  # fmt: skip
    drawn = np.isfinite(nav)
    for kind in (Kind.resize, Kind.refusal, Kind.margin_call, Kind.liquidation):
        events = [event for event in run.events if event.kind == kind]
        if events and drawn.any():
            moments = np.array([event.ts for event in events], np.float64)
            heights = np.interp(moments, run.ts[drawn].astype(np.float64), nav[drawn])
            shown = "legendonly" if kind == Kind.resize else True
            traces.append(_marks(run, kind, events, heights, visible=shown))
    layout = _layout(run.ts, {"yaxis": (0.0, 1.0)})
    _heading(layout, f"{unit} per share", 1.0)
    layout["yaxis"]["tickformat"] = ",.3f"
    known = np.concatenate([series[np.isfinite(series)] for series in (nav, wall, peak)])
    if len(known):
        low, high = float(known.min()), float(known.max())
        room = (high - low) or high or 1.0
        layout["yaxis"]["range"] = [max(low - 0.12 * room, 0.0), high + 0.06 * room]
        layout["annotations"].append(
            {"text": "behind the wall: no margin is ever drawn from here", "x": 0.01, "xref": "paper",
             "xanchor": "left", "y": 0.01, "yref": "paper", "yanchor": "bottom", "showarrow": False,
             "font": {"size": 11, "color": RED}}
        )  # fmt: skip
    return {"data": traces, "layout": layout}


def _strip(position: PositionRun, ts: Ints) -> Figure:
    """What bound each decision, as a strip of colour: one cell for every stretch with the same answer."""
    starts = np.flatnonzero(np.diff(position.bound, prepend=-1))
    step = int(ts[-1] - ts[-2]) if len(ts) > 1 else 1
    edges = np.append(ts[starts], ts[-1] + step)
    bounds = [Bound(int(bound)) for bound in position.bound[starts]]
    scale: list[list[float | str]] = []
    for bound in Bound:
        scale += [[bound / len(Bound), BOUND_COLOURS[bound]], [(bound + 1) / len(Bound), BOUND_COLOURS[bound]]]
    return {
        "type": "heatmap",
        "x": _numbers(edges),
        "y": [0, 1],
        "z": [[int(bound) + 0.5 for bound in bounds]],
        "text": [[BOUND_WORDS[bound] for bound in bounds]],
        "zmin": 0,
        "zmax": len(Bound),
        "colorscale": scale,
        "showscale": False,
        "hoverinfo": "skip",
        "yaxis": "y3",
    }


def _bound_words(position: PositionRun, ts: Ints) -> Figure:
    """Nothing to see: it lets the joint hover box say in words what bound the decision (a heat map cannot)."""
    chosen = np.arange(len(ts)) if len(ts) <= POINTS_MAX else np.flatnonzero(np.diff(position.bound, prepend=-1))
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "Bound",
        "x": _numbers(ts[chosen]),
        "y": _numbers(np.full(len(chosen), 0.5)),
        "text": [BOUND_WORDS[Bound(int(bound))] for bound in position.bound[chosen]],
        "hovertemplate": "bound by: %{text}<extra></extra>",
        "marker": {"color": GREY, "opacity": 0, "size": 1},
        "showlegend": False,
        "yaxis": "y3",
    }


def position_figure(run: VaultRun, index: int) -> Figure:
    """Price, leverage and its bound, volatility, distance to liquidation, quantity; needs at least one decision."""
    position, ts = run.positions[index], run.ts
    places = price_places(position.price.tolist())
    prices = np.where(position.price > 0.0, position.price, np.nan)
    small = {"showlegend": False}
    traces = [
        _line(ts, prices, "Price", f"price %{{y:,.{places}f}}", GREY, step=False, **small),
        _line(ts, position.proposed, "Proposed", "proposed %{y:,.2f}×", GREY, yaxis="y2", dash="dot", legend="legend2"),
        _line(ts, position.allowed, "Allowed", "allowed %{y:,.2f}×", ORANGE, yaxis="y2", legend="legend2"),
        _line(ts, position.leverage, "Actual", "actual %{y:,.2f}× the collateral", BLUE, yaxis="y2", width=2.0,
              legend="legend2"),
        _line(ts, position.effective_leverage, "Effective", "effective %{y:,.2f}× the equity", PURPLE, yaxis="y2",
              dash="dot", legend="legend2"),
        _line(ts, position.volatility, "Volatility", "volatility %{y:,.1%} a year", GREEN, yaxis="y4", **small),
        _line(ts, position.liquidation_distance, "Distance", "%{y:,.2%} of the price from liquidation", RED,
              yaxis="y5", fill="tozeroy", fillcolor="rgba(200,30,58,0.06)", **small),
        _line(ts, position.quantity.astype(np.float64), "Quantity", "%{y:,.0f} lots", PURPLE, yaxis="y6",
              fill="tozeroy", fillcolor="rgba(124,58,237,0.08)", **small),
    ]  # fmt: skip
    traces[5:5] = [_strip(position, ts), _bound_words(position, ts)]
    for kind in MARKERS:
        events = [event for event in run.events if event.kind == kind and event.position == index]
        if events:
            moments = np.array([event.ts for event in events], np.float64)
            traded = np.array([event.price or event.mark for event in events])
            heights = np.where(traded > 0.0, traded, np.interp(moments, ts.astype(np.float64), position.price))
            traces.append(_marks(run, kind, events, heights))
    panels = {"yaxis": (0.82, 1.0), "yaxis2": (0.565, 0.765), "yaxis3": (0.535, 0.557), "yaxis4": (0.37, 0.485),
              "yaxis5": (0.19, 0.32), "yaxis6": (0.01, 0.14)}  # fmt: skip
    layout = _layout(ts, panels)
    layout["yaxis"]["tickformat"] = f",.{0 if places < 3 else places - 2}f"
    layout["yaxis2"].update(ticksuffix="×", rangemode="tozero")
    layout["yaxis3"].update(showticklabels=False, showgrid=False, range=[0, 1], ticks="")
    layout["yaxis4"].update(tickformat=",.0%", rangemode="tozero", nticks=4)
    layout["yaxis5"].update(tickformat=",.0%", rangemode="tozero", nticks=4)
    layout["yaxis6"].update(tickformat=",.3~s", nticks=4)
    layout["legend2"] = {**layout["legend"], "y": panels["yaxis2"][1]}
    for axis, text in (("yaxis", "Price and events"), ("yaxis2", "Leverage, and what bound it (strip)"),
                       ("yaxis4", "Realised volatility, a year"), ("yaxis5", "Distance to liquidation"),
                       ("yaxis6", "Quantity, lots")):  # fmt: skip
        _heading(layout, text, panels[axis][1])
    return {"data": traces, "layout": layout}
