"""Strangers' bytes: whatever they are, only the declared refusals come of them (R47)."""

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz_targets import NAMES, TARGETS, any_target
from tests.fuzzing import CORPUS, seeds

SECONDS = 15
SEED = "1"  # the suite says the same of the same code; `make fuzz` takes a new one each time


def kept():
    return [pytest.param(path, id=f"{path.parent.name}-{path.name}") for path in sorted(CORPUS.glob("*/*"))]


@pytest.mark.parametrize("path", kept())
def test_every_input_that_was_kept_is_taken_or_refused(path):
    """Each that once broke something is here."""
    target = any_target if path.parent.name == "any" else TARGETS[path.parent.name]
    target(path.read_bytes())


def test_every_target_has_inputs_to_begin_with():
    assert {path.name for path in CORPUS.iterdir()} - {"any"} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=50, deadline=None)
@given(data=st.binary(max_size=300))
def test_any_bytes_at_all_are_taken_or_refused(name, data):
    TARGETS[name](data)


@pytest.mark.slow
def test_a_fuzzer_led_by_coverage_finds_nothing():
    """A few seconds of each run; `make fuzz SECONDS=600` for more."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.fuzzing", str(SECONDS), SEED],
        cwd=CORPUS.parent.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    said, log = process.communicate(timeout=100)
    assert process.returncode == 0, (said + log)[-3000:]
    assert seeds(NAMES)
