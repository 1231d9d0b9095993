"""The package as it is shipped: wheel and sdist hold every room under `ringfence/`, and what is installed runs beside a
user's own packages of the rooms' names."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOMS = ("words", "risk", "markets", "strategies", "vaults", "runtime", "faces")
OFFLINE = ("--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "--quiet")
CARRIED = (
    "ringfence/py.typed",
    "ringfence/risk/py.typed",
    "ringfence/faces/examples/btc-constant.yaml",
    "ringfence/faces/examples/majors-trend.yaml",
    "ringfence/faces/report/report.css",
    "ringfence/faces/report/report.js",
    "ringfence/markets/episodes/2020-03/scenario.json",
    "ringfence/markets/venues/binance-usdm.yaml",
    "ringfence/markets/venues/binance-coinm.yaml",
    "ringfence/runtime/migrations/env.py",
    "ringfence/runtime/migrations/script.py.mako",
)
OWN = 'raise SystemExit("the user\'s own package was imported in place of ours")\n'


def run(*command: str | Path, at: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    told = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "RINGFENCE"))}
    return subprocess.run(command, cwd=at, env=told | environment, capture_output=True, text=True, timeout=300)


def built(target: str, source: Path, folder: Path) -> Path:
    """The wheel or sdist of a source folder."""
    done = run(Path(sys.executable).with_name("hatchling"), "build", "-t", target, "-d", folder, at=source)
    assert done.returncode == 0, done.stderr
    (archive,) = folder.iterdir()
    return archive


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def sources(folder: Path) -> dict[str, bytes]:
    """The Python files under a folder, through links, by their path in it."""
    found = {}
    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if name != "__pycache__"]
        found |= {
            (Path(place) / name).relative_to(folder).as_posix(): (Path(place) / name).read_bytes()
            for name in names
            if name.endswith(".py")
        }
    return found


@pytest.fixture(scope="module")
def wheel(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built("wheel", project, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel installed into it and nothing else."""
    folder = tmp_path_factory.mktemp("site")
    done = run(sys.executable, "-m", "pip", "install", *OFFLINE, "--target", folder, wheel, at=folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A user's working folder with packages and modules of his own under our rooms' names, and a mandate."""
    for room in ROOMS:
        if room == "risk":
            (tmp_path / "risk.py").write_text(OWN)
        else:
            (tmp_path / room).mkdir()
            (tmp_path / room / "__init__.py").write_text(OWN)
    return tmp_path


# ---------------------------------------------------------------------------------------------------- contents


def test_the_wheel_holds_the_package_whole_and_nothing_beside_it(project: Path, wheel: Path) -> None:
    found = contents(wheel)
    assert {name.split("/")[0] for name in found} == {
        "ringfence",
        wheel.name.replace("-py3-none-any.whl", ".dist-info"),
    }
    shipped = {name.removeprefix("ringfence/"): content for name, content in found.items() if name.endswith(".py")}
    assert shipped == sources(project / "ringfence")
    assert {room for room in ROOMS if f"ringfence/{room}/__init__.py" in found} == set(ROOMS)
    assert [name for name in CARRIED if name not in found] == []


def test_the_sdist_unpacked_builds_the_same_wheel(project: Path, wheel: Path, tmp_path: Path) -> None:
    sdist = built("sdist", project, tmp_path / "sdist")
    with tarfile.open(sdist) as archive:
        assert [member.name for member in archive if member.issym() or member.islnk()] == []
        archive.extractall(tmp_path, filter="data")
    again = contents(built("wheel", tmp_path / sdist.name.removesuffix(".tar.gz"), tmp_path / "again"))
    assert again == contents(wheel)


# ---------------------------------------------------------------------------------------------------- installed


def test_an_installed_package_runs_in_a_folder_with_a_users_own_packages_of_those_names(site: Path, desk: Path) -> None:
    script = site / "bin" / "ringfence"
    shown = run(sys.executable, script, "--help", at=desk, PYTHONPATH=str(site))
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "backtest" in shown.stdout
    for room in ROOMS:  # the working folder comes first on the path of -c
        program = f"import ringfence.{room}; print(ringfence.{room}.__file__)"
        found = run(sys.executable, "-c", program, at=desk, PYTHONPATH=str(site))
        assert found.stdout.strip() == str(site / "ringfence" / room / "__init__.py"), found.stderr


def test_what_is_installed_finds_its_examples_scenarios_venues_and_migrations(site: Path, desk: Path) -> None:
    program = """
import ringfence
from ringfence.faces.demo import example_mandates
from ringfence.strategies.registry import release
mandate = ringfence.load_mandate(example_mandates() / "btc-constant.yaml")
bars = ringfence.scenario("2020-03").bars["BTC/USDT:USDT"][:80]
lived = ringfence.replay(mandate, {bars.symbol: bars}, into="twenty.db", deposits={"alice": "50000"})
print(ringfence.__file__, len(lived.nav), release(mandate.positions["btc"].strategy.name))
"""
    # Eighty bars are walked sooner than the loop is compiled anew for files of a new folder.
    done = run(sys.executable, "-c", program, at=desk, PYTHONPATH=str(site), NUMBA_DISABLE_JIT="1")
    assert done.stdout.split() == [str(site / "ringfence" / "__init__.py"), "20", "constant==0.1.0"], done.stderr


def test_the_users_own_packages_are_in_the_way_where_ours_have_their_names(desk: Path) -> None:
    """The fault that the test above guards against, seen: a name at the top is whoever comes first."""
    for room in ROOMS:
        assert "the user's own package" in run(sys.executable, "-c", f"import {room}", at=desk).stderr


# ---------------------------------------------------------------------------------------------------- broken copies


def copied(project: Path, folder: Path) -> Path:
    """The package as a checkout has it: rooms at the top, links in `ringfence/`."""
    for room in ROOMS:
        shutil.copytree(project / room, folder / room, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(project / "ringfence", folder / "ringfence", symlinks=True, ignore=shutil.ignore_patterns("__pyc*"))
    return folder / "ringfence"


def refusal(folder: Path, at: str | Path) -> str:
    done = run(sys.executable, "-c", "import ringfence.faces.cli", at=folder, PYTHONPATH=str(at))
    assert done.returncode == 1
    return done.stderr.splitlines()[-1]


def test_a_copy_of_the_checkout_works_through_its_links(project: Path, tmp_path: Path) -> None:
    package = copied(project, tmp_path)
    done = run(sys.executable, "-c", "import ringfence.faces.cli as c; print(c.__file__)", at=tmp_path)
    assert done.stdout.strip() == str(package / "faces" / "cli" / "__init__.py"), done.stderr


def test_links_that_became_small_files_are_refused_with_the_folder(project: Path, tmp_path: Path) -> None:
    """What git without links, and several archivers, make of a link: a text file that holds where it led."""
    package = copied(project, tmp_path)
    for room in ROOMS:
        (package / room).unlink()
        (package / room).write_text(f"../{room}")
    told = refusal(tmp_path, tmp_path)
    assert told.startswith(f"ImportError: ringfence was found in {package}, where it lacks {', '.join(ROOMS)}. ")
    assert "git clone -c core.symlinks=true" in told
    assert "pip install ." in told


@pytest.mark.parametrize("left", ["a link to nothing", "a folder of caches", "nothing"])
def test_one_room_that_is_missing_is_named(project: Path, tmp_path: Path, left: str) -> None:
    package = copied(project, tmp_path)
    shutil.rmtree(tmp_path / "markets")
    if left != "a link to nothing":
        (package / "markets").unlink()
    if left == "a folder of caches":
        (package / "markets" / "__pycache__").mkdir(parents=True)
    assert f"ringfence was found in {package}, where it lacks markets. " in refusal(tmp_path, tmp_path)


def test_a_package_in_an_archive_that_was_not_unpacked_is_refused(wheel: Path, tmp_path: Path) -> None:
    told = refusal(tmp_path, wheel)
    assert f"ringfence was found in {wheel / 'ringfence'}, where it lacks words, risk, " in told
    assert "an archive must be unpacked first" in told
