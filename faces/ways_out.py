"""The command line's way out of each refusal: what a person may type next, by the refusal's code.

The rooms below say the thing, the value and what was expected; which option or command mends it is said here alone.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from ringfence.words.refusal import RingfenceError

__all__ = ["WAYS_OUT", "told", "way_out"]

_LATER = "the same command may succeed later"


def _bars(fields: Mapping[str, Any]) -> str:
    return "add " + " ".join(f"--bars {symbol}=FILE" for symbol in fields["symbols"])


def _option(fields: Mapping[str, Any]) -> str:
    option = {"RINGFENCE_DATABASE": "--db", "RINGFENCE_BROKER": "--broker"}.get(fields["name"])
    return f"{option} sets it too" if option else ""


def _accept(fields: Mapping[str, Any]) -> str:
    names = dict.fromkeys(finding["name"] for finding in fields["findings"])
    return "to take it as it is: " + " ".join(f"--accept {name}" for name in names)


WAYS_OUT: Final[Mapping[str, Callable[[Mapping[str, Any]], str]]] = {
    "backup_refused": "run `ringfence verify`".format_map,
    "broken_strategy": "`ringfence strategies` lists the others".format_map,
    "broker_unreachable": "name another with --broker".format_map,
    "contract_broken": "mend it, then see every bar with `ringfence strategies test {strategy}`".format_map,
    "database_missing": "name another with --db, or make this one with `ringfence replay`".format_map,
    "database_not_empty": "name another with --db".format_map,
    "database_read_only": "or name another file with --db".format_map,
    "demo_refused": "name another folder with --out".format_map,
    "disk_fault": "then run the same command again".format_map,
    "disk_full": "make room and run the same command again".format_map,
    "foreign_database": "name another with --db".format_map,
    "holder_near": "pay in for {near}, or say with --new that {holder} is somebody else".format_map,
    "invalid_proposal": "mend it, then try it with `ringfence strategies test {strategy}`".format_map,
    "ledger_unbalanced": "run `ringfence verify`".format_map,
    "life_not_repeatable": "`ringfence verify {vault}` says what holds and what does not".format_map,
    "mandate_changed": "give the file's mandate another name, or use another database with --db".format_map,
    "markets_refused": "correct the file, or leave such markets out with --leave-out".format_map,
    "no_bars": _bars,
    "not_a_database": "name another file with --db".format_map,
    "package_missing": "pip install 'ringfence[{extra}]'".format_map,
    "recording_differs": "use the same files again, or another database with --db".format_map,
    "schema_missing": "a command that writes (`ringfence replay`) sets it up".format_map,
    "schema_newer": "or name another database with --db".format_map,
    "schema_older": "a command that writes (`ringfence replay`, `ringfence deposit`) brings it up to date; keep a copy "
    "first".format_map,
    "schema_retired": "name the new one with --db".format_map,
    "setting_refused": _option,
    "statement_disagrees": "run `ringfence verify {name}`".format_map,
    "strategy_failed": "mend it, then try it with `ringfence strategies test {strategy}`".format_map,
    "suspect_data": _accept,
    "unknown_instrument": "`ringfence instruments` lists them, --venues names a table of your own".format_map,
}
"""From a refusal's fields to the words; a code that is absent has no way out but its own text."""


def way_out(refusal: RingfenceError) -> str:
    """What the command line advises after the refusal's own text; nothing where that says all."""
    words = WAYS_OUT.get(refusal.code)
    return words(refusal.fields()) if words else ""


def told(refusal: RingfenceError) -> str:
    """The refusal as the command line tells it: its own text, the way out, and whether to wait is one."""
    text = str(refusal)
    parts = (text, way_out(refusal), _LATER if refusal.transient else "")
    return ("\n" if "\n" in text else "; ").join(part for part in parts if part)
