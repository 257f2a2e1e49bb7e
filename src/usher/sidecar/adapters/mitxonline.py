"""The adapter of MITx Online, made from its source code of August 2026."""

from usher.contract.environment import Env
from usher.sidecar.adapters.adapter import (
    ENROLLMENT_AUDIT,
    Adapter,
    Lock,
    ModeTables,
    Selection,
    Table,
)

#: Seconds for which users and enrollments are left to the request that created them, as in the
#: application's own code.
GRACE_SECONDS = 300
#: Attempts after which the application's own code gives an enrollment up.
RETRY_LIMIT = 5

# users.models: FaultyOpenEdxUserManager and its grace period.
ELIGIBLE_USERS = Selection(
    filter=(
        {"is_active": True, "last_login__isnull": False, "created_on__lt": {"ago": GRACE_SECONDS}},
    )
)
# openedx.api.retry_failed_edx_enrollments; refunds and deferrals are not changed.
ELIGIBLE_ENROLLMENTS = Selection(
    filter=(
        {
            "user__is_active": True,
            "active": True,
            "change_status__isnull": True,
            "created_on__lt": {"ago": GRACE_SECONDS},
        },
    ),
    exclude=({"run__run_tag__startswith": "fake"},),
)
NOT_ENROLLED_YET = ELIGIBLE_ENROLLMENTS.narrowed_by(
    {"edx_enrolled": False, "edx_enrollment_retry_count__lt": RETRY_LIMIT}
)

MITXONLINE = Adapter(
    name="mitxonline",
    title="MITx Online",
    users=Table(
        "users.User",
        {
            "username": "username",
            "email": "email",
            "name": "name",
            "country": "legal_address__country",
            "is_active": "is_active",
            "last_login": "last_login",
            "created": "created_on",
        },
    ),
    eligible_users=ELIGIBLE_USERS,
    users_due=ELIGIBLE_USERS.narrowed_by(
        [
            {"openedx_users__isnull": True},
            {"openedx_users__has_been_synced": False},
            {"openedx_api_auth__isnull": True},
        ],
        exclude=({"openedx_users__has_sync_error": True},),
    ),
    lock=Lock(
        function="main.utils.get_redis_lock",
        name="openedx-create-user-lock.{}",
        column="global_id",
        expire_seconds=120,
    ),
    account=Table(
        "openedx.OpenEdxUser",
        {
            "user": "user_id",
            "username": "edx_username",
            "desired_username": "desired_edx_username",
            "has_account": "has_been_synced",
            "named_at": "created_on",
            "given_up": "has_sync_error",
            "reason": "sync_error_data",
        },
    ),
    username_table="account",
    token=Table(
        "openedx.OpenEdxApiAuth",
        {
            "user": "user_id",
            "access": "access_token",
            "refresh": "refresh_token",
            "expires": "access_token_expires_on",
        },
    ),
    enrollments=Table(
        "courses.CourseRunEnrollment",
        {
            "user": "user_id",
            "email": "user__email",
            "course": "run__courseware_id",
            "mode": "enrollment_mode",
            "is_active": "active",
            "enrolled": "edx_enrolled",
            "attempts": "edx_enrollment_retry_count",
            "subscribed": "edx_emails_subscription",
            "change_status": "change_status",
        },
        methods=("save_and_log", "to_dict"),
    ),
    eligible_enrollments=ELIGIBLE_ENROLLMENTS,
    audit=ENROLLMENT_AUDIT,
    enrollments_due=NOT_ENROLLED_YET.narrowed_by({"user__openedx_users__has_been_synced": True}),
    enrollments_waiting=NOT_ENROLLED_YET.narrowed_by(
        *ELIGIBLE_USERS.conditions_through("user")
    ).narrowed_by(
        [
            {"user__openedx_users__isnull": True},
            {"user__openedx_users__has_been_synced": False},
        ],
        exclude=({"user__openedx_users__has_sync_error": True},),
    ),
    # Enrollments that courses.api.deactivate_run_enrollment ended in the application although the
    # request to the LMS failed.
    unenrollments_due=Selection(
        filter=({"active": False, "edx_enrolled": True, "change_status__isnull": False},),
        exclude=({"run__run_tag__startswith": "fake"},),
    ),
    when_enrolled={"subscribed": True},
    when_unenrolled={"subscribed": False},
    grace_seconds=GRACE_SECONDS,
    user_change_columns=("created_on", "updated_on", "last_login"),
    enrollment_change_columns=("created_on", "updated_on"),
    account_change_columns=("user__openedx_users__updated_on",),
    profile_change_columns=("legal_address__updated_on",),
    run_change_columns=("created_on", "updated_on"),
    enrollment_username="user__openedx_users__edx_username",
    runs=Table(
        "courses.CourseRun",
        {
            "course": "courseware_id",
            "title": "title",
            "start": "start_date",
            "end": "end_date",
            "enrollment_start": "enrollment_start",
            "enrollment_end": "enrollment_end",
            "self_paced": "is_self_paced",
            "certificate_available": "certificate_available_date",
            "deadline": "upgrade_deadline",
            "expiration": "expiration_date",
        },
    ),
    # courses.tasks.sync_courseruns_data
    eligible_runs=Selection(
        filter=(
            {"live": True},
            [{"expiration_date__isnull": True}, {"expiration_date__gt": {"ago": 0}}],
        ),
        exclude=({"run_tag__startswith": "fake"}, {"is_source_run": True}, {"run_tag": "SOURCE"}),
    ),
    # courses.api.pull_course_modes, sync_course_mode
    run_modes=ModeTables(
        modes=Table(
            "courses.EnrollmentMode",
            {"slug": "mode_slug", "name": "mode_display_name", "paid": "requires_payment"},
        ),
        links=Table(
            "courses.CourseRun_enrollment_modes",
            {
                "run": "courserun_id",
                "mode": "enrollmentmode_id",
                "slug": "enrollmentmode__mode_slug",
            },
        ),
        paid_slug="verified",
    ),
    # openedx.api.update_edx_user_profile, update_edx_user_name, update_edx_user_email
    profile_fields=("name", "email", "country"),
    grades=Table(
        "courses.CourseRunGrade",
        {
            "course": "course_run__courseware_id",
            "email": "user__email",
            "username": "user__openedx_users__edx_username",
            "grade": "grade",
            "passed": "passed",
            "by_staff": "set_by_admin",
        },
    ),
    certificates=Table(
        "courses.CourseRunCertificate",
        {"user": "user_id", "course": "course_run__courseware_id", "revoked": "is_revoked"},
    ),
    graded_runs=Selection(
        exclude=({"run_tag__startswith": "fake"}, {"is_source_run": True}, {"run_tag": "SOURCE"})
    ),
    registration_token_setting=Env.MITX_ONLINE_REGISTRATION_ACCESS_TOKEN,
    retry_limit=RETRY_LIMIT,
    name_function="openedx.api.reconcile_edx_username",
)
