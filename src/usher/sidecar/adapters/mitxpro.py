"""The adapter of MIT xPro, made from its source code of August 2026."""

from usher.contract.environment import Env
from usher.sidecar.adapters.adapter import ENROLLMENT_AUDIT, Adapter, Selection, Table

#: Seconds for which users and enrollments are left to the request that created them, as in the
#: application's own code.
GRACE_SECONDS = 300

# users.models: FaultyCoursewareUserManager; courseware.api.repair_faulty_courseware_users.
ELIGIBLE_USERS = Selection(filter=({"is_active": True, "created_on__lt": {"ago": GRACE_SECONDS}},))
# courseware.api.retry_failed_edx_enrollments; refunds and deferrals are not changed.
ELIGIBLE_ENROLLMENTS = Selection(
    filter=(
        {
            "user__is_active": True,
            "active": True,
            "change_status__isnull": True,
            "created_on__lt": {"ago": GRACE_SECONDS},
            "run__live": True,
        },
    )
)
NOT_ENROLLED_YET = ELIGIBLE_ENROLLMENTS.narrowed_by({"edx_enrolled": False})

MITXPRO = Adapter(
    name="mitxpro",
    title="MIT xPro",
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
        [{"courseware_users__isnull": True}, {"openedx_api_auth__isnull": True}],
    ),
    # If there is a row, the account was created: has_been_synced is true by default.
    account=Table(
        "courseware.CoursewareUser", {"user": "user_id", "has_account": "has_been_synced"}
    ),
    username_table="users",
    token=Table(
        "courseware.OpenEdxApiAuth",
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
            "order": "order_id",
            "is_active": "active",
            "enrolled": "edx_enrolled",
            "change_status": "change_status",
        },
        methods=("save_and_log", "to_dict"),
    ),
    eligible_enrollments=ELIGIBLE_ENROLLMENTS,
    audit=ENROLLMENT_AUDIT,
    enrollments_due=NOT_ENROLLED_YET.narrowed_by({"user__courseware_users__isnull": False}),
    enrollments_waiting=NOT_ENROLLED_YET.narrowed_by(
        *ELIGIBLE_USERS.conditions_through("user")
    ).narrowed_by({"user__courseware_users__isnull": True}),
    # Enrollments that courses.api.deactivate_run_enrollment ended in the application although the
    # request to the LMS failed.
    unenrollments_due=Selection(
        filter=({"active": False, "edx_enrolled": True, "change_status__isnull": False},)
    ),
    grace_seconds=GRACE_SECONDS,
    user_change_columns=("created_on", "updated_on", "last_login"),
    enrollment_change_columns=("created_on", "updated_on"),
    account_change_columns=("user__courseware_users__updated_on",),
    profile_change_columns=("legal_address__updated_on",),
    run_change_columns=("created_on", "updated_on"),
    enrollment_username="user__username",
    runs=Table(
        "courses.CourseRun",
        {
            "course": "courseware_id",
            "title": "title",
            "start": "start_date",
            "end": "end_date",
            "enrollment_start": "enrollment_start",
            "enrollment_end": "enrollment_end",
            "expiration": "expiration_date",
        },
    ),
    # courseware.api.update_edx_user_name, update_edx_user_email
    profile_fields=("name", "email"),
    grades=Table(
        "courses.CourseRunGrade",
        {
            "course": "course_run__courseware_id",
            "email": "user__email",
            "username": "user__username",
            "grade": "grade",
            "passed": "passed",
            "by_staff": "set_by_admin",
        },
    ),
    certificates=Table(
        "courses.CourseRunCertificate",
        {"user": "user_id", "course": "course_run__courseware_id", "revoked": "is_revoked"},
    ),
    graded_runs=Selection(filter=({"course__is_external": False},)),
    # The runs that xPro's command sync_courseruns updates.
    eligible_runs=Selection(
        filter=(
            {"live": True, "course__is_external": False},
            [{"expiration_date__isnull": True}, {"expiration_date__gt": {"ago": 0}}],
        )
    ),
    registration_token_setting=Env.MITXPRO_REGISTRATION_ACCESS_TOKEN,
    enrollment_mode="no-id-professional",
    fallback_mode="audit",
)
