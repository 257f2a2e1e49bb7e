import httpx
from courses.models import CourseRun
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.utils.dateparse import parse_datetime

#: Field of the course API → column.
FIELDS = {
    "name": "title",
    "start": "start_date",
    "end": "end_date",
    "enrollment_start": "enrollment_start",
    "enrollment_end": "enrollment_end",
}

PAGE_SIZE = 100


class Command(BaseCommand):
    """Requests the course list for ``PAGE_SIZE`` course keys at a time."""

    def add_arguments(self, parser):
        # As in MITx Online, the option needs a value, of which only the presence matters.
        parser.add_argument("--all", type=str)
        parser.add_argument("--run", type=str)

    def handle(self, *args, **options):
        if not options["all"] and not options["run"]:
            raise CommandError("Either 'all' or 'run' must be provided")
        runs = CourseRun.objects.exclude(run_tag__startswith="fake")
        if options["run"]:
            runs = runs.filter(courseware_id=options["run"])
        runs_by_key = {run.courseware_id: run for run in runs}
        keys = list(runs_by_key)
        updated = failed = 0
        for start in range(0, len(keys), PAGE_SIZE):
            page_keys = keys[start : start + PAGE_SIZE]
            answer = httpx.get(
                f"{settings.OPENEDX_API_BASE_URL}/api/courses/v1/courses/",
                params={
                    "course_keys": page_keys,
                    "page_size": PAGE_SIZE,
                    "username": settings.OPENEDX_SERVICE_WORKER_USERNAME,
                },
                headers={"Authorization": f"Bearer {settings.OPENEDX_SERVICE_WORKER_API_TOKEN}"},
                timeout=settings.EDX_API_CLIENT_TIMEOUT,
            )
            courses = answer.json()["results"] if answer.status_code == 200 else []
            failed += len(page_keys) - len(courses)  # the LMS leaves unknown runs out
            for course in courses:
                if self.update(runs_by_key[course["course_id"]], course):
                    updated += 1
        self.stdout.write(f"Sync complete: {updated} updates, {failed} failures")

    def update(self, run, course):
        """Saves the run if a value has changed. Returns whether it was saved."""
        values = {}
        for field, column in FIELDS.items():
            is_time = field != "name"
            values[column] = parse_datetime(course[field] or "") if is_time else course.get(field)
        if all(getattr(run, name) == value for name, value in values.items()):
            return False
        for name, value in values.items():
            setattr(run, name, value)
        run.save()
        return True
