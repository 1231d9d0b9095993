"""A log is one line an event, whoever made it and whatever is in it, with its fields beside it and no password."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog
from celery.utils.log import get_task_logger
from hypothesis import example, given
from hypothesis import strategies as st

from ringfence.runtime.errors import SettingRefused
from ringfence.runtime.logs import Form, Line, bound, write_log
from ringfence.runtime.settings import settings

HOSTILE = "two\nlines\r\x1b[31m\x00\u2028\u202e\tand\x85more"


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """The root logger is left as it was found."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def written(form: Form = "text") -> io.StringIO:
    stream = io.StringIO()
    write_log(stream, "schedule", form)
    return stream


def record(message: str, *arguments: object, failure: BaseException | None = None) -> logging.LogRecord:
    raised = None if failure is None else (type(failure), failure, failure.__traceback__)
    return logging.LogRecord("a.logger", logging.WARNING, __file__, 1, message, arguments, raised)


def raised(message: str) -> BaseException:
    def inner() -> None:
        raise ValueError(message)

    try:
        try:
            inner()
        except ValueError as cause:
            raise RuntimeError("outer") from cause
    except RuntimeError as failure:
        return failure


def test_a_line_for_people_is_key_value_with_the_fields_first() -> None:
    stream = written()
    with bound(vault="tide", slot=1_583_020_800_000):
        logging.getLogger("ringfence.runtime.tasks").warning("put off for %d s", 4)
    logging.getLogger("ringfence.runtime.tasks").debug("not written")
    time, rest = stream.getvalue().split(" ", 1)
    assert time.startswith("time=2")
    assert time.endswith("Z")
    assert rest == (
        "level=warning part=schedule vault=tide slot=1583020800000 logger=ringfence.runtime.tasks "
        'event="put off for 4 s"\n'
    )


def test_a_document_for_machines_holds_the_same_and_the_whole_traceback() -> None:
    stream = written("json")
    with bound(vault="tide"):
        try:
            raise raised("inner")
        except RuntimeError:
            logging.getLogger("x").exception("it %s", "failed", extra={"command": "abc", "unasked": "never"})
    (line,) = stream.getvalue().splitlines()
    told = json.loads(line)
    assert told.pop("time")
    failure = told.pop("failure")
    assert "Traceback" in failure
    assert "ValueError: inner" in failure
    assert told == {"level": "error", "part": "schedule", "logger": "x", "event": "it failed", "vault": "tide",
                    "command": "abc"}  # fmt: skip


def test_a_failure_is_told_in_one_line_with_its_places_and_what_it_came_from() -> None:
    text = Line("worker").format(record("failed", failure=raised("in\nner")))
    assert "\n" not in text
    assert "RuntimeError: outer (test_logs.py:" in text
    assert r"from ValueError: in\\nner (test_logs.py:" in text
    assert "inner < test_logs.py:" in text


def test_other_libraries_and_structlog_itself_go_through_the_same_chain() -> None:
    stream = written()
    logging.getLogger("sqlalchemy.pool").error("lost postgresql://me:hunter2@host/db")
    get_task_logger("ringfence.runtime.tasks").warning("of a task")
    lines = stream.getvalue().splitlines()
    assert len(lines) == 2
    assert "postgresql://me:***@host/db" in lines[0]
    assert all("part=schedule" in line for line in lines)


@pytest.mark.parametrize("form", ["text", "json"])
@given(st.text(), st.text())
@example(HOSTILE, HOSTILE)
@example("%s %d", "%")
@example("\ud800", 'a="b" \\')
def test_no_text_breaks_a_line_or_gives_a_terminal_orders(form: Form, event: str, name: str) -> None:
    with bound(vault=name):
        line = Line("feed", form).format(record("%s", event, failure=raised(name)))
    assert line.isprintable()
    if form == "json":
        assert json.loads(line)["vault"] is not None


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize(
    "secret",
    ["redis://:hunter2@host:6379/0", "postgresql://me:hunter2@host/db", "host=x password=hunter2 dbname=y"],
)
def test_no_password_is_written_wherever_it_stands(form: Form, secret: str) -> None:
    with bound(vault=secret):
        line = Line("feed", form).format(record("at %s", secret, failure=raised(secret)))
    assert "hunter2" not in line
    assert "***" in line


def test_a_record_that_cannot_be_told_is_told_as_such_and_the_log_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    class Nameless:
        def __str__(self) -> str:
            raise LookupError("no text")

    stream = written()
    logging.getLogger("odd").warning("%s", Nameless())
    logging.getLogger("odd").warning("%d apples", "three")
    logging.getLogger("odd").warning("after")
    lines = stream.getvalue().splitlines()
    assert ["could not be written down" in line for line in lines] == [True, True, False]
    assert capsys.readouterr().err == ""


def test_a_giant_text_is_cut() -> None:
    assert len(Line("feed").format(record("x" * 1_000_000))) < 20_000


def test_fields_are_gone_after_their_block() -> None:
    with bound(vault="tide"):
        pass
    assert structlog.contextvars.get_contextvars() == {}


def test_the_form_is_a_setting_and_another_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE", "BROKER", "LOG"):
        monkeypatch.delenv(f"RINGFENCE_{name}", raising=False)
    assert settings().log == "text"
    monkeypatch.setenv("RINGFENCE_LOG", "json")
    assert settings().log == "json"
    monkeypatch.setenv("RINGFENCE_LOG", "xml")
    with pytest.raises(SettingRefused, match="RINGFENCE_LOG"):
        settings()
