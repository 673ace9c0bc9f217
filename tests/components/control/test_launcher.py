"""A step's manners: it leaves by an exception when told to end, and quotes the lines that tell."""

import os
import signal
import threading

import pytest

from penstock.components.control.launcher import last_lines, sigterm_raises


def test_sigterm_is_an_exception_inside_and_what_it_was_outside() -> None:
    before, cleaned = signal.getsignal(signal.SIGTERM), []

    def work() -> None:
        with sigterm_raises():
            try:
                signal.raise_signal(signal.SIGTERM)
            finally:
                signal.raise_signal(signal.SIGTERM)  # a second one does not interrupt the clean-up
                cleaned.append(True)

    with pytest.raises(SystemExit) as caught:
        work()

    assert caught.value.code == 143
    assert cleaned
    assert signal.getsignal(signal.SIGTERM) == before


def test_another_thread_sets_no_handler() -> None:
    before, seen = signal.getsignal(signal.SIGTERM), []

    def work() -> None:
        with sigterm_raises():
            seen.append((os.getpid(), signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()

    assert seen == [(os.getpid(), before)]


def test_the_telling_lines_of_a_log() -> None:
    lines = [f"line {i}" for i in range(50)]

    assert last_lines(lines) == lines[-15:]
    assert last_lines([*lines, "07:00 ERROR no such file", *lines]) == [*lines[-14:], "07:00 ERROR no such file"]
    assert last_lines([]) == []
