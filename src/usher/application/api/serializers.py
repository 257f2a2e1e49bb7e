"""The API's representations of records. The services decide which values may be changed."""

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from usher.application import conf, learner_texts
from usher.application.accounts.models import LmsAccount
from usher.application.adapter import AdapterFailed, adapter, log_failure
from usher.application.enrollments.models import Enrollment
from usher.application.runs.models import CourseMode, CourseRun
from usher.application.states import state, states_of


class ModeSerializer(serializers.ModelSerializer[CourseMode]):
    class Meta:
        model = CourseMode
        fields = ["slug", "name", "min_price", "currency", "expires_at"]
        read_only_fields = fields


class CourseRunSerializer(serializers.ModelSerializer[CourseRun]):
    modes = ModeSerializer(many=True, read_only=True)
    is_enrollable = serializers.SerializerMethodField()

    class Meta:
        model = CourseRun
        fields = [
            "course_key",
            "title",
            "org",
            "number",
            "short_description",
            "pacing",
            "start",
            "end",
            "enrollment_start",
            "enrollment_end",
            "upgrade_deadline",
            "is_enrollable",
            "modes",
        ]
        read_only_fields = fields

    def get_is_enrollable(self, run: CourseRun) -> bool:
        return run.is_enrollable()


class EnrollmentSerializer(serializers.ModelSerializer[Enrollment]):
    """``state``: in_sync, pending, retrying or refused (see ``usher.application.states``).
    ``label`` and ``message``: texts for the learner, the same as on all pages. ``url``: opens the
    run in the LMS."""

    course_key = serializers.CharField(source="run.course_key", read_only=True)
    title = serializers.CharField(source="run.title", read_only=True)
    state = serializers.SerializerMethodField()
    label = serializers.SerializerMethodField()
    message = serializers.SerializerMethodField()
    url = serializers.SerializerMethodField()

    class Meta:
        model = Enrollment
        fields = ["course_key", "title", "mode", "state", "label", "message", "url"]
        read_only_fields = fields

    @extend_schema_field(serializers.ChoiceField([state.slug for state in states_of(Enrollment)]))
    def get_state(self, enrollment: Enrollment) -> str:
        return state(enrollment).slug

    def get_label(self, enrollment: Enrollment) -> str:
        return _learner_text(enrollment).label

    def get_message(self, enrollment: Enrollment) -> str:
        return _learner_text(enrollment).text

    def get_url(self, enrollment: Enrollment) -> str:
        settings = conf.settings()
        if not settings.base_redirect_url:  # no LMS is configured
            return ""
        return settings.sign_in_url(settings.course_path(enrollment.run.course_key))


def _learner_text(enrollment: Enrollment) -> learner_texts.LearnerText:
    return learner_texts.of_enrollment(enrollment, getattr(enrollment.user, "lms_account", None))


class EnrollSerializer(serializers.Serializer[Any]):
    course_key = serializers.CharField(max_length=255)
    mode = serializers.CharField(
        max_length=100,
        default="",
        allow_blank=True,
        help_text="A free mode of the run; empty for the mode that the run offers to everybody.",
    )


def _from_adapter(method: str, user: Any) -> str:
    """The result of a method of the project's adapter for the user; '' if it fails, so that the
    rest of the answer is still sent."""
    try:
        return str(getattr(adapter(), method)(user))
    except AdapterFailed as error:
        log_failure(error)
        return ""


class MeSerializer(serializers.Serializer[Any]):
    """``lms_username`` is null until the learner has an account record."""

    id = serializers.IntegerField(source="pk", read_only=True)
    username = serializers.CharField(source="get_username", read_only=True)
    email = serializers.SerializerMethodField()
    name = serializers.SerializerMethodField()
    lms_username = serializers.SerializerMethodField()
    lms_account_is_ready = serializers.SerializerMethodField()

    def get_email(self, user: Any) -> str:
        return _from_adapter("email", user)

    def get_name(self, user: Any) -> str:
        return _from_adapter("full_name", user)

    def get_lms_username(self, user: Any) -> str | None:
        account = LmsAccount.objects.filter(user=user).first()
        return account.username if account else None

    def get_lms_account_is_ready(self, user: Any) -> bool:
        account = LmsAccount.objects.filter(user=user).first()
        return bool(account and account.is_ready)
