"""Makes the terminal on stdin the controlling one, then becomes the command that its arguments name.

A program of its own, because what a child does between fork and exec may not be Python where there are threads.
"""

from __future__ import annotations

import fcntl
import os
import sys
import termios

if __name__ == "__main__":
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606 - becoming another program is the purpose
