"""Keep the memory of one update for the next.

glibc gives large freed blocks back to the system at once, so every update would fault its pages in anew.
"""

from __future__ import annotations

import ctypes
import logging
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_KEPT_BYTES = 1 << 30
_logger = logging.getLogger(__name__)


def keep_freed_memory() -> bool:
    """Ask the allocator of this process to keep blocks of up to 1 GiB; does nothing where it is not glibc's.

    Returns:
        Whether it was possible.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        _logger.debug("no mallopt: the allocator stays as it is")
        return False
    return all(mallopt(option, _KEPT_BYTES) == 1 for option in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD))
