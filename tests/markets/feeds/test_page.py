"""docs/FEEDS.md says every rule, rung and action, and the bounds that hold unless others are stated."""

from pathlib import Path

from ringfence.markets.feeds.closing import GRACE
from ringfence.markets.feeds.quality import TOLERATES, Quality, Thresholds
from ringfence.markets.feeds.rest import Asking
from ringfence.markets.feeds.ticks import Dropped, Rules


def rows(page: str) -> list[str]:
    return [line for line in page.splitlines() if line.startswith("|")]


def test_the_page_says_every_rule_rung_and_action(project: Path) -> None:
    table = rows((project / "docs" / "FEEDS.md").read_text())
    for rule in Dropped:
        assert any(line.startswith(f"| `{rule}` |") for line in table), rule
    rungs = [line.split("`")[1] for line in table if any(f"| `{quality.name}` |" in line[:20] for quality in Quality)]
    assert rungs == [quality.name for quality in Quality], "best to worst"
    for action, worst in TOLERATES.items():
        assert any(line.startswith(f"| `{action}` | `{worst.name}` |") for line in table), action


def test_the_page_s_bounds_are_those_that_hold(project: Path) -> None:
    page = " ".join((project / "docs" / "FEEDS.md").read_text().split())
    rules, limits, asking = Rules(), Thresholds(), Asking()
    for said in (
        f"more than {rules.future // 1000} s later than it came",
        f"more than {rules.late // 1000} s after it held",
        f"within {limits.apart:.1%} of".replace("%", " %"),
        f"more than {limits.guard:.0%} from its own mean".replace("%", " %"),
        f"silent for {limits.silence // 1000} s",
        f"{asking.timeout // 1000} s unless stated",
        f"more than {asking.apart // 1000} s from ours",
        f"is not asked for {asking.pause // 1000} s",
    ):
        assert said in page, said
    assert (rules.window, rules.memory, asking.patience, GRACE, rules.jump) == (300_000, 300_000, 120_000, 2_000, 1_000)
