"""What ended by itself is started again, and what cannot be started is given up with its last words."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from infra.local.postgres import PostgresError
from infra.local.supervisor import PAUSES_SECONDS, STEADY_SECONDS, Supervisor, in_words
from infra.problem import Problem


@dataclass
class Patient:
    """Something that ends and is started when a test says so."""

    name: str = "process pool"
    ended: str | None = None
    ready: bool = True
    stubborn: bool = False
    starts: int = 0

    def how_it_ended(self) -> str | None:
        return self.ended

    def start_again(self) -> None:
        self.starts += 1
        if self.stubborn:
            raise PostgresError("The database is in use.")
        self.ended = None

    def is_ready(self) -> bool:
        return self.ready

    def last_words(self) -> str:
        return "    alas"


@dataclass
class Ward:
    """A supervisor of one patient, with a clock of its own."""

    patient: Patient = field(default_factory=Patient)
    now: float = 1000.0
    told: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.supervisor = Supervisor([self.patient], say=self.told.append, clock=lambda: self.now)

    def look_after(self, seconds: float) -> None:
        self.now += seconds
        self.supervisor.look()


def test_what_runs_is_left_alone() -> None:
    ward = Ward()
    ward.look_after(1)
    assert (ward.patient.starts, ward.told) == (0, [])


def test_what_ended_is_started_at_once_and_its_return_is_told() -> None:
    ward = Ward(Patient(ended="killed by SIGKILL", ready=False))
    ward.look_after(1)
    ward.look_after(1)
    assert ward.patient.starts == 1
    assert ward.told == ["The process pool ended by itself (killed by SIGKILL); starting it again …"]
    ward.patient.ready = True
    ward.look_after(1)
    ward.look_after(1)
    assert ward.told[1:] == ["The process pool runs again."]


def test_a_second_end_soon_after_waits_for_a_pause() -> None:
    ward = Ward(Patient(ended="exit status 1"))
    ward.look_after(1)
    ward.patient.ended = "exit status 1"
    ward.look_after(0.1)
    ward.look_after(PAUSES_SECONDS[1] / 2)
    assert ward.patient.starts == 1
    ward.look_after(PAUSES_SECONDS[1])
    assert ward.patient.starts == 2


def test_what_ran_for_long_is_started_at_once_however_often_it_ends() -> None:
    ward = Ward()
    for number in range(2 * len(PAUSES_SECONDS)):
        ward.patient.ended = "exit status 1"
        ward.look_after(STEADY_SECONDS)
        assert ward.patient.starts == number + 1


@pytest.mark.parametrize("stubborn", [False, True])
def test_what_ends_again_and_again_ends_the_stack_with_its_last_words(stubborn: bool) -> None:
    ward = Ward(Patient(name="Postgres", stubborn=stubborn))

    def end_it_for_ever() -> None:
        for _ in range(100):
            ward.patient.ended = "exit status 1"
            ward.look_after(0.5)

    with pytest.raises(Problem, match=r"Postgres ended again and again \(exit status 1\)[^\n]*\n    alas"):
        end_it_for_ever()
    assert ward.patient.starts == len(PAUSES_SECONDS)
    assert ("The database is in use." in ward.told) is stubborn


def test_an_exit_status_is_said_in_words() -> None:
    assert (in_words(-9), in_words(3), in_words(-63)) == ("killed by SIGKILL", "exit status 3", "killed by signal 63")
