import io
import logging
import sys
from contextlib import redirect_stderr

from fl_kit.azureml.submit import without_notices

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
