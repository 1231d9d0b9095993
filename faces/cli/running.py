"""Commands that run vaults: the back-test, the replay, the worker, the demo."""

import glob
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ringfence.faces.cli.app import Database, Exact, Json, Venues, app, database, database_files, database_url

if TYPE_CHECKING:
    from ringfence.faces.inputs import Inputs, Taking
    from ringfence.runtime.runs import VaultRun

__all__ = ["backtest", "demo", "replay", "worker"]

Mandates = Annotated[list[Path], typer.Argument(metavar="MANDATE...", help="Mandate files, or folders of them.")]
BarFiles = Annotated[
    list[str] | None,
    typer.Option(
        "--bars",
        metavar="SYMBOL=FILE",
        help="Bars of a symbol: Parquet, Feather, CSV or JSON as exchanges and libraries write them, plain, .gz or "
        ".zip. Again, or a pattern in quotes, for files that continue each other.",
    ),
]
FundingFiles = Annotated[
    list[str] | None, typer.Option("--funding", metavar="SYMBOL=FILE", help="Funding rates of a symbol.")
]
MarkFiles = Annotated[
    list[str] | None,
    typer.Option(
        "--mark", metavar="SYMBOL=FILE", help="Mark prices of a symbol; without them the last price stands in."
    ),
]
Timeframe = Annotated[
    str | None,
    typer.Option(
        "--timeframe",
        metavar="LENGTH",
        help="Length of a bar, like 1h. [default: as the files state it, or the greatest common step of their rows]",
    ),
]
Since = Annotated[str | None, typer.Option("--since", metavar="TIME", help="Leave out bars that open before, UTC.")]
Until = Annotated[
    str | None, typer.Option("--until", metavar="TIME", help="Leave out bars that open then or later, UTC.")
]
Now = Annotated[
    str | None,
    typer.Option("--now", metavar="TIME", help="When the files were made, UTC: bars not over then are left out."),
]
Accept = Annotated[
    list[str] | None,
    typer.Option(
        "--accept",
        metavar="FINDING",
        help="Take data as it is although it shows this: other-instrument, price-jump, marks-apart or funding-cap. "
        "The notes say so.",
    ),
]
ScenarioName = Annotated[
    str | None, typer.Option("--scenario", metavar="NAME", help="A shipped stretch of history in place of --bars.")
]
Deposits = Annotated[
    list[str] | None,
    typer.Option(
        "--deposit",
        metavar="NAME=AMOUNT",
        help="What a holder pays in before the first bar, into each vault. [default: depositor=100000]",
    ),
]
ReportFile = Annotated[
    Path | None, typer.Option("--report", metavar="FILE", help="Write a report with plots: one HTML file, offline.")
]
CsvFile = Annotated[
    Path | None, typer.Option("--csv", metavar="FILE", help="Write the series, a row for each vault and decision.")
]
ParquetFile = Annotated[Path | None, typer.Option("--parquet", metavar="FILE", help="The same as a Parquet file.")]


@app.command()
def backtest(
    mandates: Mandates,
    bars: BarFiles = None,
    scenario: ScenarioName = None,
    funding: FundingFiles = None,
    mark: MarkFiles = None,
    deposit: Deposits = None,
    venues: Venues = None,
    timeframe: Timeframe = None,
    since: Since = None,
    until: Until = None,
    now: Now = None,
    accept: Accept = None,
    report: ReportFile = None,
    csv: CsvFile = None,
    parquet: ParquetFile = None,
    exact: Exact = False,
    as_json: Json = False,
) -> None:
    """Run mandates over history at once, without a database."""
    from ringfence.faces.inputs import parse_taking

    taking = parse_taking(timeframe, since, until, now, accept or ())
    read = _files(mandates, venues, bars, funding, mark)
    _check_outputs(report, csv, parquet, read)
    inputs = _inputs(mandates, bars, scenario, funding, mark, deposit, venues, taking)
    from ringfence.faces.cli.outcome import print_outcome
    from ringfence.runtime.backtest import backtest as run
    from ringfence.runtime.figures import figures

    runs = [run(setup, market, inputs.deposits) for setup, market in inputs.vaults]
    found = [figures(ended, *given) for ended, given in zip(runs, inputs.vaults, strict=True)]
    if report is not None:
        from ringfence.faces.report import write_report
        from ringfence.faces.report.statements import statements_of_run

        statements = [row for ended in runs for row in statements_of_run(ended, inputs.deposits)]
        write_report(
            report, runs, statements, found, title=_title(inputs), source=inputs.told, verified=None, inputs=read
        )
    _export(runs, csv, parquet, read)
    places = {"report": report, "csv": csv, "parquet": parquet}
    print_outcome(runs, found, inputs.notes, inputs.tables, as_json, exact, places)


@app.command()
def replay(
    mandates: Mandates,
    bars: BarFiles = None,
    scenario: ScenarioName = None,
    funding: FundingFiles = None,
    mark: MarkFiles = None,
    deposit: Deposits = None,
    venues: Venues = None,
    timeframe: Timeframe = None,
    since: Since = None,
    until: Until = None,
    now: Now = None,
    accept: Accept = None,
    db: Database = None,
    report: ReportFile = None,
    csv: CsvFile = None,
    parquet: ParquetFile = None,
    exact: Exact = False,
    as_json: Json = False,
) -> None:
    """Live through history step by step, in a database.

    Each step is the task that runs live vaults. What is done already is not done again.
    """
    from ringfence.faces.inputs import parse_taking

    taking = parse_taking(timeframe, since, until, now, accept or ())
    read = [*_files(mandates, venues, bars, funding, mark), *database_files(db)]
    _check_outputs(report, csv, parquet, read)
    inputs = _inputs(mandates, bars, scenario, funding, mark, deposit, venues, taking)
    from ringfence.faces.cli.outcome import print_outcome
    from ringfence.faces.cli.progress import bar
    from ringfence.runtime.figures import figures
    from ringfence.runtime.replay import replay as run
    from ringfence.words.addresses import concealed

    with database(db, writes=True) as engine:
        with bar(engine) as progress:
            replayed = run(engine, inputs.vaults, inputs.deposits, progress, defaulted=not deposit)
        runs, notes = replayed.runs, (*inputs.notes, *replayed.notes)
        found = [figures(ended, *given) for ended, given in zip(runs, inputs.vaults, strict=True)]
        if report is not None:
            from ringfence.faces.queries import statement_rows
            from ringfence.faces.report import write_report
            from ringfence.runtime.database import lock_vault, unit_of_work

            with unit_of_work(engine, writes=False) as connection:
                statements = [
                    row for ended in runs for row in statement_rows(connection, lock_vault(connection, ended.vault))
                ]
            write_report(
                report, runs, statements, found, title=_title(inputs), source=inputs.told, verified=None, inputs=read
            )
    _export(runs, csv, parquet, read)
    places = {"report": report, "csv": csv, "parquet": parquet, "database": concealed(database_url(db))}
    print_outcome(runs, found, notes, inputs.tables, as_json, exact, places)


def _export(runs: "Sequence[VaultRun]", csv: Path | None, parquet: Path | None, read: Sequence[Path]) -> None:
    if csv is not None or parquet is not None:
        from ringfence.faces.export import write_csv, write_parquet

        for path, write in ((csv, write_csv), (parquet, write_parquet)):
            if path is not None:
                write(path, runs, read)


def _check_outputs(report: Path | None, csv: Path | None, parquet: Path | None, read: Sequence[Path]) -> None:
    """Before anything is started: every file that is asked for can be written, and is another than the others."""
    from ringfence.faces.errors import InputRefused
    from ringfence.runtime.outputs import PARQUET, REPORT, SERIES, checked_output

    asked = {"--report": (report, REPORT), "--csv": (csv, SERIES), "--parquet": (parquet, PARQUET)}
    targets: dict[Path, str] = {}
    for option, (path, kind) in asked.items():
        if path is not None:
            other = targets.setdefault(checked_output(path, kind, read), option)
            if other != option:
                raise InputRefused(option, str(path), f"is the file of {other} too; name another one")


def _files(mandates: list[Path], venues: list[Path] | None, *series: list[str] | None) -> list[Path]:
    """What a command reads: no output may be written over any of it."""
    folders = [*mandates, *(venues or ())]
    inside = [file for path in folders if path.is_dir() for file in path.iterdir()]
    named = [os.path.expanduser(text.partition("=")[2]) for texts in series for text in texts or ()]
    matched = [file for pattern in named for file in glob.glob(pattern)]
    return [*folders, *inside, *(Path(file) for file in (*named, *matched) if file)]


def _inputs(
    mandates: list[Path],
    bars: list[str] | None,
    scenario: str | None,
    funding: list[str] | None,
    mark: list[str] | None,
    deposit: list[str] | None,
    venues: list[Path] | None,
    taking: "Taking",
) -> "Inputs":
    """Everything checked before anything is started; a default that is taken is said."""
    from ringfence.faces.cli.app import remark
    from ringfence.faces.inputs import DEPOSIT_DEFAULT, prepare

    found = prepare(
        mandates,
        bars=bars or (),
        funding=funding or (),
        marks=mark or (),
        scenario_name=scenario,
        deposits=deposit or (),
        venues=venues,
        taking=taking,
    )
    if not deposit:
        remark(f"no --deposit given: {DEPOSIT_DEFAULT} is paid into each vault that is opened")
    return found


def _title(inputs: "Inputs") -> str:
    titles = [setup.mandate.title for setup, _ in inputs.vaults]
    return titles[0] if len(titles) == 1 else f"{len(titles)} vaults"


@app.command()
def worker(
    concurrency: Annotated[
        int, typer.Option("--concurrency", min=1, max=64, help="How many children step vaults at the same time.")
    ] = 2,
    queues: Annotated[
        str,
        typer.Option(
            "--queues",
            metavar="NAMES",
            help="What it hears: risk (what cannot wait for a slot's close), settlement (what is due at one), strategy "
            "(that again, where a strategy takes its time).",
        ),
    ] = "risk,settlement,strategy",
    db: Database = None,
    broker: Annotated[
        str | None,
        typer.Option(
            "--broker",
            metavar="URL",
            envvar="RINGFENCE_BROKER",
            help="The broker: redis://HOST:PORT/NUMBER. [default: redis://localhost:6379/0]",
        ),
    ] = None,
) -> None:
    """Step vaults as messages ask for it, until SIGTERM."""
    from ringfence.faces.errors import InputRefused
    from ringfence.runtime.tasks import QUEUES
    from ringfence.runtime.worker import serve

    heard = [name.strip() for name in queues.split(",")]
    if not set(heard) <= set(QUEUES):
        raise InputRefused("--queues", queues, f"expected some of {', '.join(QUEUES)}")
    with database(db, writes=True, create=False):
        pass  # migrated, and known to be there before the first message; a mistyped name makes no empty one
    code = serve(database_url(db), broker, concurrency, heard)
    sys.stdout.flush()
    raise typer.Exit(code)


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where database and report go.")] = Path("out/demo"),
) -> None:
    """Replay the crash of March 2020, and tell what happened.

    A vault for each example mandate, three holders: replayed into a database, verified, told and drawn.
    """
    from ringfence.faces.cli.demonstration import demonstrate

    demonstrate(out)
