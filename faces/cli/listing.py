"""Commands that tell what there is to choose from, and what a vault's mandate says."""

from typing import Annotated, Any

import typer

from ringfence.faces.cli.app import Database, Json, app, database, print_json, print_table

__all__ = ["mandate", "scenarios", "show"]

mandate = typer.Typer(name="mandate", help="What a mandate says.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(mandate)


@app.command()
def scenarios(as_json: Json = False) -> None:
    """List the shipped stretches of history that --scenario takes."""
    from ringfence.markets.scenarios import scenario
    from ringfence.markets.scenarios import scenarios as shipped
    from ringfence.words.times import format_duration, utc

    found: list[dict[str, Any]] = []
    for name in shipped():
        chosen = scenario(name)
        bars = next(iter(chosen.bars.values()))
        found.append(
            {"scenario": name, "title": chosen.title, "symbols": list(chosen.bars), "from": utc(int(bars.ts[0])),
             "until": utc(int(bars.ts[-1]) + bars.timeframe), "bars": format_duration(bars.timeframe),
             "funding": list(chosen.funding), "source": chosen.source}
        )  # fmt: skip
    if as_json:
        print_json(found)
        return
    rows = [(each["scenario"], each["title"], ", ".join(each["symbols"]), each["from"][:10], each["until"][:10])
            for each in found]  # fmt: skip
    print_table("Scenarios", ("scenario", "what", "symbols", "from", "until"), rows)
    for each in found:
        print(f"{each['scenario']}: {each['source']}")


@mandate.command()
def show(
    vault: Annotated[str, typer.Argument(metavar="VAULT", help="A vault, or the file of a mandate (*.yaml, *.yml).")],
    db: Database = None,
    as_json: Json = False,
) -> None:
    """Show the terms that a vault lives under, as YAML and as sentences."""
    from ringfence.faces.mandate_terms import as_yaml, remarks, sentences

    if vault.endswith((".yaml", ".yml")):
        from ringfence.faces.library import load_mandate

        terms = load_mandate(vault)
    else:
        from ringfence.faces.queries import mandate_of

        with database(db, writes=False) as engine:
            terms = mandate_of(engine, vault)
    if as_json:
        import json

        told = {"terms": json.loads(terms.canonical()), "sentences": list(sentences(terms)), "remarks": remarks(terms)}
        print_json({"mandate": terms.name, "fingerprint": terms.fingerprint, **told})
        return
    print(f"# {terms.name}, fingerprint {terms.fingerprint}")
    print(as_yaml(terms))
    for sentence in sentences(terms):
        print(sentence)
    for remark in remarks(terms):
        print(f"note: {remark['path']}: {remark['message']}")
