"""out_trade_no and out_refund_no: unique without asking anyone (R7, R34)."""

import re
import subprocess
import sys
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.order import OUT_TRADE_NO
from entrypoints.numbers import ROOM, Numbers

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
A_MILLION_FROM_ANOTHER_PROCESS = """
from datetime import UTC, datetime
from entrypoints.numbers import Numbers
now = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
mint = Numbers("PAY", lambda: now)
print("\\n".join(mint() for _ in range(500_000)))
"""


def test_a_number_is_a_prefix_the_seconds_and_ten_digits():
    number = Numbers("PAY", lambda: NOW)()
    assert re.fullmatch(r"PAY\d{20}", number)
    assert number[3:13] == str(int(NOW.timestamp()))
    assert OUT_TRADE_NO.match(number)
    assert Numbers("REF", lambda: NOW)().startswith("REF")


@given(st.integers(0, ROOM - 1), st.integers(1, 10**6))
def test_a_process_comes_back_to_a_place_only_after_all_others(start, steps):
    """The stride shares no factor with the room of ten digits."""
    numbers = Numbers("PAY", lambda: NOW, chance=lambda _: start)
    first = numbers()
    numbers.place = (numbers.place + (steps - 1) * 6_180_339_887) % ROOM
    assert numbers() != first


@pytest.mark.slow
def test_two_processes_in_the_same_second_make_a_million_numbers_without_a_repeat():
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", A_MILLION_FROM_ANOTHER_PROCESS], stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    numbers = [number for process in processes for number in process.communicate()[0].split()]
    assert len(numbers) == len(set(numbers)) == 1_000_000
