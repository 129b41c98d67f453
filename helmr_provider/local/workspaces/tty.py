"""Makes the terminal on stdin the controlling one, then becomes the command that its arguments name.

A program of its own, because what a child does between fork and exec may not be Python where there are threads.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import sys
import termios

if __name__ == "__main__":
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    # Nothing is ignored in a new terminal, though a control plane that a script has put in the background ignores
    # Ctrl-C, and Python broken pipes: it would stay so for everything that is started in there.
    for number in signal.valid_signals():
        with contextlib.suppress(OSError):
            signal.signal(number, signal.SIG_DFL)
    os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606 - becoming another program is the purpose
