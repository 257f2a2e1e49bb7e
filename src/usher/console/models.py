"""Imports the models of the console's packages, since Django looks for models here."""

from usher.console.doctor.models import DoctorRun
from usher.console.recording.models import Attempt, WorkDone, Worker
from usher.console.refusals.models import Ignored

__all__ = ["Attempt", "DoctorRun", "Ignored", "WorkDone", "Worker"]
