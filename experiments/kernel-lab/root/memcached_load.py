#!/usr/bin/python3
"""memcached-load ITEMS BYTES GETS: fill a memcached on this machine with items of that size, then read some of them."""

import random
import socket
import sys

BATCH = 100


def main(items: int, size: int, gets: int) -> None:
    connection = socket.create_connection(("127.0.0.1", 11211))
    answers = connection.makefile("rb")
    value = b"x" * size
    for first in range(0, items, BATCH):
        batch = range(first, min(first + BATCH, items))
        connection.sendall(b"".join(b"set k%d 0 0 %d\r\n%s\r\n" % (key, size, value) for key in batch))
        for _ in batch:
            answers.readline()
    print("filled", flush=True)
    found, keys = 0, random.Random(1)
    for _ in range(gets):
        connection.sendall(b"get k%d\r\n" % keys.randrange(items))
        while (line := answers.readline()) != b"END\r\n":
            answers.read(int(line.split()[3]) + 2)
            found += 1
    print("found", found, "of", gets, flush=True)


if __name__ == "__main__":
    main(*(int(word) for word in sys.argv[1:4]))
