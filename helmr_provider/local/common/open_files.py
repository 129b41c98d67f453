"""The limit on open files of this process. Every follower of events holds one."""

from __future__ import annotations

import resource

# A thousand followers and their clients in one process, with room for the rest.
WANTED = 4096
# The usual soft limit, enough for some hundreds of followers.
ENOUGH = 1024


def raise_limit(wanted: int = WANTED) -> int:
    """Raise the soft limit on open files as far as the hard limit allows.

    :param wanted: number of open files; a higher limit stays as it is.
    :return: the limit in force, which is below ``wanted`` where the hard limit is.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted if soft == resource.RLIM_INFINITY else soft
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    return limit
