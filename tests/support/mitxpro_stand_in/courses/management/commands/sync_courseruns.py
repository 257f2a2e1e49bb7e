import httpx
from courses.models import CourseRun
from django.conf import settings
from django.core.management.base import BaseCommand
from django.utils.dateparse import parse_datetime

#: Field of the course API → column.
FIELDS = {
    "name": "title",
    "start": "start_date",
    "end": "end_date",
    "enrollment_start": "enrollment_start",
    "enrollment_end": "enrollment_end",
}


class Command(BaseCommand):
    """Sends one request for each course run."""

    def add_arguments(self, parser):
        parser.add_argument("--run", type=str)

    def handle(self, *args, **options):
        runs = CourseRun.objects.filter(live=True, course__is_external=False)
        if options["run"]:
            runs = runs.filter(courseware_id=options["run"])
        updated = failed = 0
        for run in runs:
            answer = httpx.get(
                f"{settings.OPENEDX_API_BASE_URL}/api/courses/v1/courses/{run.courseware_id}/",
                headers={"Authorization": f"Bearer {settings.OPENEDX_SERVICE_WORKER_API_TOKEN}"},
                timeout=settings.EDX_API_CLIENT_TIMEOUT,
            )
            if answer.status_code != 200:
                failed += 1
                continue
            course = answer.json()
            for field, column in FIELDS.items():
                value = course.get(field)
                is_time = field != "name"
                if value and is_time:
                    value = parse_datetime(value)
                setattr(run, column, value)
            run.save()
            updated += 1
        self.stdout.write(f"Sync complete: {updated} updates, {failed} failures")
