import io
import logging
import sys
from contextlib import redirect_stderr

from fl_kit.azureml.submit import without_notices


def say(text: str) -> None:
    """As print does it: the text, then the line's end."""
    sys.stderr.write(text)
    sys.stderr.write("\n")


def test_blank_lines_and_notices_are_left_out_and_words_are_not() -> None:
    notices = logging.getLogger("azure.ai.ml._utils._experimental")
    heard = io.StringIO()
    with redirect_stderr(heard), without_notices():
        say("\x1b[39m\n")
        say("a warning")
        say("\x1b[32mtwo\nlines")
        say("")
        assert not notices.isEnabledFor(logging.WARNING)
    assert heard.getvalue() == "a warning\n\x1b[32mtwo\nlines\n"
    assert notices.isEnabledFor(logging.WARNING)
