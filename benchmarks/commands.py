"""What commands cost as whole processes, start-up included, beside a bare interpreter in the same run.

The caches are warm: the first run of each is not counted. `backtest` lives through the whole of March 2020 at one
minute with two positions where the recorded data are beside the project, else through the shipped scenario.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from benchmarks._inputs import best

ROOT = Path(__file__).resolve().parent.parent
RECORDED = ROOT.parent / "shared" / "data"
MANDATE = str(ROOT / "mandates" / "btc-eth-shield.yaml")
SCRIPT = str(Path(sys.executable).with_name("ringfence"))


def history() -> tuple[str, list[str]]:
    """(what it is, the options that name it)."""
    files = {symbol: RECORDED / f"spot_{symbol}USDT_1m_2020-03.parquet" for symbol in ("BTC", "ETH")}
    if not all(file.is_file() for file in files.values()):
        return "scenario 2020-03", ["--scenario", "2020-03"]
    options = [word for symbol, file in files.items() for word in ("--bars", f"{symbol}/USDT:USDT={file}")]
    return "March 2020 at one minute", options


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    name, options = history()
    commands = {
        "bare interpreter": [sys.executable, "-c", "pass"],
        "import numba": [sys.executable, "-c", "import numba"],
        "ringfence --help": [SCRIPT, "--help"],
        f"ringfence backtest, {name}": [SCRIPT, "backtest", MANDATE, *options, "--json"],
    }
    seconds = {
        name: best(lambda words=words: subprocess.run(words, capture_output=True, check=True), runs=5)  # type: ignore[misc]
        for name, words in commands.items()
    }
    bare = seconds["bare interpreter"]
    found = [
        {"command": name, "seconds": round(taken, 3), "ratio_to_bare_interpreter": round(taken / bare, 1)}
        for name, taken in seconds.items()
    ]
    if parser.parse_args().json:
        print(json.dumps(found))
        return
    for row in found:
        print(f"{row['seconds']:>8.3f} s {row['ratio_to_bare_interpreter']:>8.1f} x  {row['command']}")


if __name__ == "__main__":
    main()
