"""Every class of refusal of the project, and for each the arguments of a sample."""

import pkgutil
from collections.abc import Iterable
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from typing import Any

import ringfence
from ringfence.faces import errors as faces
from ringfence.markets import errors as markets
from ringfence.risk import errors as risk
from ringfence.risk.edges import Edge
from ringfence.runtime import errors as runtime
from ringfence.strategies import errors as strategies
from ringfence.vaults import errors as vaults
from ringfence.words.refusal import RingfenceError
from ringfence.words.source import Problem, SourceRefused
from ringfence.words.units import UnitError

FAULTS = (markets.Fault("price not finite", 4, (1_583_000_000_000, 1_583_003_600_000)), markets.Fault("no bars", 0, ()))
PROBLEMS = (Problem("b.yaml", 3, 1, "loss_cap", "is missing"), Problem("a.yaml", 14, 5, "", "is empty"))

FAMILIES = (vaults.VaultError, runtime.DatabaseError, runtime.SchemaError)
"""They are caught and not raised, so that there is no sample of them."""

SAMPLES: dict[type[RingfenceError], tuple[Any, ...]] = {
    UnitError: (20, "is not a fraction; did you mean 20%?"),
    SourceRefused: (PROBLEMS,),
    risk.EstimatorRefused: ("floor", float("nan"), "a finite fraction per year"),
    risk.ColumnRefused: ("low", "shape (19,)", "shape (20,)"),
    risk.TimeRefused: (60_000, 60_000, 60_000),
    risk.PriceRefused: ("high", 780_000, float("inf"), "a finite price above 0"),
    risk.MarksRefused: ("binance:BTC/USDT:USDT", 8_000.5, float("nan")),
    risk.TriggerRefused: (7, -0.5),
    risk.TiersRefused: ((10, 10), (1, 2), "both to rise", 2),
    markets.InvalidBars: ("BTC/USDT:USDT", FAULTS),
    markets.InvalidFunding: ("BTC/USDT:USDT", FAULTS),
    markets.InvalidTimeframe: ("BTC/USDT:USDT", 60_000, 90_000, "a multiple of the bars' own timeframe"),
    markets.MisalignedMarket: ("ETH/USDT:USDT", "no bars", "at least one bar"),
    markets.UnknownInstrument: ("BTCUSD", ("BTC/USDT:USDT", "ETH/USDT:USDT")),
    markets.AmbiguousInstrument: ("ODD/USDT:USDT", ("okx:ODD/USDT:USDT", "bybit:ODD/USDT:USDT")),
    markets.MarketsRefused: ((("ODD/USDT:USDT", "tier 2 floor is 9; expected 10, no gap"),),),
    markets.VenueError: (PROBLEMS,),
    markets.UnknownScenario: ("2020-3", ("2020-03",)),
    markets.InvalidInstrument: ("BTC/USDT:USDT", "lot", Decimal("-0.001"), "a number above 0"),
    markets.SuspectData: (
        (markets.Finding("price-jump", "BTC/USDT:USDT", "the low is 0.01 after 50197.3, row 13 of 24"),),
    ),
    markets.UnreadableFile: (Path("bars") / "b.csv", "no column close", "columns ts, close", 7),
    markets.FeedRefused: ("replay", "a speed of 0.0", "a number above 0"),
    markets.PackageMissing: ("exchange binanceusdm", "ccxt", "live"),
    markets.UnknownExchange: ("binanceusd", ("binance", "binanceusdm")),
    markets.NotListed: ("binanceusdm", "BTC/USD:USDT", ("BTC/USDT:USDT", "ETH/USDT:USDT")),
    markets.NoAnswer: ("binanceusdm", "bars of BTC/USDT:USDT", "RequestTimeout"),
    markets.ExchangeRefused: ("binanceusdm", "bars of 45m", "BadRequest"),
    markets.ClockApart: ("binanceusdm", -90_000, 2_000),
    strategies.UnknownStrategy: ("voltarget", ("constant", "vol_target")),
    strategies.InvalidParameters: ("trend", [(("lookback",), "30 is not a duration"), ((), "is no strategy")]),
    strategies.TimeframeTooLong: ("trend", "lookback", 3_600_000, 3_600_000, 2),
    strategies.BrokenStrategy: ("flat", "plug:Flat", "plug 1.2", "cannot be imported", "plug.py:3"),
    strategies.DuplicateStrategy: ("flat", ("plug 1.2", "plug-two 1.0")),
    strategies.StrategyFailed: ("flat", "propose on BTC/USDT:USDT", "ZeroDivisionError: by zero", "plug.py:12"),
    strategies.StrategyFileRefused: (Path("plug.py"), "defines no strategy", ""),
    strategies.InvalidProposal: (
        "flat",
        "a leverage of nan",
        "a finite number",
        "BTC/USDT:USDT",
        3_600_000,
        "plug.py:7",
    ),
    strategies.ContractBroken: (
        "flat",
        "sees later bars",
        "BTC/USDT:USDT",
        3_600_000,
        7_200_000,
        "1.0",
        "nothing",
        24,
        "plug.py:7",
    ),
    vaults.MandateError: (PROBLEMS,),
    vaults.UnknownVault: ("shielt", ("shield", "tide")),
    vaults.UnknownHolder: ("bobby", None, ("alice", "bob")),
    vaults.StatementDisagrees: ("tide", ("W1 reserve: expected 3, found 2", "L2 cushion: expected 1, found 0")),
    vaults.TransferRefused: (Edge.post, "btc", -1, "a whole number of minor units"),
    vaults.InsufficientBalance: ("cushion", 50, 51),
    vaults.LedgerUnbalanced: (1, -7),
    vaults.NotJournalable: ("body", "NaN is not JSON"),
    vaults.KeyConflict: ("replay:alice",),
    vaults.EntryUnreadable: ("decided", "form: Input should be 1"),
    vaults.AmendmentRefused: ("tide", "its positions would be others"),
    vaults.ZeroShares: (0,),
    vaults.ZeroAssets: (1,),
    vaults.DepositRefused: (10**15, "the vault has lost everything"),
    vaults.DepositAtRisk: (
        10**9,
        "the vault is locked",
        "tide",
        1_583_000_000_000,
        7 * 10**8,
        "rebase",
        1_583_600_000_000,
        8 * 10**8,
    ),
    vaults.RedeemExceeds: (600_000, 500_000),
    vaults.CancelTooLate: (7, 1_583_000_000_000),
    vaults.NothingWaits: ("alice", None, (7, 9)),
    vaults.HolderNear: ("alcie", "alice"),
    vaults.KeyRefused: ("replay:alice", "keys that begin with replay: are a replay's own"),
    vaults.TimeRefused: ("tide", 1_582_999_999_999, 1_583_000_000_000, 7_258_118_400_000),
    vaults.WallBreached: ("tide", 699, 700),
    vaults.MarkBelowStrike: ("tide", 2**40, 2**40 + 1),
    vaults.LedgerDisagrees: ("tide", "margin:btc", 5, 4),
    vaults.StaleFence: ("tide", 3),
    vaults.OrdersOnTheirWay: ("tide",),
    vaults.NotHalted: ("tide",),
    vaults.ResumeNotAsked: ("tide",),
    vaults.AlreadyClosing: ("tide", 1_583_000_000_000),
    vaults.LawsBroken: ("tide", ("L2: account cushion: expected 5, found 6",)),
    vaults.MandateChanged: ("tide", "0" * 64, "f" * 64),
    vaults.HolderRefused: ("two words",),
    runtime.ExchangeRunning: ("exchanges/tide.db",),
    runtime.ExchangeBlank: ("tide", "exchanges/tide.db"),
    runtime.LifeNotRepeatable: ("tide", 7, "no recorded bars are left inside the slot"),
    runtime.ExchangeNotNamed: ("tide",),
    runtime.SettingRefused: ("RINGFENCE_BROKER", "amqp://here", "redis://..."),
    runtime.BrokerUnreachable: ("redis://here:1/0", "Connection refused"),
    runtime.BackupUnreadable: (Path("backup.zip"), "is no backup, or not all of one"),
    runtime.BackupRefused: ("x.db", "row 3 of holding, shares,", "holds 'a lot', expected int or nothing"),
    runtime.DatabaseNotEmpty: ("x.db", "account"),
    runtime.UnknownDatabase: ("mysql://here",),
    runtime.DatabaseMissing: ("absent.db",),
    runtime.FolderMissing: ("none/x.db", "none"),
    runtime.ForeignDatabase: ("other.db", "songs"),
    runtime.DatabaseReadOnly: ("x.db",),
    runtime.NotADatabase: ("m.yaml",),
    runtime.DatabaseDamaged: ("x.db",),
    runtime.DiskFull: ("x.db",),
    runtime.DiskFault: ("x.db", "disk I/O error"),
    runtime.DatabaseBusy: ("x.db",),
    runtime.DatabaseUnreachable: ("postgresql://here/x", "Connection refused"),
    runtime.SchemaMissing: ("empty.db",),
    runtime.SchemaOlder: ("x.db", "0001", "0002"),
    runtime.SchemaRetired: ("x.db", "0001", "0002"),
    runtime.SchemaNewer: ("x.db", "0999", "0002"),
    runtime.RecordingDiffers: ("BTC/USDT:USDT", "the bar of 2020-03-09T05:00:00Z is recorded with other figures"),
    runtime.NeverEnoughBars: ("tide", "btc", 72, 10, "1h"),
    runtime.HeadsUnreadable: ("heads.txt", 3, "expected `vault NAME SEQ:HASH`"),
    runtime.OutputNotWritten: (Path("out") / "report.html", "report", "the disk is full", "free some space"),
    runtime.DatabaseReplaced: ("ringfence.db",),
    runtime.LogUnreadable: ("ringfence.db",),
    runtime.SlowStrategy: ("tide", "constant", 1.0),
    runtime.NoBars: ("tide", ("BTC/USDT:USDT", "ETH/USDT:USDT")),
    faces.InputRefused: ("--side", "lnog", "expected long or short"),
    faces.PandasMissing: ("a frame",),
    faces.PasswordShown: ("postgresql://me:***@host/db", "RINGFENCE_DATABASE"),
    faces.NothingCalled: ("kind", "liqidation", ("liquidation", "resize")),
    faces.ActRefused: ("tide", "alice", "0.000001 buys no shares"),
    faces.ReportEmpty: (Path("report.html"),),
    faces.ReportWithoutVault: ("alice", "elsewhere", ("tide",)),
    faces.DemoRefused: (Path("out") / "ringfence.db", "is there and was not made by a demo"),
    faces.ExamplesMissing: (Path("examples"),),
}


def refusals() -> list[type[RingfenceError]]:
    """Every class of refusal, after every module of the project has been imported."""
    for module in pkgutil.walk_packages(ringfence.__path__, "ringfence."):
        if ".migrations" not in module.name:  # they run only under Alembic, and refuse nothing
            import_module(module.name)
    # a class with two bases is below both
    return [kind for kind in dict.fromkeys(below(RingfenceError)) if kind.__module__.startswith("ringfence.")]


def below(kind: type[RingfenceError]) -> Iterable[type[RingfenceError]]:
    """The subclasses of a class, and theirs."""
    for inner in kind.__subclasses__():
        yield inner
        yield from below(inner)


def unsampled(kinds: Iterable[type[RingfenceError]]) -> list[str]:
    """The classes that have no sample and are no families."""
    return sorted({kind.__qualname__ for kind in kinds} - {kind.__qualname__ for kind in {*SAMPLES, *FAMILIES}})


def sample(kind: type[RingfenceError]) -> RingfenceError:
    """A refusal of this class."""
    return kind(*SAMPLES[kind])
