"""What the C library does with memory that was let go of: a process that serves for weeks should hand it back.

glibc gives every thread an arena of its own and, once large blocks have come and gone, takes them from there as well,
where one small block above keeps all of it from the system. A page with dozens of threads that open models of 20 MB
took 280 MB more after an hour that way (bench/RESULTS.md, “Bad luck”).
"""

import ctypes
import platform

# glibc's malloc.h; https://man7.org/linux/man-pages/man3/mallopt.3.html
_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8
_LARGE = 1 << 20  # bytes; setting it at all ends its growing
_ARENAS = 2


def trim() -> bool:
    """Free pages between what is in use go to the system, too, which else would not see them again (malloc_trim(3));
    whether this system knows that. Takes milliseconds."""
    if platform.libc_ver()[0] != "glibc":
        return False
    ctypes.CDLL(None).malloc_trim(0)
    return True


def give_back() -> bool:
    """From now on few arenas, and large blocks straight from and to the system; whether this system knows that."""
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_M_ARENA_MAX, _ARENAS)) and bool(mallopt(_M_MMAP_THRESHOLD, _LARGE))
