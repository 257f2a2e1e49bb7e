"""The URL patterns of the console, relative to where a project includes ``usher.console.urls``."""

from django.urls import path

from usher.console.doctor import views as doctor
from usher.console.learners import views as learners
from usher.console.overview import views as overview
from usher.console.refusals import views as refusals
from usher.console.runs import views as runs

urlpatterns = [
    path("", overview.overview, name="overview"),
    path("refusals/", refusals.groups, name="refusals"),
    path("refusals/group/", refusals.group, name="refusal-group"),
    path("refusals/retry/", refusals.retry, name="refusals-retry"),
    path("refusals/ignore/", refusals.ignore, name="refusals-ignore"),
    path("refusals/unignore/", refusals.unignore, name="refusals-unignore"),
    path("refusals/export/", refusals.export, name="refusals-export"),
    path("learners/", learners.find, name="learners"),
    path("learners/<str:pk>/", learners.learner, name="learner"),
    path("learners/<str:pk>/compare/", learners.compare, name="learner-compare"),
    path("learners/<str:pk>/repair/", learners.repair, name="learner-repair"),
    path("learners/<str:pk>/link/", learners.link, name="learner-link"),
    path("runs/", runs.find, name="runs"),
    path("runs/<int:pk>/", runs.run, name="run"),
    path("runs/<int:pk>/compare/", runs.compare, name="run-compare"),
    path("runs/<int:pk>/synchronise/", runs.synchronise, name="run-synchronise"),
    path("doctor/", doctor.doctor, name="doctor"),
    path("doctor/run/", doctor.run_now, name="doctor-run"),
]
