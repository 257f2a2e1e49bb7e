"""Django looks for models here; they live in the folders of what they are about."""

from usher.console.doctor.models import DoctorRun
from usher.console.recording.models import Attempt, WorkDone, Worker
from usher.console.refusals.models import Ignored

__all__ = ["Attempt", "DoctorRun", "Ignored", "WorkDone", "Worker"]
