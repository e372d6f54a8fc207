"""Becomes the program it is told to, so that it dies with its parent and runs as the right user; imports only stdlib.

Run by file path in a fresh interpreter, never imported. We use this instead of `preexec_fn`, which may deadlock in
a process that has threads, as every process with gRPC in it does.
"""

import ctypes
import json
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
CLONE_NEWNS = 0x00020000
MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18


def checked(result: int, what: str) -> None:
    """End with a sentence when a system call of libc's refused."""
    if result != 0:
        sys.exit(f"{what}: {os.strerror(ctypes.get_errno())}")


def main() -> None:
    order = json.loads(sys.argv[1])
    libc = ctypes.CDLL(None, use_errno=True)
    if order["cover"]:
        # In a view of the file system that only this process has, one folder appears in place of another.
        source, target = (os.fsencode(path) for path in order["cover"])
        checked(libc.unshare(CLONE_NEWNS), "cannot have a private view of the file system")
        checked(libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None), "cannot keep mounts private")
        checked(libc.mount(source, target, None, MS_BIND, None), f"cannot show {order['cover'][0]}")
    if order["uid"] is not None:
        os.setgroups([])
        os.setgid(order["uid"])
        os.setuid(order["uid"])
    if sys.platform == "linux":
        # Changing user clears the wish to die with the parent, so it comes after; and the parent may be gone already.
        checked(libc.prctl(PR_SET_PDEATHSIG, order["orphan_signal"], 0, 0, 0), "cannot follow the parent")
        if os.getppid() != order["parent"]:
            sys.exit("the parent is gone")
    # Python ignores these two, and an ignored signal stays ignored in the program we become.
    for name in ("SIGPIPE", "SIGXFSZ"):
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    try:
        os.execv(order["argv"][0], order["argv"])  # noqa: S606 -- an argument list of our own, no shell wanted
    except OSError as error:
        sys.exit(f"cannot run {order['argv'][0]}: {error.strerror}")


if __name__ == "__main__":
    main()
