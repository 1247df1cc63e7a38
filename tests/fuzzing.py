"""Coverage-guided fuzzing of every target: `make fuzz SECONDS=600`, or a few seconds within the suite.

New finds go to a folder that is thrown away; an input that breaks something is kept in
tests/corpus/any, and from then on each run of the suite tries it again.
"""

import random
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"
BYTES_MAX = 4096


def seeds(names):
    """Every kept input with the byte in front that chooses its target."""
    found = []
    for path in sorted(CORPUS.glob("*/*")):
        data = path.read_bytes()
        found.append(data if path.parent.name == "any" else bytes([names.index(path.parent.name)]) + data)
    return found


def guided(seconds, seed):
    """By coverage; ends the process, with an exit code that is not 0 when something broke."""
    import atheris

    with atheris.instrument_imports(include=["adapters", "application", "domain", "entrypoints"]):
        from tests.fuzz_targets import NAMES, any_target
    (CORPUS / "any").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="minitill-fuzz-") as folder:
        for number, kept in enumerate(seeds(NAMES)):
            (Path(folder) / f"seed-{number}").write_bytes(kept)
        limits = [
            f"-seed={seed}",
            f"-max_total_time={seconds}",
            f"-max_len={BYTES_MAX}",
            "-timeout=10",
            "-rss_limit_mb=2048",
        ]
        atheris.Setup([sys.argv[0], *limits, f"-artifact_prefix={CORPUS / 'any'}/", folder], any_target)
        atheris.Fuzz()


def blind(seconds, seed):
    """Where there is no atheris: kept inputs, changed by chance."""
    from tests.fuzz_targets import NAMES, any_target

    chance, known = random.Random(seed), seeds(NAMES)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        data = bytearray(chance.choice(known))
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(data) + 1)
            data[at : at + chance.randint(0, 3)] = chance.randbytes(chance.randint(0, 3))
        try:
            any_target(bytes(data))
        except BaseException:
            (CORPUS / "any" / f"crash-{chance.getrandbits(64):016x}").write_bytes(data)
            raise


if __name__ == "__main__":
    chosen = int(sys.argv[2]) if len(sys.argv) > 2 else int(time.time())
    (guided if find_spec("atheris") else blind)(int(sys.argv[1]), chosen)
