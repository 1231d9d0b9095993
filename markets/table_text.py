"""Tables of instruments as they are written: the YAML that `markets.tables` reads back to the same instruments."""

import json
from collections.abc import Iterator, Sequence
from decimal import Decimal

from ringfence.markets.instruments import Instrument
from ringfence.markets.tables import TERMS
from ringfence.words.numbers import format_percentage

__all__ = ["table_text"]


def table_text(title: str, instruments: Sequence[Instrument]) -> str:
    """The table of one venue's instruments as YAML that reads back to the same; what all share is stated once."""
    records = {known.symbol: _written(known) for known in instruments}
    first = next(iter(records.values()))
    shared = {key: first[key] for key in TERMS if all(record[key] == first[key] for record in records.values())}
    lines = [f"venue: {instruments[0].venue}", f"title: {_quoted(title)}"]
    lines += [f"{key}: {value}" for key, value in shared.items()]
    lines += ["", "instruments:"]
    for known in instruments:
        lines.append(f"  {known.symbol}:")
        lines += [f"    {key}: {value}" for key, value in records[known.symbol].items() if key not in shared]
        lines.append("    tiers:")
        lines += [f"      - {{{tier}}}" for tier in _written_tiers(known)]
    return "\n".join(lines) + "\n"


def _written(known: Instrument) -> dict[str, str]:
    """The terms of an instrument as a table writes them, without the tiers."""
    record = known.record()
    fees = {key: format_percentage(Decimal(record[key])) for key in ("taker_fee", "maker_fee", "liquidation_fee")}
    texts = {key: _quoted(str(record[key])) for key in ("valid_from", "source")}
    return {key: {**record, **fees, **texts}[key] for key in TERMS}


def _written_tiers(known: Instrument) -> Iterator[str]:
    for floor, cap, rate, leverage, deduction in known.record()["tiers"]:
        values = {"from": floor, "to": cap, "rate": format_percentage(Decimal(rate)), "leverage_max": leverage,
                  "deduction": deduction}  # fmt: skip
        yield ", ".join(f"{key}: {value}" for key, value in values.items() if value is not None)


def _quoted(text: str) -> str:
    """A text in double quotes, as YAML and JSON write it alike."""
    return json.dumps(text, ensure_ascii=False)
