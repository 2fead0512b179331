"""Kills writers with SIGKILL and counts what is lost; run as a script, so that forks are cheap.

python journal_faults.py FOLDER COUNT SEED

Half of the writers are killed at a random time, half inside a write, after some of its bytes.
Prints the number of kills, of acknowledged records, and of those among them that are lost.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

from record_cases import numbers, record

from lincodegen.tune.journal import Writer, read_records


def write_until_killed(folder, acknowledged, first, cut):
    """Appends for ever; with ``cut`` = (record, share of its bytes) ends inside that write."""
    write = os.write

    def torn(file, data):
        if cut is not None and len(data) > 100 and writer_count[0] == cut[0]:
            write(file, data[: int(cut[1] * len(data))])
            os.kill(os.getpid(), signal.SIGKILL)
        return write(file, data)

    writer_count = [0]
    os.write = torn
    writer = Writer(folder)
    while True:
        writer.append(record(first + writer_count[0]))
        write(acknowledged, b"x")
        writer_count[0] += 1


def kill_once(folder, first, draw):
    """Starts a writer, ends it, and gives how many records it had acknowledged."""
    cut = (draw.randrange(3), draw.random()) if draw.random() < 0.5 else None
    reader, acknowledged = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        write_until_killed(folder, acknowledged, first, cut)
    os.close(acknowledged)
    if cut is None:
        time.sleep(draw.random() * 0.012)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    count = 0
    while data := os.read(reader, 65536):
        count += len(data)
    os.close(reader)
    return count


def main(folder, count, seed):
    draw = random.Random(seed)
    expected = []
    for kill in range(count):
        first = 1000 * kill
        expected += range(first, first + kill_once(folder, first, draw))
        if kill % 50 == 0:
            assert not set(expected) - set(numbers(read_records(folder)))
    reading = read_records(folder)
    lost = set(expected) - set(numbers(reading))
    figures = count, len(expected), len(lost), reading.damaged, reading.torn
    sys.stdout.write(" ".join(map(str, figures)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
