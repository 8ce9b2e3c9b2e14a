"""What the host answered is given again without asking it; then it is asked again."""

import pytest

from minikernel.fs.hostjournal import Journal


def refuse() -> int:
    raise OSError(11, "not now")


def test_answers_and_failures_are_given_again_in_their_order() -> None:
    journal = Journal()
    assert journal.ask("read", lambda: b"one") == b"one"
    with pytest.raises(BlockingIOError):
        journal.ask("write", refuse)
    journal.next = 0
    assert journal.ask("read", refuse) == b"one"  # type: ignore[comparison-overlap]
    with pytest.raises(BlockingIOError):
        journal.ask("write", lambda: 1)
    assert journal.ask("write", lambda: 5) == 5
    assert [answer.what for answer in journal.answers] == ["read", "write", "write"]


def test_another_question_than_the_first_time_is_a_mistake_of_ours() -> None:
    journal = Journal()
    journal.ask("read", lambda: b"")
    journal.next = 0
    with pytest.raises(AssertionError, match="poll where read was asked"):
        journal.ask("poll", lambda: 0)
