"""Tell while a call goes on that it has turned unpleasant: a JSON line whenever valence has been low for some time.

    ffmpeg -v error -i CALL -f s16le -ac 1 -ar 16000 - | python examples/live_alert.py LOW [MODEL]

LOW is between 0 and 1: valence counts as low below that share of the scale. Windows are 6 s, one every 2 s; five low
ones in a row are an alert, and then there is silence until valence has recovered. MODEL is a model folder or a name on
the hub; by default it is the model that comes with sa2sr. Memory and delay are bounded, however long a call lasts.
"""

import json
import sys
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

import sa2sr
from sa2sr import Row

RATE, CHUNK = 16_000, 3_200  # Hz; bytes of a tenth of a second
IN_A_ROW = 5


def main(low: str, model: str | None = None) -> None:
    """Print alerts as they come."""
    count = 0
    for row in heard(sa2sr.load(model), sys.stdin.buffer):
        count = count + 1 if row.valence < float(low) else 0
        if count == IN_A_ROW:
            print(json.dumps({"at": row.end, "valence": row.valence}), flush=True)


def heard(model: sa2sr.Model, pipe: BinaryIO) -> Iterator[Row]:
    """Estimates on 0 to 1, each as soon as its window is complete; silence is none."""
    stream = model.stream(RATE, window=6, hop=2, scale="0-1")
    while chunk := pipe.read(CHUNK):
        samples = np.frombuffer(chunk[: len(chunk) // 2 * 2], "<i2")
        for each in stream.push(samples):
            if isinstance(each, Row) and "silent" not in each.note:
                yield each


if __name__ == "__main__":
    if not 2 <= len(sys.argv) <= 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
