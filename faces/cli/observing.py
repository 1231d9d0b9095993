"""Commands that look at an installation from outside: its two pages, and the doctor."""

import threading
import time
from pathlib import Path
from typing import Annotated

import typer

from ringfence.faces.cli.app import Database, Json, Venues, app, database_url, print_json, print_table
from ringfence.faces.cli.living import BrokerAddress, until_stopped, write_log_of

__all__ = ["doctor", "observe"]


@app.command()
def observe(
    listen: Annotated[
        str, typer.Option("--listen", metavar="HOST:PORT", help="Where the pages are; port 0 takes any that is free.")
    ] = "127.0.0.1:9464",
    expect: Annotated[
        list[str] | None,
        typer.Option("--expect", metavar="PART", help="A part whose signs of life belong to health: schedule, feed..."),
    ] = None,
    patience: Annotated[
        float,
        typer.Option(
            "--patience", metavar="SECONDS", min=1.0, max=86_400.0,
            help="For how long a part may show no sign, a slot may be due and a bar may be late.",
        ),
    ] = 60.0,
    db: Database = None,
    broker: BrokerAddress = None,
) -> None:  # fmt: skip
    """Serve /health and /metrics of an installation, until SIGTERM.

    Health is 200 where all is well, and 503 with what is wrong and the way out. Parts are seen through the folder that
    PROMETHEUS_MULTIPROC_DIR names; `ringfence up` makes it.
    """
    from ringfence.faces.health import Expected
    from ringfence.faces.observatory import Observatory
    from ringfence.faces.pages import pages
    from ringfence.runtime.monitor import Monitor
    from ringfence.runtime.settings import settings
    from ringfence.runtime.signs import folder
    from ringfence.runtime.tasks import clock

    write_log_of("observe")
    stopped = until_stopped()
    address = settings(**({} if broker is None else {"broker": broker})).broker
    shared = folder()
    with Monitor(database_url(db), address, shared, clock) as monitor:
        made = pages(monitor, Expected(tuple(expect or ()), patience), shared)
        with Observatory(listen, made) as server:
            print(f"{server.address}/health {server.address}/metrics", flush=True)
            threading.Thread(target=server.serve_forever, daemon=True).start()
            while not stopped():
                time.sleep(0.2)
            server.shutdown()


@app.command()
def doctor(
    mandates: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[MANDATE...]", help="Files or folders, compared with what the vaults live under."),
    ] = None,
    venues: Venues = None,
    db: Database = None,
    broker: BrokerAddress = None,
    as_json: Json = False,
) -> None:
    """Look at everything that an installation stands on, and tell what is wrong and the way out.

    Packages, limits, disk, database, clocks, vaults, series, mandates, broker. Changes nothing; exit code 0 only where
    all is well.
    """
    from ringfence.faces.checks import checks_document, is_well
    from ringfence.faces.doctor import Patient, diagnose

    patient = Patient(database_url(db), broker, tuple(mandates or ()), None if venues is None else tuple(venues))
    found = diagnose(patient, lambda: time.time_ns() // 1_000_000)
    if as_json:
        print_json(checks_document(found))
    else:
        rows = [(each.part, each.tried, "well" if each.well else "WRONG", each.found) for each in found]
        print_table("", ("part", "looked at", "", "found"), rows)
        for each in found:
            if not each.well:
                print(f"{each.part}: {each.found}" + (f"; {each.way_out}" if each.way_out else ""))
    raise typer.Exit(0 if is_well(found) else 1)
