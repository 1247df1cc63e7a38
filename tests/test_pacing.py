"""The pace at which callers who poll may have WeChat asked."""

from datetime import UTC, datetime, timedelta

from application.pacing import ASK_INTERVAL, REMEMBERED_MAX, Pace

NOW = datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)


def test_a_clock_set_back_does_not_silence_the_questions():
    pace = Pace()
    assert pace.may("PAY001", NOW)
    assert pace.may("PAY001", NOW - timedelta(days=1))
    assert not pace.may("PAY001", NOW - timedelta(days=1))


def test_a_refused_question_does_not_put_off_the_next():
    pace = Pace()
    half = ASK_INTERVAL / 2
    assert [pace.may("PAY001", NOW + half * step) for step in range(5)] == [True, False, True, False, True]


def test_what_was_asked_last_is_remembered_longest():
    pace = Pace()
    for number in range(REMEMBERED_MAX):
        pace.may(f"PAY{number}", NOW)
    later = NOW + ASK_INTERVAL
    assert pace.may("PAY0", later)
    assert pace.may("one more", later)
    assert not pace.may("PAY0", later)
    assert pace.may("PAY1", later)  # forgotten in its place


def test_what_is_remembered_of_the_pace_is_bounded():
    pace = Pace()
    for number in range(REMEMBERED_MAX + 5):
        pace.may(f"PAY{number}", NOW)
    assert len(pace.asked_at) == REMEMBERED_MAX
    assert pace.may("PAY0", NOW)  # the oldest was forgotten
    assert not pace.may(f"PAY{REMEMBERED_MAX}", NOW)
