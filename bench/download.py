"""An HTTP client that only reads, in a process of its own: a thread a stream, large reads, every byte counted."""

from __future__ import annotations

import json
import re
import socket
import sys
import threading
import time
from typing import Any

READ_BYTES = 1 << 20


def main() -> None:
    print("{}", flush=True)
    for line in sys.stdin:
        print(json.dumps(_measure(json.loads(line))), flush=True)


def _measure(asked: dict[str, Any]) -> dict[str, Any]:
    received = [0] * asked["streams"]
    failed = [0] * asked["streams"]

    def stream(number: int) -> None:
        done = 0
        try:
            host, port = asked["address"].rsplit(":", 1)
            with socket.create_connection((host, int(port)), timeout=60) as connection:
                for _ in range(asked["gets"]):
                    received[number] += _get(connection, asked)
                    done += 1
        except OSError:
            pass
        failed[number] = asked["gets"] - done

    threads = [threading.Thread(target=stream, args=(number,)) for number in range(asked["streams"])]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"bytes": sum(received), "seconds": time.perf_counter() - started, "failed": sum(failed)}


def _get(connection: socket.socket, asked: dict[str, Any]) -> int:
    """Bytes of one whole body. Raises OSError for anything else."""
    lines = [f"GET {asked['path']} HTTP/1.1", f"Host: {asked['address']}", *asked["headers"], "", ""]
    connection.sendall("\r\n".join(lines).encode())
    buffer = bytearray(READ_BYTES)
    head = b""
    while b"\r\n\r\n" not in head:
        if not (piece := connection.recv(64 * 1024)):
            raise ConnectionError("closed early")
        head += piece
    head, _, body = head.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
    if not head.startswith(b"HTTP/1.1 200 ") or length is None or int(length[1]) != asked["size_bytes"]:
        raise ConnectionError(head.decode("latin-1"))
    received = len(body)
    while received < asked["size_bytes"]:
        if not (count := connection.recv_into(buffer)):
            raise ConnectionError("closed early")
        received += count
    return received


if __name__ == "__main__":
    main()
