"""What tests of tuning share: a space, trials, and a study whose slots are threads of this process."""

from __future__ import annotations

import threading

import pytest

from assay.runtime.signals import Sender, listen
from assay.tuning.journal import COMPLETE, Trial
from assay.tuning.space import Choice, Number, Space


@pytest.fixture
def space():
    return Space(
        {
            "x": Number(-3.0, 3.0),
            "k": Number(1, 9, whole=True),
            "s": Number(0.01, 100, log=True),
            "c": Choice(("a", "b")),
        }
    )


@pytest.fixture
def made():
    """made(number, point, loss) -> a trial that has ended."""

    def make(number, point, loss, state=COMPLETE, values=None, at_s=None):
        values = ((5, loss + 1), (10, loss)) if values is None else values
        return Trial(number, dict(point), dict(point), state, loss, 10, values, 1.0, at_s or float(number + 1))

    return make


@pytest.fixture
def slots():
    """slots(study, score, count): ask for trials over a real connection, in so many threads, until there are none.

    score(params, report) -> (loss, rounds), or None when told to stop; report(rounds, loss) -> whether to stop.
    """

    def work(study, score, count=2):
        failures = []

        def one(slot, address):
            sender = Sender(address)
            try:
                while "trial" in (told := sender.ask("trial", slot=slot)):
                    number = told["trial"]

                    def report(rounds, loss, number=number):
                        values = [(rounds, loss)]
                        return sender.ask("report", slot=slot, trial=number, values=values).get("stop", False)

                    scored = score(told["params"], report)
                    if scored is not None:
                        sender.ask("ended", slot=slot, trial=number, loss=scored[0], rounds=scored[1])
            except Exception as error:
                failures.append(error)
            finally:
                sender.close()

        with listen("127.0.0.1", lambda _: None, answer=study.answer) as address:
            threads = [threading.Thread(target=one, args=(slot, address)) for slot in range(count)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
        assert not failures
        if study.error is not None:
            raise study.error

    return work
