"""Commands that run vaults: the back-test, the replay, the worker, the demo."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ringfence.faces.cli.app import Database, Exact, Json, app, database, database_url

if TYPE_CHECKING:
    from ringfence.faces.inputs import Inputs
    from ringfence.runtime.runs import VaultRun

__all__ = ["backtest", "demo", "replay", "worker"]

Mandates = Annotated[list[Path], typer.Argument(metavar="MANDATE...", help="Mandate files, or folders of them.")]
BarFiles = Annotated[
    list[str] | None,
    typer.Option(
        "--bars",
        metavar="SYMBOL=FILE",
        help="Bars of a symbol: Parquet, CSV(.gz) or the exchange's kline download. One for each symbol traded.",
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
    report: ReportFile = None,
    csv: CsvFile = None,
    parquet: ParquetFile = None,
    exact: Exact = False,
    as_json: Json = False,
) -> None:
    """Run mandates over history at once, without a database."""
    inputs = _inputs(mandates, bars, scenario, funding, mark, deposit, report)
    from ringfence.faces.cli.outcome import print_outcome
    from ringfence.runtime.backtest import backtest as run
    from ringfence.runtime.figures import figures

    runs = [run(setup, market, inputs.deposits) for setup, market in inputs.vaults]
    found = [figures(ended, *given) for ended, given in zip(runs, inputs.vaults, strict=True)]
    if report is not None:
        from ringfence.faces.report import write_report
        from ringfence.faces.report.statements import statements_of_run

        statements = [row for ended in runs for row in statements_of_run(ended, inputs.deposits)]
        write_report(report, runs, statements, found, title=_title(inputs), source=inputs.source, verified=None)
    _export(runs, csv, parquet)
    places = {"report": report, "csv": csv, "parquet": parquet}
    print_outcome(runs, found, inputs.notes, as_json, exact, places)


@app.command()
def replay(
    mandates: Mandates,
    bars: BarFiles = None,
    scenario: ScenarioName = None,
    funding: FundingFiles = None,
    mark: MarkFiles = None,
    deposit: Deposits = None,
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
    inputs = _inputs(mandates, bars, scenario, funding, mark, deposit, report)
    from ringfence.faces.cli.outcome import print_outcome
    from ringfence.faces.cli.progress import bar
    from ringfence.runtime.figures import figures
    from ringfence.runtime.replay import replay as run
    from ringfence.runtime.settings import concealed

    with database(db, writes=True) as engine:
        with bar(engine) as progress:
            runs = run(engine, inputs.vaults, inputs.deposits, progress)
        found = [figures(ended, *given) for ended, given in zip(runs, inputs.vaults, strict=True)]
        if report is not None:
            from ringfence.faces.queries import statement_rows
            from ringfence.faces.report import write_report
            from ringfence.runtime.database import lock_vault, unit_of_work

            with unit_of_work(engine, writes=False) as connection:
                statements = [
                    row for ended in runs for row in statement_rows(connection, lock_vault(connection, ended.vault))
                ]
            write_report(report, runs, statements, found, title=_title(inputs), source=inputs.source, verified=None)
    _export(runs, csv, parquet)
    places = {"report": report, "csv": csv, "parquet": parquet, "database": concealed(database_url(db))}
    print_outcome(runs, found, inputs.notes, as_json, exact, places)


def _export(runs: "list[VaultRun]", csv: Path | None, parquet: Path | None) -> None:
    if csv is not None or parquet is not None:
        from ringfence.faces.export import write_csv, write_parquet

        for path, write in ((csv, write_csv), (parquet, write_parquet)):
            if path is not None:
                write(path, runs)


def _inputs(
    mandates: list[Path],
    bars: list[str] | None,
    scenario: str | None,
    funding: list[str] | None,
    mark: list[str] | None,
    deposit: list[str] | None,
    report: Path | None,
) -> "Inputs":
    """Everything checked before anything is started; a default that is taken is said."""
    from ringfence.faces.cli.app import remark
    from ringfence.faces.errors import InputRefused
    from ringfence.faces.inputs import DEPOSIT_DEFAULT, prepare

    if report is not None and not report.parent.is_dir():
        raise InputRefused("--report", str(report), f"the folder {report.parent} does not exist; make it first")
    if report is not None and report.is_dir():
        raise InputRefused("--report", str(report), f"is a folder; name a file in it, like {report / 'report.html'}")
    found = prepare(
        mandates,
        bars=bars or (),
        funding=funding or (),
        marks=mark or (),
        scenario_name=scenario,
        deposits=deposit or (),
    )
    if not deposit:
        remark(f"no --deposit given: {DEPOSIT_DEFAULT} is paid into each vault")
    return found


def _title(inputs: "Inputs") -> str:
    titles = [setup.mandate.title for setup, _ in inputs.vaults]
    return titles[0] if len(titles) == 1 else f"{len(titles)} vaults"


@app.command()
def worker(
    concurrency: Annotated[
        int, typer.Option("--concurrency", min=1, max=64, help="How many children step vaults at the same time.")
    ] = 2,
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
    from ringfence.runtime.worker import serve

    with database(db, writes=True):
        pass  # migrated, and known to be there before the first message
    code = serve(database_url(db), broker, concurrency)
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
