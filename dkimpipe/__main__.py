"""``python3 -m dkimpipe``, and ``python3 -IS .../dkimpipe/__main__.py``, the fastest start.

Python compiles this file anew at every start, so nothing is in it but what finds the rest.
"""

import posix
import sys

if not __package__:  # started by path: this package, and what it needs, are in the same directory
    here = __file__.rpartition("/")[0] or "."
    if here in sys.path:  # dkim.py there would hide dkimpy
        sys.path.remove(here)
    sys.path.insert(0, here + "/..")

try:
    if not __package__:
        sys.path.append(sys.path.pop(0))  # what is beside it hides no module of Python
    from dkimpipe.command import end, main
except (Exception, KeyboardInterrupt) as error:  # a broken installation keeps the mail back, too
    try:
        posix.write(2, f"4.3.0 dkimpipe: {error!a}\n".encode())
    finally:
        posix._exit(75)

if __name__ == "__main__":
    end(main())
