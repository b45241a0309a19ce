"""``python3 -m dkimpipe``, and ``python3 -IS .../dkimpipe/__main__.py``, the fastest start.

Python compiles this file anew at every start, so nothing is in it but what finds the rest.
"""

import posix
import sys

if not __package__:  # started by path: dkimpipe and what it needs stand beside each other
    here = __file__.rpartition("/")[0] or "."
    if here in sys.path:  # our dkim.py would stand for dkimpy
        sys.path.remove(here)
    sys.path.append(here + "/..")

try:
    from dkimpipe.command import end, main
except (Exception, KeyboardInterrupt) as error:  # a broken installation keeps the mail back, too
    try:
        posix.write(2, f"4.3.0 dkimpipe: {error!a}\n".encode())
    finally:
        posix._exit(75)

if __name__ == "__main__":
    end(main())
