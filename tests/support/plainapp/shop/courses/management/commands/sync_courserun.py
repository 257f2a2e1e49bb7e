from django.core.management.base import BaseCommand, CommandError
from django.utils.dateparse import parse_datetime

from shop.courses.models import CourseRun
from shop.courses.openedx import OpenEdxError, get_course, list_courses


class Command(BaseCommand):
    help = "Copies title and dates of course runs from the LMS"

    def add_arguments(self, parser):
        parser.add_argument("--run")
        parser.add_argument("--all")  # needs a value, as in MITx Online

    def handle(self, *args, **options):
        if not options["run"] and not options["all"]:
            raise CommandError("Either --run or --all is required")
        try:
            courses = [get_course(options["run"])] if options["run"] else list_courses()
        except OpenEdxError as error:
            raise CommandError(str(error)) from error
        for course in courses:
            CourseRun.objects.update_or_create(
                courseware_id=course["course_id"],
                defaults={
                    "title": course["name"],
                    "start_date": course["start"] and parse_datetime(course["start"]),
                    "end_date": course["end"] and parse_datetime(course["end"]),
                },
            )
        self.stdout.write(f"Sync complete: {len(courses)} updated")
