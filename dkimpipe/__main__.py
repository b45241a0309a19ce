"""``python3 -m dkimpipe``, and ``python3 -IS .../dkimpipe/__main__.py``, the fastest start.

Python recompiles this file at every start, so it contains only what is needed to find the rest.
"""

import posix
import sys

try:
    if not __package__:  # started by path: dkimpipe and its dependencies are in the same directory
        here = __file__.rpartition("/")[0] or "."
        if here in sys.path:  # our dkim.py would shadow dkimpy
            sys.path.remove(here)
        sys.path.insert(0, here + "/..")

    from dkimpipe.command import end, main

    if not __package__:  # this package comes first, its dependencies after Python's own modules
        sys.path.append(sys.path.pop(0))

    if __name__ == "__main__":
        end(main())
except (Exception, KeyboardInterrupt) as error:  # a broken installation defers the mail, too
    try:
        posix.write(2, f"4.3.0 dkimpipe: {error!a}\n".encode())
    finally:
        posix._exit(75)
