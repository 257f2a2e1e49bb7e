"""Django admin: every record with its sync state, and actions that retry it."""

from __future__ import annotations

from typing import Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.db.models import F, Q, QuerySet
from django.http import HttpRequest

from usher.application.accounts.naming import NoFreeName
from usher.application.accounts.services import ensure_account, reactivate
from usher.application.adapter import AdapterFailed
from usher.application.enrollments.models import DEFAULT_MODE
from usher.application.enrollments.modes import ModeNotAllowed, check_mode
from usher.application.enrollments.services import unenroll
from usher.application.models import (
    Certificate,
    CourseMode,
    CourseRun,
    Enrollment,
    Grade,
    LmsAccount,
    LmsProfile,
    LmsToken,
    Retirement,
    RunModes,
    UsernameReservation,
)
from usher.application.states import State, in_state, state, states_of
from usher.application.user_model import naming_fields
from usher.contract.failures import FailureClass
from usher.engine.notify import notify_workers
from usher.engine.registry import all_kinds
from usher.engine.summary import Summary
from usher.engine.transactions import InTransaction
from usher.engine.work import Work

#: The most records that "Retry now and wait" sends to the LMS.
_MAX_RETRIED = 25
#: The most reasons that the message after "Retry now and wait" names.
_MAX_REASONS = 5
#: Fields of the sync worker, shown folded.
_ADVANCED = (
    "generation",
    "observed_generation",
    "attempts",
    "due_at",
    "refused_at",
    "error_class",
)
#: Fields of a run that are copied from the LMS.
_COPIED_FROM_LMS = (
    "title",
    "short_description",
    "start",
    "end",
    "enrollment_start",
    "enrollment_end",
    "upgrade_deadline",
)


class StateFilter(admin.SimpleListFilter):
    title = "sync state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(str(state), str(state)) for state in states_of(model_admin.model)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        state = self.value()
        return in_state(queryset, State(state)) if state in set(State) else queryset


class ErrorClassFilter(admin.SimpleListFilter):
    title = "error class"
    parameter_name = "error_class"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(str(failure_class), str(failure_class)) for failure_class in FailureClass]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(work__error_class=self.value()) if self.value() else queryset


class ErrorCodeFilter(admin.SimpleListFilter):
    """The error codes that rows have. Django's own filter would add a link without text, for rows
    without an error."""

    title = "error code"
    parameter_name = "error_code"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        rows = Work.objects.filter(kind=model_admin.model.work_kind, error_code__gt="")
        codes = rows.order_by("error_code").values_list("error_code", flat=True)
        return [(code, code) for code in codes.distinct()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(work__error_code=self.value()) if self.value() else queryset


class ReconciledAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Base class: the state of a record, filters, and the actions that retry it."""

    list_filter: ClassVar[Any] = (StateFilter, ErrorClassFilter, ErrorCodeFilter)
    list_per_page = 50
    show_full_result_count = False
    actions: Any = ("retry", "repair")
    #: Field name → label, if it differs from the model's.
    labels: ClassVar[dict[str, str]] = {}
    readonly_fields: ClassVar[Any] = (
        "state",
        "generation",
        "observed_generation",
        "observed_at",
        "attempts",
        "due_at",
        "refused_at",
        "error_class",
        "error_code",
        "error_message",
    )

    def get_search_fields(self, request: HttpRequest) -> list[str]:
        """``user__email`` stands for the fields by which the project names its users."""
        fields: list[str] = []
        for field in super().get_search_fields(request):
            if field == "user__email":
                fields += [f"user__{name}" for name in naming_fields()]
            else:
                fields.append(field)
        return fields

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Fields of the sync worker are folded, because few people need them."""
        fields = list(self.get_fields(request, obj))
        advanced = [name for name in fields if name in _ADVANCED]
        return [
            (None, {"fields": [name for name in fields if name not in advanced]}),
            ("Advanced", {"classes": ["collapse"], "fields": advanced}),
        ]

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if label := self.labels.get(db_field.name):
            kwargs["label"] = label
        return super().formfield_for_dbfield(db_field, request, **kwargs)

    @admin.display(description="state")
    def state(self, row: Any) -> str:
        # Calls the function ``states.state``, not this method.
        return f"{state(row)}: {row.error_message}" if row.error_message else str(state(row))

    def is_own_page(self, request: HttpRequest) -> bool:
        """Whether the request is for this model's own pages. False on a learner's page, where
        deleting the learner also deletes their records."""
        match = request.resolver_match
        return match is not None and str(match.url_name).startswith(
            f"{self.opts.app_label}_{self.opts.model_name}_"
        )

    # The permission to see records does not include the actions: each has a permission of its own.

    def has_retry_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("usher.retry_records"))

    def has_repair_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("usher.repair_records"))

    @admin.action(description="Retry in background", permissions=["retry"])
    def retry(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        count = queryset.model._default_manager.filter(pk__in=queryset.values("pk")).make_due()
        notify_workers()
        self.message_user(request, f"Due now: {count}. A worker will send them to the LMS.")

    @admin.action(
        description=f"Retry now and wait (at most {_MAX_RETRIED})", permissions=["repair"]
    )
    def repair(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        from usher.engine.services import open_gates, reconcile

        kind_name = next(name for name, kind in all_kinds().items() if kind.model is queryset.model)
        ids = list(queryset.values_list("pk", flat=True)[:_MAX_RETRIED])
        queryset.model._default_manager.filter(pk__in=ids).make_due()
        open_gates([kind_name])
        total = Summary()
        try:
            for pk in ids:
                total.add(
                    reconcile(
                        [kind_name],
                        ids=(pk, pk + 1),  # from the first id to before the second: one row
                        made_due={kind_name: Q(pk=pk)},
                    )
                )
        except InTransaction:
            notify_workers()
            self.message_user(
                request,
                "This project runs each request in a transaction (ATOMIC_REQUESTS), in which the "
                f"LMS can't be called. Due now: {len(ids)}. A worker will send them to the LMS.",
                messages.WARNING,
            )
            return
        level = messages.WARNING if total.failed else messages.SUCCESS
        reasons = [f"{failure.what}: {failure.message}" for failure in total.failures]
        reasons += [f"{group.count} waiting: {group.message}" for group in total.waiting]
        self.message_user(request, f"{total.line()}. {'; '.join(reasons[:_MAX_REASONS])}", level)


class DeletedWithLearnerAdmin(ReconciledAdmin):
    """Records that staff can delete only together with the learner. Deleting the record alone would
    leave an account or token valid in the LMS, and nothing here would refer to it."""

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_delete_permission(request, obj) and not self.is_own_page(request)


@admin.register(LmsAccount)
class LmsAccountAdmin(DeletedWithLearnerAdmin):
    list_display = ("username", "user", "active", "active_in_lms", "lms_user_id", "state")
    labels: ClassVar[Any] = {"is_active": "Active"}
    search_fields = ("username", "user__email")
    list_select_related = ("user",)
    raw_id_fields = ("user",)
    actions = ("retry", "repair", "activate")

    @admin.display(description="active", boolean=True, ordering="is_active")
    def active(self, row: LmsAccount) -> bool:
        return row.is_active

    @admin.display(description="active in the LMS", boolean=True)
    def active_in_lms(self, row: LmsAccount) -> bool | None:
        return row.observed_is_active

    def has_activate_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("usher.activate_accounts"))

    @admin.action(description="Activate in the LMS", permissions=["activate"])
    def activate(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """For accounts that the LMS's staff deactivated. The sync worker does not activate them."""
        # Once activated, an account may no longer match the filter of the page.
        accounts = list(queryset.select_related("user"))
        for account in accounts:
            reactivate(account.user)
        self.message_user(request, f"Activated: {len(accounts)}. A worker will update the LMS.")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Staff can change only whether the account should be active. Its learner and username
        can't be changed, because the LMS identifies the learner by the username."""
        fixed = ("username", "user", "reserved_at", "lms_user_id", "created_in_lms_at")
        return (*super().get_readonly_fields(request, obj), *fixed, "active_in_lms")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Saves the change with ``want``, which also makes the row due."""
        LmsAccount.objects.select_for_update().get(pk=obj.pk).want(is_active=obj.is_active)


@admin.register(LmsToken)
class LmsTokenAdmin(DeletedWithLearnerAdmin):
    exclude = ("access_token", "refresh_token")
    list_display = ("user", "expires_at", "scope", "state", "attempts")
    search_fields = ("user__email", "user__lms_account__username")
    list_select_related = ("user",)
    raw_id_fields = ("user",)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False


@admin.register(LmsProfile)
class LmsProfileAdmin(ReconciledAdmin):
    list_display = ("user", "name", "email", "country", "state", "attempts")
    search_fields = ("email", "name")
    raw_id_fields = ("user",)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False


@admin.register(Retirement)
class RetirementAdmin(ReconciledAdmin):
    list_display = ("username", "asked_at", "state", "attempts")
    search_fields = ("username",)
    actions = ("retry", "repair", "mark_done")

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """A retirement that is not done can't be deleted: the account of a deleted learner would
        stay active in the LMS."""
        is_done = obj is None or obj.is_settled
        return super().has_delete_permission(request, obj) and is_done

    def has_close_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("usher.close_retirements"))

    @admin.action(description="Mark as done by hand in the LMS", permissions=["close"])
    def mark_done(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        # Once in sync, a row may no longer match the filter of the page.
        ids = list(queryset.values_list("pk", flat=True))
        rows = queryset.model._default_manager.filter(pk__in=ids)
        count = rows.update(observed_generation=F("generation"))  # counts as in sync
        rows.forget_work()
        self.message_user(request, f"Marked as done: {count}.")


@admin.register(UsernameReservation)
class UsernameReservationAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ("username", "user", "reserved_at")
    search_fields = ("username",)
    list_select_related = ("user",)
    raw_id_fields = ("user",)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Reserved names are never released."""
        return False


class CourseModeInline(admin.TabularInline):  # type: ignore[type-arg]
    """Read-only, because modes are copied from the LMS."""

    model = CourseMode
    extra = 0
    can_delete = False

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(CourseRun)
class CourseRunAdmin(ReconciledAdmin):
    list_display = ("course_key", "title", "start", "end", "live", "missing_since", "state")
    list_filter = ("live", "hidden", *ReconciledAdmin.list_filter)
    search_fields = ("course_key", "title")
    inlines = (CourseModeInline,)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Fields that are copied from the LMS, and an existing run's key, can't be edited."""
        fixed = ("course_key",) if obj else ()
        return (*fixed, *_COPIED_FROM_LMS, *super().get_readonly_fields(request, obj))

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """A run can't be deleted while learners are, or may be, enrolled in it in the LMS: deleting
        the run would delete their enrollments here, and nobody would unenroll them in the LMS."""
        if not super().has_delete_permission(request, obj):
            return False
        rows = obj.enrollments.all() if obj else Enrollment.objects.none()
        return not (rows.filter(is_active=True).exists() or rows.unsettled().exists())


@admin.register(RunModes)
class RunModesAdmin(ReconciledAdmin):
    list_display = ("run", "state", "attempts")
    search_fields = ("run__course_key",)
    raw_id_fields = ("run",)


class EnrollmentForm(forms.ModelForm):  # type: ignore[type-arg]
    """Offers the known modes of the run, or of all runs for a new enrollment, and the current mode.
    Refuses a new mode that the run is known not to have, or that the project's adapter does not
    allow."""

    class Meta:
        model = Enrollment
        fields = ("user", "run", "mode", "is_active", "force")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "mode" not in self.fields:  # the user may only view enrollments
            return
        row = self.instance
        modes = CourseMode.objects.filter(run_id=row.run_id) if row.pk else CourseMode.objects.all()
        slugs = {row.mode or DEFAULT_MODE, *modes.values_list("slug", flat=True)}
        choices = [(slug, slug) for slug in sorted(slugs)]
        self.fields["mode"] = forms.ChoiceField(choices=choices, initial=row.mode or DEFAULT_MODE)

    def clean(self) -> dict[str, Any]:
        """Checks a new or changed mode. An unchanged one stays valid, even if the run lost it."""
        data = super().clean() or {}
        row = self.instance
        if row.pk:  # the form of an existing enrollment has only the fields that may be changed
            user, run = row.user, row.run
        else:
            user, run = data.get("user"), data.get("run")
        mode = data.get("mode")
        mode_is_unchanged = bool(row.pk) and mode == self.initial.get("mode")
        if user is None or run is None or not mode or mode_is_unchanged:
            return data
        slugs = list(run.modes.values_list("slug", flat=True))
        if slugs and mode not in slugs:
            self.add_error("mode", f"{run.course_key} has these modes: {', '.join(slugs)}.")
            return data
        try:
            check_mode(user, run, mode)
        except ModeNotAllowed as error:
            self.add_error("mode", f"USHER_ADAPTER does not allow this mode: {error}")
        except AdapterFailed as error:
            self.add_error("mode", f"This mode can't be checked now: {error.message}")
        return data


@admin.register(Enrollment)
class EnrollmentAdmin(ReconciledAdmin):
    form = EnrollmentForm
    actions = ("retry", "repair", "unenroll")
    list_display = ("user", "run", "enrolled", "mode", "mode_in_lms", "state")
    labels: ClassVar[Any] = {"is_active": "Enrolled", "force": "Enroll although closed"}
    list_filter = ("is_active", "mode", *ReconciledAdmin.list_filter)
    search_fields = ("user__email", "user__lms_account__username", "run__course_key")
    list_select_related = ("user", "run")
    raw_id_fields = ("user", "run")

    @admin.display(description="enrolled", boolean=True, ordering="is_active")
    def enrolled(self, row: Enrollment) -> bool:
        return row.is_active

    @admin.display(description="mode in the LMS", ordering="observed_mode")
    def mode_in_lms(self, row: Enrollment) -> str:
        if row.observed_is_active is None:
            return "not known yet"
        return row.observed_mode if row.observed_is_active else "not enrolled"

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Learner and run can't be changed: that would be another enrollment."""
        fixed = ("user", "run") if obj else ()
        return (*fixed, *super().get_readonly_fields(request, obj))

    def has_unenroll_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("usher.unenroll_learners"))

    @admin.action(description="Unenroll in the LMS", permissions=["unenroll"])
    def unenroll(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        rows = list(queryset.filter(is_active=True).select_related("user", "run"))
        for row in rows:
            unenroll(row.user, row.run)
        self.message_user(request, f"Unenrolled: {len(rows)}. A worker will update the LMS.")

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """An enrollment can be deleted after the learner is unenrolled in the LMS; if the record
        were deleted before, the learner would stay enrolled. An enrollment can also be deleted if
        the LMS refused it because it does not have the run. On the pages of other models nothing
        more is required: deleting a learner deletes all their enrollments."""
        allowed = super().has_delete_permission(request, obj)
        if obj is None or not self.is_own_page(request) or not allowed:
            return allowed
        is_unenrolled = not obj.is_active and obj.is_settled
        lms_lacks_run = (
            obj.refused_at is not None
            and obj.error_code == "unknown-run"
            and not obj.observed_is_active
        )
        return is_unenrolled or lms_lacks_run

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Saves a new enrollment and requests the learner's LMS account. Saves changes with
        ``want``, which compares them with the stored row and makes the row due."""
        if not change:
            super().save_model(request, obj, form, change)
            try:
                ensure_account(obj.user)
            except (AdapterFailed, NoFreeName) as error:
                text = f"The enrollment waits for an LMS account, which can't be created: {error}"
                self.message_user(request, text, messages.ERROR)
            notify_workers()
            return
        values = {name: getattr(obj, name) for name in ("mode", "is_active", "force")}
        Enrollment.objects.select_for_update().get(pk=obj.pk).want(**values)


@admin.register(Grade)
class GradeAdmin(ReconciledAdmin):
    list_display = ("user", "run", "percent", "passed", "state")
    search_fields = ("user__email", "run__course_key")
    list_select_related = ("user", "run")
    raw_id_fields = ("user", "run")


@admin.register(Certificate)
class CertificateAdmin(ReconciledAdmin):
    list_display = ("user", "run", "status", "issued_at", "state")
    search_fields = ("user__email", "run__course_key")
    list_select_related = ("user", "run")
    raw_id_fields = ("user", "run")
