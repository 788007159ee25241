"""A worker: `python -m sim.engines.workers.worker`, started by the engine, which talks to it over its pipes.

It ends when its pipe is closed, however that came about, and takes the shared folder away if nobody said goodbye.
"""

import os
import signal
import sys
import threading

from sim.engines.workers.line import Line
from sim.engines.workers.wire import Wire


def main() -> None:
    """Serve until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a notebook that is interrupted says itself what is to end
    line = Line(own_streams())
    hello = line.wire.receive()
    if hello is None:
        return
    line.folder = str(hello["folder"])
    threading.Thread(target=line.listen, name="fl-kit worker's line", daemon=True).start()
    sys.path[:] = hello["path"]
    from sim.engines.workers.serving import serve  # torch comes with it, from wherever the notebook has it

    try:
        serve(line, hello)
    except OSError:
        if not line.is_over:  # else there is nobody to say it to, and nothing left to do
            raise
    line.rest()


def own_streams() -> Wire:
    """The wire over standard input and output, which nothing else in this process reads or writes from here on."""
    wire = Wire(os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb"))
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return wire


if __name__ == "__main__":
    main()
