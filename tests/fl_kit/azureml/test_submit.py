import io
import logging
import sys
from contextlib import redirect_stderr
from dataclasses import dataclass, field

import pytest
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError

from fl_kit.azureml.submit import has, register, without_notices

NOTICES = "azure.ai.ml._utils._experimental"


def say(text: str) -> None:
    """As print does it: the text, then the line's end."""
    sys.stderr.write(text)
    sys.stderr.write("\n")


def test_blank_lines_and_notices_are_left_out_and_words_are_not() -> None:
    notices = logging.getLogger(NOTICES)
    before = notices.level
    heard = io.StringIO()
    with redirect_stderr(heard), without_notices():
        say("\x1b[39m\n")
        say("a warning")
        say("\x1b[32mtwo\nlines")
        say("")
        assert not notices.isEnabledFor(logging.WARNING)
    assert heard.getvalue() == "a warning\n\x1b[32mtwo\nlines\n"
    assert notices.level == before


def test_threads_that_overlap_leave_all_as_it_was() -> None:
    """The first to come goes first: were each to restore what it found, the second would bring the quiet back."""
    notices, heard = logging.getLogger(NOTICES), io.StringIO()
    before = notices.level
    with redirect_stderr(heard):
        outer = sys.stderr
        first, second = without_notices(), without_notices()
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        say("")
        assert not notices.isEnabledFor(logging.WARNING)
        second.__exit__(None, None, None)
        assert sys.stderr is outer
    assert notices.level == before
    assert heard.getvalue() == ""


@dataclass
class Operations:
    """What the workspace has, and what it answers to anybody who makes more."""

    there: set[tuple[str, str]] = field(default_factory=set)
    answer: Exception | None = None
    made: list[str] = field(default_factory=list)

    def get(self, name: str, version: str) -> str:
        if (name, version) not in self.there:
            raise ResourceNotFoundError(f"{name} was not found")
        return name

    def create_or_update(self, asset: str) -> None:
        if self.answer:
            raise self.answer
        self.made.append(asset)


def test_an_asset_is_made_without_asking_first() -> None:
    workspace = Operations()
    register(workspace, "a:1", "content")
    assert workspace.made == ["content"]


@pytest.mark.parametrize("answer", [ResourceExistsError("it exists"), HttpResponseError("you may not")])
def test_what_cannot_be_made_is_well_if_it_is_there(answer: HttpResponseError) -> None:
    register(Operations(there={("a", "1")}, answer=answer), "a:1", "content")
    with pytest.raises(HttpResponseError, match=str(answer)):
        register(Operations(there={("a", "2")}, answer=answer), "a:1", "content")


def test_a_version_that_is_there() -> None:
    workspace = Operations(there={("a", "1")})
    assert [has(workspace, label) for label in ("a:1", "a:2", "b:1")] == [True, False, False]
